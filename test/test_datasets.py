"""Every form of RGB-D data, written small but genuine from the virtual room, and read back."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import read_colour
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from hybrid_depth_ros.virtual_room import Room
from train import prepare
from train.arguments import open_data
from train.datasets import nyu_raw, open_dataset
from train.datasets.custom_pairs import BagPairs, PairList
from train.datasets.depth_files import read_depth
from train.datasets.memmap_store import MemmapStore
from train.datasets.nyu import H5Tree, LabeledMat, SyncTree
from train.datasets.nyu_raw import RawScenes
from train.datasets.pairs import read_checked, split_readable
from train.datasets.reprojected_views import reproject, source_name
from train.split import split_datasets

NYU = Intrinsics(640, 480, nyu_raw.COLOUR_MATRIX[0, 0], nyu_raw.COLOUR_MATRIX[1, 1],
                 nyu_raw.COLOUR_MATRIX[0, 2], nyu_raw.COLOUR_MATRIX[1, 2])
COUNT = 3


@pytest.fixture(scope='module')
def room():
    return Room(1)


@pytest.fixture(scope='module')
def frames(room):
    """Colour and exact depth of three places in the room, through NYU's camera."""
    return [room.render(NYU, room.camera_pose(20.0 * i)) for i in range(COUNT)]


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


@pytest.mark.parametrize('flat', [True, False])
def test_sync_tree(frames, tmp_path, flat):
    write_sync(tmp_path if flat else tmp_path / 'bedroom_0001', frames, first=7)
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, SyncTree)
    assert_reads(dataset, frames, 0.00051, colour_step=6)
    assert [dataset.number(i) for i in range(COUNT)] == [7, 8, 9]
    assert dataset.focal(0) == pytest.approx(NYU_FX_PER_WIDTH)


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


def test_labeled_mat(frames, tmp_path):
    write_labeled(tmp_path / 'nyu_depth_v2_labeled.mat', frames,
                  ['kitchen_0004', 'office_0001', 'bedroom_0010'])
    assert_reads(open_dataset(tmp_path, 'all'), frames, 0)
    with pytest.raises(OSError, match=r'splits\.mat is not there'):
        open_dataset(tmp_path)
    # MATLAB counts from 1
    scipy.io.savemat(tmp_path / 'splits.mat', {'trainNdxs': [[3], [1]], 'testNdxs': [[2]]})
    train = open_dataset(tmp_path / 'nyu_depth_v2_labeled.mat')
    assert isinstance(train, LabeledMat)
    assert_reads(train, [frames[0], frames[2]], 0)
    assert [train.number(i) for i in range(2)] == [0, 2]
    test = open_dataset(tmp_path, 'test')
    assert_reads(test, [frames[1]], 0)
    assert test.scenes() == ['office_0001']


def test_h5_tree(frames, tmp_path):
    for place, (rgb, depth) in zip(('train/bedroom_0001/00001', 'train/bedroom_0001/00011',
                                    'val/official/00001'), frames, strict=True):
        path = tmp_path / f'{place}.h5'
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, 'w') as file:
            file['rgb'], file['depth'] = rgb.transpose(2, 0, 1), depth
    assert isinstance(open_dataset(tmp_path), H5Tree)
    assert_reads(open_dataset(tmp_path), frames[:2], 0)
    assert_reads(open_dataset(tmp_path, 'test'), frames[2:], 0)
    assert_reads(open_dataset(tmp_path, 'all'), frames, 0)
    (tmp_path / 'train/bedroom_0001/00001.h5').write_bytes(b'no HDF5')
    with pytest.raises(OSError, match=r'00001\.h5 does not hold'):
        open_dataset(tmp_path).read(0)


def test_pair_list(frames, tmp_path):
    for i, (rgb, depth) in enumerate(frames):
        write_bgr(tmp_path / f'{i}.png', rgb)
        cv2.imwrite(str(tmp_path / f'{i}.pgm'), millimetres(depth * 5))
    table = tmp_path / 'pairs.csv'
    table.write_text(''.join(f'{i}.png,{i}.pgm\n' for i in range(COUNT)))
    assert_reads(open_dataset(table, depth_scale=5000), frames, 0.00011)
    np.save(tmp_path / '0.npy', frames[0][1])
    table.write_text('depth,fx,image\n0.npy,800,0.png\n')
    dataset = open_dataset(table, depth_scale=1)
    assert isinstance(dataset, PairList)
    assert_reads(dataset, frames[:1], 0)
    assert dataset.focal(0) == 800 / 640
    for text, named in (('image,depth\n0.png,9.pgm\n', r'9\.pgm'), ('image,depth\n', 'no row'),
                        ('image,depth,fx\n0.png,0.pgm,wide\n', 'wide'), ('0.png\n', 'row 1')):
        table.write_text(text)
        with pytest.raises(OSError, match=named):
            open_dataset(table)
    write_bgr(tmp_path / 'colour_depth.png', frames[0][0])
    table.write_text('0.png,colour_depth.png\n')
    with pytest.raises(OSError, match='one channel'):
        open_dataset(table).read(0)


