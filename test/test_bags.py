"""Recordings with true depth: written small but genuine, read, paired, scored, and scored live."""

import contextlib
import csv
import json
import multiprocessing
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from hybrid_depth_ros import evaluate_bag
from hybrid_depth_ros.encodings import compressed_to_depth
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.metrics import METRIC_NAMES, BandErrors, DepthErrors
from hybrid_depth_ros.recordings.pairs import PairedRecording
from hybrid_depth_ros.recordings.recording import Recording
from hybrid_depth_ros.recordings.registration import register_depth
from hybrid_depth_ros.recordings.time_synchronizer import TimeSynchronizer, match_stamps
from hybrid_depth_ros.virtual_room import Room
from train.datasets.custom_pairs import BagPairs
from train.datasets.pairs import split_readable

WIDTH, HEIGHT, COUNT = 160, 120, 4
CAMERA = Intrinsics(WIDTH, HEIGHT, 150.0, 148.0, 79.0, 60.5)
START, STEP = 1_700_000_000_000_000_123, 100_000_000  # ns
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
IMAGE, DEPTH, INFO, PREDICTED = ('/camera/color/image_raw', '/camera/depth/image_rect',
                                 '/camera/color/camera_info', '/depth/image')


@pytest.fixture(scope='module')
def frames():
    """Colour and exact depth of places in the room."""
    room = Room(1)
    return [room.render(CAMERA, room.camera_pose(15.0 * i)) for i in range(COUNT)]


def predict(rgb, fx=None):
    """A bad network, but one whose answer is known: darker is nearer."""
    return (1 + rgb.astype(np.float32).mean(axis=2) / 100) * np.float32(fx / CAMERA.fx)


# --- writing ----------------------------------------------------------------------------------

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


# --- pairing ------------------------------------------------------------------------------

def test_pairs_by_hand():
    assert match_stamps([0, 33, 66], [35, 64, 1], 5) == [(0, 2), (1, 0), (2, 1)]
    assert match_stamps([0, 10], [5], 5) == [(0, 0)]  # equally near: the earlier
    assert match_stamps([0, 9], [5], 5) == [(1, 0)]
    assert match_stamps([5], [4, 5, 6], 5) == [(0, 1)]
    assert match_stamps([7, 7], [7, 7, 7], 0) == [(0, 0), (1, 1)]
    assert match_stamps([0, 100], [6, 94], 5) == []
    assert match_stamps([], [1], 5) == []


def test_streams_pair_as_lists_do():
    rng = random.Random(0)
    for _ in range(300):
        slop = rng.choice([0, 3, 20, 60])
        lists = [sorted(rng.randrange(1000) for _ in range(rng.randrange(30))) for _ in range(2)]
        pairs = match_stamps(*lists, slop)
        for side in range(2):
            used = [pair[side] for pair in pairs]
            assert len(set(used)) == len(used)
        assert all(abs(lists[0][i] - lists[1][j]) <= slop for i, j in pairs)
        taken = [{pair[side] for pair in pairs} for side in range(2)]
        if len(set(lists[0])) == len(lists[0]) and len(set(lists[1])) == len(lists[1]):
            # two that are nearer to each other than to any other frame are a pair
            for i, first in enumerate(lists[0]):
                for j, second in enumerate(lists[1]):
                    gap = abs(first - second)
                    if gap <= slop and all(abs(first - s) > gap for s in lists[1] if s != second
                                           ) and all(abs(f - second) > gap for f in lists[0]
                                                     if f != first):
                        assert (i, j) in pairs
        pairing, got, left = TimeSynchronizer(slop), [], [list(lists[0]), list(lists[1])]
        while any(left):
            side = rng.choice([side for side in range(2) if left[side]])
            stamp = left[side].pop(0)
            got += pairing.add(side, stamp, stamp)
        got += pairing.finish()
        assert [(a, b) for _, a, b in got] == [(lists[0][i], lists[1][j]) for i, j in pairs]
        assert pairing.unpaired == sum(len(lists[s]) - len(taken[s]) for s in range(2))
        assert pairing.waiting == 0


def test_a_partner_that_never_comes_costs_no_memory():
    pairing = TimeSynchronizer(slop=5, queue_size=10)
    for stamp in range(1000):
        assert pairing.add(0, stamp, None) == []
    assert (pairing.waiting, pairing.unpaired) == (10, 990)


# --- registration ------------------------------------------------------------------------

