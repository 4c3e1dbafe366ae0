"""What a node, a weights file, a recording and a page are sent by those who mean harm.

``test/soak/hostile.py`` runs the same messages 20,000 times.
"""

import ast
import ctypes
import gc
import http.client
import http.server
import json
import os
import queue
import re
import struct
import threading
import time
import urllib.request
import zipfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('hypothesis')

import torch
from builtin_interfaces.msg import Time
from graph import CAMERA, CHART
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from stub_depth_node import HEIGHT, WIDTH, ScenePredictor, scene_depth

from hybrid_depth_ros.encodings import (
    DEPTH_TYPES,
    PNG,
    RGB_CONVERSIONS,
    compressed_to_depth,
    image_to_depth,
)
from hybrid_depth_ros.image_files import CameraSnapshot, save_snapshot
from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.nodes.depth.node import DepthNode, check_cameras, resident_megabytes
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, cloud_message, rgb_to_image
from hybrid_depth_ros.point_cloud import organised_cloud

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0  # seconds without an answer that count as a hang
LONGEST = 600  # characters of what is said about one frame


# --- hostile messages ---------------------------------------------------------------------

UINT32 = st.one_of(st.integers(0, 40), st.sampled_from(
    [640, 65_535, 65_536, 60_000, 2**31 - 1, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
NUMBERS = st.one_of(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 5e-324, 1e308, -1e308]),
                    st.floats())
NAMES = st.one_of(st.just(''), st.text(max_size=12), st.just('a' * 100_000),
                  st.just('%s%n\n\x1b[2J{0}'))
HEADERS = st.builds(
    Header, frame_id=NAMES,
    stamp=st.builds(Time, sec=st.integers(-2**31, 2**31 - 1), nanosec=st.integers(0, 2**32 - 1)))


def noise(size, seed):
    return np.random.default_rng(seed).bytes(size)


@st.composite
def images(draw):
    """Small ones that are nearly right, and ones that claim anything."""
    known = st.sampled_from([*RGB_CONVERSIONS, *DEPTH_TYPES])
    encoding = draw(known if draw(st.integers(0, 3)) else NAMES)
    width, height = draw(st.tuples(st.integers(0, 12), st.integers(0, 12))
                         if draw(st.integers(0, 3)) else st.tuples(UINT32, UINT32))
    pixel, _ = RGB_CONVERSIONS.get(encoding, (4, None))
    step = draw(st.just(min(width * pixel, 2**32 - 1)) if draw(st.integers(0, 3)) else UINT32)
    size = draw(st.just(step * height * 3 // 2) if draw(st.integers(0, 3)) else
                st.integers(0, 2000))
    extra = draw(st.sampled_from([0, 0, -1, 1, 1000]))
    return Image(header=draw(HEADERS), encoding=encoding, width=width, height=height, step=step,
                 is_bigendian=draw(st.sampled_from([0, 0, 1, 255])),
                 data=noise(min(max(size + extra, 0), 100_000), draw(st.integers(0, 99))))


def png_claiming(width, height, bits=8, kind=2, data=b''):
    """A PNG whose header, with a checksum that is right, says so."""
    def chunk(name, body):
        return struct.pack('>I', len(body)) + name + body + struct.pack(
            '>I', zlib.crc32(name + body))
    return (PNG + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, kind, 0, 0, 0))
            + chunk(b'IDAT', data) + chunk(b'IEND', b''))


def jpeg_claiming(width, height):
    """A JPEG of which the frame header says so."""
    data = bytearray(cv2.imencode('.jpg', CHART)[1].tobytes())
    struct.pack_into('>HH', data, data.index(b'\xff\xc0') + 5, height, width)
    return bytes(data)


PICTURES = [cv2.imencode(suffix, pixels)[1].tobytes() for suffix, pixels in (
    ('.jpg', CHART), ('.png', CHART), ('.png', CHART[..., 0]), ('.png', CHART.astype('u2') * 257),
    ('.png', np.dstack((CHART, CHART[..., 0]))), ('.bmp', CHART), ('.tiff', CHART),
    ('.webp', CHART), ('.pgm', CHART[..., 0]))]
