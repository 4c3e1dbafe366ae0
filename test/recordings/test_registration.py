"""Depth of one camera in the pixels of another."""

import cv2
import numpy as np
import pytest
from small_recordings import CAMERA, HEIGHT, WIDTH

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.recordings.registration import register_depth
from hybrid_depth_ros.virtual_room import Room


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