def test_depth_in_another_cameras_pixels():
    room, pose = Room(1), Room(1).camera_pose(3.0)
    depth_camera = Intrinsics(120, 100, 90.0, 92.0, 58.0, 51.0)
    depth, true = (room.render(camera, pose)[1] for camera in (depth_camera, CAMERA))
    registered = register_depth(depth, WIDTH, HEIGHT, depth_camera, CAMERA)
    assert registered.shape == true.shape
    assert np.isin(registered[np.isfinite(registered)], depth).all()
    assert np.isfinite(registered[20:100, 20:140]).all()
    error = np.abs(registered - true)
    assert np.nanmedian(error) < 0.01
    # as much as half a pixel of it explains; with the wrong intrinsics it would not
    wrong = np.abs(register_depth(depth, WIDTH, HEIGHT, Intrinsics(
        120, 100, 112.5, 123.3, 59.0, 50.4), CAMERA) - true)
    assert np.nanmedian(wrong) > 2 * np.nanmedian(error)
    with pytest.raises(ValueError, match='not of one view'):
        register_depth(depth, WIDTH, HEIGHT)
    narrow = Intrinsics(120, 100, 300.0, 300.0, 60.0, 50.0)
    seen = np.isfinite(register_depth(depth, WIDTH, HEIGHT, narrow, CAMERA))
    assert 0.1 < seen.mean() < 0.4  # a narrow view fills the middle alone
    assert seen[60, 79]
    assert not seen[:20].any()


def test_depth_from_another_place():
    room, pose = Room(1), Room(1).camera_pose(3.0)
    transform = np.eye(4)
    transform[:3, :3] = cv2.Rodrigues(np.array([0.02, -0.05, 0.03]))[0]
    transform[:3, 3] = 0.1, -0.02, 0.03
    wide = Intrinsics(640, 480, 480.0, 480.0, 320.0, 240.0)
    _, depth = room.render(wide, pose @ transform)
    _, true = room.render(CAMERA, pose)
    registered = register_depth(depth, WIDTH, HEIGHT, wide, CAMERA, transform)
    inner = np.s_[10:-10, 20:-20]
    assert np.isfinite(registered[inner]).mean() > 0.95
    error, wrong = (np.abs(d - true)[inner] for d in (
        registered, register_depth(depth, WIDTH, HEIGHT, wide, CAMERA)))
    assert np.nanmedian(error) < 0.02 < np.nanmedian(wrong)


def test_scaling_takes_the_nearest_pixel():
    depth = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert register_depth(depth, 4, 2) is depth
    assert np.array_equal(register_depth(depth, 8, 4), depth.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(register_depth(depth.repeat(3, 0).repeat(3, 1), 4, 2), depth)
    with pytest.raises(ValueError, match='its intrinsics are for 160×120'):
        register_depth(depth, 4, 2, CAMERA, Intrinsics(4, 2, 1.0, 1.0, 1.0, 1.0))


# --- reading --------------------------------------------------------------------------------

@pytest.mark.parametrize(('plugin', 'colour', 'depth', 'step'), [
    (StoragePlugin.SQLITE3, 'raw', '16UC1', 0.00051),
    (StoragePlugin.SQLITE3, 'png', '32FC1; compressedDepth', None),
    (StoragePlugin.MCAP, 'raw', '32FC1', 0),
    (StoragePlugin.MCAP, 'png', '16UC1; compressedDepth png', 0.00051),
    (StoragePlugin.MCAP, 'png', '16UC1; compressedDepth rvl', 0.00051),
    (StoragePlugin.MCAP, 'png', '32FC1; compressedDepth rvl', None),
    (StoragePlugin.MCAP, 'raw', 'mono16', 0.00051),
])
def test_forms(frames, tmp_path, plugin, colour, depth, step):
    frames = [(rgb, true.copy()) for rgb, true in frames]
    frames[1][1][30:50, 40:90] = np.nan
    path = write(tmp_path / 'bag', recording(frames, colour, depth), plugin)
    file, = (path / name for name in ('bag.mcap', 'bag.db3') if (path / name).exists())
    for named in (path, file):
        pairs = PairedRecording(named)
        assert len(pairs) == COUNT
        for i, (pair, (rgb, true)) in enumerate(zip(pairs, frames, strict=True)):
            assert pair.stamp == START + i * STEP
            assert np.array_equal(pair.image, rgb)
            assert pair.truth.dtype == np.float32
            assert np.array_equal(np.isnan(pair.truth), np.isnan(true))
            # half a step of inverse depth, where it is that
            allowed = 0.5 * true ** 2 / (100 * 101) * 1.01 + 1e-5 if step is None else step
            assert np.nanmax(np.abs(pair.truth - true) - allowed) <= 0
            assert pair.camera == CAMERA
            again = pairs.read(i)
            assert np.array_equal(again.truth, pair.truth, equal_nan=True)
            assert np.array_equal(again.image, pair.image)
        assert not pairs.damaged


@pytest.mark.parametrize('step', [1_000_000, 0])
def test_a_bag_in_any_order_reads_in_the_order_of_stamps(frames, tmp_path, step):
    messages = list(recording(frames))
    random.Random(3).shuffle(messages)
    pairs = PairedRecording(write(tmp_path / 'bag', messages, step=step))
    assert [pair.stamp for pair in pairs] == [START + i * STEP for i in range(COUNT)]
    for i, (rgb, true) in enumerate(frames):
        assert np.array_equal(pairs.read(i).image, rgb)
        assert np.array_equal(pairs.read(i).truth, true)


def test_registered_to_the_colour_camera(tmp_path):
    room, depth_camera = Room(1), Intrinsics(120, 100, 90.0, 92.0, 58.0, 51.0)
    rgb, true = room.render(CAMERA, room.camera_pose(3.0))
    _, depth = room.render(depth_camera, room.camera_pose(3.0))
    messages = [(INFO, camera_info(START)), (IMAGE, image(START, rgb, 'rgb8')),
                ('/camera/depth/camera_info', camera_info(START, depth_camera)),
                (DEPTH, image(START, depth, '32FC1'))]
    pair, = PairedRecording(write(tmp_path / 'bag', messages))
    assert np.array_equal(pair.truth, register_depth(depth, WIDTH, HEIGHT, depth_camera, CAMERA),
                          equal_nan=True)
    assert np.nanmedian(np.abs(pair.truth - true)) < 0.01
    pairs = PairedRecording(write(tmp_path / 'none', [m for m in messages if 'info' not in m[0]]))
    assert not list(pairs)
    assert 'depth of 120×100 and an image of 160×120 are not of one view' in pairs.damaged[0]


def test_distortion_is_taken_out_of_both(tmp_path):
    ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.float32) / 2 + 20
    bent = (-0.2, 0.05, 0.0, 0.0, 0.0)
    grey = np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2)
    pair, = PairedRecording(write(tmp_path / 'bag', [
        ('/camera/camera_info', camera_info(START, distortion=bent)),
        ('/camera/image_raw', image(START, grey, 'rgb8')),
        ('/camera/depth_raw', image(START, ramp, '32FC1'))]))
    assert np.nanmax(np.abs(pair.truth - pair.image[..., 0])) <= 1.5
    assert np.abs(pair.truth[5, 5] - ramp[5, 5]) > 2  # it did move
    assert not np.isfinite(pair.truth).all() or (pair.image > 0).all()