@pytest.mark.parametrize('fx', ['nan', 'inf', '-250', '0', '1e400'])
def test_a_focal_length_that_cannot_be_is_refused_by_row(tmp_path, fx):
    """An epoch at loss 0.0000, then a crash."""
    table = tmp_path / 'pairs.csv'
    table.write_text(f'image,depth,fx\n0.png,0.pgm,260\n0.png,0.pgm,{fx}\n')
    with pytest.raises(OSError, match=rf"pairs\.csv: row 2: fx is '{fx}'; it must be a number of"):
        open_dataset(table)


def with_orientation(jpeg, orientation):
    """A JPEG's bytes with an EXIF entry of orientation (0x0112), 1…8."""
    block = b'Exif\0\0' + struct.pack('<2sHIHHHIHHI', b'II', 42, 8, 1, 0x0112, 3, 1, orientation,
                                      0, 0)
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(block) + 2) + block + jpeg[2:]


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


@pytest.mark.parametrize('fx', ['0.81', '1e7'])
def test_a_focal_length_that_no_lens_has(tmp_path, fx):
    """Of the picture's width, or in thousandths of a millimetre."""
    table = tiny_pairs(tmp_path, np.full((48, 64), 2000, np.uint16), fx)
    with pytest.raises(OSError, match=r'a\.png: its focal length is .* fx in pixels'):
        read_checked(open_dataset(table), 0)


@pytest.mark.parametrize(('depth', 'suffix', 'scale', 'said'), [
    (np.full((48, 64), 2.5, np.float32), '.npy', 1000, 'metres read as millimetres?'),
    (np.full((48, 64), 60, np.uint8), '.png', 1000, '8-bit levels'),
    (np.full((48, 64), 200, np.uint8), '.png', 1000, '8-bit levels'),
    (np.full((48, 64), 2500, np.uint16), '.png', 1, 'millimetres read as metres?'),
    (np.full((48, 64), 2500, np.uint16), '.png', 1000, None),
    (np.full((48, 64), 2.5, np.float32), '.npy', 1, None)])
def test_a_mistaken_unit_is_said(tmp_path, capsys, depth, suffix, scale, said):
    table = tiny_pairs(tmp_path, depth, suffix=suffix)
    open_data(argparse.Namespace(split='train', depth_scale=scale, image_topic=None,
                                 depth_topic=None), table)
    found = capsys.readouterr().err
    assert (said or '') in found
    assert ('--depth-scale' in found) == bool(said)


def test_colour_is_read_as_stored(tmp_path):
    """mmcv#805, Hierarchical-Localization#373: EXIF turns colour, but not its depth."""
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    data = cv2.imencode('.jpg', rgb)[1].tobytes()
    plain, *turned = (tmp_path / f'{i}.jpg' for i in range(9))
    plain.write_bytes(data)
    for orientation, path in enumerate(turned, 1):
        path.write_bytes(with_orientation(data, orientation))
        assert np.array_equal(read_colour(path), read_colour(plain))


def tiff(pixels, orientation, order):
    """An H×W picture as a TIFF of one strip."""
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    entries = [(256, pixels.shape[1]), (257, pixels.shape[0]), (258, 8 * pixels.itemsize),
               (259, 1), (262, 1), (273, 8), (274, orientation), (277, 1),
               (278, pixels.shape[0]), (279, len(data))]
    return ((b'II*\0' if order == '<' else b'MM\0*') + struct.pack(f'{order}I', 8 + len(data))
            + data + struct.pack(f'{order}H', len(entries))
            + b''.join(struct.pack(f'{order}HHIHH', tag, 3, 1, value, 0) for tag, value in entries)
            + bytes(4))


@pytest.mark.parametrize('order', ['<', '>'])
def test_a_tiff_is_read_as_stored(tmp_path, order):
    """mmcv#805's kind: OpenCV turns a TIFF whatever it is asked for, colour against depth."""
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for orientation in (1, 3, 6):
        (tmp_path / 'a.tif').write_bytes(tiff(grey, orientation, order))
        (tmp_path / 'd.tif').write_bytes(tiff(grey.astype(np.uint16) * 100, orientation, order))
        assert np.array_equal(read_colour(tmp_path / 'a.tif')[..., 0], grey)
        assert np.allclose(read_depth(tmp_path / 'd.tif', 100), grey)
    whole = (tmp_path / 'a.tif').read_bytes()
    for size in range(len(whole)):
        (tmp_path / 'a.tif').write_bytes(whole[:size])
        with contextlib.suppress(OSError):
            read_colour(tmp_path / 'a.tif')


def write_bag(path, frames, plugin, encoding):
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
            pixels = (millimetres(depth) if encoding == '16UC1' else depth).view(np.uint8)
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


@pytest.mark.parametrize(('plugin', 'encoding'), [
    (StoragePlugin.SQLITE3, '16UC1'), (StoragePlugin.MCAP, '32FC1')])
def test_bag(frames, tmp_path, plugin, encoding):
    write_bag(tmp_path / 'bag', frames, plugin, encoding)
    dataset = open_dataset(tmp_path / 'bag')
    assert isinstance(dataset, BagPairs)
    assert_reads(dataset, frames, 0.00051 if encoding == '16UC1' else 0)
    assert dataset.focal(0) == 600 / 640
    with pytest.raises(OSError, match=r'no images on /depth.*/camera/depth/image \(depth\)'):
        open_dataset(tmp_path / 'bag', depth_topic='/depth')
    with pytest.raises(OSError, match=r'within 0\.001 s'):
        BagPairs(tmp_path / 'bag', slop=0.001)
    (tmp_path / 'bag' / 'metadata.yaml').write_text('nothing')
    with pytest.raises(OSError, match='bag'):
        open_dataset(tmp_path / 'bag')