# zeros pack to a thousandth: 40 KB of them fill 40 MB of rows
BOMB = png_claiming(60_000, 60_000, data=zlib.compress(bytes(40_000_000), 9))
BOMBS = [BOMB, png_claiming(16_000, 16_000, 1, 0, zlib.compress(bytes(2001 * 16_000), 9)),
         png_claiming(16_000, 16_000, 16, 6), png_claiming(2**31 - 1, 1), png_claiming(0, 0),
         jpeg_claiming(65_500, 65_500), jpeg_claiming(16_000, 16_000), jpeg_claiming(0, 0),
         b'P6 60000 60000 255\n' + bytes(99), b'P5\n30000 30000\n255\n' + bytes(99)]


@st.composite
def pictures(draw):
    """Bytes of a picture that was cut, changed, or lied about."""
    data = draw(st.sampled_from(PICTURES))
    how = draw(st.sampled_from(['whole', 'cut', 'changed', 'more', 'noise', 'bomb', 'claims']))
    if how == 'cut':
        return data[:draw(st.integers(0, len(data)))]
    if how == 'changed':
        data = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(data)
    if how == 'more':
        return data + noise(draw(st.integers(1, 3000)), 0)
    if how == 'noise':
        return draw(st.sampled_from([b'', PNG, b'\xff\xd8', b'\xff\xd8\xff'])) + noise(
            draw(st.integers(0, 3000)), draw(st.integers(0, 99)))
    if how == 'bomb':
        return draw(st.sampled_from(BOMBS))
    if how == 'claims':
        return png_claiming(draw(UINT32), draw(UINT32), draw(st.sampled_from([1, 8, 16])),
                            draw(st.sampled_from([0, 2, 3, 6])), zlib.compress(bytes(5000)))
    return data


def compressed_images():
    return st.builds(CompressedImage, header=HEADERS, data=pictures(), format=st.one_of(
        st.sampled_from(['jpeg', 'png', 'rgb8; jpeg compressed bgr8', '32FC1; compressedDepth']),
        NAMES))


@st.composite
def camera_infos(draw):
    """A calibration of which some numbers are anything."""
    info = camera_info_message(CAMERA, draw(HEADERS))
    for name, length in (('k', 9), ('p', 12), ('r', 9)):
        if draw(st.booleans()):
            values = getattr(info, name).copy()
            values[draw(st.integers(0, length - 1))] = draw(NUMBERS)
            setattr(info, name, values)
    info.d = draw(st.one_of(
        st.just([]), st.lists(NUMBERS, max_size=14), st.just([0.1] * 5),
        st.just([np.nan] * 10_000)))
    info.distortion_model = draw(st.one_of(
        st.sampled_from(['plumb_bob', 'rational_polynomial', 'equidistant']), NAMES))
    if draw(st.booleans()):
        info.width, info.height = draw(UINT32), draw(UINT32)
        info.binning_x, info.binning_y = draw(UINT32), draw(UINT32)
        info.roi = RegionOfInterest(x_offset=draw(UINT32), y_offset=draw(UINT32),
                                    width=draw(UINT32), height=draw(UINT32))
    return info


# --- the node that gets them --------------------------------------------------------------

class Kept:
    """A publisher with a listener that keeps everything."""

    def __init__(self):
        self.messages = queue.SimpleQueue()

    def publish(self, message):
        self.messages.put(message)

    def get_subscription_count(self):
        return 1


class Log:
    """A node's logger; keeps (when, text) of warnings."""

    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append((time.monotonic(), text))

    def info(self, text):
        pass

    error = fatal = info