def test_a_recording_in_other_processes(frames, tmp_path):
    dataset = BagPairs(write(tmp_path / 'bag', recording(frames)))
    wanted = [dataset.read(i) for i in range(COUNT)]
    copy = pickle.loads(pickle.dumps(dataset))
    global _shared
    _shared = dataset
    with multiprocessing.get_context('fork').Pool(2) as pool:
        results = [*pool.map(_read_shared, range(COUNT)), *(copy.read(i) for i in range(COUNT))]
    for (rgb, depth), (wanted_rgb, wanted_depth) in zip(results, wanted * 2, strict=True):
        assert np.array_equal(rgb, wanted_rgb)
        assert np.array_equal(depth, wanted_depth)


def _read_shared(i):
    return _shared.read(i)


# --- what can be wrong --------------------------------------------------------------------

def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


@pytest.mark.parametrize('share', [0, 0.00001, 0.3, 0.999])
@pytest.mark.parametrize(('plugin', 'file', 'mend'), [
    (StoragePlugin.MCAP, 'bag.mcap', 'mcap recover'),
    (StoragePlugin.SQLITE3, 'bag.db3', r'sqlite3 \S+bag\.db3 \.recover')])
def test_truncated(frames, tmp_path, plugin, file, mend, share):
    path = write(tmp_path / 'bag', recording(frames), plugin)
    cut(path / file, share)
    for named in (path, path / file):
        with pytest.raises(OSError, match='copy it again' if share == 0 else mend) as raised:
            PairedRecording(named)
        assert str(named) in str(raised.value)
        assert '\n' not in str(raised.value)


def test_an_mcap_file_without_an_index(frames, tmp_path):
    file = write(tmp_path / 'bag', recording(frames)) / 'bag.mcap'
    data = bytearray(file.read_bytes())
    start, = struct.unpack_from('<Q', data, len(data) - 28)  # of the summary: the index
    data[-28:-12] = bytes(16)
    file.write_bytes(data[:start] + data[-37:])
    assert [pair.stamp for pair in PairedRecording(file)] == [START + i * STEP
                                                             for i in range(COUNT)]


def test_not_a_recording(frames, tmp_path):
    with pytest.raises(OSError, match='no such file or folder'):
        Recording(tmp_path / 'bag')
    path = write(tmp_path / 'bag', recording(frames))
    (path / 'metadata.yaml').write_text('nothing')
    with pytest.raises(OSError, match=r'bag is .*damaged.*ros2 bag reindex'):
        Recording(path)
    (path / 'metadata.yaml').unlink()
    with pytest.raises(OSError, match=r'no metadata\.yaml: run `ros2 bag reindex'):
        Recording(path)
    assert len(PairedRecording(path / 'bag.mcap')) == COUNT
    (tmp_path / 'bag.txt').touch()
    with pytest.raises(OSError, match=r'bag\.txt is no recording'):
        Recording(tmp_path / 'bag.txt')
    with pytest.raises(OSError, match='holds no message'):
        Recording(write(tmp_path / 'empty', []))
    (tmp_path / 'a.db3').touch()
    (tmp_path / 'a.db3-wal').write_bytes(b'later messages')
    with pytest.raises(OSError, match='wal_checkpoint'):
        Recording(tmp_path / 'a.db3')