# ---- the raw recordings ------------------------------------------------------------------

def sample(picture, camera, rays):
    """The ideal pinhole picture of a camera, nearest to where rays (N×2, z = 1) meet it."""
    u = np.rint(rays[:, 0] * camera.fx + camera.cx).astype(int)
    v = np.rint(rays[:, 1] * camera.fy + camera.cy).astype(int)
    return picture[v.clip(0, camera.height - 1), u.clip(0, camera.width - 1)]


def undistorted_rays(matrix, distortion):
    """Where a distorting camera's pixels look, N×2."""
    v, u = np.mgrid[:480, :640].astype(np.float64)
    return cv2.undistortPoints(np.dstack((u, v)).reshape(-1, 1, 2), matrix, distortion)[:, 0]


def kinect(room, pose):
    """What a Kinect records there: distorted colour, 11-bit disparity of the other camera."""
    wide = Intrinsics(1680, 1300, 1200.0, 1200.0, 839.5, 649.5)
    rgb, _ = room.render(wide, pose)
    rgb = sample(rgb, wide, undistorted_rays(nyu_raw.COLOUR_MATRIX, nyu_raw.COLOUR_DISTORTION))
    depth_pose = np.eye(4)  # of the depth camera in the colour camera's frame
    depth_pose[:3, :3], depth_pose[:3, 3] = nyu_raw.ROTATION, nyu_raw.TRANSLATION
    _, depth = room.render(wide, pose @ depth_pose)
    depth = sample(depth, wide, undistorted_rays(nyu_raw.DEPTH_MATRIX, nyu_raw.DEPTH_DISTORTION))
    disparity = np.rint(1092.5 - 351.3 / depth).astype(np.uint16).reshape(480, 640)
    disparity[:, :8] = 2047  # the Kinect's blind edge
    return rgb.reshape(480, 640, 3), disparity


def write_pgm(path, disparity):
    path.write_bytes(b'P5\n640 480\n65535\n' + disparity.astype('>u2').tobytes())


@pytest.fixture(scope='module')
def raw_scenes(room, tmp_path_factory):
    """Two scenes of a free-running colour and depth camera, with accelerometer dumps."""
    root = tmp_path_factory.mktemp('raw')
    rng = np.random.default_rng(0)
    for scene, first in (('bedroom_0001', 1.0), ('office_0002a', 31.0)):
        folder = root / scene
        folder.mkdir()
        for i in range(2):
            seconds = first + 8 * i
            rgb, disparity = kinect(room, room.camera_pose(seconds))
            clock = 1294886362 + seconds + rng.uniform(-0.015, 0.015)
            write_bgr(folder / f'r-{clock:.6f}-2996770081.ppm', rgb)
            # colour comes more often; these are of other moments
            for early in (-0.07, 0.06):
                write_bgr(folder / f'r-{clock + early:.6f}-2996770082.ppm', np.zeros_like(rgb))
            clock = 1294886362 + seconds + rng.uniform(-0.01, 0.01)
            write_pgm(folder / f'd-{clock:.6f}-3321411233.pgm', disparity)
            (folder / f'a-{clock:.6f}-3164794231.dump').write_bytes(bytes(24))
    return root


def test_raw_scenes(room, raw_scenes):
    dataset = open_dataset(raw_scenes)
    assert isinstance(dataset, RawScenes)
    assert len(dataset) == 4
    for i, seconds in enumerate((1.0, 9.0, 31.0, 39.0)):
        rgb, depth = dataset.read(i)
        ideal_rgb, ideal = room.render(NYU, room.camera_pose(seconds))
        known = depth > 0
        assert known[40:-40, 60:-60].mean() > 0.95
        # half a step of disparity is z²/351.3/2
        error = np.abs(depth - ideal)[known]
        step = (ideal ** 2 / 351.3)[known]
        assert np.median(error / step) < 0.5
        assert np.mean(error < step + 0.01) > 0.93  # the rest are edges
        inner = np.s_[40:-40, 40:-40]
        assert np.median(np.abs(rgb[inner].astype(int) - ideal_rgb[inner])) < 8


def test_the_wrong_calibration_would_be_noticed(room, raw_scenes, monkeypatch):
    def agreement():
        _, depth = RawScenes(raw_scenes / 'bedroom_0001').read(0)
        _, ideal = room.render(NYU, room.camera_pose(1.0))
        known = depth > 0
        return np.mean(np.abs(depth - ideal)[known] < ideal[known] ** 2 / 351.3 + 0.01)
    right = agreement()
    monkeypatch.setattr(nyu_raw, 'TRANSLATION', -nyu_raw.TRANSLATION)
    assert agreement() < right - 0.03