class Victim:
    """A depth node whose callbacks are called as rclpy's executor calls them."""

    def __init__(self, transport):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = DepthNode(
            ScenePredictor(0.0), context=self.context,
            cli_args=['--ros-args', '-r', f'__node:={transport}_node'], parameter_overrides=[
                Parameter('autostart', value=False), Parameter('image_transport', value=transport)])
        self.camera, = self.node._cameras
        self.depth, self.info, self.cloud = publishers = Kept(), Kept(), Kept()
        (self.camera._depth_publisher, self.camera._info_publisher,
         self.camera._cloud_publisher) = publishers
        self.log = Log()
        self.node.get_logger = lambda: self.log
        self.skipped, skip = [], self.camera.skip

        def keep(error):
            self.skipped.append(error)
            skip(error)
        self.camera.skip = keep
        self.raw, self.count, self.refusals = transport == 'raw', 0, 0
        self.clouds = organised_cloud(scene_depth(WIDTH, HEIGHT), CHART, CAMERA, edge_filter=0.1)
        self.node.trigger_configure()
        self.node.trigger_activate()

    def close(self):
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def send(self, info, image):
        """Hand both to the callbacks; wait until the network's thread has taken the image."""
        if info is not None:
            self.camera._take_camera_info(info)
        self.camera._take_image(image)
        end = time.monotonic() + PATIENCE
        while self.camera.has_image:
            assert time.monotonic() < end, 'the node hangs'
            assert self.node._worker.is_alive()
            time.sleep(0.0001)

    def good(self):
        """A good frame, whose depth and cloud must be right; what else came before it."""
        self.count += 1
        header = Header(stamp=Time(sec=self.count, nanosec=987), frame_id='good')
        image = rgb_to_image(CHART, header) if self.raw else CompressedImage(
            header=header, format='png', data=PICTURES_OF_CHART)
        self.send(camera_info_message(CAMERA, header), image)
        strays = []
        while (depth := self.depth.messages.get(timeout=PATIENCE)).header != header:
            strays.append(depth)
        np.testing.assert_array_equal(image_to_depth(depth), scene_depth(WIDTH, HEIGHT))
        while (cloud := self.cloud.messages.get(timeout=PATIENCE)).header != header:
            pass
        assert cloud.data == cloud_message(self.clouds, header).data
        while self.info.messages.get(timeout=PATIENCE).header != header:
            pass
        return strays

    def attack(self, info, image):
        """One hostile message: either its depth comes or it is refused, in a sentence."""
        self.skipped.clear()
        self.send(info, image)
        strays = self.good()
        errors = list(self.skipped)
        assert len(strays) + len(errors) == 1, (strays, errors)
        for depth in strays:
            assert len(depth.data) == 4 * depth.width * depth.height > 0
            assert depth.header == image.header
        for error in errors:
            assert type(error) is ValueError, repr(error)  # ours: whatever else is an accident
            assert str(error) and '\n' not in str(error)
        self.refusals += len(errors)

    def check_log(self):
        """What was said is readable, and nothing was said twice within seconds."""
        last = {}
        for when, text in self.log.warnings:
            assert len(text) <= LONGEST and text.isprintable(), text[:2 * LONGEST]
            about, = (kind for kind, starts in ABOUT.items() if text.startswith(starts))
            assert when - last.get(about, -5.0) >= 5.0, text
            last[about] = when


ABOUT = {
    'frame': 'frame skipped', 'calibration': ('camera_info will not do', 'nothing came'),
    'resized': 'camera_info: it is for', 'frame_id': 'frame_id',
    'clock': ('the images carry no stamp', 'stamps are'), 'anchors': 'anchors',
}
PICTURES_OF_CHART = cv2.imencode('.png', CHART[..., ::-1])[1].tobytes()


@pytest.fixture(scope='module', params=['raw', 'compressed'])
def victim(request):
    victim = Victim(request.param)
    yield victim
    victim.close()


def attacks(transport):
    """(CameraInfo or None, Image or CompressedImage)."""
    return st.tuples(st.one_of(st.none(), camera_infos()),
                     images() if transport == 'raw' else compressed_images())


def fuzz(victim, count, go_on=lambda: True, number=0):
    """Send `count` hostile messages, as long as go_on; returns how many were sent."""
    sent = 0

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))
    @given(attacks('raw' if victim.raw else 'compressed'))
    def attack(messages):
        nonlocal sent
        if go_on():
            victim.attack(*messages)
            sent += 1
    attack()
    return sent


