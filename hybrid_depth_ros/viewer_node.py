"""The viewer: picture, depth and point cloud of a running depth node in a browser."""

import errno
import html
import ipaddress
import socket
import sys
import time
from base64 import b64encode
from collections import deque
from functools import partial
from urllib.parse import urlsplit

import cv2
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, PointCloud2, PointField

from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.listening import Listener
from hybrid_depth_ros.messages import image_to_rgb
from hybrid_depth_ros.parameters import Setting, declare
from hybrid_depth_ros.pictures import colour_depth, depth_range, scale_bar
from hybrid_depth_ros.running import run

SETTINGS = (
    Setting('host', '127.0.0.1', 'address to serve the page at; 0.0.0.0: to every machine that '
            'reaches this one'),
    Setting('port', 8080, 'port of the page; 0: any free one', range=(0, 65535)),
    Setting('rate', 5.0, 'updates of the page at most', range=(0.5, 60.0), unit='Hz'),
    Setting('max_points', 40_000, 'points of a cloud shown at most', range=(100, 2_000_000)),
)
PICTURE_WIDTH = 640  # pixels sent at most; the panel shows fewer
VALUES_WIDTH = 200  # columns of metres under the cursor, sent at most
PANEL_WIDTH = 400  # pixels of the page
RATE_SPAN = 10.0  # seconds that rates are counted over
_HOSTS = 'set the parameter host to 127.0.0.1, 0.0.0.0 or an address of this machine'
MOST_SAID = 500  # characters about one trouble: what an encoding says may be a megabyte

# Runs in the page: writes the metres under the cursor (window.depthCursor) below the picture.
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
 style="flex: {picture_width}; min-width: 0; cursor: crosshair"
 onpointermove="window.depthCursor = [event.clientX, event.clientY]; {show}"
 onpointerleave="window.depthCursor = null; {show}">
<img src="data:image/jpeg;base64,{picture}" onload="{show}" decoding="sync"
 style="display: block; width: 100%; aspect-ratio: {picture_width} / {height}">
</div>
<img src="data:image/jpeg;base64,{bar}" decoding="sync" alt="scale in metres"
 style="display: block; flex: {bar_width}; min-width: 0;
 aspect-ratio: {bar_width} / {height}"></div>'''


class Page:
    """What the browser shows; takes arrays, knows no ROS.

    host, port: where it is served; port 0 takes any free one. Raises OSError where viser is
    not installed, the port is taken or the address is not this machine's.
    """

    def __init__(self, host, port):
        try:
            import rich
            import viser
            import websockets.asyncio.server
        except ImportError as error:
            raise OSError('the viewer needs viser, which is not installed: pip install viser, or '
                          "install this package's extra `viewer`") from error

        class Server(viser.ViserServer):
            def request_share_url(self, verbose=True):
                """Never: a page could ask for a tunnel that shows the camera to the world."""

        _check_free(host, port)
        rich.get_console().quiet = True  # viser prints frames around its URL
        serve = websockets.asyncio.server.serve
        websockets.asyncio.server.serve = partial(_serve_own_page, serve, _is_loopback(host))
        try:
            self._server = Server(host, port, label='hybrid_depth_ros', verbose=False)
        finally:
            websockets.asyncio.server.serve = serve
        self.port = self._server.get_port()
        if port not in (0, self.port):  # viser went on to the next one
            self._server.stop()
            raise _taken(host, port)
        shown = {'0.0.0.0': 'localhost', '::': 'localhost'}.get(host, host)
        self.url = f'http://{f"[{shown}]" if ":" in shown else shown}:{self.port}'

        gui, scene = self._server.gui, self._server.scene
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        gui.main_panel.dock_right()
        gui.main_panel.set_width(PANEL_WIDTH)
        self._text = gui.add_html('', order=0)
        self._picture = None
        self._depth = gui.add_html('', order=2)
        # its own element: the value stays while the next picture is on its way
        gui.add_html('<div style="padding: 0 10px 8px; font-size: 16px">depth under the cursor: '
                     '<output id="metres">–</output></div>', order=3)
        # Optical frame (REP 103): looked at from a step behind the camera, as it looks.
        scene.set_up_direction('-y')
        camera = self._server.initial_camera
        camera.position, camera.look_at, camera.up = (0, -0.3, -1), (0, 0, 2.5), (0, -1, 0)
        camera.fov = np.deg2rad(55)

    @property
    def open(self):
        """Whether a browser shows the page."""
        return bool(self._server.get_clients())

    def show_text(self, text):
        """Lines above the pictures."""
        self._text.content = ('<div style="padding: 0 10px 8px; white-space: pre-line; '
                              f'font-size: 13px">{html.escape(text)}</div>')

    def show_picture(self, rgb):
        """uint8 H×W×3."""
        rgb = _at_most(rgb, PICTURE_WIDTH)
        if self._picture is None:
            self._picture = self._server.gui.add_image(rgb, format='jpeg', order=1)
        self._picture.image = rgb

    def show_depth(self, depth):
        """float32 H×W, metres, NaN where unknown; coloured on its own scale."""
        near, far = depth_range(depth)
        depth = _at_most(depth, PICTURE_WIDTH)
        values = _at_most(depth, VALUES_WIDTH)
        millimetres = np.rint(1000 * np.clip(np.nan_to_num(values), 0, 65.535)).astype('<u2')
        bar = scale_bar(300, near, far)
        height, width = depth.shape
        # a flex box as high as the picture: both shares are in pixels of one height
        self._depth.content = _DEPTH_HTML.format(
            show=html.escape(_SHOW_VALUE), columns=values.shape[1], rows=values.shape[0],
            millimetres=b64encode(millimetres.tobytes()).decode(),
            picture=_jpeg(colour_depth(depth, near, far)), bar=_jpeg(bar), height=height,
            picture_width=width, bar_width=round(bar.shape[1] * height / bar.shape[0]))

    def show_cloud(self, points, colours):
        """points: float32 N×3, metres, optical frame. colours: uint8 N×3."""
        # as large as the gap to the next point would be, were they spread over 55° × 43°
        size = np.median(points[:, 2]) * np.sqrt(0.8 / len(points)) if len(points) else 0.01
        self._server.scene.add_point_cloud('/cloud', points, colours, point_size=float(size),
                                           point_shading='flat')

    def close(self):
        self._server.stop()