def test_messages_compressed_one_by_one(frames, tmp_path):
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        topics = {}
        for number, (topic, message) in enumerate(recording(frames)):
            kind = message.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic], START + number, STORE.serialize_cdr(message, kind))
    assert len(PairedRecording(tmp_path / 'bag')) == COUNT
    with pytest.raises(OSError, match='name the folder instead of the file'):
        PairedRecording(tmp_path / 'bag' / 'bag.db3')


def test_which_topics(frames, tmp_path):
    path = write(tmp_path / 'bag', recording(frames, predicted=True))
    with pytest.raises(OSError, match=r'2 topics hold depth images: name one with --depth\. In '
                       rf'it: .*{DEPTH} \(depth\) 4 × Image, {PREDICTED} \(depth\) 4 × Image'):
        PairedRecording(path)
    assert PairedRecording(path, depth=DEPTH).image_topic == IMAGE
    assert PairedRecording(path, predicted=PREDICTED).truth_topic == DEPTH
    for options, said in (({'image': '/nowhere'}, 'no images on /nowhere'),
                          ({'image': DEPTH}, f'{DEPTH} holds depth images, not colour images'),
                          ({'depth': IMAGE}, f'{IMAGE} holds colour images, not depth images'),
                          ({'predicted': DEPTH, 'depth': DEPTH}, 'compared with itself'),
                          ({'depth': DEPTH, 'camera_info': '/i'}, 'no camera infos on /i')):
        with pytest.raises(OSError, match=said):
            PairedRecording(path, **options)
    with pytest.raises(OSError, match='no topic holds depth images'):
        PairedRecording(write(tmp_path / 'colour', [
            m for m in recording(frames) if m[0] != DEPTH]))


def test_stamps_that_do_not_meet(frames, tmp_path):
    path = write(tmp_path / 'bag', recording(frames, late=30_000_000))
    with pytest.raises(OSError, match=rf'no frame on {IMAGE} is within 0\.02 s of one on {DEPTH} '
                       r'\(.* runs from 1700000000\.000 to .*--slop'):
        PairedRecording(path)
    assert len(PairedRecording(path, slop=0.03)) == COUNT
    messages = [(IMAGE, image(0, frames[0][0], 'rgb8')), (DEPTH, image(0, frames[0][1], '32FC1'))]
    with pytest.raises(OSError, match='carry no stamp'):
        PairedRecording(write(tmp_path / 'zero', messages))


def test_a_damaged_frame_is_left_out(frames, tmp_path):
    messages = list(recording(frames, depth='16UC1; compressedDepth png'))
    broken = [message for topic, message in messages if 'compressedDepth' in topic][1]
    broken.data = broken.data[:500]
    pairs = PairedRecording(write(tmp_path / 'bag', messages))
    assert [pair.stamp for pair in pairs] == [START + i * STEP for i in (0, 2, 3)]
    assert len(pairs.damaged) == 1
    assert 'truncated' in pairs.damaged[0]
    with pytest.raises(OSError, match=f'{DEPTH}/compressedDepth: .*truncated'):
        pairs.read(1)


def test_the_first_frame_may_be_damaged(frames, tmp_path):
    """A topic is what its first readable message says."""
    messages = list(recording(frames))
    for _, message in messages[1:3]:
        message.encoding = 'xxxx'
    path = write(tmp_path / 'bag', messages)
    file = path / 'bag.mcap'
    data = file.read_bytes()
    # a string that runs past the message's end
    data = data.replace(struct.pack('<I', 5) + b'xxxx\0', struct.pack('<I', 2**31) + b'xxxx\0')
    file.write_bytes(data)
    pairs = PairedRecording(file)
    assert [pair.stamp for pair in pairs] == [START + i * STEP for i in (1, 2, 3)]
    assert len(pairs.damaged) == 1


@pytest.mark.parametrize('depth', ['32FC1', '16UC1; compressedDepth png'])
def test_frames_that_changed_their_kind_are_counted(frames, tmp_path, capsys, depth):
    """Depth of the wrong type, colour of one that is unknown, a bomb, a partner that is gone."""
    rgb, true = frames[0]
    messages, late = list(recording(frames * 2, depth=depth)), 3_000_000
    topic = messages[2][0]
    messages[7] = IMAGE, image(START + 2 * STEP, true, '64FC1')
    stamps = [START + i * STEP + late for i in (1, 3)]
    if depth == '32FC1':
        messages[5] = topic, image(stamps[0], rgb, 'rgb8')
        messages[11] = topic, image(stamps[1], true, '32FC1')
        messages[11][1].height = 2**31
    else:
        messages[5] = topic, compressed(stamps[0], 'rgb8; jpeg', png(rgb))
        messages[11] = topic, compressed(stamps[1], depth, (
            bytes(12) + b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + b'IHDR' + struct.pack(
                '>IIBB', 60_000, 60_000, 16, 0) + bytes(20) + b'IEND'))
    del messages[14]  # the fifth frame's depth
    path = write(tmp_path / 'bag', messages)
    report = tmp_path / 'o.json'
    assert evaluate_bag.main([str(path), '--json', str(report)], predict) == 0
    assert json.loads(report.read_text())['damaged'] == 3
    assert json.loads(report.read_text())['frames'] == 4
    printed = capsys.readouterr()
    assert '7 pairs of' in printed.out
    assert f'3 frames left out; the first: {path}: {topic}: ' in printed.err