def test_disparity_by_hand(tmp_path):
    depth = nyu_raw.disparity_to_metres(np.array([2047, 977, 1092, 1093, 400]))
    assert depth == pytest.approx([0, 351.3 / 115.5, 0, 0, 351.3 / 692.5], rel=1e-6)
    disparity = np.full((480, 640), 977)
    disparity[0, 0] = 2047
    write_pgm(tmp_path / 'd.pgm', disparity)
    assert (tmp_path / 'd.pgm').read_bytes()[-2 * 640 * 480:][:2] == b'\x07\xff'
    assert np.array_equal(nyu_raw.read_disparity(tmp_path / 'd.pgm'), disparity)
    (tmp_path / 'swapped.pgm').write_bytes(b'P5 640 480 65535\n'
                                           + disparity.astype('<u2').tobytes())
    assert np.array_equal(nyu_raw.read_disparity(tmp_path / 'swapped.pgm'), disparity)
    for bad in (b'', b'P6 2 2 255\n' + bytes(12), b'P5\n640 480\n65535\n' + bytes(100)):
        (tmp_path / 'bad.pgm').write_bytes(bad)
        with pytest.raises(OSError, match=r'bad\.pgm'):
            nyu_raw.read_disparity(tmp_path / 'bad.pgm')


def test_the_genuine_raw_pair(nyu):
    """A recorded pair: where depth jumps, there is an edge in the registered colour image."""
    folder = nyu.parent / 'nyu_raw_sample'
    disparity = nyu_raw.read_disparity(folder / 'NYU_depth.pgm')
    assert disparity[0, 0] == 2047
    depth = nyu_raw.disparity_to_metres(disparity)
    rgb = nyu_raw.undistort_colour(cv2.imread(str(folder / 'NYU_color.ppm'))[..., ::-1].copy())
    edges = cv2.Canny(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 60, 120)
    to_edge = cv2.distanceTransform(255 - edges, cv2.DIST_L2, 3)

    def distance(picture):
        smooth = cv2.medianBlur(picture, 5)
        whole = cv2.erode((smooth > 0).astype(np.uint8), np.ones((5, 5))) > 0
        return to_edge[whole & (np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0)) > 0.3 * smooth)].mean()
    assert distance(nyu_raw.register(depth)) < 2.0
    assert distance(depth) > 3.0


# ---- the store -----------------------------------------------------------------------------

def test_prepare_and_go_on(raw_scenes, tmp_path, monkeypatch, capsys):
    scenes = tmp_path / 'raw'
    shutil.copytree(raw_scenes, scenes)
    broken = sorted(scenes.glob('office_0002a/d-*.pgm'))[0]
    broken.write_bytes(broken.read_bytes()[:1000])
    dataset, read = RawScenes(scenes), RawScenes.read

    def stop_at_second(self, i):
        if i == 1:
            raise KeyboardInterrupt
        return read(self, i)
    monkeypatch.setattr(RawScenes, 'read', stop_at_second)
    with pytest.raises(SystemExit, match='goes on'):
        prepare.main(['--data', str(scenes), '--out', str(tmp_path / 'store'), '--workers', '1'])
    assert not (tmp_path / 'store').exists()
    done = []
    monkeypatch.setattr(RawScenes, 'read', lambda self, i: (done.append(i), read(self, i))[1])
    prepare.main(['--data', str(scenes), '--out', str(tmp_path / 'store'), '--workers', '1'])
    assert done == [1, 2, 3]
    out, err = capsys.readouterr()
    assert '3 pairs, 1 left out' in out
    assert broken.name in err
    store = open_dataset(tmp_path / 'store')
    assert isinstance(store, MemmapStore)
    assert [store.name(i) for i in range(3)] == [dataset.name(i) for i in (0, 1, 3)]
    rgb, depth = prepare.resize_pair(*dataset.read(3), 352, 264)
    assert np.array_equal(store.read(2)[0], rgb)
    assert np.abs(store.read(2)[1] - depth).max() < 0.00051
    assert sorted(file.name for file in (tmp_path / 'store').iterdir()) == [
        'depth.npy', 'rgb.npy', 'store.json']
    assert not (tmp_path / 'store.partial').exists()
    with pytest.raises(SystemExit, match='is there already'):
        prepare.main(['--data', str(scenes), '--out', str(tmp_path / 'store')])


