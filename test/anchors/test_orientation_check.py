"""A sensor that is turned by many degrees, mirrored, or of another frame is withheld as a whole."""

import functools

import cv2
import numpy as np
import pytest
from sensor_messages import cloud, scan, stamped

from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.orientation_check import AverageCosts
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import POINT
from hybrid_depth_ros.poses import BODY_IN_OPTICAL, pose_from_angles, read_pose
from hybrid_depth_ros.sources import LIDAR_ANGLES, LIDAR_POSE
from hybrid_depth_ros.virtual_room import Room

CAMERA = Intrinsics.from_horizontal_fov(160, 120, 63.3)
LIDAR = read_pose(LIDAR_POSE)
TURNED = pose_from_angles(0, 0, 0, 0, 0, np.pi)
MIRRORED = np.diag([1.0, -1, 1, 1])


@functools.cache
def walk():
    """(true depth, depth as a network may see it, a lidar's ranges) of five places."""
    room, seen = Room(3), []
    for seconds in range(5, 50, 10):
        pose = room.camera_pose(seconds)
        truth = room.render(CAMERA, pose)[1]
        depth = cv2.GaussianBlur(truth, (0, 0), 1.5) * np.linspace(1.1, 1.3, 160, dtype=np.float32)
        seen.append((truth, depth, room.scan(pose @ LIDAR, LIDAR_ANGLES)))
    return seen


def corrected(kind, pose, message, frames=walk):
    """Median error of depth with anchors and without, and the source."""
    corrector, errors = AnchorCorrector([kind], [pose]), []
    for number, (truth, depth, ranges) in enumerate(frames()):
        corrector.take(kind, at(number, message(truth, ranges)))
        result = corrector.correct(depth, ImageInfo(number * 10**9, 'camera_link', CAMERA),
                                   AnchorSettings(time_constant=0)).depth
        errors.append([np.abs(seen / truth - 1).mean() for seen in (result, depth)])
    return *np.mean(errors, 0), corrector.sources[kind]


def at(second, message):
    stamped(message).header.stamp.sec = second
    return message


def lidar(truth, ranges):
    return scan(ranges, angle_min=float(LIDAR_ANGLES[0]), angle_max=float(LIDAR_ANGLES[-1]),
                angle_increment=float(LIDAR_ANGLES[1] - LIDAR_ANGLES[0]), range_max=12.0)


def camera_cloud(truth, ranges):
    """What a depth camera in the camera's place sees, in its optical frame."""
    v, u = np.mgrid[2:120:4, 2:160:4].reshape(2, -1)
    points = np.zeros(v.size, POINT)
    points['z'] = truth[v, u]
    points['x'] = (u - CAMERA.cx) / CAMERA.fx * points['z']
    points['y'] = (v - CAMERA.cy) / CAMERA.fy * points['z']
    return cloud(points)


def test_a_right_pose_is_used():
    for kind, pose, message in (('scan', LIDAR, lidar), ('points', np.eye(4), camera_cloud)):
        after, before, source = corrected(kind, pose, message)
        assert after < 0.6 * before and source.used and not source.trouble


@pytest.mark.parametrize(('move', 'said'), [
    (TURNED, 'turned by 180°'), (MIRRORED, 'mirrored'),
    (pose_from_angles(0, 0, 0, 0, 0, np.pi / 2), 'turned by -90°')])
def test_a_lidar_that_is_turned_or_mirrored_is_withheld(move, said):
    after, before, source = corrected('scan', LIDAR @ move, lidar)
    assert after < 1.02 * before and not source.used
    assert f'would agree if it were {said}' in source.trouble
    assert 'is the sensor turned or mirrored?' in source.trouble


@pytest.mark.parametrize(('move', 'said'), [
    (np.diag([-1.0, 1, 1, 1]), 'mirrored'), (BODY_IN_OPTICAL, 'none of 1200 points')])
def test_a_cloud_that_is_mirrored_or_of_another_frame_is_withheld(move, said):
    after, before, source = corrected('points', move, camera_cloud)
    assert after < 1.02 * before and not source.used and said in source.trouble


def test_it_is_used_again_once_it_is_mended():
    corrector = AnchorCorrector(['scan'], [LIDAR @ TURNED])
    source = corrector.sources['scan']
    for number in range(60):
        truth, depth, ranges = walk()[number % 5]
        corrector.take('scan', at(number, lidar(truth, ranges)))
        corrector.correct(depth, ImageInfo(number * 10**9, 'camera', CAMERA),
                          AnchorSettings(time_constant=0))
        if number == 5:
            assert source.trouble
            source.pose = LIDAR
        if source.used:
            break
    assert source.used and not source.trouble


def test_beams_that_miss_the_image_are_told_of():
    """A body frame as the image's: nothing lands in it, and nobody would know why."""
    after, before, source = corrected('scan', np.linalg.inv(BODY_IN_OPTICAL) @ LIDAR, lidar)
    assert after == before and 'none of 360 points lies in the image' in source.trouble
    assert "does the image's frame look along z" in source.trouble
    # nothing ahead is near enough: that is no fault
    after, before, source = corrected('scan', LIDAR, lambda truth, ranges: lidar(
        truth, np.where(np.abs(LIDAR_ANGLES) < 1, np.inf, ranges)))
    assert after == before and not source.trouble


def test_frames_without_a_comparison_by_chance_withhold_nobody():
    """Their mean was NaN for ever, and a cost that is not small was no better than that."""
    costs = AverageCosts(('', 'mirrored'), 'turn it')
    for by_chance in [[], [0.2], [], [0.3], [0.2], [0.3], [0.2]]:
        costs.average([0.1, 0.2], by_chance)
        assert costs.trouble == ''
    for _ in range(20):
        costs.average([0.4, 0.4], [0.3])
    assert 'no better than by chance' in costs.trouble


def test_a_network_that_sees_no_depth_judges_nobody():
    """Without depth that varies, what a lidar measures contradicts nothing."""
    flat = [(truth, np.full_like(truth, 2), ranges) for truth, _, ranges in walk()]
    assert not corrected('scan', LIDAR, lidar, lambda: flat)[2].trouble
