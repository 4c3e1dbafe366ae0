"""Depth by the camera's own motion, along walks through the virtual room."""

import functools
import time

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.anchors import MotionAnchors
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.motion import MotionSettings
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.poses import PlacedPose
from hybrid_depth_ros.virtual_room import Room
from hybrid_depth_ros.virtual_room.room import upright_camera_pose

CAMERA = Intrinsics(320, 240, 262.5, 262.5, 159.5, 119.5)
INTERVAL = 0.2  # seconds between frames
FRAMES = 17     # one metre at 0.3 m/s


@functools.cache
def walk(kind='walk', frames=FRAMES):
    """(gray, true depth, pose, stamp) of frames, 0.06 m apart unless it only turns."""
    room = Room(1)
    out = []
    for number in range(frames):
        stamp = number * INTERVAL
        pose = (room.camera_pose(3 * stamp) if kind == 'walk' else
                upright_camera_pose([*room.size[:2] / 2, 1.2], 0.5 * stamp, -0.15))
        rgb, depth = room.render(CAMERA, pose)
        out.append((cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), depth, pose, stamp))
    return out


def off(anchors, depth):
    """Log of measured / true depth."""
    return np.log(anchors.depth / depth[np.rint(anchors.v).astype(int),
                                        np.rint(anchors.u).astype(int)])


def follow(frames, change=lambda number, pose: pose):
    motion = MotionAnchors(CAMERA)
    for number, (gray, _, pose, stamp) in enumerate(frames):
        anchors = motion(gray, change(number, pose), stamp)
    return motion, anchors, frames[-1][1]


def test_scale_is_known_after_a_metre():
    motion, anchors, depth = follow(walk())
    errors = off(anchors, depth)
    assert len(anchors) > 80 and not motion.reason
    assert abs(np.median(errors)) < 0.03
    assert np.median(np.abs(errors) / (anchors.sigma / anchors.depth)) < 1.5


def test_drifting_angles_are_corrected_by_the_tracks():
    def drift(number, pose):
        turned = pose.copy()
        turned[:3, :3] = pose[:3, :3] @ cv2.Rodrigues(np.deg2rad([0.05, 0.1, 0]) * number)[0]
        return turned
    _, anchors, depth = follow(walk(), drift)
    assert len(anchors) > 80 and abs(np.median(off(anchors, depth))) < 0.05


def test_turning_in_place_gives_no_anchors():
    motion, anchors, _ = follow(walk('turn', 8))
    assert len(anchors) == 0 and motion.note == 'too little parallax yet'


def test_standing_keeps_what_is_known():
    frames = walk()
    gray, depth, pose, stamp = frames[-1]
    rng = np.random.default_rng(0)
    standing = [(np.clip(gray + rng.normal(0, 2, gray.shape), 0, 255).astype(np.uint8), depth, pose,
                 stamp + INTERVAL * number) for number in range(1, 13)]
    _, anchors, _ = follow([*frames, *standing])
    assert len(anchors) > 60 and abs(np.median(off(anchors, depth))) < 0.05


def other_frame(number, pose):
    return pose @ np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def twice_too_long(number, pose):
    longer = pose.copy()
    longer[:3, 3] *= 2
    return longer


def test_poses_that_stand_still_while_the_camera_walks_are_noticed():
    motion, anchors, _ = follow(walk(), lambda number, pose: walk()[0][2])
    assert len(anchors) == 0 and motion.reason.startswith('the image ')


def test_wheels_that_count_nothing_are_noticed():
    def turning(number, pose):
        turned = pose.copy()
        turned[:3, 3] = 0
        return turned
    motion, anchors, _ = follow(walk(), turning)
    assert len(anchors) == 0 and motion.reason.startswith('the image moves ')


def test_poses_of_another_frame_are_noticed():
    motion, anchors, _ = follow(walk(), other_frame)
    assert len(anchors) == 0 and motion.reason.startswith('the image ')


@pytest.mark.parametrize('until', [7, 8])  # frames, in which it is two late
def test_odometry_that_is_late_from_the_start_gives_no_wrong_depth(until):
    """It stands while the camera goes: depth was a tenth, three frames long."""
    motion, frames, counts = MotionAnchors(CAMERA), walk(), []
    for number, (gray, depth, _, stamp) in enumerate(frames):
        late = 2 if number < until else 0
        anchors = motion(gray, frames[max(0, number - late)][2], stamp)
        counts.append(len(anchors))
        assert not len(anchors) or abs(np.median(off(anchors, depth))) < 0.3
    assert counts[-1] > 40  # odometry that has caught up is believed again


