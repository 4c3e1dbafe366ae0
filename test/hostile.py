"""Hostile messages, and a depth node that gets them as rclpy's executor hands them over."""

import ctypes
import gc
import queue
import struct
import time
import zlib

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('hypothesis')
from builtin_interfaces.msg import Time
from graph import CAMERA, CHART
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from stub_depth_node import HEIGHT, WIDTH, ScenePredictor, scene_depth

from hybrid_depth_ros.encodings import (
    DEPTH_TYPES,
    PNG,
    RGB_CONVERSIONS,
    image_to_depth,
)
from hybrid_depth_ros.nodes.depth.node import SETTINGS, DepthNode, resident_megabytes
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, cloud_message, rgb_to_image
from hybrid_depth_ros.point_cloud import organised_cloud

EDGE_FILTER, = (setting.default for setting in SETTINGS if setting.name == 'edge_filter')
PATIENCE = 30.0  # seconds without an answer that count as a hang

LONGEST = 600  # characters of what is said about one frame

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
        self.clouds = organised_cloud(scene_depth(WIDTH, HEIGHT), CHART, CAMERA,
                                      edge_filter=EDGE_FILTER)
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
    'doubt': ('camera_info contradicts itself', 'camera_info is of the frame'),
    'clock': ('the images carry no stamp', 'stamps are'), 'anchors': 'anchors',
}

PICTURES_OF_CHART = cv2.imencode('.png', CHART[..., ::-1])[1].tobytes()


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