@pytest.mark.parametrize(('plugin', 'name'), [(StoragePlugin.MCAP, 'bag.mcap'),
                                              (StoragePlugin.SQLITE3, 'bag.db3')])
def test_any_bytes_changed(frames, tmp_path, plugin, name, capsys):
    """The table, with what was left out counted, or one sentence."""
    small = [(rgb[::8, ::8], true[::8, ::8]) for rgb, true in frames[:2]]
    file = write(tmp_path / 'bag', recording(small), plugin) / name
    whole, rng, ends = file.read_bytes(), random.Random(0), []
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3, 30])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
        start = time.monotonic()
        try:
            ends.append(evaluate_bag.main([str(file)], predict))
        except SystemExit as end:
            ends.append(end.code)
            assert end.code.startswith('evaluate_bag: ') and '\n' not in end.code
        assert time.monotonic() - start < 5
    assert len(set(map(str, ends))) > 3


@pytest.mark.parametrize('values', [
    [[0] * 7] * 5, [[65535]], [[1, 0, 65535, 0]] * 3, [[0, 5, 5, 5, 0, 0, 9, 32768]]])
def test_rvl_of_any_numbers(values):
    """image_transport_plugins#177: compressedDepth by RVL was refused."""
    values = np.array(values, np.uint16)
    depth = compressed_to_depth(compressed(
        START, '16UC1; compressedDepth rvl', bytes(12) + rvl(values)))
    assert np.array_equal(np.nan_to_num(depth), (values / np.float32(1000)).astype(np.float32))


def test_rvl_that_is_damaged(tmp_path):
    """image_transport_plugins#177's kind: what is cut or forged is a sentence, at once."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (8, 9)).astype(np.uint16) * 700
    whole = bytes(12) + rvl(values)
    forged = [whole[:12] + struct.pack('<II', *size) + whole[20:]
              for size in ((9, 9), (0, 8), (2**31, 2**31), (2**16, 2**16), (5000, 5000))]
    noise = [whole[:20] + rng.bytes(60) for _ in range(200)] + [whole[:20] + b'\xff' * 400]
    for data in (*(whole[:size] for size in range(len(whole) - 4)), *forged):
        with pytest.raises(ValueError, match='publish'):
            compressed_to_depth(compressed(START, '16UC1; compressedDepth rvl', data))
    for data in noise:
        with contextlib.suppress(ValueError):
            assert compressed_to_depth(
                compressed(START, '16UC1; compressedDepth rvl', data)).shape == (8, 9)


def test_mono16_is_what_it_is_named(frames, tmp_path):
    """rtabmap_ros#785's kind: many drivers' depth is mono16, and so are infrared pictures."""
    grey = image(START, (frames[0][0][..., 0].astype(np.uint16) * 257), 'mono16')
    path = write(tmp_path / 'bag', [
        ('/ir', grey), ('/tof', depth_message(START, frames[0][1], 'mono16'))])
    with pytest.raises(OSError, match='2 topics hold colour images'):
        PairedRecording(path)
    pair = PairedRecording(path, '/ir', '/tof').read(0)
    assert np.array_equal(pair.image[..., 0], frames[0][0][..., 0])
    assert np.nanmax(np.abs(pair.truth - frames[0][1])) < 0.001


# --- calibrations that change, or are of something else ----------------------------------

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


def test_a_zoom_in_the_middle_of_a_recording(tmp_path):
    """OrbbecSDK_ROS2#65: each frame through the calibration of its own stamp, in training too."""
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 2 + [seen_by(70.0)] * 2)
    assert [pair.camera.fx for pair in PairedRecording(path)] == [35, 35, 70, 70]
    dataset = BagPairs(path)
    assert [dataset.focal(i) * 40 for i in (3, 0, 2, 1)] == [70, 35, 70, 35]
    assert [pickle.loads(pickle.dumps(dataset)).focal(i) * 40 for i in (0, 3)] == [35, 70]