def test_odometry_is_not_blamed_for_blur():
    """A WARN asked for another frame of its poses, which were right."""
    motion = MotionAnchors(CAMERA)
    for number, (gray, _, pose, stamp) in enumerate(walk()[:8]):
        blurred = cv2.blur(gray, (1, 25) if number % 2 else (25, 1))
        anchors = motion(blurred, pose, stamp)
    assert len(anchors) == 0 and motion.reason.startswith('tracks are too uncertain')


def test_tracks_that_two_frames_have_seen_are_less_sure():
    """A quarter of them is wrong by more than 20 %: nothing checks what they found."""
    frames = walk()[:8]
    found = []
    for unchecked in (0.0, 0.1):
        motion = MotionAnchors(CAMERA, MotionSettings(unchecked_sd=unchecked))
        found = [*found, *([motion(gray, pose, stamp) for gray, _, pose, stamp in frames][-1:])]
    before, after = (anchors.sigma / anchors.depth for anchors in found)
    new = after > before + 1e-4
    assert 5 < np.count_nonzero(new) < len(new) / 2 and after[new].min() > 0.1


def test_a_jump_starts_anew():
    frames = walk()[:4]

    def jump(number, pose):
        moved = pose.copy()
        moved[0, 3] += 5 * (number == 3)
        return moved
    motion, anchors, _ = follow(frames, jump)
    assert len(anchors) == 0 and motion.reason.startswith('the pose jumped by ')


def test_other_sizes_and_broken_poses_are_refused():
    motion = MotionAnchors(CAMERA)
    with pytest.raises(ValueError, match='640×480'):
        motion(np.zeros((480, 640), np.uint8), np.eye(4), 0.0)
    with pytest.raises(ValueError, match='finite'):
        motion(np.zeros((240, 320), np.uint8), np.full((4, 4), np.nan), 0.0)


def test_an_image_without_corners_gives_none():
    motion = MotionAnchors(CAMERA)
    for number in range(3):
        pose = np.eye(4)
        pose[0, 3] = 0.05 * number
        anchors = motion(np.full((240, 320), 90, np.uint8), pose, 0.1 * number)
    assert len(anchors) == 0 and motion.note == 'nothing to track'


def test_a_frame_takes_little_time():
    motion, seconds = MotionAnchors(CAMERA), []
    for gray, _, pose, stamp in walk():
        start = time.thread_time()
        motion(gray, pose, stamp)
        seconds.append(time.thread_time() - start)
    assert np.median(seconds) < 0.05  # 4 ms, on a core of its own


@pytest.mark.parametrize('change', [twice_too_long, other_frame])
def test_wrong_odometry_leaves_depth_as_it_is_alone(change):
    corrector = AnchorCorrector(['motion'], lookup=lambda *names: placed)
    for number, (gray, depth, pose, stamp) in enumerate(walk()[:8]):
        placed = PlacedPose(np.linalg.inv(change(number, pose)), '', '')
        corrected = corrector.correct(depth, ImageInfo(round(1e9 * stamp), 'camera', CAMERA, gray),
                                      AnchorSettings())
    source = corrector.sources['motion']
    assert 'odometry is probably too long' in source.trouble or 'the image ' in source.trouble
    np.testing.assert_array_equal(corrected.depth, depth)


def test_turning_about_an_axis_beside_the_camera_gives_no_anchors():
    """So little parallax made depth too near, by noise: δ1 0.89 instead of 0.95."""
    room, motion, count = Room(660), MotionAnchors(CAMERA), 0
    for number in range(24):
        yaw = 1 + 0.05 * number
        eye = [*(room.size[:2] / 2 + 0.08 * np.array([np.cos(yaw), np.sin(yaw)])), 1.2]
        pose = upright_camera_pose(eye, yaw, -0.15)
        rgb, _ = room.render(CAMERA, pose)
        count += len(motion(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), pose, 0.1 * number))
    assert count == 0 and motion.note == 'too little parallax yet'


