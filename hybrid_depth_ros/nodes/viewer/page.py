"""The page in the browser: image, depth and point cloud; takes arrays, knows no ROS."""

import asyncio
import errno
import html
import ipaddress
import socket
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.visualization import (
    FULL_COLOUR_SHARE,
    colour_depth,
    colour_uncertainty,
    depth_range,
    draw_floor_map,
    scale_bar,
)

Scalar = TypeVar('Scalar', bound=np.generic)
Calibrate = Callable[[float, float, float], 'Future[str]']

IMAGE_WIDTH = 640  # pixels sent at most; the panel shows fewer
VALUES_WIDTH = 200  # columns of metres under the cursor, sent at most
PANEL_WIDTH = 400  # pixels of the page
_HOSTS = 'set the parameter host to 127.0.0.1, 0.0.0.0 or an address of this machine'

# Run in the page: one writes the metres under the cursor (window.depthCursor) below the image, the
# other asks for the true distance of what was clicked on.
_SHOW_VALUE = '''
const box = document.getElementById('depth'), label = document.getElementById('metres');
const [columns, rows] = box.dataset.size.split(','), at = window.depthCursor;
const frame = box.getBoundingClientRect();
const x = at ? Math.floor((at[0] - frame.left) / frame.width * columns) : -1;
const y = at ? Math.floor((at[1] - frame.top) / frame.height * rows) : -1;
label.textContent = '–';
if (x >= 0 && x < columns && y >= 0 && y < rows) {
  const i = 2 * (y * columns + x), metres = data => {
    const bytes = atob(data);
    return (bytes.charCodeAt(i) + 256 * bytes.charCodeAt(i + 1)) / 1000;
  };
  const value = metres(box.dataset.millimetres), sigma = metres(box.dataset.sigma);
  label.textContent = (value ? value.toFixed(2) + ' m' : 'unknown')
    + (value && sigma ? ' ± ' + sigma.toFixed(2) + ' m' : '');
}'''
_ASK_DISTANCE = '''
const frame = document.getElementById('depth').getBoundingClientRect();
const u = (event.clientX - frame.left) / frame.width;
const v = (event.clientY - frame.top) / frame.height;
const metres = prompt('How far is this from the lens, in metres, by tape? '
  + 'Depth of this camera is multiplied to agree, from here on and at the next start.');
if (metres) fetch('calibrate_scale?' + new URLSearchParams({u, v, metres}),
  {headers: {'X-Requested-With': 'hybrid_depth_ros'}}).then(answer => answer.text()).then(alert);
'''
_DEPTH_HTML = '''
<div style="padding: 0 10px 8px; display: flex">
<div id="depth" data-size="{columns},{rows}" data-millimetres="{millimetres}"
 style="flex: {image_width}; min-width: 0; cursor: crosshair"
 data-sigma="{sigma}" onclick="{ask}"
 onpointermove="window.depthCursor = [event.clientX, event.clientY]; {show}"
 onpointerleave="window.depthCursor = null; {show}">
<img src="data:image/jpeg;base64,{image}" onload="{show}" decoding="sync"
 style="display: block; width: 100%; aspect-ratio: {image_width} / {height}">
</div>
<img src="data:image/jpeg;base64,{bar}" decoding="sync" alt="scale in metres"
 style="display: block; flex: {bar_width}; min-width: 0;
 aspect-ratio: {bar_width} / {height}"></div>'''
_UNCERTAINTY_HTML = '''
<div style="padding: 0 10px 8px; font-size: 13px">
<img id="uncertainty" src="data:image/jpeg;base64,{image}" decoding="sync"
 style="display: block; width: 100%">
standard deviation of depth: dark is sure, white is {white} or more</div>'''
_FLOOR_MAP_HTML = '''
<div style="padding: 0 10px 8px; font-size: 13px">
<img id="floor_map" src="data:image/jpeg;base64,{image}" decoding="sync"
 style="display: block; width: 100%">
the floor from above: obstacles are red, what is seen to be free is green</div>'''
CALIBRATE_PATH = '/calibrate_scale?'
CALIBRATION_TIMEOUT = 15.0  # seconds that the page waits for the depth node's answer