def held_megabytes():
    """Memory in use, without what malloc keeps for the next time."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident_megabytes()


def test_hostile_messages(victim):
    fuzz(victim, 20, number=1)  # what comes first leaves something behind
    before = held_megabytes()
    assert fuzz(victim, 150) > 100
    assert victim.refusals > 20
    victim.check_log()
    assert held_megabytes() - before < 100


def test_a_bomb_is_refused_before_it_is_unpacked(victim):
    if victim.raw:
        bombs = [Image(encoding=encoding, width=width, height=height, step=step, data=bytes(9))
                 for encoding in ('mono8', 'bgr8', 'nv12', 'mono16', 'bayer_rggb8')
                 for width, height, step in ((60_000, 60_000, 180_000), (2**32 - 2,) * 2 + (9,),
                                             (2**31, 2, 2**32 - 1))]
    else:
        assert len(BOMB) < 45_000
        bombs = [CompressedImage(format='png', data=data) for data in BOMBS]
    for bomb in bombs:
        Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
        before = resident_megabytes()
        start = time.monotonic()
        victim.attack(None, bomb)
        assert victim.skipped, bomb.data[:20]
        assert time.monotonic() - start < 1
        peak = int(next(line for line in Path('/proc/self/status').read_text().splitlines()
                        if line.startswith('VmHWM')).split()[1]) / 1e3
        assert peak - before < 80


@pytest.mark.parametrize('data', [BOMB, png_claiming(30_000, 30_000, 16, 0), png_claiming(9, 9)])
def test_a_bomb_of_compressed_depth(data):
    with pytest.raises(ValueError, match=r'compressed depth .*(is|more than)'):
        compressed_to_depth(CompressedImage(format='16UC1; compressedDepth png',
                                            data=bytes(12) + data))


@pytest.mark.parametrize('numbers', [
    {'fx': 1e300}, {'fx': 5e-324}, {'fy': 1e30}, {'width': 2**32 - 1}, {'height': 2**32 - 1}])
def test_no_lens_makes_depth_infinite_or_zero(numbers):
    with pytest.raises(ValueError, match='no lens'):
        replace(CAMERA, **numbers)


def test_stamps_that_jump_back_cost_no_frame(victim):
    for stamp in (Time(sec=100), Time(sec=5), Time(sec=-1), Time(sec=-2**31, nanosec=2**32 - 1)):
        header = Header(stamp=stamp)
        victim.attack(None, rgb_to_image(CHART, header) if victim.raw else CompressedImage(
            header=header, data=PICTURES_OF_CHART))
        assert not victim.skipped, victim.skipped


# --- hostile weights ----------------------------------------------------------------------

class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, 'w')


def safetensors_file(header, data=b''):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(header)) + header + data


def hostile_weights(folder):
    """Writes files; yields (path, what is said about it)."""
    state = HybridDepthNet('efficientnet_lite0').eval().state_dict()

    def saved(name, content):
        torch.save(content, folder / name)
        return folder / name
    whole = saved('whole.pth', state).read_bytes()
    (folder / 'cut.pth').write_bytes(whole[:len(whole) // 2])
    yield folder / 'cut.pth', 'cut short'
    yield saved('other.pth', {f'features.{i}.weight': torch.zeros(3) for i in range(9)}), \
        'no tensor is of a network'
    yield saved('nan.pth', {**state, 'head.bias': torch.tensor([np.nan])}), 'NaN or infinite'
    yield saved('code.pth', {'head.bias': Code(str(folder / 'ran'))}), 'asks to run'
    yield saved('training.pth', {'network': state, 'step': 3}), 'not a state dict'
    # a view of four bytes that says it is 40 GB, and as many views as make 40 GB
    yield saved('view.pth', {**state, 'head.bias': torch.zeros(1).expand(10_000_000_000)}), \
        'numbers, more than'
    million = torch.zeros(1_000_000)
    yield saved('views.pth', {**state, **{f'x{i}': million for i in range(10_000)}}), \
        'numbers, more than'
    with zipfile.ZipFile(folder / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive, \
            zipfile.ZipFile(folder / 'whole.pth') as innocent:
        for entry in innocent.namelist():
            if not entry.endswith('/data/0'):
                archive.writestr(entry, innocent.read(entry))
        with archive.open(entry.split('/')[0] + '/data/0', 'w') as bomb:
            for _ in range(300):
                bomb.write(bytes(1_000_000))
    yield folder / 'bomb.pth', 'compressed archive of 3.. MB'

    def shaped(shape, ends, **others):
        return {'head.bias': {'dtype': 'F32', 'shape': shape, 'data_offsets': ends}, **others}
    import safetensors.torch
    fits = safetensors.torch.save(state, {'encoder': 'resnet50', 'lateral': 'true'})
    for name, content, said in (
        ('long', struct.pack('<Q', 2**62) + b'{}', 'not a whole'),
        ('longer', struct.pack('<Q', 99_000_000) + b'{}', 'not a whole'),
        ('huge', safetensors_file(shaped([2**40, 2**40], [0, 4]), bytes(4)), 'not a whole'),
        ('beyond', safetensors_file(shaped([10**9], [0, 4 * 10**9]), bytes(4)), 'not a whole'),
        ('overlap', safetensors_file(shaped([1], [0, 4], other={
            'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}), bytes(4)), 'not a whole'),
        ('deep', safetensors_file(b'[' * 100_000), 'not a whole'),
        ('encoder', fits, 'resnet50'),
        ('page', b'<html>', 'web page'), ('empty', b'', 'is empty'),
    ):
        (folder / f'{name}.safetensors').write_bytes(content)
        yield folder / f'{name}.safetensors', said
    (folder / 'folder.pth').mkdir()
    yield folder / 'folder.pth', 'is a folder'
    yield folder, 'is a folder'
    os.mkfifo(folder / 'pipe.pth')
    yield folder / 'pipe.pth', 'no ordinary file'
    (folder / 'loop.pth').symlink_to(folder / 'loop.pth')
    yield folder / 'loop.pth', 'loop.pth'
    yield folder / ('long' * 100 + '.pth'), 'too long'
    if os.geteuid():  # root may read everything
        (folder / 'whole.pth').chmod(0)
        yield folder / 'whole.pth', 'Permission denied'


@pytest.mark.parametrize('victim', ['raw'], indirect=True)
def test_a_running_node_refuses_weights_and_keeps_its_own(victim, tmp_path):
    before = held_megabytes()
    network, weights = victim.node._network, victim.node.get_parameter('weights').value
    for path, said in hostile_weights(tmp_path):
        start = time.monotonic()
        answer, = victim.node.set_parameters([Parameter('weights', value=str(path))])
        while victim.node._loader.weights:
            assert time.monotonic() - start < 10
            time.sleep(0.01)
        reason = victim.node._load_failure if answer.successful else answer.reason
        assert re.search(said, reason), reason
        assert path.name[:40] in reason and '\n' not in reason
        assert victim.node._network is network
        victim.node._publish_diagnostics()  # the parameter shows what runs
        assert victim.node.get_parameter('weights').value == weights
        victim.good()
    assert not (tmp_path / 'ran').exists()
    assert held_megabytes() - before < 100


def test_a_download_never_leaves_https(tmp_path, monkeypatch):
    """A server that is spoken to as if it were https sends on to one that is not."""
    from hybrid_depth_ros import weights
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(302 if self.path == '/start' else 200)
            self.send_header('Location', f'http://127.0.0.1:{server.server_port}/elsewhere')
            self.end_headers()

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(urllib.request.HTTPSHandler, 'https_open', lambda self, request:
                        self.do_open(http.client.HTTPConnection, request))
    monkeypatch.setitem(weights.REGISTRY, 'paper-nyu', replace(
        weights.REGISTRY['paper-nyu'], address=f'https://127.0.0.1:{server.server_port}/start'))
    try:
        with pytest.raises(OSError, match=r'from https to http://.*by hand'):
            weights.load_network('paper-nyu')
    finally:
        server.shutdown()
        server.server_close()
    assert asked == ['/start']
    assert not list(tmp_path.glob('*.model'))


# --- files that a service writes ----------------------------------------------------------

def test_camera_names_cannot_lead_elsewhere():
    for name in ('..', '../up', '/etc', 'a/b', 'a.b', '~', 'a b', 'a\n', 'caméra', 'é'):
        with pytest.raises(ValueError, match='cameras has the name'):
            check_cameras([name])


@pytest.mark.parametrize('victim', ['raw'], indirect=True)
def test_a_snapshot_stays_in_its_folder(victim, tmp_path):
    def snapshot(folder):
        """The service's answer, called as rclpy calls it."""
        answer, = victim.node.set_parameters([Parameter('snapshot_folder', value=str(folder))])
        assert answer.successful
        future = victim.node._take_snapshot(Trigger.Request(), Trigger.Response())
        try:
            future.send(None)
        except StopIteration as end:
            return end.value
        victim.good()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                future.send(None)
            except StopIteration as ended:
                return ended.value
            time.sleep(0.01)
        raise AssertionError('no answer')

    link, target, outside = tmp_path / 'link', tmp_path / 'target', tmp_path / 'outside'
    target.mkdir()
    outside.mkdir()
    link.symlink_to(target)  # the owner's choice: a larger disk
    answer = snapshot(link)
    assert answer.success, answer.message
    taken, = target.iterdir()
    assert Path(answer.message) == link / taken.name
    assert sorted(file.name for file in taken.iterdir()) == [
        'camera.yaml', 'cloud.ply', 'depth.png', 'rgb.png']
    for folder in ('~nobody-of-this-name/x', target / taken.name / 'rgb.png', '/proc/x'):
        answer = snapshot(folder)
        assert not answer.success
        assert str(folder).split('/')[0] in answer.message and len(answer.message) < LONGEST
    # what somebody else has put where the next files would go is not followed
    moment = tmp_path / 'moment'
    moment.with_name('moment.partial').symlink_to(outside)
    with pytest.raises(FileExistsError):
        save_snapshot(moment, {'': CameraSnapshot(CHART, scene_depth(WIDTH, HEIGHT))})
    assert not list(outside.iterdir())
    moment.symlink_to(outside)
    moment.with_name('moment.partial').unlink()
    with pytest.raises(OSError, match='moment'):
        save_snapshot(moment, {'': CameraSnapshot(CHART, scene_depth(WIDTH, HEIGHT))})
    assert not list(outside.iterdir())
    assert not moment.with_name('moment.partial').exists()


