"""The viewer: what the page is sent, whom it listens to, and what a real browser shows."""

import base64
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
viser = pytest.importorskip('viser', reason='the viewer needs the extra `viewer` (viser)')

import msgspec
import zstandard
from builtin_interfaces.msg import Time
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header
from websockets.sync.client import connect

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.shared.messages import (
    camera_info_message,
    cloud_message,
    depth_to_image,
    rgb_to_image,
)
from hybrid_depth_ros.nodes.viewer.node import (
    MAX_WARNING_LENGTH,
    SETTINGS,
    ViewerNode,
    cloud_points,
    main,
)
from hybrid_depth_ros.nodes.viewer.page import Page
from hybrid_depth_ros.point_cloud import POINT, organised_cloud

WIDTH, HEIGHT = 64, 48
CAMERA = Intrinsics.from_horizontal_fov(WIDTH, HEIGHT, 60)
DEPTH = np.repeat(np.where(np.arange(WIDTH) < WIDTH // 2, 1.25, 3.0)[None],
                  HEIGHT, axis=0).astype(np.float32)
PATIENCE = 120.0  # seconds: a browser that draws 3-D without a GPU on a busy machine
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome',
                                                'google-chrome-stable'))), None)


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


# --- clouds ---------------------------------------------------------------------------