def test_a_recording_whose_first_camera_info_is_zero(tmp_path):
    """cam_lidar_calibration#18: the camera is known as soon as it says so, and before."""
    path = small_bag(tmp_path / 'bag', [seen_by(0)] + [seen_by(35.0)] * 2)
    pairs = PairedRecording(path)
    assert [pair.camera.fx for pair in pairs] == [35] * 3
    assert not pairs.missing_camera_reason
    lost = PairedRecording(small_bag(tmp_path / 'lost', [seen_by(35.0), seen_by(0)]))
    assert [pair.camera and pair.camera.fx for pair in lost] == [35, None]
    assert 'uncalibrated (K is 0)' in lost.missing_camera_reason
    assert '(1 of 2 frames)' in lost.missing_camera_reason


def test_a_camera_info_once_before_all_of_another_clock(tmp_path):
    """geometry2#183: recorded once; without a stamp its time of recording counts."""
    def unstamped(fx):
        return lambda stamp: seen_by(fx)(0)
    once = PairedRecording(small_bag(tmp_path / 'once', [unstamped(35.0), None, None]))
    assert [pair.camera.fx for pair in once] == [35] * 3
    zoom = PairedRecording(small_bag(tmp_path / 'zoom', [unstamped(35.0), None, unstamped(70.0)]))
    assert [pair.camera.fx for pair in zoom] == [35, 35, 70]


def test_a_damaged_first_pair_costs_only_itself(tmp_path):
    messages = list(recording([(np.zeros((30, 40, 3), np.uint8), np.ones((30, 40)))] * 4))
    next(message for topic, message in messages if topic == IMAGE).data = np.zeros(9, np.uint8)
    chosen, lost = split_readable(BagPairs(write(tmp_path / 'bag', messages)))
    assert (chosen.chosen, len(lost)) == ([1, 2, 3], 1)


def test_depth_of_another_camera_is_not_stretched(tmp_path, capsys):
    """rtabmap_ros#785, #183, realsense-ros#2746: 848×480 depth on 640×480 colour."""
    wide = np.full((30, 53), 2.0, np.float32)
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 2, truth=wide)
    with pytest.raises(SystemExit, match=r'not one of 2 pairs could be scored; .*depth of 53×30 '
                       r'and an image of 40×30 are not of one view.* no camera_info on '
                       r'/camera/depth/camera_info; record it') as end:
        evaluate_bag.main([str(path)], predict)
    assert '\n' not in end.value.code
    assert not len(split_readable(BagPairs(path))[0])
    known = PairedRecording(small_bag(tmp_path / 'known', [seen_by(35.0)], truth=wide,
                                      depth_info=seen_by(35.0, 53)))
    assert len(list(known)) == 1
    assert not known.assumptions()


@pytest.mark.parametrize('predicted', [False, True])
def test_what_is_assumed_of_depth_is_said(frames, tmp_path, capsys, predicted):
    """rtabmap_ros#785: of the same shape it may be registered, or not; in JSON too."""
    half = [(rgb, depth[::2, ::2]) for rgb, depth in frames]
    path = write(tmp_path / 'bag', recording(half, predicted=predicted))
    options = ['--predicted', PREDICTED, '--depth', DEPTH] if predicted else []
    evaluate_bag.main([str(path), '--json', str(tmp_path / 'o.json'), *options],
                      None if predicted else predict)
    what = f'the depth on {PREDICTED}' if predicted else 'colour'
    said = f'depth on {DEPTH} is taken to be registered to {what}: no camera_info on '
    assert capsys.readouterr().err.count(said) == 1
    assert any(sentence.startswith(said)
               for sentence in json.loads((tmp_path / 'o.json').read_text())['said'])
    if not predicted:
        assert BagPairs(path).assumptions[0].startswith(said)


def test_a_recordings_camera_info_for_another_image(tmp_path, capsys):
    """ros_astra_camera#103: 640×480's calibration beside 160×90 pictures is not used."""
    path = small_bag(tmp_path / 'bag', [seen_by(525.0, 640, 360)] * 2)
    assert evaluate_bag.main([str(path)], lambda rgb, fx: (
        np.full(rgb.shape[:2], 2.0, np.float32) if fx is None else 1 / 0)) == 0
    said = capsys.readouterr().err
    assert 'it is for 640×360, the image is 40×30' in said
    assert "like NYU's" in said


@pytest.mark.parametrize(('name', 'bent'), [('image_corrected', True), ('direct', True),
                                            ('image_rect', False), ('image_rect_color', False)])
def test_which_names_say_rectified(tmp_path, name, bent):
    path = small_bag(tmp_path / 'bag', [seen_by(35.0, distortion=(0.4, 0.1, 0, 0, 0))],
                     topic=f'/camera/color/{name}')
    pair, = PairedRecording(path)
    assert (pair.image == 0).any() == bent


def test_frames_without_a_stamp_are_not_paired(tmp_path):
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 4, stamps=[0, START, 0, START + STEP])
    pairs = PairedRecording(path)
    assert [pair.stamp for pair in pairs] == [START, START + STEP]
    assert f'2 of 4 frames on {IMAGE} carry no stamp and are left out' in pairs.assumptions()