def test_prepare_that_is_told_to_end_while_its_processes_start(frames, tmp_path):
    """rclpy#253's kind: each process that was importing numpy showed a traceback."""
    write_sync(tmp_path / 'sync', frames[:1] * 64)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, '-m', 'train.prepare', '--data', str(tmp_path / 'sync'), '--out',
         str(tmp_path / 'store'), '--size', '64x48', '--workers', '2'], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not (workers := children(process.pid)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for pid in (process.pid, *workers):  # as a terminal does
        os.kill(int(pid), signal.SIGINT)
    printed = process.communicate(timeout=60)[0]
    assert 'stopped; the same command goes on from here' in printed
    assert 'Traceback' not in printed


def children(pid):
    """Processes of multiprocessing that a process has started."""
    mine = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return [child for child in mine if b'spawn_main' in Path(f'/proc/{child}/cmdline').read_bytes()]


def test_prepare_by_two_processes(frames, tmp_path):
    write_sync(tmp_path / 'sync', frames * 30)
    prepare.main(['--data', str(tmp_path / 'sync'), '--out', str(tmp_path / 'store'),
                  '--size', '64x48', '--count', '80', '--workers', '2'])
    store, whole = open_dataset(tmp_path / 'store'), open_dataset(tmp_path / 'sync')
    assert len(store) == 80
    numbers = [store.number(i) for i in range(80)]
    assert (numbers[0], numbers[-1]) == (0, 89)
    assert set(np.diff(numbers)) <= {1, 2}
    rgb, depth = prepare.resize_pair(*whole.read(numbers[70]), 64, 48)
    assert np.array_equal(store.read(70)[0], rgb)
    assert np.abs(store.read(70)[1] - depth).max() < 0.00051
    index = json.loads((tmp_path / 'store' / 'store.json').read_text())
    index['names'].pop()
    (tmp_path / 'store' / 'store.json').write_text(json.dumps(index))
    with pytest.raises(OSError, match=r'run train\.prepare'):
        open_dataset(tmp_path / 'store')


def test_scenes_of_test_images_are_left_out(frames, raw_scenes, tmp_path):
    write_labeled(tmp_path / 'nyu_depth_v2_labeled.mat', frames,
                  ['bedroom_0001', 'office_0002', 'kitchen_0001'])
    scipy.io.savemat(tmp_path / 'splits.mat', {'trainNdxs': [[1], [3]], 'testNdxs': [[2]]})
    left = prepare.without_test_scenes(raw_scenes, tmp_path / 'nyu_depth_v2_labeled.mat')
    assert {left.name(i).split('/')[0] for i in range(len(left))} == {'bedroom_0001'}


def test_what_is_not_recognised_is_named(tmp_path):
    with pytest.raises(OSError, match='nowhere does not exist'):
        open_dataset(tmp_path / 'nowhere')
    (tmp_path / 'holiday.jpg').write_bytes(b'')
    with pytest.raises(OSError, match=r'Looked for: nyu_depth_v2_labeled\.mat.*rosbag2.*csv'):
        open_dataset(tmp_path)
    (tmp_path / 'nyu_depth_v2_labeled.mat').write_bytes(b'no HDF5')
    with pytest.raises(OSError, match='not a whole HDF5'):
        open_dataset(tmp_path)


# ---- broken files ------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['colour.jpg', 'colour.png', 'depth.png', 'depth.npy'])
def test_a_file_cut_anywhere_is_named(frames, tmp_path, monkeypatch, name):
    """OpenCV 4, unlike 5, fills up with grey what is not there and says nothing."""
    path, (rgb, depth) = tmp_path / name, frames[0]
    if name.startswith('colour'):
        write_bgr(path, rgb)
    elif name == 'depth.npy':
        np.save(path, depth)
    else:
        cv2.imwrite(str(path), millimetres(depth))

    def read():
        return read_colour(path) if name.startswith('colour') else read_depth(path, 1000)
    read()
    whole = path.read_bytes()
    for size in (0, 1, 10, 300, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(OSError, match=name.replace('.', r'\.')):
            read()
    path.unlink()
    with pytest.raises(OSError, match=name.replace('.', r'\.')):
        read()
    if name != 'depth.npy':
        monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.zeros((480, 640, 3), np.uint8))
        for size in (300, len(whole) // 2, len(whole) - 30):
            path.write_bytes(whole[:size])
            with pytest.raises(OSError, match='not a readable image'):
                read()


def test_hdf5_of_other_types_is_named(frames, tmp_path):
    rgb, depth = frames[0]
    bad = depth.copy()
    bad[0], bad[1] = np.nan, -1
    for number, (colour, metres, named) in enumerate((
            (rgb, bad, None),
            (rgb, np.full(depth.shape, b'far'), r'depth is \|S3'),
            (rgb, depth[None], r'depth is float32 of shape \(1, 480, 640\)'),
            (rgb.astype(np.float32), depth, 'rgb is float32'),
            (rgb[..., :1], depth, r'rgb is uint8 of shape \(480, 640, 1\)'))):
        path = tmp_path / f'{number}.h5'
        with h5py.File(path, 'w') as file:
            file['rgb'], file['depth'] = colour.transpose(2, 0, 1), metres
        dataset = H5Tree(tmp_path)
        if named:
            with pytest.raises(OSError, match=rf'{number}\.h5: {named}'):
                dataset.read(number)
        else:
            _, got = dataset.read(0)
            assert np.array_equal(got, np.maximum(np.nan_to_num(bad), 0))
    with h5py.File(tmp_path / '5.h5', 'w') as file:  # a group where an array is wanted
        file['depth'] = depth
        file.create_group('rgb')
    with pytest.raises(OSError, match=r'5\.h5 does not hold'):
        H5Tree(tmp_path).read(5)
    chosen, lost = split_readable(H5Tree(tmp_path))
    assert (chosen.chosen, len(lost)) == ([0], 5)


def test_an_hdf5_with_broken_chunks_is_named(frames, tmp_path):
    path = tmp_path / 'nyu_depth_v2_labeled.mat'
    with h5py.File(path, 'w') as file:
        for name, arrays in (('images', [f[0].transpose(2, 1, 0) for f in frames]),
                             ('depths', [f[1].T for f in frames])):
            file.create_dataset(name, data=np.stack(arrays), compression='gzip', chunks=(
                1, *arrays[0].shape))
        offset = file['images'].id.get_chunk_info(1).byte_offset
    with open(path, 'r+b') as damaged:
        damaged.seek(offset)
        damaged.write(bytes(1000))
    dataset = LabeledMat(path, 'all')
    dataset.read(0)
    with pytest.raises(OSError, match=r'labeled\.mat\[1\] cannot be read'):
        dataset.read(1)


def test_pairs_without_their_other_half(frames, tmp_path):
    write_sync(tmp_path / 'sync', frames)
    (tmp_path / 'sync' / 'sync_depth_00000.png').unlink()
    (tmp_path / 'sync' / 'rgb_00002.jpg').unlink()
    dataset = open_dataset(tmp_path / 'sync')
    assert len(dataset) == 1
    assert [sentence.split('/')[-1] for sentence in dataset.left_out] == [
        'rgb_00000.jpg has no sync_depth_00000.png beside it',
        'sync_depth_00002.png has no rgb_00002.jpg beside it']
    assert dataset.numbered([[1, 1]]).left_out == dataset.left_out
    table = tmp_path / 'pairs.csv'
    table.write_text('sync/rgb_00001.jpg,sync/sync_depth_00001.png\nsync/rgb_00001.jpg,gone.png\n')
    dataset = open_dataset(table)
    assert len(dataset) == 1
    assert 'gone.png is not there' in dataset.left_out[0]


def test_colour_and_depth_of_other_shapes_are_no_pair(frames, tmp_path):
    rgb, depth = frames[0]
    for name, colour, metres in (('half', rgb, depth[::2, ::2]), ('tall', rgb, depth[:, :400]),
                                 ('none', rgb, 0 * depth)):
        folder = tmp_path / name
        write_sync(folder, [(colour, metres)])
    read_checked(open_dataset(tmp_path / 'half'), 0)
    with pytest.raises(OSError, match=r'rgb_00000\.jpg: colour is 640×480, depth 400×480'):
        read_checked(open_dataset(tmp_path / 'tall'), 0)
    with pytest.raises(OSError, match=r'rgb_00000\.jpg has no depth'):
        read_checked(open_dataset(tmp_path / 'none'), 0)


def test_virtual_rooms_at_robots_heights():
    rooms = open_dataset('room:3-4')
    assert len(rooms) == 24 and {rooms.number(i) for i in range(24)} == {3, 4}
    heights = [rooms.height(i) for i in range(12)]
    assert heights == sorted(heights) and 0.2 <= heights[0] < 0.3 and heights[-1] > 1.3
    rgb, depth, focal = read_checked(rooms, 5)
    assert rgb.shape == (264, 352, 3) and depth.shape == (264, 352)
    assert 0.5 < focal < 1.08
    again = read_checked(open_dataset('room:3-4'), 5)
    assert (again[0] == rgb).all() and (again[1] == depth).all()
    assert len(rooms.numbered([[4, 4]])) == 12


def test_virtual_rooms_have_views_of_every_kind():
    rooms = open_dataset('room:700:any')
    kinds = [rooms.kind(i) for i in range(len(rooms))]
    assert {'near', 'plain', 'high', 'steep', 'rolled'} <= set(kinds)
    i = kinds.index('near')
    rgb, depth = rooms.read(i)
    assert rgb.shape == (264, 352, 3) and rgb.std() > 3
    assert 0.1 < np.median(depth) < 1.6 and rooms.height(i) < 2.8 and rooms.number(i) == 700
    again = open_dataset('room:700:any').read(i)
    assert (again[0] == rgb).all() and (again[1] == depth).all()
    with pytest.raises(ValueError, match='room:100-149:any'):
        open_dataset('room:700:near')


@pytest.mark.parametrize('shift', [(0.0, 0.5, 0.0), (0.3, -0.2, 0.2)])
def test_a_moved_view_is_what_a_camera_there_sees(shift):
    room, camera = Room(3), Intrinsics.from_horizontal_fov(480, 360, 63)
    pose, share = room.camera_pose(4.0), 0.6
    rgb, depth, gone, corner = reproject(*room.render(camera, pose), camera.fx / 480, shift, share)
    assert gone == shift and depth.shape == (264, 352) and rgb.dtype == np.uint8
    there = pose.copy()
    there[:3, 3] += pose[:3, :3] @ shift
    zoom = 352 / 480 / share
    seen, true = room.render(Intrinsics(
        352, 264, camera.fx * zoom, camera.fy * zoom,
        175.5 + (0.5 - share / 2 - corner[0]) * 352 / share,
        131.5 + (0.5 - share / 2 - corner[1]) * 264 / share), there)
    known = depth > 0
    assert known.mean() > 0.75
    off = depth[known] / true[known] - 1
    assert np.median(np.abs(off)) < 0.003
    # what was not seen before may hide a part: that part is farther than it should be
    assert (np.abs(off[off < 0.02]) < 0.02).mean() > 0.98 and (off < 0.02).mean() > 0.85
    assert np.median(np.abs(rgb[known].astype(int) - seen[known])) < 6


def test_a_move_that_shows_too_little_becomes_shorter():
    wall = np.full((120, 160), 2.0, np.float32)
    grey = np.full((120, 160, 3), 90, np.uint8)
    rgb, depth, gone, _ = reproject(grey, wall, 0.8, (0, 1.0, 0), 0.9)
    assert 0 < gone[1] < 1 and gone[0] == gone[2] == 0
    assert np.abs(rgb.astype(int) - 90).max() < 10, 'unknown: it takes the colour around it'
    assert set(np.unique(depth)) <= {0, np.float32(2)} and (depth > 0).mean() > 0.75


def test_nearer_views_are_nearer_and_no_nearer_than_they_may(frames, tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (120, 160, 3), np.uint8)
    rgb = cv2.resize(rgb, (640, 480), interpolation=cv2.INTER_CUBIC)
    folder = tmp_path / 'wall'
    folder.mkdir()
    for i, metres in enumerate((0.5, 2.0)):
        cv2.imwrite(str(folder / f'rgb_{i:05d}.png'), rgb)
        cv2.imwrite(str(folder / f'sync_depth_{i:05d}.png'),
                    np.full((480, 640), 1000 * metres + 1, np.uint16)
                    - np.uint16(2) * (np.arange(640) > 320))  # half of it is the nearer
    views = open_dataset(f'nearer:{folder}')
    assert len(views) == 6 and source_name(views.name(5)) == open_dataset(folder).name(1)
    for i in range(6):
        near = views.read(i)[1]
        true = (0.5, 2.0)[i // 3]
        assert max(0.34, true / 2.5) < np.median(near[near > 0]) < true / 1.25, i


def test_moved_views_belong_to_their_pairs(frames, tmp_path):
    write_sync(tmp_path / 'nyu', frames, first=7)
    data, views = (open_dataset(f'{kind}{tmp_path / "nyu"}') for kind in ('', 'moved:'))
    assert len(views) == 3 * len(data) and views.number(4) == data.number(1)
    rgb, depth = views.read(4)
    again, _ = views.read(4)
    assert (rgb == again).all() and depth.any() and rgb.shape == (*depth.shape, 3)
    assert views.focal(4) > data.focal(1) and source_name(views.name(4)) == data.name(1)
    assert prepare.prepare(views, tmp_path / 'store', workers=1) == 0
    for others in (views, open_dataset(tmp_path / 'store')):
        cut = split_datasets({'validation': [[7, 7]]}, [data, others], lead=True)
        names = [cut.training[1].name(i) for i in range(len(cut.training[1]))]
        assert len(names) == 6
        assert {source_name(name) for name in names} == {data.name(1), data.name(2)}


@pytest.mark.parametrize('shape', [(48, 36), (6, 8), (90, 1200), (1000, 1500)])
def test_views_of_pictures_of_any_shape(shape):
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 4, shape).astype(np.float32)
    depth[0], depth[:, 0] = 0, np.nan
    rgb, depth, *_ = reproject(rng.integers(0, 255, (*shape, 3), np.uint8), depth, 0.9,
                           (0, 0.4, 0), 0.7)
    assert rgb.shape == (*depth.shape, 3) and depth.shape[1] == 352
    assert np.isfinite(depth).all() and depth.max() <= 4


def test_a_view_of_a_pair_without_depth_names_the_pair(tmp_path):
    write_sync(tmp_path, [(np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.float32))])
    with pytest.raises(OSError, match=r'rgb_00000\.jpg has no depth'):
        read_checked(open_dataset(f'moved:{tmp_path}'), 1)


def test_a_list_that_names_files_elsewhere(tmp_path):
    """DenseDepth#41's kind: absolute paths outside the CSV's folder broke train.prepare."""
    from train.prepare import prepare
    there, lists = tmp_path / 'there', tmp_path / 'lists'
    there.mkdir()
    lists.mkdir()
    for i in range(3):
        cv2.imwrite(str(there / f'{i}.png'), np.full((30, 40, 3), 60, np.uint8))
        cv2.imwrite(str(there / f'd{i}.png'), np.full((30, 40), 2000, np.uint16))
    (there / '1.png').write_bytes(b'no picture')
    (lists / 'pairs.csv').write_text(''.join(
        f'{folder}/{i}.png,{folder}/d{i}.png\n' for i, folder in enumerate(
            (there, there, '../there'))))
    data = open_dataset(lists / 'pairs.csv')
    assert [data.name(i) for i in range(3)] == [
        f'{there}/0.png', f'{there}/1.png', '../there/2.png']
    assert prepare(data, tmp_path / 'store', 40, 30, workers=1) == 1
    assert len(open_dataset(tmp_path / 'store')) == 2


def test_pictures_of_another_shape_are_not_squashed(tmp_path, capsys):
    """rtabmap_ros#785's kind: 16:9 became 4:3, and was seen through a lens that is none."""
    for i, (width, height) in enumerate(((64, 36), (128, 72), (64, 48))):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((height, width, 3), 60, np.uint8))
        cv2.imwrite(str(tmp_path / f'd{i}.png'), np.full((height, width), 2000, np.uint16))
    (tmp_path / 'pairs.csv').write_text('image,depth,fx\n' + ''.join(
        f'{i}.png,d{i}.png,{fx}\n' for i, fx in enumerate((50, 100, 50))))
    prepare.main(['--data', str(tmp_path / 'pairs.csv'), '--out', str(tmp_path / 'store'),
                  '--workers', '1'])
    data = open_dataset(tmp_path / 'store')
    assert [read_checked(data, i)[0].shape for i in range(len(data))] == [(198, 352, 3)] * 2
    assert [data.focal(i) for i in range(2)] == pytest.approx([50 / 64] * 2)
    assert '2.png is 64×48, the store 352×198' in capsys.readouterr().err