def test_our_cloud_becomes_points_within_the_budget():
    rgb = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
    depth = DEPTH.copy()
    depth[0] = np.nan
    cloud = organised_cloud(depth, rgb, CAMERA)
    message = cloud_message(cloud, Header())

    points, colours = cloud_points(message, HEIGHT * WIDTH)
    assert points.dtype == np.float32 and colours.dtype == np.uint8
    np.testing.assert_array_equal(
        points, np.stack([cloud[axis][1:] for axis in 'xyz'], -1).reshape(-1, 3))
    np.testing.assert_array_equal(colours, rgb[1:].reshape(-1, 3))

    points, colours = cloud_points(message, 1000)  # every second row and column
    assert len(points) == (HEIGHT // 2 - 1) * WIDTH // 2
    np.testing.assert_array_equal(colours, rgb[::2, ::2][1:].reshape(-1, 3))


def test_a_strangers_cloud_is_read_by_its_fields():
    # big-endian, one line, padding before and between the fields, rows longer than the points
    kind = np.dtype({'names': ['z', 'x', 'y'], 'formats': ['>f4'] * 3, 'offsets': [4, 12, 20],
                     'itemsize': 28})
    line = np.zeros(6, kind)
    line['x'], line['y'], line['z'] = np.arange(6), 7, [1, 2, np.inf, 4, 5, 6]
    message = PointCloud2(
        height=1, width=6, point_step=28, row_step=28 * 6 + 3, is_bigendian=True,
        data=line.tobytes() + b'\0' * 3,
        fields=[PointField(name=name, offset=kind.fields[name][1], count=1,
                           datatype=PointField.FLOAT32) for name in kind.names])
    points, colours = cloud_points(message, 6)
    np.testing.assert_array_equal(points, [[x, 7, x + 1] for x in (0, 1, 3, 4, 5)])
    assert colours[0, 0] > colours[0, 2] and colours[-1, 2] > colours[-1, 0]  # warm is near
    assert len(cloud_points(message, 3)[0]) == 2  # 0, 2 (not finite), 4

    with pytest.raises(ValueError, match='truncated'):
        message.width = 7
        cloud_points(message, 6)
    message.width, message.fields[1].offset = 6, 2**31 - 1
    with pytest.raises(ValueError, match='points of 28 bytes, which end before their fields x'):
        cloud_points(message, 6)
    with pytest.raises(ValueError, match='no field z'):
        cloud_points(PointCloud2(fields=message.fields[1:]), 6)


def test_a_hostile_cloud_is_refused_in_a_sentence():
    rng = np.random.default_rng(0)
    odd = [0, 1, 3, 4, 12, 16, 2**31 - 1, 2**31, 2**32 - 1]
    sizes = [0, 1, 2, 5, 2**16, 2**32 - 1]
    read = 0
    for _ in range(3000):
        message = PointCloud2(
            height=int(rng.choice(sizes)), width=int(rng.choice(sizes)),
            point_step=int(rng.choice(odd)), row_step=int(rng.choice([*odd, 80])),
            is_bigendian=bool(rng.integers(2)), data=rng.bytes(int(rng.integers(0, 400))),
            fields=[PointField(name=name, offset=int(rng.choice(odd)) if rng.random() < 0.1 else
                               4 * place, datatype=PointField.FLOAT32, count=1)
                    for place, name in enumerate(['x', 'y', 'z', 'rgb'][:rng.integers(3, 5)])])
        try:
            points, colours = cloud_points(message, 100)
            read += len(points) > 0
            assert len(points) == len(colours) <= 100
        except ValueError as error:
            assert '\n' not in str(error)
    assert read > 5


# --- the page -------------------------------------------------------------------------


@pytest.fixture
def page():
    page = Page('127.0.0.1', 0)
    yield page
    page.close()


def look(page):
    """A browser's connection, as far as the server can tell."""
    browser = connect(page.url.replace('http', 'ws'), max_size=None,
                      subprotocols=[f'viser-v{viser.__version__}'])
    browser.send(msgspec.msgpack.encode({
        'type': 'ViewerCameraMessage', 'wxyz': (1, 0, 0, 0), 'position': (0, 0, 0), 'fov': 1,
        'near': 0.1, 'far': 100, 'image_height': 480, 'image_width': 640, 'look_at': (0, 0, 1),
        'up_direction': (0, -1, 0)}))
    assert wait_for(lambda: page.is_open)
    return browser


def test_page_is_sent_what_it_shows(page):
    assert urllib.request.urlopen(page.url, timeout=20).read(15).lower() == b'<!doctype html>'
    assert not page.is_open
    page.show_text('a <b> & c')
    page.show_image(np.full((HEIGHT, WIDTH, 3), 200, np.uint8))
    page.show_depth(np.full((HEIGHT, WIDTH), np.nan, np.float32))
    page.show_depth(DEPTH)
    page.show_cloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))
    page.show_cloud(np.float32([[0, 0, 1], [1, 0, 2]]), np.uint8([[255, 0, 0], [0, 255, 0]]))
    with look(page) as browser:
        received = b''
        while b'ReplayDoneMessage' not in received:
            frame = browser.recv(timeout=20)
            packed = int.from_bytes(frame[8:16], 'little')
            received += zstandard.decompress(frame[16:16 + packed]) + frame[16 + packed:]
    assert b'a &lt;b&gt; &amp; c' in received
    values = re.search(b'data-size="64,48" data-millimetres="([^"]+)"', received)
    millimetres = np.frombuffer(base64.b64decode(values[1]), '<u2').reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(millimetres, np.rint(DEPTH * 1000))
    assert np.float16([[0, 0, 1], [1, 0, 2]]).tobytes() in received
    assert wait_for(lambda: not page.is_open)


def test_no_page_asks_for_a_tunnel_to_the_internet(page):
    assert page._server.request_share_url() is None
    assert page._server._share_tunnel is None


@pytest.mark.parametrize(('headers', 'answered'), [
    ({}, True), ({'Origin': 'http://127.0.0.1:{port}'}, True),
    ({'Origin': 'http://evil.example'}, False), ({'Origin': 'http://127.0.0.1:{other}'}, False),
    ({'Origin': 'http://evil.example:{port}', 'Host': 'evil.example:{port}'}, False),
    ({'Origin': 'http://localhost:{port}', 'Host': 'localhost:{port}'}, True)])
def test_other_websites_are_refused(page, headers, answered):
    headers = {name: value.format(port=page.port, other=page.port + 1)
               for name, value in headers.items()}
    with socket.create_connection(('127.0.0.1', page.port), 20) as line:
        fields = {'Host': f'127.0.0.1:{page.port}', 'Upgrade': 'websocket',
                  'Connection': 'Upgrade', 'Sec-WebSocket-Version': '13',
                  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
                  'Sec-WebSocket-Protocol': f'viser-v{viser.__version__}', **headers}
        line.sendall(('GET / HTTP/1.1\r\n' + ''.join(
            f'{name}: {value}\r\n' for name, value in fields.items()) + '\r\n').encode())
        status = line.recv(100).split(b'\r\n')[0]
    assert status.startswith(b'HTTP/1.1 101' if answered else b'HTTP/1.1 403')