def test_a_node_that_was_told_to_end_complains_no_more():
    victim = Victim('raw')
    victim.camera.skip(ValueError('before'))
    rclpy.shutdown(context=victim.context)  # frames of sensors are under way all the same
    victim.camera.warn('anchors', 'anchors are not used')
    assert [text for _, text in victim.log.warnings] == ['frame skipped: before']
    victim.node.destroy_node()


# --- what the code never does -------------------------------------------------------------

FORBIDDEN = {'eval', 'exec', 'compile', 'os.system', 'os.popen', 'yaml.load', 'yaml.unsafe_load',
             'yaml.full_load', 'PythonExpression', 'subprocess.getoutput',
             'subprocess.getstatusoutput'}
MODULES = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'marshal', 'shelve', 'joblib'}


def dangers(source):
    """(line, what) of everything in Python source that may run what it is given."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield node.lineno, node.module
        if isinstance(node, ast.Import):  # a plain import: what is used of it is seen below
            yield from ((node.lineno, alias.name) for alias in node.names
                        if alias.name in MODULES and alias.asname)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in MODULES and (
                not node.attr.endswith('Error')):
            yield node.lineno, ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        if (name in FORBIDDEN or options.get('shell', 'False') != 'False'
                or options.get('allow_pickle', 'False') != 'False'
                or (name == 'torch.load' and options.get('weights_only') != 'True')
                or (name == 'yaml.load_all')):
            yield node.lineno, name


def test_nothing_runs_what_it_is_given():
    sources = [path for folder in ('hybrid_depth_ros', 'train', 'launch')
               for path in (ROOT / folder).rglob('*.py')]
    assert len(sources) > 25
    assert not [(path.name, *danger) for path in sources
                for danger in dangers(path.read_text())]
    for line in ('eval(x)', 'pickle.loads(x)', 'import pickle as p', 'from pickle import load',
                 'os.system(x)', 'subprocess.run(x, shell=True)', 'torch.load(x)', 'yaml.load(x)',
                 'torch.load(x, weights_only=no)', 'np.load(x, allow_pickle=True)'):
        assert list(dangers(line)), line
    assert not list(dangers('import pickle; network.eval(); pickle.UnpicklingError; '
                            'torch.load(x, weights_only=True); yaml.safe_load(x)'))


# --- the SROS2 policy -----------------------------------------------------------------------

def allowed(path):
    """{node: {('publish' | 'subscribe' | 'reply', full name), …}} of a policy."""
    policy = ElementTree.parse(path).getroot()
    assert (policy.tag, policy.get('version')) == ('policy', '0.2.0')
    nodes = {}
    for enclave in policy.findall('enclaves/enclave'):
        profile, = enclave.findall('profiles/profile')
        node, space = profile.get('node'), profile.get('ns')
        assert enclave.get('path') == space + node
        nodes[node] = rights = set()
        for rule in profile:
            (what, verdict), = rule.attrib.items()
            assert verdict == 'ALLOW'
            for name in (entry.text for entry in rule):
                full = f'{space}{node}{name[1:]}' if name[0] == '~' else (
                    name if name[0] == '/' else space + name)
                assert '*' not in full and (what, full) not in rights
                rights.add((what, full))
    return nodes


def used(node):
    """What a node does in the graph, as :func:`allowed`; no node here asks for a service."""
    who = node.get_name(), node.get_namespace()
    assert not node.get_client_names_and_types_by_node(*who)
    return {(what, name) for what, names in (
        ('publish', node.get_publisher_names_and_types_by_node),
        ('subscribe', node.get_subscriber_names_and_types_by_node),
        ('reply', node.get_service_names_and_types_by_node)) for name, _ in names(*who)}


def test_the_policy_allows_what_the_nodes_do_and_no_more():
    pytest.importorskip('viser')
    from hybrid_depth_ros.nodes.camera import CameraNode
    from hybrid_depth_ros.nodes.evaluator import EvaluatorNode
    from hybrid_depth_ros.nodes.viewer.node import ViewerNode
    context, done = rclpy.Context(), {}
    rclpy.init(context=context)

    def run(kind, listen=lambda node: None, **parameters):
        """What a node does that follows /clock and listens to all it can."""
        node = kind(context=context, cli_args=['--ros-args', '-r', 'image:=image_raw', '-r',
                                               'image/compressed:=image_raw/compressed',
                                               *(part for kind in ('scan', 'points', 'range')
                                                 for part in ('-r', f'anchors/{kind}:={kind}'))],
                    parameter_overrides=[Parameter(name, value=value) for name, value in {
                        'use_sim_time': True, **parameters}.items()])
        try:
            listen(node)
            done.setdefault(node.get_name(), set()).update(used(node))
        finally:
            node.destroy_node()

    def listen_to_camera(node):
        camera, = node._cameras
        for topic in (camera._images, *camera._anchors.subscriptions.values()):
            topic.update()
    try:
        for transport in ('raw', 'compressed'):
            run(partial(DepthNode, ScenePredictor(0.0)), listen_to_camera,
                image_transport=transport, anchors=['scan', 'points', 'range'],
                anchor_poses=['0 0 0 0 0 0'], relative_depth=True)
        run(CameraNode)
        run(ViewerNode, lambda node: [topic.set_wanted(True) for topic in (
            *node._topics, node._anchors, node._info)], port=0)
        run(EvaluatorNode, lambda node: [packed.update() for _, packed in node._inputs])
    finally:
        rclpy.shutdown(context=context)
    # by tf2_ros, which may not be here
    done['depth_node'] |= {('subscribe', '/tf'), ('subscribe', '/tf_static')}
    done['camera_node'].add(('publish', '/tf_static'))
    policy = allowed(ROOT / 'config' / 'sros2_policy.xml')
    assert set(policy) == set(done)
    for node, rights in policy.items():
        assert rights == done[node], node