@pytest.mark.parametrize('sign', [',', ';', '\t'])
def test_lists_as_spreadsheets_and_densedepth_have_them(tmp_path, sign):
    """DenseDepth#41, #122: cells parted otherwise, paths from the folder above the list's."""
    folder = tmp_path / 'data' / 'nyu2_train' / 'attic'
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / '1.jpg'), np.full((30, 40, 3), 60, np.uint8))
    cv2.imwrite(str(folder / '1.png'), np.full((30, 40), 51, np.uint8))
    row = sign.join(f'data/nyu2_train/attic/1.{end}' for end in ('jpg', 'png'))
    (tmp_path / 'data' / 'nyu2_train.csv').write_text(f'\ufeffRGB{sign}Depth\n{row}\n')
    assert len(open_dataset(tmp_path / 'data' / 'nyu2_train.csv')) == 1
    (tmp_path / 'data' / 'nyu2_train.csv').write_text(row + '\n')
    data = open_dataset(tmp_path / 'data' / 'nyu2_train.csv')
    rgb, depth = data.read(0)
    assert rgb.shape == (30, 40, 3)
    assert depth == pytest.approx(2.0)
    assert data.assumptions == ["depth of 8 bits is taken to be DenseDepth's: 255 is 10 m"]
    data = open_dataset(tmp_path / 'data' / 'nyu2_train.csv', depth_scale=51)
    assert data.read(0)[1] == pytest.approx(1.0)
    cv2.imwrite(str(folder / '1.png'), np.full((30, 40), 3000, np.uint16))  # its test pictures
    (tmp_path / 'data' / 'nyu2_train.csv').rename(tmp_path / 'data' / 'nyu2_test.csv')
    data = open_dataset(tmp_path / 'data' / 'nyu2_test.csv')
    assert data.read(0)[1] == pytest.approx(3.0)
    assert not data.assumptions