def test_a_taken_port_and_a_foreign_address_are_said(page):
    with pytest.raises(OSError, match=f'port {page.port} of 127.0.0.1 is taken'):
        Page('127.0.0.1', page.port)
    with pytest.raises(OSError, match=r"'192\.0\.2\.1' is not an address of this machine"):
        Page('192.0.2.1', 0)  # RFC 5737: nobody's


def test_missing_viser_is_named_with_the_mend(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, 'viser', None)
    assert main(['--ros-args', '-p', 'port:=0']) == 1
    error = capfd.readouterr().err
    assert 'pip install viser' in error and 'Traceback' not in error


# --- over DDS -------------------------------------------------------------------------


class Graph:
    """A viewer and a publisher of its topics, spun by a thread."""

    def __init__(self, image_qos, **parameters):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.viewer = ViewerNode(context=self.context, parameter_overrides=[
            Parameter(name, value=value)
            for name, value in {'port': 0, 'rate': 10.0, **parameters}.items()])
        self.page = self.viewer.page
        self.node = rclpy.create_node('depth_source', context=self.context)
        self.publishers = [
            self.node.create_publisher(kind, topic, qos) for kind, topic, qos in (
                (Image, 'image', image_qos), (Image, 'depth/image', QoSProfile(depth=1)),
                (PointCloud2, 'depth/points', QoSProfile(depth=1)))]
        self.colour = (255, 0, 0)
        self.node.create_timer(0.25, self._publish)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        for node in (self.viewer, self.node):
            self.executor.add_node(node)
        self.closing = False
        self.thread = threading.Thread(target=self._spin)
        self.thread.start()

    def _spin(self):
        while not self.closing:
            self.executor.spin_once(timeout_sec=0.1)

    def _publish(self):
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id='camera')
        rgb = np.full((HEIGHT, WIDTH, 3), self.colour, np.uint8)
        cloud = organised_cloud(DEPTH, rgb, CAMERA)
        for publisher, message in zip(self.publishers, (
                rgb_to_image(rgb, header), depth_to_image(DEPTH, header, '32FC1'),
                cloud_message(cloud, header))):
            if publisher.get_subscription_count():
                publisher.publish(message)

    def listeners(self):
        return [publisher.get_subscription_count() for publisher in self.publishers]

    def close(self):
        self.closing = True
        self.thread.join()
        self.viewer.destroy_node()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def graph(request):
    graph = Graph(getattr(request, 'param', QoSProfile(depth=1)))
    yield graph
    graph.close()


@pytest.mark.parametrize('graph', [QoSProfile(depth=1), qos_profile_sensor_data], indirect=True,
                         ids=['reliable', 'best effort'])
def test_topics_are_heard_only_while_the_page_is_open(graph):
    shown = []
    graph.page.show_image = lambda rgb: shown.append(rgb[0, 0].tolist())
    assert not wait_for(lambda: any(graph.listeners()), 2)
    for _ in range(2):
        with look(graph.page):
            assert wait_for(lambda: graph.listeners() == [1, 1, 1])
            shown.clear()
            assert wait_for(lambda: [255, 0, 0] in shown)
        assert wait_for(lambda: not any(graph.listeners()))


