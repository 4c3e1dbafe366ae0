"""Frame sources: the virtual room, folders, videos, and what is not there."""

import contextlib
import http.server
import itertools
import signal
import socketserver
import struct
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from hybrid_depth_ros import sources
from hybrid_depth_ros.anchors.sensors import project
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.sources import LIDAR_ANGLES, LIDAR_POSE, LIDAR_RANGE, open_source


def test_room_has_exact_depth():
    source = open_source('room', width=64, height=48)
    frame = source.read()
    assert frame.rgb.shape == (48, 64, 3)
    assert frame.depth.shape == (48, 64)
    assert frame.depth.min() > 0.2
    assert source.intrinsics.width == 64


def test_folder_in_natural_order(tmp_path):
    for i in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f'frame{i}.png'), np.full((4, 6, 3), i, np.uint8))
    (tmp_path / 'frame3.png').write_bytes(b'no picture')
    (tmp_path / 'notes.txt').write_text('')
    (tmp_path / '._frame1.png').write_bytes(b'macOS, beside each file')
    source = open_source(str(tmp_path), loop=False)
    assert [source.read().rgb[0, 0, 0] for _ in range(2)] == [1, 2]
    with pytest.raises(OSError, match='frame3'):
        source.read()
    assert source.read().rgb[0, 0, 0] == 10
    assert source.read() is None


def test_under_a_calibration_pixels_are_as_stored(tmp_path):
    """EXIF's orientation, or a video's, turned images away from their calibration."""
    block = b'Exif\0\0' + struct.pack('<2sHIHHHIHHI', b'II', 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    jpeg = cv2.imencode('.jpg', np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    (tmp_path / 'a.jpg').write_bytes(
        jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(block) + 2) + block + jpeg[2:])
    for as_stored, shape in ((False, (64, 48)), (True, (48, 64))):
        source = open_source(str(tmp_path), as_stored=as_stored)
        assert source.read().rgb.shape[:2] == shape
    path = tmp_path / 'turned.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 12.0, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    matrix = data.index(b'tkhd') + 4 + 40  # ISO 14496-12, 8.3.2: a turn by a quarter
    data[matrix:matrix + 36] = struct.pack('>9i', 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    for as_stored, shape in ((False, (64, 48)), (True, (48, 64))):
        source = open_source(str(path), as_stored=as_stored)
        assert source.read().rgb.shape[:2] == shape
        source.close()


def test_folder_loops(tmp_path):
    cv2.imwrite(str(tmp_path / 'one.png'), np.zeros((4, 6, 3), np.uint8))
    source = open_source(str(tmp_path), loop=True)
    assert all(source.read() for _ in range(3))


def test_video(tmp_path):
    path = str(tmp_path / 'video.avi')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 12.0, (64, 48))
    for i in range(5):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * i), np.uint8))
    writer.release()
    source = open_source(path, loop=False)
    assert source.rate == pytest.approx(12)
    reds = [source.read().rgb[20, 20, 0] for _ in range(5)]
    assert reds == pytest.approx([0, 40, 80, 120, 160], abs=6)
    assert source.read() is None
    looping = open_source(path, loop=True)
    assert all(looping.read() for _ in range(11))
    content = (tmp_path / 'video.avi').read_bytes()
    cut = tmp_path / 'cut.avi'
    cut.write_bytes(content[:content.index(b'movi') + 4])
    with pytest.raises(OSError, match=r'cut\.avi holds no frame that OpenCV can read; convert it'):
        open_source(str(cut)).read()


@pytest.mark.parametrize(('name', 'said'), [
    ('nowhere.mp4', 'nowhere.mp4'), ('/dev/shm/nowhere.mp4', 'no such device'),
    ('empty', 'no image'), ('broken.mp4', 'broken.mp4'), ('/dev/null', 'no such device'),
    ('', 'source is empty'), ('rtsp:///live', 'names no machine'),
    ('rtsp://me:p#ss@camera/live', 'me:…@camera/live names no machine')])
def test_what_is_not_there_is_named(name, said, tmp_path, monkeypatch):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken.mp4').write_bytes(b'x' * 100)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OSError, ValueError), match=said):
        open_source(name)


@pytest.mark.parametrize('name', ['57', '/dev/video57', '/dev/v4l/by-id/usb-none', '/dev/front'])
def test_a_device_that_is_not_there_yet_is_waited_for(name):
    source = open_source(name)
    with pytest.raises(OSError, match=f'camera device {name} is not there .*tried again'):
        source.read()
    assert source.recoverable
    assert not source.ended
    source.close()