@pytest.mark.parametrize('place', ['bts/train_test_inputs', 'dataset/nyu_depth_v2/sync', 'dataset'])
def test_lists_as_bts_has_them(tmp_path, place):
    """DenseDepth#184's kind: image, depth and focal length, parted by spaces, begun with /."""
    folder = tmp_path / 'dataset' / 'nyu_depth_v2' / 'sync' / 'attic'
    folder.mkdir(parents=True)
    for name in ('1', '2'):
        cv2.imwrite(str(folder / f'rgb_{name}.jpg'), np.full((30, 40, 3), 60, np.uint8))
        cv2.imwrite(str(folder / f'sync_depth_{name}.png'), np.full((30, 40), 2000, np.uint16))
    path = tmp_path / place / 'nyu.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('/attic/rgb_1.jpg /attic/sync_depth_1.png 32.0\n'
                    '/attic/rgb_2.jpg  None  32.0\n'
                    'attic/rgb_2.jpg attic/sync_depth_2.png 518.8579\n')
    data = open_dataset(path)
    assert len(data) == 2 and len(data.left_out) == 1
    assert data.read(0)[1] == pytest.approx(2.0)
    assert data.focal(0) == 32 / 40
    tree = open_dataset(tmp_path / 'dataset' / 'nyu_depth_v2')
    assert len(tree) == 2 and tree.read(1)[1] == pytest.approx(2.0)