def test_anchors_are_drawn_where_they_lie(graph):
    shown = []
    graph.page.show_image = lambda rgb: shown.append(rgb)
    info = graph.node.create_publisher(CameraInfo, 'depth/camera_info', 1)
    anchors = graph.node.create_publisher(PointCloud2, 'depth/anchors', 1)
    points = np.zeros((1, 2), POINT)
    u, v = np.array([WIDTH // 4, WIDTH // 2]), np.array([HEIGHT // 3, HEIGHT // 2])
    points['z'], points['rgb'] = 2, [0x00ff00, 0x0000ff]
    points['x'] = (u - CAMERA.cx) / CAMERA.fx * 2
    points['y'] = (v - CAMERA.cy) / CAMERA.fy * 2
    with look(graph.page):
        assert wait_for(lambda: anchors.get_subscription_count() and info.get_subscription_count())

        def drawn():
            header = Header(stamp=graph.node.get_clock().now().to_msg(), frame_id='camera')
            info.publish(camera_info_message(CAMERA, header))
            anchors.publish(cloud_message(points, header))
            return shown and [shown[-1][row, column].tolist() for row, column in zip(v, u)] == [
                [0, 255, 0], [0, 0, 255]]
        assert wait_for(drawn)
        assert shown[-1][0, 0].tolist() == [255, 0, 0]
        assert wait_for(lambda: (shown[-1] == [255, 0, 0]).all())  # they are old by then


def test_this_machine_alone_sees_the_page_by_default(graph):
    assert {setting.name: setting.default for setting in SETTINGS}['host'] == '127.0.0.1'
    socket.create_connection(('127.0.0.1', graph.page.port), 5).close()
    with pytest.raises(OSError):  # another of this machine's addresses
        socket.create_connection(('127.0.0.2', graph.page.port), 5)


def test_a_taken_port_ends_the_node_with_a_reason(page, capfd):
    assert main(['--ros-args', '-p', f'port:={page.port}']) == 1
    error = capfd.readouterr().err
    assert f'port {page.port} of 127.0.0.1 is taken' in error and 'Traceback' not in error


def test_hostile_messages_end_nothing(graph, capfd):
    """Any bytes at all; one topic's trouble keeps none of the others from being shown."""
    viewer, shown = graph.viewer, []
    graph.closing = True
    graph.thread.join()  # from here on, this thread does what the timers did
    graph.page.show_image = lambda rgb: shown.append(rgb.shape)
    for topic in viewer._topics:
        topic.set_wanted(True)
    image = serialize_message(rgb_to_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8), Header()))
    depths = [np.full((2, 3), value, np.float32) for value in (
        1e-45, 1e9, 3e38, np.inf, -1, 0)] + [np.float32([[1e-3, 3e38]]), np.ones((1, 5000))]
    stamps = [Time(sec=sec, nanosec=2**32 - 1) for sec in (-2**31, -1, 0, 2**31 - 1)]
    rng = np.random.default_rng(0)
    good = serialize_message(cloud_message(organised_cloud(
        DEPTH, np.zeros((HEIGHT, WIDTH, 3), np.uint8), CAMERA), Header()))
    hostile = [(viewer._depth, serialize_message(
        depth_to_image(depth, Header(stamp=stamp), '32FC1'))) for depth in depths
        for stamp in stamps]
    hostile += [(viewer._depth, serialize_message(Image(encoding='a' * 10**6)))]
    for topic, whole in ((viewer._depth, hostile[0][1]), (viewer._cloud, good)):
        for _ in range(40):
            damaged = bytearray(whole[:rng.integers(4, len(whole) + 1)])
            for place in rng.integers(4, min(len(damaged), 150) + 1, 3):
                damaged[place - 1] = rng.integers(256)
            hostile.append((topic, bytes(damaged)))
    for topic, data in hostile:
        shown.clear()
        topic._take(data)
        viewer._image._take(image)
        start = time.monotonic()
        viewer._show_newest()
        assert shown == [(HEIGHT, WIDTH, 3)]
        assert len(viewer._problem) <= MAX_WARNING_LENGTH
        assert time.monotonic() - start < 2
    viewer._depth._take(serialize_message(Image(encoding='rgb8')))
    viewer._show_newest()
    assert viewer._problem.startswith('/depth/image is not shown: encoding')
    assert capfd.readouterr().err.count('is not shown') < 5  # throttled


def test_opening_it_up_is_warned_about(capfd):
    graph = Graph(QoSProfile(depth=1), host='0.0.0.0')
    graph.close()
    assert 'anybody who reaches port' in capfd.readouterr().err


# --- in a browser ---------------------------------------------------------------------