@pytest.mark.parametrize(('metres', 'said'), [
    (3110.0, 'median depth is 3110 m: millimetres read as metres?'),
    (200.0, 'centimetres or millimetres'), (0.003, 'metres read as millimetres?'),
    (0.05, '8-bit levels or metres'), (2.0, None), (25.0, None), (0.3, None)])
def test_a_mistaken_unit_is_said(tmp_path, capsys, metres, said):
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 2,
                     truth=np.full((30, 40), metres, np.float32))
    evaluate_bag.main([str(path)], predict)
    found = capsys.readouterr().err
    assert found.count('the median depth is') == bool(said)
    assert (said or '') in found


@pytest.mark.parametrize(('times', 'said'), [(4.0, True), (0.1, True), (1.5, False)])
def test_a_unit_is_doubted_beside_what_is_predicted(tmp_path, capsys, times, said):
    """OrbbecSDK_ROS2#55, realsense-ros#332: units of 0.25 or 0.1 mm, four or ten times too far."""
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 2,
                     truth=np.full((30, 40), 2.0 * times, np.float32))
    evaluate_bag.main([str(path)], lambda rgb, fx=None: np.full(rgb.shape[:2], 2.0, np.float32))
    assert (f'is {times:.2g} times what is predicted: is its unit right?'
            in capsys.readouterr().err) == said


# --- scores -------------------------------------------------------------------------------

def straight(frames, bands=()):
    """Errors of the predictions, on the arrays themselves."""
    errors = DepthErrors()
    for rgb, true in frames:
        predicted = predict(rgb, CAMERA.fx)
        errors.add(predicted, true, (true > bands[0]) & (true <= bands[1]) if bands else None)
    return errors


def test_a_band_holds_its_far_edge():
    errors = BandErrors((0, 1, 2))
    errors.add(np.full(4, 2.0), np.array([1.0, 1.5, 2.0, 2.5]))
    assert [band['pixels'] for band in errors.report()] == [1, 2]


def test_evaluate_bag(frames, tmp_path, capsys):
    path = write(tmp_path / 'bag', recording(frames))
    out = tmp_path / 'out'
    arguments = [str(path), '--json', str(tmp_path / 'o.json'), '--csv', str(tmp_path / 'o.csv'),
                 '--plots', str(out), '--align', 'median', 'scale-shift']
    assert evaluate_bag.main(arguments, predict) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / 'o.json').read_text())
    errors = straight(frames)
    assert report['metrics'] == errors.metrics()
    assert (report['frames'], report['pixels']) == (COUNT, errors.pixels)
    for band, edges in zip(report['bands'], ((0, 1), (1, 2), (2, 4), (4, 10)), strict=True):
        alone = straight(frames, edges)
        assert (band['from'], band['to'], band['pixels']) == (*edges, alone.pixels)
        if alone.pixels:
            assert {name: band[name] for name in METRIC_NAMES} == alone.metrics()
        else:
            assert band['rel'] is None
    assert f'{report["metrics"]["rmse"]:9.3f}{report["metrics"]["rel"]:9.3f}' in printed
    with (tmp_path / 'o.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['stamp'] for row in rows] == [
        f'1700000000.{100_000_000 * i + 123:09d}' for i in range(COUNT)]
    for row, frame in zip(rows, frames, strict=True):
        alone = straight([frame])
        assert {name: float(row[name]) for name in METRIC_NAMES} == alone.metrics()
        assert int(row['pixels']) == alone.pixels
    for name in ('errors', 'best', 'median', 'worst'):
        assert cv2.imread(str(out / f'{name}.png')).size
    ranked = sorted(rows, key=lambda row: float(row['rel']))
    assert f'worst.png: the frame of {ranked[-1]["stamp"]} s' in printed

    fitted = {how: DepthErrors() for how in ('median', 'scale-shift')}
    for rgb, true in frames:
        d = predict(rgb, CAMERA.fx).astype(float)
        fitted['median'].add(d * np.median(true) / np.median(d), true)
        columns = np.stack((d.ravel(), np.ones(d.size)), axis=1)
        solution = np.linalg.lstsq(columns, true.ravel().astype(float), rcond=None)[0]
        fitted['scale-shift'].add((columns @ solution).reshape(d.shape), true)
    for how, errors in fitted.items():
        assert report['aligned'][how] == pytest.approx(errors.metrics(), rel=1e-4)


def test_predicted_depth_scores_as_the_network_does(frames, tmp_path):
    path = write(tmp_path / 'bag', recording(frames, predicted=True))
    reports = []
    for options, predictor in ((['--depth', DEPTH], predict), (['--predicted', PREDICTED], None)):
        assert evaluate_bag.main([str(path), *options, '--json', str(tmp_path / 'o.json')],
                                 predictor) == 0
        reports.append(json.loads((tmp_path / 'o.json').read_text()))
    for key in ('metrics', 'bands', 'frames', 'pixels'):
        assert reports[0][key] == reports[1][key]


