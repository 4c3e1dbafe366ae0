"""The page in the browser: image, depth and point cloud; takes arrays, knows no ROS."""

import errno
import html
import ipaddress
import socket
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.visualization import colour_depth, depth_range, scale_bar

Scalar = TypeVar('Scalar', bound=np.generic)

IMAGE_WIDTH = 640  # pixels sent at most; the panel shows fewer
VALUES_WIDTH = 200  # columns of metres under the cursor, sent at most
PANEL_WIDTH = 400  # pixels of the page
_HOSTS = 'set the parameter host to 127.0.0.1, 0.0.0.0 or an address of this machine'

# Runs in the page: writes the metres under the cursor (window.depthCursor) below the image.
_SHOW_VALUE = '''
const box = document.getElementById('depth'), label = document.getElementById('metres');
const [columns, rows] = box.dataset.size.split(','), at = window.depthCursor;
const frame = box.getBoundingClientRect();
const x = at ? Math.floor((at[0] - frame.left) / frame.width * columns) : -1;
const y = at ? Math.floor((at[1] - frame.top) / frame.height * rows) : -1;
label.textContent = '–';
if (x >= 0 && x < columns && y >= 0 && y < rows) {
  const bytes = atob(box.dataset.millimetres), i = 2 * (y * columns + x);
  const value = bytes.charCodeAt(i) + 256 * bytes.charCodeAt(i + 1);
  label.textContent = value ? (value / 1000).toFixed(2) + ' m' : 'unknown';
}'''
_DEPTH_HTML = '''
<div style="padding: 0 10px 8px; display: flex">
<div id="depth" data-size="{columns},{rows}" data-millimetres="{millimetres}"
 style="flex: {image_width}; min-width: 0; cursor: crosshair"
 onpointermove="window.depthCursor = [event.clientX, event.clientY]; {show}"
 onpointerleave="window.depthCursor = null; {show}">
<img src="data:image/jpeg;base64,{image}" onload="{show}" decoding="sync"
 style="display: block; width: 100%; aspect-ratio: {image_width} / {height}">
</div>
<img src="data:image/jpeg;base64,{bar}" decoding="sync" alt="scale in metres"
 style="display: block; flex: {bar_width}; min-width: 0;
 aspect-ratio: {bar_width} / {height}"></div>'''


