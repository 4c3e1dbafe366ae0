"""Pairs out of recordings: every form of image, in the order of stamps, registered, undistorted."""

import multiprocessing
import pickle
import random
import struct

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from small_recordings import (
    CAMERA,
    COUNT,
    DEPTH,
    HEIGHT,
    IMAGE,
    INFO,
    PREDICTED,
    START,
    STEP,
    WIDTH,
    camera_info,
    depth_message,
    image,
    recording,
    seen_by,
    small_bag,
    write,
)

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.recordings.pairs import PairedRecording
from hybrid_depth_ros.recordings.registration import register_depth
from hybrid_depth_ros.virtual_room import Room
from train.datasets.custom_pairs import BagPairs
from train.datasets.pairs import split_readable


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


@pytest.mark.parametrize(('k1', 'unseen'), [(-0.2, False), (0.3, True)])
def test_distortion_is_taken_out_of_both(tmp_path, k1, unseen):
    ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.float32) / 2 + 20
    bent = (k1, 0.05, 0.0, 0.0, 0.0)
    grey = np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2)
    pair, = PairedRecording(write(tmp_path / 'bag', [
        ('/camera/camera_info', camera_info(START, distortion=bent)),
        ('/camera/image_raw', image(START, grey, 'rgb8')),
        ('/camera/depth_raw', image(START, ramp, '32FC1'))]))
    known = np.isfinite(pair.truth)
    inner = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # no black mixed in
    assert inner.mean() > 0.5
    assert np.abs(pair.truth - pair.image[..., 0])[inner].max() <= 1.5
    assert np.abs(pair.truth - ramp)[inner].max() > 2  # it did move
    assert known.all() == (not unseen)


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


def test_mono16_is_what_it_is_named(frames, tmp_path):
    """Many drivers publish depth as mono16, and infrared images too."""
    grey = image(START, (frames[0][0][..., 0].astype(np.uint16) * 257), 'mono16')
    path = write(tmp_path / 'bag', [
        ('/ir', grey), ('/tof', depth_message(START, frames[0][1], 'mono16'))])
    with pytest.raises(OSError, match='2 topics hold colour images'):
        PairedRecording(path)
    pair = PairedRecording(path, '/ir', '/tof').read(0)
    assert np.array_equal(pair.image[..., 0], frames[0][0][..., 0])
    assert np.nanmax(np.abs(pair.truth - frames[0][1])) < 0.001


def test_a_damaged_first_pair_costs_only_itself(tmp_path):
    messages = list(recording([(np.zeros((30, 40, 3), np.uint8), np.ones((30, 40)))] * 4))
    next(message for topic, message in messages if topic == IMAGE).data = np.zeros(9, np.uint8)
    chosen, lost = split_readable(BagPairs(write(tmp_path / 'bag', messages)))
    assert (chosen.chosen, len(lost)) == ([1, 2, 3], 1)


def test_frames_without_a_stamp_are_not_paired(tmp_path):
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 4, stamps=[0, START, 0, START + STEP])
    pairs = PairedRecording(path)
    assert [pair.stamp for pair in pairs] == [START, START + STEP]
    assert f'2 of 4 frames on {IMAGE} carry no stamp and are left out' in pairs.assumptions()
