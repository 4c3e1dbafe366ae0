"""Small RGB-D data for tests, in the forms in which people have it."""


import cv2
import h5py
import numpy as np
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from hybrid_depth_ros.geometry import Intrinsics
from train.datasets import nyu_raw
from train.datasets.pairs import RgbdDataset, RgbdPair

FX, FY, CX, CY = 518.858, 519.470, 325.582, 253.736


def plane_depth():
    """Depth of the plane n·p = d through NYU's camera, 640×480."""
    normal, distance = np.array([0.3, -0.2, 0.9]), 3.0
    y, x = np.mgrid[:480, :640]
    rays = np.stack([(x - CX) / FX, (y - CY) / FY, np.ones_like(x)], axis=-1)
    return (distance / (rays @ normal)).astype(np.float32), normal, distance


NYU = Intrinsics(640, 480, nyu_raw.COLOUR_MATRIX[0, 0], nyu_raw.COLOUR_MATRIX[1, 1],
                 nyu_raw.COLOUR_MATRIX[0, 2], nyu_raw.COLOUR_MATRIX[1, 2])


COUNT = 3


def write_bgr(path, rgb):
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def millimetres(depth):
    return np.rint(depth * 1000).astype(np.uint16)


def write_sync(folder, frames, first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i, (rgb, depth) in enumerate(frames, first):
        write_bgr(folder / f'rgb_{i:05d}.jpg', rgb)
        cv2.imwrite(str(folder / f'sync_depth_{i:05d}.png'), millimetres(depth))


def assert_reads(dataset, frames, depth_step, colour_step=0):
    assert len(dataset) == len(frames)
    for i, (rgb, depth) in enumerate(frames):
        got_rgb, got_depth = dataset.read(i)
        assert (got_rgb.dtype, got_depth.dtype) == (np.uint8, np.float32)
        assert np.abs(got_depth - depth).max() <= depth_step
        assert np.abs(got_rgb.astype(int) - rgb).mean() <= colour_step
        assert isinstance(dataset.name(i), str)


def write_labeled(path, frames, scenes):
    """The layout MATLAB gives a version 7.3 file: axes reversed, strings by reference."""
    with h5py.File(path, 'w') as file:
        file['images'] = np.stack([rgb.transpose(2, 1, 0) for rgb, _ in frames])
        for name in ('depths', 'rawDepths'):
            file[name] = np.stack([depth.T for _, depth in frames]).astype(np.float32)
        references = np.empty((1, len(scenes)), h5py.ref_dtype)
        for i, scene in enumerate(scenes):
            letters = file.create_dataset(f'#refs#/{i}', data=np.array(
                [[ord(letter)] for letter in scene], np.uint16))
            references[0, i] = letters.ref
        file.create_dataset('scenes', data=references, dtype=h5py.ref_dtype)


def tiny_pairs(folder, depth, fx='', suffix='.png'):
    """A .csv of two pairs; depth: as its file holds it."""
    write_bgr(folder / 'a.png', np.full((48, 64, 3), 90, np.uint8))
    if suffix == '.npy':
        np.save(folder / 'depth.npy', depth)
    else:
        cv2.imwrite(str(folder / f'depth{suffix}'), depth)
    table = folder / 'pairs.csv'
    table.write_text('image,depth,fx\n' + f'a.png,depth{suffix},{fx}\n' * 2)
    return table


class HeightWalls(RgbdDataset):
    """Six walls, at 2.4, 4.8, 2.4 … m, seen from 0.3 m and 1.0 m in turn, through NYU's lens."""

    def __len__(self):
        return 6

    def read(self, i):
        return RgbdPair(np.zeros((60, 80, 3), np.uint8),
                        np.full((60, 80), 2.4 * (1 + i % 2), np.float32))

    def name(self, i):
        return f'wall {i}'

    def height(self, i):
        return (0.3, 1.0)[i % 2]


def write_pgm(path, disparity):
    path.write_bytes(b'P5\n640 480\n65535\n' + disparity.astype('>u2').tobytes())


def stored_depth(depth, encoding):
    """Metres, NaN where unknown → the values of an image; a whole number's largest: unknown."""
    if encoding in ('32FC1', '64FC1'):
        return depth.astype(np.float64 if encoding == '64FC1' else np.float32)
    values = np.rint(1000 * np.nan_to_num(depth)).astype(np.uint16 if encoding == '16UC1'
                                                         else np.int32)
    values[np.isnan(depth)] = np.iinfo(values.dtype).max
    return values


def write_bag(path, frames, plugin, encoding):
    """A rosbag2 recording of 640×480 frames: colour, its camera_info, depth 5 ms later."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    image, info = types['sensor_msgs/msg/Image'], types['sensor_msgs/msg/CameraInfo']
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        topics = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in (
            ('/camera/color/image_raw', image.__msgtype__),
            ('/camera/color/camera_info', info.__msgtype__),
            ('/camera/depth/image', image.__msgtype__))}

        def header(stamp):
            return types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](
                stamp // 10**9, stamp % 10**9), 'camera')

        def put(topic, stamp, message):
            writer.write(topics[topic], stamp + 1_000_000,
                         store.serialize_cdr(message, message.__msgtype__))
        roi = types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
        for i, (rgb, depth) in enumerate(frames):
            stamp = 1_700_000_000_000_000_000 + i * 33_000_000
            pixels = stored_depth(depth, encoding).view(np.uint8)
            put('/camera/color/camera_info', stamp, info(
                header(stamp), 480, 640, 'plumb_bob', np.zeros(5),
                np.array([600.0, 0, 320, 0, 600, 240, 0, 0, 1]), np.eye(3).ravel(),
                np.zeros(12), 0, 0, roi))
            put('/camera/color/image_raw', stamp, image(
                header(stamp), 480, 640, 'bgr8', 0, 1920, rgb[..., ::-1].ravel()))
            put('/camera/depth/image', stamp + 5_000_000, image(
                header(stamp + 5_000_000), 480, 640, encoding, 0, pixels.shape[1],
                pixels.ravel()))
            put('/camera/color/image_raw', stamp + 16_000_000, image(
                header(stamp + 16_000_000), 480, 640, 'bgr8', 0, 1920, np.zeros(921600, np.uint8)))