def test_the_lidar_measures_what_the_camera_sees():
    source = open_source('room', width=320, height=240)
    frame, ranges = source.read(), source.scan()
    assert ranges.shape == LIDAR_ANGLES.shape and ranges.dtype == np.float32
    nearest, farthest = LIDAR_RANGE
    hit = np.isfinite(ranges)
    assert hit.mean() > 0.5 and ranges[hit].min() >= nearest and ranges[hit].max() <= farthest
    rays = np.stack((np.cos(LIDAR_ANGLES), np.sin(LIDAR_ANGLES), 0 * LIDAR_ANGLES))[:, hit]
    anchors = project(rays * ranges[hit], read_pose(LIDAR_POSE), source.intrinsics)
    seen = frame.depth[np.rint(anchors.v).astype(int), np.rint(anchors.u).astype(int)]
    assert len(anchors) > 40
    assert np.median(np.abs(anchors.depth / seen - 1)) < 0.01
    assert (source.scan() == ranges).all()
    source.read()
    assert (source.scan() != ranges).any()


def test_a_film_without_an_index_loops(tmp_path):
    """OpenCV can't seek in a raw .mjpeg; loop:=true ended after one pass."""
    path = tmp_path / 'camera.mjpeg'
    path.write_bytes(b''.join(
        cv2.imencode('.jpg', np.full((48, 64, 3), 60 * i, np.uint8))[1].tobytes()
        for i in range(4)))
    source = open_source(str(path), loop=True)
    levels = [int(source.read().rgb.mean()) for _ in range(12)]
    assert levels[:4] == levels[4:8] == levels[8:]
    assert levels[3] - levels[0] > 150
    once = open_source(str(path), loop=False)
    assert [once.read() is None for _ in range(5)] == [False] * 4 + [True]


@pytest.mark.parametrize(('claimed', 'rate'), [(1000.0, 30), (25.0, 25), (120.0, 120), (0.2, 30)])
def test_a_rate_that_no_camera_has_is_not_believed(claimed, rate, tmp_path):
    """A video that claims 1000 fps was played at 1000 Hz."""
    path = str(tmp_path / 'video.avi')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), claimed, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    source = open_source(path)
    assert source.rate == pytest.approx(rate)
    assert ('set rate' in source.warning) == (claimed != rate)
    assert not open_source(path, rate=1000.0).warning


class Stream(http.server.BaseHTTPRequestHandler):
    """A camera's Motion JPEG over http, 40 pictures a connection."""

    protocol_version = 'HTTP/1.0'

    def do_GET(self):
        self.server.count += 1
        if self.server.count in self.server.refused:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=b')
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b'--b\r\nContent-Type: image/jpeg\r\nContent-Length: '
                             b'%d\r\n\r\n' % len(self.server.jpeg) + self.server.jpeg + b'\r\n')

    def log_message(self, *_):
        pass


