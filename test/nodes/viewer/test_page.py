"""The page: what it is sent, and who may look at it."""

import base64
import re
import socket
import urllib.error
import urllib.request
from concurrent.futures import Future

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
viser = pytest.importorskip('viser', reason='the viewer needs the extra `viewer` (viser)')
import zstandard
from viewer_graph import DEPTH, HEIGHT, WIDTH, look, wait_for

from hybrid_depth_ros.nodes.viewer.page import Page
from hybrid_depth_ros.visualization import FREE, OBSTACLE, PIXELS_PER_METRE


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
    assert b'id="uncertainty"' not in received
    values = re.search(b'data-size="64,48" data-millimetres="([^"]+)"', received)
    millimetres = np.frombuffer(base64.b64decode(values[1]), '<u2').reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(millimetres, np.rint(DEPTH * 1000))
    assert np.float16([[0, 0, 1], [1, 0, 2]]).tobytes() in received
    assert wait_for(lambda: not page.is_open)


def test_uncertainty_is_shown_beside_depth_where_there_is_any(page):
    sigma = (0.1 * DEPTH).astype(np.float32)
    sigma[0] = np.nan
    page.show_depth(DEPTH, sigma)
    assert 'id="uncertainty"' in page._uncertainty.content
    assert 'white is 50% or more' in page._uncertainty.content
    packed = re.search('data-sigma="([^"]+)"', page._depth.content)[1]
    millimetres = np.frombuffer(base64.b64decode(packed), '<u2').reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(millimetres, np.rint(1000 * np.nan_to_num(sigma)))
    page.show_depth(DEPTH)
    assert page._uncertainty.content == '' and 'data-sigma=""' in page._depth.content


def test_the_floor_is_shown_from_above(page):
    angles = np.linspace(-0.5, 0.5, 101)
    ranges = np.where(np.abs(angles) < 0.1, 1.5, np.inf)
    ranges[:20] = np.nan
    page.show_floor_map(angles, ranges, 4.0)
    packed = re.search('id="floor_map" src="data:image/jpeg;base64,([^"]+)"',
                       page._floor_map.content)[1]
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(packed), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(drawn[-1 - round(1.5 * PIXELS_PER_METRE), drawn.shape[1] // 2, ::-1],
                               OBSTACLE, atol=60)
    np.testing.assert_allclose(drawn[-200, drawn.shape[1] // 2 - 70, ::-1], FREE, atol=20)


@pytest.mark.parametrize(('query', 'headers', 'status', 'said'), [
    ('u=0.25&v=0.5&metres=1,53', {'X-Requested-With': 'x'}, 200, 'kept (0.25, 0.5, 1.53)'),
    ('u=0.25&v=0.5&metres=wide', {'X-Requested-With': 'x'}, 400, 'must be a number of metres'),
    ('u=0.25&v=0.5&metres=-1', {'X-Requested-With': 'x'}, 400, 'must be a number of metres'),
    ('u=7&v=0.5&metres=1', {'X-Requested-With': 'x'}, 400, 'must be'),
    ('metres=1', {'X-Requested-With': 'x'}, 400, 'must be'),
    ('u=0.25&v=0.5&metres=1', {}, 403, 'refused'),
    ('u=0.25&v=0.5&metres=1', {'X-Requested-With': 'x', 'Origin': 'http://evil.example'}, 403,
     'refused')])
def test_a_click_s_distance_is_asked_for_by_our_own_page_alone(query, headers, status, said):
    def calibrate(*click):
        done = Future()
        done.set_result(f'kept {click}')
        return done
    page = Page('127.0.0.1', 0, calibrate)
    try:
        page.show_depth(DEPTH)
        assert 'calibrate_scale' in page._depth.content
        request = urllib.request.Request(f'{page.url}/calibrate_scale?{query}', headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                got = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            got = error.code, error.read().decode()
        assert got[0] == status and said in got[1]
    finally:
        page.close()


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