def test_names_that_hold_what_parts_cells(tmp_path):
    """DenseDepth#122's kind."""
    cv2.imwrite(str(tmp_path / 'a, b.png'), np.full((30, 40, 3), 60, np.uint8))
    cv2.imwrite(str(tmp_path / 'a b.png'), np.full((30, 40), 2000, np.uint16))
    for name, row in (('1.csv', 'a, b.png;a b.png'), ('2.csv', '"a, b.png",a b.png'),
                      ('3.tsv', 'a, b.png\ta b.png'), ('4.csv', 'image;depth\na, b.png;a b.png')):
        (tmp_path / name).write_text(row + '\n')
        assert open_dataset(tmp_path / name).read(0)[1] == pytest.approx(2.0)
    (tmp_path / '5.csv').write_text('"' + 200_000 * 'a')
    with pytest.raises(OSError, match=r'5\.csv is not a text file \(Error: field larger'):
        open_dataset(tmp_path / '5.csv')


def test_sync_pictures_as_png_and_without_a_number(tmp_path):
    for name in ('00001', 'x'):
        cv2.imwrite(str(tmp_path / f'rgb_{name}.png'), np.full((30, 40, 3), 60, np.uint8))
        cv2.imwrite(str(tmp_path / f'sync_depth_{name}.png'), np.full((30, 40), 2000, np.uint16))
    data = open_dataset(tmp_path)
    assert [data.number(i) for i in range(2)] == [1, 1]
    assert data.read(1)[1] == pytest.approx(2.0)


def test_hdf5_with_colour_last(tmp_path):
    h5py = pytest.importorskip('h5py')
    colour = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    for name, rgb in (('a', colour), ('b', np.moveaxis(colour, -1, 0))):
        with h5py.File(tmp_path / f'{name}.h5', 'w') as file:
            file['rgb'], file['depth'] = rgb, np.ones((30, 40), np.float32)
    data = open_dataset(tmp_path, 'all')
    for i in range(2):
        np.testing.assert_array_equal(data.read(i)[0], colour)


@pytest.mark.parametrize(('name', 'said'), [
    ('my old.bag', "convert it by rosbags-convert --src '.*/my old.bag' --dst '.*my old'"),
    ('new.mcap.zstd', r'unpack it by zstd -d \S+/new.mcap.zstd -o \S+/new.mcap$')])
def test_recordings_of_another_form_name_what_converts_them(tmp_path, name, said):
    (tmp_path / name).write_bytes(b'x')
    with pytest.raises(OSError, match=said):
        open_dataset(tmp_path / name)