def test_an_interruption_keeps_what_was_scored(frames, tmp_path, capsys):
    path, seen = write(tmp_path / 'bag', recording(frames)), []

    def interrupted(rgb, fx):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(rgb)
        return predict(rgb, fx)
    arguments = [str(path), '--json', str(tmp_path / 'o.json'), '--csv', str(tmp_path / 'o.csv')]
    assert evaluate_bag.main(arguments, interrupted) == 130
    assert '2 of 4 frames were scored' in capsys.readouterr().err
    report = json.loads((tmp_path / 'o.json').read_text())
    assert report['metrics'] == straight(frames[:2]).metrics()
    assert len((tmp_path / 'o.csv').read_text().splitlines()) == 3


def test_ros_is_not_needed():
    done = subprocess.run(
        [sys.executable, '-c', 'import sys\n'
         'for name in ("rclpy", "sensor_msgs", "std_msgs"): sys.modules[name] = None\n'
         'from hybrid_depth_ros.evaluate_bag import main\nmain(["nowhere", "--device", "cpu"])'],
        capture_output=True, text=True)
    assert done.stderr.startswith('evaluate_bag: nowhere: there is no such')


def test_a_name_that_is_not_utf8_is_no_damage(frames, tmp_path):
    """opencv#4292's kind: sqlite3's refusal was told as a damaged file."""
    path = tmp_path / os.fsdecode(b'caf\xe9')
    write(tmp_path / 'bag', recording(frames[:1]), StoragePlugin.SQLITE3).rename(path)
    with pytest.raises(OSError, match='is not UTF-8, which sqlite3 wants'):
        PairedRecording(path)
    write(tmp_path / 'bag', recording(frames[:1])).rename(path.with_name(path.name + '2'))
    assert len(PairedRecording(path.with_name(path.name + '2'))) == 1


def test_errors_are_one_sentence(frames, tmp_path):
    path = write(tmp_path / 'bag', recording(frames))
    for arguments, said in ((['nowhere'], 'evaluate_bag: nowhere: there is no such'),
                            ([str(path), '--json', str(tmp_path / 'no' / 'o.json')], 'o.json'),
                            ([str(path), '--weights', 'no-such'], 'no-such')):
        with pytest.raises(SystemExit, match=said):
            evaluate_bag.main(arguments)


# --- live ---------------------------------------------------------------------------------

@pytest.mark.parametrize(('stop', 'depth'), [
    (signal.SIGINT, '32FC1'), (signal.SIGTERM, '16UC1; compressedDepth rvl')])
def test_live_scores_are_those_of_the_recording(frames, tmp_path, stop, depth):
    """image_transport_plugins#177: compressed depth as well."""
    rclpy = pytest.importorskip('rclpy')
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import CompressedImage, Image
    small = [(rgb, true[::2, ::2]) for rgb, true in frames]  # true depth of another resolution
    messages = list(recording(small, depth=depth, predicted=True))
    path = write(tmp_path / 'bag', messages)
    offline, live = tmp_path / 'offline.json', tmp_path / 'live.json'
    assert evaluate_bag.main([str(path), '--predicted', PREDICTED, '--json', str(offline)]) == 0

    log = (tmp_path / 'log').open('w')
    process = subprocess.Popen(
        [sys.executable, '-m', 'hybrid_depth_ros.nodes.evaluator', '--ros-args',
         '-p', f'json:={live}', '-r', f'depth_ground_truth:={DEPTH}'], stdout=log, stderr=log)
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('player', context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    said = {}

    def listen(message):
        said.update({value.key: value.value for value in message.status[0].values})

    def wait(until):
        deadline = time.monotonic() + 30
        while not until():
            assert time.monotonic() < deadline, (said, (tmp_path / 'log').read_text())
            executor.spin_once(timeout_sec=0.05)
    try:
        node.create_subscription(DiagnosticArray, '/diagnostics', listen, 10)
        packed = f'{DEPTH}/compressedDepth'
        publishers = {topic: node.create_publisher(kind, topic, 20) for kind, topic in (
            (Image, PREDICTED), (CompressedImage, packed) if ';' in depth else (Image, DEPTH))}
        wait(lambda: said and all(p.get_subscription_count() for p in publishers.values()))
        for topic, message in messages:
            if topic in publishers:
                publishers[topic].publish(bytes(STORE.serialize_cdr(message, message.__msgtype__)))
        # the last pair is sure only when no more frames come
        wait(lambda: int(said['frames']) >= COUNT - 1)
        assert float(said['rel']) > 0
        process.send_signal(stop)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
    reports = [json.loads(file.read_text()) for file in (offline, live)]
    assert reports[0]['frames'] == COUNT
    for key in ('metrics', 'bands', 'frames', 'pixels', 'damaged', 'seen'):
        assert reports[0][key] == reports[1][key]
    assert reports[1]['truth'] == DEPTH
    printed = (tmp_path / 'log').read_text()
    assert f'{COUNT} frames' in printed
    assert 'Traceback' not in printed