class Page:
    """What the browser shows.

    ``url`` and ``port`` say where it is served.

    Args:
        host: Address that it is served at.
        port: 0 takes any free one.
        calibrate: Takes what a click on depth says: column and row, as shares of the image, and the
            measured distance in metres. Returns a future of what the page answers.

    Raises:
        OSError: Where viser is not installed, the port is taken, or the address is not this
            machine's.
    """

    def __init__(self, host: str, port: int, calibrate: Calibrate | None = None) -> None:
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
        websockets_server.serve = partial(
            _serve_own_page, serve, is_loopback(host), calibrate)
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
        self._ask = html.escape(_ASK_DISTANCE) if calibrate else ''
        self._uncertainty = gui.add_html('', order=4)
        self._floor_map = gui.add_html('', order=5)
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

    def show_depth(self, depth: npt.NDArray[np.float32],
                   sigma: npt.NDArray[np.float32] | None = None) -> None:
        """Show depth in colours on its own scale, and how sure it is below.

        Args:
            depth: float32 H×W metres, NaN where unknown.
            sigma: float32 H×W metres, one standard deviation of it; None: not known.
        """
        near, far = depth_range(depth)
        depth = _decimate(depth, IMAGE_WIDTH)
        if sigma is not None:
            sigma = _decimate(sigma, IMAGE_WIDTH)
        shown = '' if sigma is None else _UNCERTAINTY_HTML.format(
            image=_jpeg(colour_uncertainty(sigma, depth)), white=f'{FULL_COLOUR_SHARE:.0%}')
        if self._uncertainty.content != shown:
            self._uncertainty.content = shown
        values = _decimate(depth, VALUES_WIDTH)
        bar = scale_bar(300, near, far)
        height, width = depth.shape
        # a flex box as high as the image: both shares are in pixels of one height
        self._depth.content = _DEPTH_HTML.format(
            show=html.escape(_SHOW_VALUE), columns=values.shape[1], rows=values.shape[0],
            millimetres=_millimetres(values), ask=self._ask,
            sigma='' if sigma is None else _millimetres(_decimate(sigma, VALUES_WIDTH)),
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

    def show_floor_map(self, angles: npt.NDArray[np.floating], ranges: npt.NDArray[np.floating],
                       reach: float) -> None:
        """Show obstacles and free space from above.

        Args:
            angles: N radians to the left of forward, of a scan.
            ranges: N metres; inf: free as far as the scan reaches, NaN: unknown.
            reach: Metres that it reaches.
        """
        hits = np.isfinite(ranges)
        points = ranges[hits, None] * np.stack((np.cos(angles[hits]), np.sin(angles[hits])), 1)
        self._floor_map.content = _FLOOR_MAP_HTML.format(
            image=_jpeg(draw_floor_map(points, angles, ranges, reach)))

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()


def _serve_own_page(serve: Callable[..., Any], loopback: bool, calibrate: Calibrate | None,
                    handler: Any, *address: Any, process_request: Callable[..., Any],
                    **options: Any) -> Any:
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
        if calibrate and request.path.startswith(CALIBRATE_PATH):
            # a website can't send this header to another without asking first
            if 'X-Requested-With' not in request.headers:
                return connection.respond(403, 'refused: click on depth in the page\n')
            return _answer_calibration(calibrate, connection, request.path)
        return process_request(connection, request)
    return serve(handler, *address, process_request=check, **options)


async def _answer_calibration(calibrate: Calibrate, connection: Any, path: str) -> Any:
    """The response to a request of the page with u, v and metres."""
    query = parse_qs(urlsplit(path).query)
    try:
        u, v, metres = (float(query[name][0].replace(',', '.')) for name in ('u', 'v', 'metres'))
        if not (0 <= u <= 1 and 0 <= v <= 1 and 0 < metres < np.inf):
            raise ValueError
    except (KeyError, ValueError):
        return connection.respond(400, 'the distance must be a number of metres above 0, as 1.53\n')
    try:
        answer = await asyncio.wait_for(asyncio.wrap_future(calibrate(u, v, metres)),
                                        CALIBRATION_TIMEOUT)
    except asyncio.TimeoutError:
        answer = (f'the depth node did not answer within {CALIBRATION_TIMEOUT:g} s: see whether it '
                  'runs')
    return connection.respond(200, answer + '\n')


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


def _millimetres(metres: npt.NDArray[np.float32]) -> str:
    """Metres as little-endian uint16 millimetres in base64, 0 where unknown."""
    known = np.clip(np.nan_to_num(metres, posinf=0), 0, 65.535)
    return b64encode(np.rint(1000 * known).astype('<u2').tobytes()).decode()


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