class Page:
    """What the browser shows.

    ``url`` and ``port`` say where it is served.

    Args:
        host: Address that it is served at.
        port: 0 takes any free one.

    Raises:
        OSError: Where viser is not installed, the port is taken, or the address is not this
            machine's.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            import rich
            import viser
            import websockets.asyncio.server
        except ImportError as error:
            raise OSError('the viewer needs viser, which is not installed: pip install viser, or '
                          "install this package's extra `viewer`") from error

        class Server(viser.ViserServer):
            def request_share_url(self, verbose: bool = True) -> None:
                """Never: a page could ask for a tunnel that shows the camera to the world."""

        _check_free(host, port)
        rich.get_console().quiet = True  # viser prints frames around its URL
        websockets_server: Any = websockets.asyncio.server  # viser has no option for this
        serve = websockets_server.serve
        websockets_server.serve = partial(_serve_own_page, serve, is_loopback(host))
        try:
            self._server = Server(host, port, label='hybrid_depth_ros', verbose=False)
        finally:
            websockets_server.serve = serve
        self.port = self._server.get_port()
        if port not in (0, self.port):  # viser went on to the next one
            self._server.stop()
            raise _port_taken(host, port)
        shown = {'0.0.0.0': 'localhost', '::': 'localhost'}.get(host, host)
        self.url = f'http://{f"[{shown}]" if ":" in shown else shown}:{self.port}'

        gui, scene = self._server.gui, self._server.scene
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        gui.main_panel.dock_right()
        gui.main_panel.set_width(PANEL_WIDTH)
        self._text = gui.add_html('', order=0)
        self._image: Any = None
        self._depth = gui.add_html('', order=2)
        # its own element: the value stays while the next image is on its way
        gui.add_html('<div style="padding: 0 10px 8px; font-size: 16px">depth under the cursor: '
                     '<output id="metres">–</output></div>', order=3)
        # Optical frame (REP 103): looked at from a step behind the camera, as it looks.
        scene.set_up_direction('-y')
        camera = self._server.initial_camera
        camera.position, camera.look_at, camera.up = (0, -0.3, -1), (0, 0, 2.5), (0, -1, 0)
        camera.fov = np.deg2rad(55)

    @property
    def is_open(self) -> bool:
        """Whether a browser shows the page."""
        return bool(self._server.get_clients())

    def show_text(self, text: str) -> None:
        """Show lines above the images."""
        self._text.content = ('<div style="padding: 0 10px 8px; white-space: pre-line; '
                              f'font-size: 13px">{html.escape(text)}</div>')

    def show_image(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Show the camera's image, uint8 H×W×3."""
        rgb = _decimate(rgb, IMAGE_WIDTH)
        if self._image is None:
            self._image = self._server.gui.add_image(rgb, format='jpeg', order=1)
        self._image.image = rgb

    def show_depth(self, depth: npt.NDArray[np.float32]) -> None:
        """Show depth, float32 H×W metres, NaN where unknown, in colours on its own scale."""
        near, far = depth_range(depth)
        depth = _decimate(depth, IMAGE_WIDTH)
        values = _decimate(depth, VALUES_WIDTH)
        millimetres = np.rint(1000 * np.clip(np.nan_to_num(values), 0, 65.535)).astype('<u2')
        bar = scale_bar(300, near, far)
        height, width = depth.shape
        # a flex box as high as the image: both shares are in pixels of one height
        self._depth.content = _DEPTH_HTML.format(
            show=html.escape(_SHOW_VALUE), columns=values.shape[1], rows=values.shape[0],
            millimetres=b64encode(millimetres.tobytes()).decode(),
            image=_jpeg(colour_depth(depth, near, far)), bar=_jpeg(bar), height=height,
            image_width=width, bar_width=round(bar.shape[1] * height / bar.shape[0]))

    def show_cloud(self, points: npt.NDArray[np.float32],
                   colours: npt.NDArray[np.uint8]) -> None:
        """Show a point cloud.

        Args:
            points: float32 N×3, metres, optical frame.
            colours: uint8 N×3.
        """
        # as large as the gap to the next point would be, were they spread over 55° × 43°
        size = np.median(points[:, 2]) * np.sqrt(0.8 / len(points)) if len(points) else 0.01
        self._server.scene.add_point_cloud('/cloud', points, colours, point_size=float(size),
                                           point_shading='flat')

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()


def _serve_own_page(serve: Callable[..., Any], loopback: bool, handler: Any, *address: Any,
                    process_request: Callable[..., Any], **options: Any) -> Any:
    """websockets' serve, for our own page alone: viser would answer that of any website.

    A browser names the website in Origin. A website whose name is made to mean this machine is
    known by Host, where the page is served to this machine only.
    """
    def check(connection: Any, request: Any) -> Any:
        host = request.headers.get('Host', '')
        origin = request.headers.get('Origin')
        if (origin and urlsplit(origin).netloc != host) or (
                loopback and not is_loopback(urlsplit(f'//{host}').hostname)):
            return connection.respond(403, 'refused: another website asks\n')
        return process_request(connection, request)
    return serve(handler, *address, process_request=check, **options)


def _port_taken(host: str, port: int) -> OSError:
    return OSError(f'port {port} of {host} is taken: set the parameter port to another one, or '
                   'to 0 for any')


def _check_free(host: str, port: int) -> None:
    """Raises OSError where nothing can listen at host:port; viser would try on for ever."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f'host {host!r} is no address ({error.strerror}): {_HOSTS}') from error
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen()
            except PermissionError as error:
                raise OSError(f'port {port} is reserved for root: set the parameter port to '
                              '1024 or above') from error
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise _port_taken(host, port) from error
                raise OSError(f'host {host!r} is not an address of this machine '
                              f'({error.strerror}): {_HOSTS}') from error


def _decimate(pixels: npt.NDArray[Scalar], width: int) -> npt.NDArray[Scalar]:
    """Take every n-th pixel, so that `width` is not exceeded: metres are never mixed."""
    step = -(-pixels.shape[1] // width)
    return pixels[::step, ::step]


def _jpeg(rgb: npt.NDArray[np.uint8]) -> str:
    _, data = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, 85])
    return b64encode(data.tobytes()).decode()


def is_loopback(host: str | None) -> bool:
    """Whether an address reaches this machine only."""
    try:
        return ipaddress.ip_address(host or '').is_loopback
    except ValueError:
        return host == 'localhost'