class Browser:
    """Headless Chromium, driven over its DevTools protocol."""

    def __init__(self, folder, url, width=1000, height=700):
        self._count, self.requested = 0, []
        self._process = subprocess.Popen(
            [CHROMIUM, '--headless=new', '--no-sandbox', '--use-angle=swiftshader',
             '--enable-unsafe-swiftshader', '--disable-dev-shm-usage', '--no-first-run',
             f'--user-data-dir={folder}', '--remote-debugging-port=0', 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._connection = None
        try:
            said = folder / 'DevToolsActivePort'
            port = wait_for(lambda: said.exists() and said.read_text().split()[:1], PATIENCE)[0]
            (target,) = [
                target for target in json.load(urllib.request.urlopen(
                    f'http://127.0.0.1:{port}/json/list', timeout=PATIENCE))
                if target['type'] == 'page']
            self._connection = connect(target['webSocketDebuggerUrl'], max_size=None)
            self('Network.enable')
            self('Emulation.setDeviceMetricsOverride', width=width, height=height,
                 deviceScaleFactor=1, mobile=False)
            self('Page.navigate', url=url)
        except BaseException:
            self.close()
            raise

    def __call__(self, method, **parameters):
        self._count += 1
        self._connection.send(json.dumps(
            {'id': self._count, 'method': method, 'params': parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE))
            if answer.get('method') == 'Network.requestWillBeSent':
                self.requested.append(answer['params']['request']['url'])
            if answer.get('id') == self._count:
                return answer['result']

    def evaluate(self, script):
        return self('Runtime.evaluate', expression=script, returnByValue=True)['result'].get(
            'value')

    def screenshot(self):
        """uint8 H×W×3 RGB."""
        png = base64.b64decode(self('Page.captureScreenshot', format='png')['data'])
        return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), 1), cv2.COLOR_BGR2RGB)

    def hover(self, x, y):
        self('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def close(self):
        if self._connection:
            self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def browser(graph, tmp_path):
    if not CHROMIUM:
        pytest.skip('needs Chromium; on Debian and Ubuntu: apt install chromium')
    browser = Browser(tmp_path, graph.page.url)
    yield browser
    browser.close()


def test_browser_shows_a_live_picture_depth_and_cloud(graph, browser):
    def box(selector):
        """Left, top, right, bottom on the page, or None where there is no such picture yet."""
        return browser.evaluate(
            f"(() => {{ const found = document.querySelector('{selector}'); if (!found) return;"
            ' const box = found.getBoundingClientRect(); if (box.height < 20) return;'
            ' return [box.left, box.top, box.right, box.bottom].map(Math.round); })()')

    def shows(selector, colour, part):
        """Whether that part of an element is red (0) or green (1)."""
        left, top, right, bottom = box(selector) or (0, 0, 0, 0)
        pixels = browser.screenshot()[top:bottom, left:right].astype(int)
        return pixels.size and np.mean(
            (pixels[..., colour] > 150) & (pixels[..., 1 - colour] < 60)) > part

    assert wait_for(lambda: box('#depth img'), PATIENCE)
    for colour, rgb in ((0, (255, 0, 0)), (1, (0, 255, 0))):
        graph.colour = rgb
        # an image of a blob is the camera's picture, the canvas holds the cloud
        assert wait_for(lambda colour=colour: shows('img[src^=blob]', colour, 0.9), PATIENCE)
        assert wait_for(lambda colour=colour: shows('canvas', colour, 0.1), PATIENCE)

    for part, said in ((0.25, '1.25 m'), (0.75, '3.00 m')):
        left, top, right, bottom = box('#depth')
        browser.hover(left + part * (right - left), (top + bottom) // 2)
        assert wait_for(lambda said=said: browser.evaluate(
            "document.getElementById('metres').innerText") == said)
    text = browser.evaluate('document.body.innerText')
    assert '/depth/points: ' in text and 'latency: ' in text
    elsewhere = [url for url in browser.requested
                 if not url.startswith((graph.page.url, f'blob:{graph.page.url}', 'data:'))]
    assert not elsewhere