def test_a_stream_that_breaks_off_is_connected_to_again(monkeypatch):
    """A camera by its URL is not up yet, then breaks off."""
    monkeypatch.setattr(sources, 'RECONNECT_INTERVAL', 0.5)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Stream)
    server.count = 0
    server.jpeg = cv2.imencode('.jpg', np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f'http://user:secret@127.0.0.1:{server.server_port}/video'
    try:
        server.refused = range(1, 3)  # it is not up yet
        source = open_source(url)
        got, broken = 0, set()
        deadline = time.monotonic() + 30
        while server.count < 4 and time.monotonic() < deadline:
            try:
                got += source.read() is not None
            except OSError as error:
                broken.add(str(error))
        source.close()
        assert got
        assert source.recoverable
        assert any('gives no stream' in said for said in broken)
        assert any('gives no more frames' in said for said in broken)
        assert 'secret' not in str(broken)
    finally:
        server.shutdown()
        server.server_close()


class RtspCamera(socketserver.StreamRequestHandler):
    """RFC 2326 over TCP; its pictures are RFC 2435's JPEG, 15 a connection."""

    def handle(self):
        self.server.count += 1
        with contextlib.suppress(OSError):
            while (lines := list(itertools.takewhile(bytes.strip, self.rfile))):
                if self.answer(*lines) in ('PLAY', 'TEARDOWN'):
                    break

    def answer(self, request, *lines):
        method, url = request.decode().split()[:2]
        fields = {name.lower(): value for name, _, value in (
            line.decode().strip().partition(': ') for line in lines)}
        sdp = 'v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\n'
        said, body = {
            'DESCRIBE': (f'Content-Base: {url}/\r\nContent-Type: application/sdp\r\n', sdp),
            'SETUP': ('Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n', ''),
        }.get(method, ('Session: 1\r\n', ''))
        over_udp = method == 'SETUP' and 'TCP' not in fields['transport']
        self.wfile.write((f'RTSP/1.0 {"461 Not that" if over_udp else "200 OK"}\r\nCSeq: '
                          f'{fields.get("cseq")}\r\n{said}Content-Length: {len(body)}\r\n\r\n{body}'
                          ).encode())
        for number in range(15 if method == 'PLAY' else 0):
            packet = struct.pack('>BBHII', 128, 128 | 26, number, 3000 * number, 1) + self.picture()
            self.wfile.write(b'$\0' + struct.pack('>H', len(packet)) + packet)
        return method

    @staticmethod
    def picture():
        """A JPEG's quantisation tables and what stands behind its last header."""
        jpeg = cv2.imencode('.jpg', np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        tables = b''.join(part[3:67] for part in jpeg.split(b'\xff\xdb')[1:])
        scan = jpeg.index(b'\xff\xda')
        return struct.pack('>LBBBBHH', 0, 1, 255, 64 // 8, 48 // 8, 0, len(tables)
                           ) + tables + jpeg[scan + 2 + jpeg[scan + 3]:-2]


def test_a_camera_by_rtsp_is_connected_to_again(monkeypatch):
    """Most cameras in a network speak RTSP."""
    monkeypatch.setattr(sources, 'RECONNECT_INTERVAL', 0.05)
    with socketserver.ThreadingTCPServer(('127.0.0.1', 0), RtspCamera) as server:
        server.count, server.daemon_threads = 0, True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        source = open_source(f'rtsp://127.0.0.1:{server.server_address[1]}/live')
        got, deadline = [], time.monotonic() + 30
        while len(got) < 20 and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if frame := source.read():
                    got.append(frame.rgb)
        source.close()
        server.shutdown()
        assert len(got) == 20
        assert server.count > 1
        assert got[-1].shape == (48, 64, 3)
        assert abs(int(got[-1].mean()) - 90) < 3


def test_one_image_and_its_url(tmp_path):
    path = tmp_path / 'one image.png'
    cv2.imwrite(str(path), np.full((4, 6, 3), 7, np.uint8))
    for name in (str(path), f'file://{path}', f'file://{str(path).replace(" ", "%20")}'):
        source = open_source(name, loop=True)
        assert [source.read().rgb[0, 0, 0] for _ in range(3)] == [7, 7, 7]
    once = open_source(str(path), loop=False)
    assert once.read()
    assert once.read() is None


def test_a_device_by_udevs_link(tmp_path, monkeypatch):
    """/dev/v4l/by-id/… is a link to /dev/video0."""
    opened = []

    class Capture:
        def __init__(self, source):
            opened.append(source)

        def isOpened(self, *_):
            return False

        release = set = isOpened
    monkeypatch.setattr(cv2, 'VideoCapture', Capture)
    monkeypatch.setattr(sources.os.path, 'realpath', lambda _: '/dev/video3')
    monkeypatch.setattr(sources.os.path, 'exists', lambda _: True)
    source = open_source('/dev/v4l/by-id/usb-Camera-index0')
    with pytest.raises(OSError, match='index0 cannot be opened'):
        source.read()
    source.close()
    assert opened == [3]


@pytest.mark.parametrize('passwords', ['a', 'p@ss', 'p:ss', 'p/s@s'])
def test_a_log_shows_no_password(passwords):
    assert sources.redact_password(f'rtsp://me:{passwords}@camera/live') == (
        'rtsp://me:…@camera/live')


def test_a_camera_that_is_down_at_the_start_is_waited_for(tmp_path):
    """A robot starts its nodes before its cameras are up."""
    pytest.importorskip('rclpy')
    with socketserver.TCPServer(('127.0.0.1', 0), None, bind_and_activate=False) as place:
        place.server_bind()
        port = place.server_address[1]
    log = tmp_path / 'log'
    with log.open('w') as file:
        process = subprocess.Popen(
            [sys.executable, '-m', 'hybrid_depth_ros.nodes.camera', '--ros-args', '-p',
             f'source:=http://me:secret@127.0.0.1:{port}/video'], stdout=file, stderr=file)

    def wait(text):
        deadline = time.monotonic() + 30
        while text not in log.read_text() and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        assert text in log.read_text()
    try:
        wait('gives no stream')
        time.sleep(1.5)  # some more tries
        server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Stream)
        server.count, server.refused = 0, ()
        server.jpeg = cv2.imencode('.jpg', np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        wait('gives frames')
        server.shutdown()
        server.server_close()
        with http.server.HTTPServer(('127.0.0.1', port), Stream):  # takes calls, answers none
            wait('gives no more frames')
            time.sleep(1.2)
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0, log.read_text()
            assert time.monotonic() - begun < 3
    finally:
        process.kill()
    said = log.read_text()
    assert said.count('gives no stream') == 1
    assert 'Traceback' not in said
    assert 'secret' not in said