@functools.cache
def swaying_walk(rate, frames, speed=1.0):
    """(gray, true depth, pose) of frames along a wall, of a camera that turns to and fro."""
    rng, metre = np.random.default_rng(0), 100  # texels
    wall = sum(cv2.resize(rng.uniform(0, 100 / scale ** 0.5, (700 // scale, 1000 // scale)),
                          (1000, 700), interpolation=cv2.INTER_CUBIC) for scale in (4, 10, 25))
    wall = np.clip(wall + 60, 0, 255).astype(np.uint8)
    texels = np.array([[metre, 0, 400], [0, metre, 350], [0, 0, 1.0]])  # of x, y at z = 0
    camera = np.array([[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]])
    v, u = np.mgrid[:CAMERA.height, :CAMERA.width]
    rays = np.stack((u, v, np.ones_like(u)), -1) @ np.linalg.inv(camera).T
    out = []
    for t in np.arange(frames) / rate:
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(np.array(
            [0.05 * np.sin(8 * speed * t), 0.12 * np.sin(5.5 * speed * t), 0]))[0]
        pose[:3, 3] = 0.3 * t, 0, -2.5
        seen = camera @ np.linalg.inv(pose)[:3, [0, 1, 3]] @ np.linalg.inv(texels)
        gray = cv2.warpPerspective(wall, seen, (CAMERA.width, CAMERA.height))
        depth = 2.5 / (rays @ pose[2, :3])
        out.append((gray, depth.astype(np.float32), pose))
    return out


@pytest.mark.parametrize('late', [1, 0])  # frames
def test_late_odometry_is_named_and_taken_as_it_was(late):
    corrector = AnchorCorrector(['motion'], lookup=lambda *names: placed)
    frames = swaying_walk(10, 32)
    for number, (gray, depth, _) in enumerate(frames):
        placed = PlacedPose(np.linalg.inv(frames[max(0, number - late)][2]), '', '')
        corrected = corrector.correct(
            depth, ImageInfo(round(1e8 * number), 'camera', CAMERA, gray), AnchorSettings())
    source = corrector.sources['motion']
    assert source.motion.delay == pytest.approx(0.1 * late, abs=0.02)
    assert ('odometry lags the images by 0.10 s' in source.warning) == bool(late)
    assert ('not in the poses of other sensors' in source.warning) == bool(late)
    assert not source.trouble and len(corrected.anchors) > 50
    assert abs(np.median(off(corrected.anchors, depth))) < 0.05


def test_steps_are_filled_anew_until_late_odometry_has_come():
    """Only the last three were: after a delay of 4 frames older ones stayed extrapolated."""
    motion = MotionAnchors(CAMERA, MotionSettings(keyframe_move=0.014, keyframe_turn=1.0))
    frames = swaying_walk(15, 60, 0.6)
    for number, (gray, _, _) in enumerate(frames):
        motion(gray, frames[max(0, number - 4)][2], number / 15)
    assert motion.delay == pytest.approx(4 / 15, abs=0.01)
    at = [round(15 * stamp) for stamp in motion._stamps]
    known = [step for step in zip(at, at[1:], motion._frames.steps) if step[1] < 60 - 5]
    assert len(known) > 4
    for start, end, step in known:
        error = step[:3, :3].T @ frames[start][2][:3, :3].T @ frames[end][2][:3, :3]
        assert np.rad2deg(np.linalg.norm(cv2.Rodrigues(error)[0])) < 0.1


@pytest.mark.parametrize('noise', [0, 5e-5, 1e-3])  # metres
def test_very_late_odometry_gives_right_depth_once_that_is_known(noise):
    """The wrong scale of before stayed: all depths were wrong, by six times. Then the noise of
    odometry that stood was taken for its scale: tracks were lost, and the delay was not found."""
    rng = np.random.default_rng(0)
    motion, frames, wrong, right = MotionAnchors(CAMERA), swaying_walk(30, 80), 0, 0
    for number, (gray, depth, _) in enumerate(frames):
        pose = frames[max(0, number - 8)][2].copy()
        pose[:3, 3] += rng.normal(0, noise, 3)
        anchors = motion(gray, pose, number / 30)
        if len(anchors):
            error = abs(np.median(off(anchors, depth)))
            wrong, right = wrong + (error > 0.1), right + (error <= 0.1)
    assert motion.delay == pytest.approx(8 / 30, abs=0.01) and right > 20 and not wrong


def test_what_all_tracks_have_in_common_is_in_the_uncertainty():
    corrector = AnchorCorrector(['motion'], lookup=lambda *names: placed)
    for gray, depth, pose, stamp in walk()[:8]:
        placed = PlacedPose(np.linalg.inv(pose), '', '')
        completion = corrector.correct(
            depth, ImageInfo(round(1e9 * stamp), 'camera', CAMERA, gray), AnchorSettings()
        ).completion
    common = corrector.sources['motion'].motion.common_sd
    assert 0.03 < common < 0.2
    assert (completion.sigma >= common * completion.depth).all()