def _serve_own_page(serve, loopback, handler, *address, process_request, **options):
    """websockets' serve, for our own page alone: viser would answer that of any website.

    A browser names the website in Origin. A website whose name is made to mean this machine is
    known by Host, where the page is served to this machine only.
    """
    def check(connection, request):
        host = request.headers.get('Host', '')
        origin = request.headers.get('Origin')
        if (origin and urlsplit(origin).netloc != host) or (
                loopback and not _is_loopback(urlsplit(f'//{host}').hostname)):
            return connection.respond(403, 'refused: another website asks\n')
        return process_request(connection, request)
    return serve(handler, *address, process_request=check, **options)


def _taken(host, port):
    return OSError(f'port {port} of {host} is taken: set the parameter port to another one, or '
                   'to 0 for any')


def _check_free(host, port):
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
                    raise _taken(host, port) from error
                raise OSError(f'host {host!r} is not an address of this machine '
                              f'({error.strerror}): {_HOSTS}') from error


def _at_most(pixels, width):
    """Every n-th pixel, so that `width` is not exceeded: metres are never mixed."""
    step = -(-pixels.shape[1] // width)
    return pixels[::step, ::step]


def _jpeg(rgb):
    _, data = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, 85])
    return b64encode(data).decode()


def cloud_points(message, most):
    """sensor_msgs/PointCloud2 → points float32 N×3, metres, and colours uint8 N×3.

    Every n-th row and column, so that N is not above `most`; points that are not finite are left
    out. Without rgb (0x00RRGGBB) the depth gives the colour. Raises ValueError where x, y or z
    is not FLOAT32, a field is not inside a point, or the data do not fill the rows.
    """
    fields = {field.name: field for field in message.fields}
    for axis in 'xyz':
        if axis not in fields or fields[axis].datatype != PointField.FLOAT32:
            raise ValueError(f'the cloud has no field {axis} of type FLOAT32: its fields are '
                             + (', '.join(fields) or 'none'))
    height, width, order = message.height, message.width, '>' if message.is_bigendian else '<'
    if message.row_step < width * message.point_step or len(message.data) < (
            height * message.row_step):
        raise ValueError(f'the cloud of {width}×{height} is truncated: it holds '
                         f'{len(message.data)} bytes in rows of {message.row_step}')
    kinds = {**dict.fromkeys('xyz', 'f4'), 'rgb': 'u4'}
    names = [name for name in kinds if name in fields]
    # NumPy's own check wraps around near 2³¹, and then it reads what is not the message's
    if outside := [name for name in names if fields[name].offset + 4 > message.point_step]:
        raise ValueError(f'the cloud has points of {message.point_step} bytes, which end before '
                         f'their fields {", ".join(outside)}')
    cloud = np.ndarray((height, width), np.dtype({
        'names': names, 'formats': [order + kinds[name] for name in names],
        'offsets': [fields[name].offset for name in names], 'itemsize': message.point_step,
    }), message.data, 0, (message.row_step, message.point_step))
    step = 1
    while len(range(0, width, step)) * len(range(0, height, step)) > most:
        step += 1
    cloud = cloud[::step, ::step]
    points = np.stack([cloud[axis] for axis in 'xyz'], axis=-1).reshape(-1, 3)
    seen = np.isfinite(points).all(axis=1)
    points = points[seen].astype(np.float32, copy=False)
    if 'rgb' in fields:
        packed = cloud['rgb'].reshape(-1)[seen]
        colours = np.stack([packed >> shift & 255 for shift in (16, 8, 0)], axis=-1)
        return points, colours.astype(np.uint8)
    z = points[None, :, 2]
    return points, colour_depth(z, *depth_range(z))[0] if len(points) else np.zeros_like(
        points, np.uint8)


