"""The floor as a source of anchors."""

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.anchors import anchored
from hybrid_depth_ros.anchors.floor import down_from_pitch, find_floor
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import Room

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)
NAN = float('nan')


def view(seed, seconds, height, pitch=11.0):
    """What a camera at this height sees: rgb, depth."""
    room = Room(seed)
    pose = room.camera_pose(seconds)
    yaw, pitch = np.arctan2(pose[1, 2], pose[0, 2]), -np.deg2rad(pitch)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    pose[:3, :3] = np.column_stack((right, np.cross(forward, right), forward))
    pose[2, 3] = height
    return room.render(CAMERA, pose)


@pytest.mark.parametrize('height', [0.35, 0.7, 1.0, 1.4])
def test_the_floor_gives_the_scale_back(height):
    truth = view(11, 12, height)[1]
    scale = 1.6 * max(height, 0.6) / height  # a network that takes the camera for a person's eye
    seen = cv2.GaussianBlur(truth, (0, 0), 5) * np.float32(scale)
    floor = find_floor(seen, CAMERA, height, down_from_pitch(11))
    assert not floor.reason
    assert floor.height == pytest.approx(scale * height, rel=0.08)
    on = truth[floor.anchors.v.astype(int), floor.anchors.u.astype(int)]
    assert np.median(np.abs(floor.anchors.depth / on - 1)) < 0.04
    result = anchored(seen, floor.anchors)
    assert np.median(result.depth / truth) == pytest.approx(1, abs=0.15)


def test_a_table_is_not_the_floor():
    rows = np.arange(480, dtype=np.float32)[:, None]
    slope = np.maximum((rows - CAMERA.cy) / CAMERA.fy, 1e-4)
    table = np.broadcast_to(np.minimum(0.6 / slope, 2.5), (480, 640)).astype(np.float32)
    seen = find_floor(table, CAMERA, 1.4, [0, 1, 0])  # 0.6 m below a camera that is 1.4 m high
    assert len(seen.anchors) == 0 and '0.6' in seen.reason and 'none fits' in seen.reason
    assert not find_floor(table, CAMERA, 0.6, [0, 1, 0]).reason
    seat = np.broadcast_to(np.minimum(1.03 / slope, 2.5), (480, 640)).astype(np.float32)
    assert 'none fits' in find_floor(seat, CAMERA, 1.4, [0, 1, 0]).reason
    assert not find_floor(seat, CAMERA, 1.2, [0, 1, 0]).reason
    both = table.copy()
    both[:, :400] = np.minimum(1.4 / slope, 6)
    floor = find_floor(both, CAMERA, 1.3, [0, 1, 0])
    assert floor.height == pytest.approx(1.4, rel=0.04)
    assert floor.anchors.u.max() < 420


def test_no_floor_no_anchors():
    wall = np.full((480, 640), 2, np.float32)
    assert find_floor(wall, CAMERA, 1.2, [0, 1, 0]).reason == 'no level surface is seen'
    assert 'above' in find_floor(wall, CAMERA, 1.2, down_from_pitch(-60)).reason
    assert 'no depth' in find_floor(wall * np.float32(NAN), CAMERA, 1.2, [0, 1, 0]).reason
    for shape in ((1, 1), (2, 3), (1, 640)):
        small = CAMERA.resized(*shape[::-1])
        assert find_floor(np.ones(shape, np.float32), small, 1, [0, 1, 0]).reason
    for height, down in ((0, [0, 1, 0]), (NAN, [0, 1, 0]), (1, [0, 0, 0]), (1, [0, NAN, 1])):
        with pytest.raises(ValueError, match=r'height|gravity'):
            find_floor(wall, CAMERA, height, down)


def test_gravity_by_pitch_and_roll():
    np.testing.assert_allclose(down_from_pitch(0), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(down_from_pitch(90), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(down_from_pitch(0, 90), [1, 0, 0], atol=1e-12)
