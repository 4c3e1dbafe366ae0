"""Recordings with true depth, small but genuine: their messages, and how they are written."""

import struct
from functools import lru_cache

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import Room

WIDTH, HEIGHT, COUNT = 160, 120, 4
CAMERA = Intrinsics(WIDTH, HEIGHT, 150.0, 148.0, 79.0, 60.5)
START, STEP = 1_700_000_000_000_000_123, 100_000_000  # ns
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
IMAGE, DEPTH, INFO, PREDICTED = ('/camera/color/image_raw', '/camera/depth/image_rect',
                                 '/camera/color/camera_info', '/depth/image')


@lru_cache
def room_frames():
    """Colour and exact depth of places in a virtual room."""
    room = Room(1)
    return [room.render(CAMERA, room.camera_pose(15.0 * i)) for i in range(COUNT)]


def predict(rgb, fx=None):
    """A bad network, but one whose answer is known: darker is nearer."""
    return (1 + rgb.astype(np.float32).mean(axis=2) / 100) * np.float32(fx / CAMERA.fx)


def header(stamp):
    return TYPES['std_msgs/msg/Header'](TYPES['builtin_interfaces/msg/Time'](
        stamp // 10**9, stamp % 10**9), 'camera')


def image(stamp, pixels, encoding):
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    return TYPES['sensor_msgs/msg/Image'](
        header(stamp), height, width, encoding, 0, data.shape[1], data.ravel())


def compressed(stamp, form, data):
    return TYPES['sensor_msgs/msg/CompressedImage'](
        header(stamp), form, np.frombuffer(data, np.uint8))


def png(pixels):
    return cv2.imencode('.png', pixels)[1].tobytes()


def millimetres(depth):
    return np.nan_to_num(np.rint(depth * 1000)).astype(np.uint16)


def colour_message(stamp, rgb, form):
    if form == 'raw':
        return image(stamp, rgb, 'rgb8')
    return compressed(stamp, 'rgb8; png compressed bgr8', png(rgb[..., ::-1]))


def rvl(values):
    """uint16 H×W as compressed_depth_image_transport packs it, number by number."""
    halves, last, flat = [], 0, values.ravel().tolist()

    def put(number):
        while number > 7:
            halves.append(number & 7 | 8)
            number >>= 3
        halves.append(number)
    while flat:
        zeros = next((i for i, value in enumerate(flat) if value), len(flat))
        count = next((i for i, value in enumerate(flat[zeros:]) if not value), len(flat) - zeros)
        put(zeros)
        put(count)
        for value in flat[zeros:zeros + count]:
            put(2 * (value - last) if value >= last else 2 * (last - value) - 1)
            last = value
        del flat[:zeros + count]
    halves += [0] * (-len(halves) % 8)
    words = [int(''.join(f'{half:x}' for half in halves[i:i + 8]), 16)
             for i in range(0, len(halves), 8)]
    return struct.pack(f'<ii{len(words)}I', values.shape[1], values.shape[0], *words)


def depth_message(stamp, depth, form):
    pack = rvl if form.endswith('rvl') else png
    if form == 'mono16':
        return image(stamp, millimetres(depth), form)
    if form == '32FC1':
        return image(stamp, depth.astype(np.float32), form)
    if form == '16UC1':
        return image(stamp, millimetres(depth), form)
    if form.startswith('16UC1'):
        return compressed(stamp, form, bytes(12) + pack(millimetres(depth)))
    # as compressed_depth_image_transport does it: 100 × 101 / depth, from 10 m
    a, b = 100.0 * 101.0, 1 - 100.0 * 101.0 / 10.0
    inverse = np.nan_to_num(np.rint(a / depth + b)).astype(np.uint16)
    return compressed(stamp, form, struct.pack('<iff', 0, a, b) + pack(inverse))


def camera_info(stamp, camera=CAMERA, distortion=(0.0,) * 5):
    return TYPES['sensor_msgs/msg/CameraInfo'](
        header(stamp), camera.height, camera.width, 'plumb_bob', np.array(distortion),
        camera.matrix.ravel(), np.eye(3).ravel(), np.zeros(12), 0, 0,
        TYPES['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False))


def write(path, messages, plugin=StoragePlugin.MCAP, step=1_000_000):
    """messages: (topic, message) in the order of recording, `step` ns apart."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        topics = {}
        for number, (topic, message) in enumerate(messages):
            kind = message.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic], START + number * step,
                         STORE.serialize_cdr(message, kind))
    return path


def recording(frames, colour='raw', depth='32FC1', late=3_000_000, predicted=False):
    """The messages of a camera: depth comes `late` ns after its colour frame."""
    depth_topic = DEPTH + ('/compressedDepth' if 'compressed' in depth else '')
    for i, (rgb, true_depth) in enumerate(frames):
        stamp = START + i * STEP
        yield INFO, camera_info(stamp)
        yield (IMAGE if colour == 'raw' else f'{IMAGE}/compressed',
               colour_message(stamp, rgb, colour))
        yield depth_topic, depth_message(stamp + late, true_depth, depth)
        if predicted:
            yield PREDICTED, image(stamp, predict(rgb, CAMERA.fx), '32FC1')


def small_bag(path, infos, truth=None, topic=IMAGE, info_topic=INFO, stamps=None, depth_info=None):
    """A frame for each of infos (None: no camera_info with it), of small pictures."""
    messages = []
    for i, info in enumerate(infos):
        stamp = START + i * STEP if stamps is None else stamps[i]
        if info is not None:
            messages.append((info_topic, info(stamp)))
        messages += [(topic, image(stamp, np.full((30, 40, 3), 40 + i, np.uint8), 'rgb8')), (
            DEPTH, image(stamp, np.full((30, 40), 2.0, np.float32) if truth is None else truth,
                         '32FC1'))]
        if depth_info:
            messages.append(('/camera/depth/camera_info', depth_info(stamp)))
    return write(path, messages)


def seen_by(fx, width=40, height=30, **options):
    """What makes a camera_info of this focal length; 0: not calibrated."""
    def make(stamp):
        info = camera_info(stamp, Intrinsics(width, height, fx or 1.0, fx or 1.0, 19.5, 14.5),
                           **options)
        if not fx:
            info.k[:] = 0
        return info
    return make