class _Topic:
    """A topic, listened to while the page is open; keeps the newest message, still packed."""

    def __init__(self, node, kind, name):
        self._kind, self._listener = kind, Listener(node, kind, name, self._take, raw=True)
        self.name = self._listener.topic
        self._newest, self._arrivals = None, deque(maxlen=1000)

    def follow(self, wanted):
        """Listen, or leave."""
        before = self._listener.subscription
        self._listener.follow(wanted)
        if self._listener.subscription is not before:
            self._newest, self._since = None, time.monotonic()
            self._arrivals.clear()

    def _take(self, data):
        self._newest = data
        self._arrivals.append(time.monotonic())

    def newest(self):
        """What came since the last call, or None."""
        data, self._newest = self._newest, None
        return data and deserialize_message(data, self._kind)

    def rate(self):
        """Messages per second, lately."""
        now = time.monotonic()
        span = min(RATE_SPAN, max(1.0, now - self._since))
        return sum(arrival > now - span for arrival in self._arrivals) / span


class ViewerNode(Node):
    """Shows ``image``, ``depth/image`` and ``depth/points`` at one URL.

    Listens only while the page is open somewhere. Raises ValueError or OSError for a parameter
    or an address that will not do.
    """

    def __init__(self, **options):
        super().__init__('viewer_node', **options)
        settings = declare(self, SETTINGS)
        self._max_points = settings['max_points']
        self.page = Page(settings['host'], settings['port'])
        self._topics = self._image, self._depth, self._cloud = [
            _Topic(self, kind, name) for kind, name in (
                (Image, 'image'), (Image, 'depth/image'), (PointCloud2, 'depth/points'))]
        self._watched = False
        self._latencies, self._trouble = deque(maxlen=15), ''
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # runs on whatever /clock does
        self.create_timer(0.2, self._follow_page, clock=steady)
        self.create_timer(1 / settings['rate'], self._refresh, clock=steady)
        self.get_logger().info(f'open {self.page.url} in a browser')
        if not _is_loopback(settings['host']):
            self.get_logger().warning(f'host is {settings["host"]}: anybody who reaches port '
                                      f'{self.page.port} of this machine sees the camera')

    def _follow_page(self):
        self._watched = self.page.open
        for topic in self._topics:
            topic.follow(self._watched)

    def _refresh(self):
        if not self._watched:
            return
        self._trouble = ''
        for topic, show in ((self._image, self._show_image), (self._depth, self._show_depth),
                            (self._cloud, self._show_cloud)):
            try:
                if message := topic.newest():
                    show(message)
            except Exception as error:  # the page outlives whatever one message does
                self._trouble = f'{topic.name} is not shown: {reason(error)}'[:MOST_SAID]
                self.get_logger().warning(self._trouble, throttle_duration_sec=5.0)
        self._show_rates()

    def _show_image(self, image):
        self.page.show_picture(image_to_rgb(image))

    def _show_depth(self, depth):
        self.page.show_depth(image_to_depth(depth))
        stamp, now = depth.header.stamp, self.get_clock().now().nanoseconds
        self._latencies.append((now - stamp.nanosec) / 1e9 - stamp.sec)

    def _show_cloud(self, cloud):
        self.page.show_cloud(*cloud_points(cloud, self._max_points))

    def _show_rates(self):
        shown = []
        for topic in self._topics:
            rate = topic.rate()
            shown.append(f'{topic.name}: {rate:.1f} Hz' if rate else f'nothing on {topic.name}')
        if self._latencies:
            latency = np.median(self._latencies)
            shown.append(f'latency: {1000 * latency:.0f} ms' if 0 <= latency < 60 else
                         "latency unknown: the stamps are of another clock than this node's")
        self.page.show_text('\n'.join([*shown, self._trouble]))

    def destroy_node(self):
        self.page.close()
        super().destroy_node()


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def main(args=None):
    """Run the node until it is told to stop; returns the exit status."""
    return run('viewer_node', ViewerNode, args)


if __name__ == '__main__':
    sys.exit(main())
