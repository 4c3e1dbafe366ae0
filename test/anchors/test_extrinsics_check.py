"""Extrinsics that are wrong are noticed by the residuals of anchors."""

import cv2
import numpy as np
import pytest
from anchor_scenes import CAMERA

from hybrid_depth_ros.anchors import Anchors
from hybrid_depth_ros.anchors.extrinsics_check import ExtrinsicsCheck
from hybrid_depth_ros.virtual_room import Room


def test_extrinsics_that_are_off_are_noticed():
    rng = np.random.default_rng(0)
    right, wrong_pose = ExtrinsicsCheck(), ExtrinsicsCheck()
    for nothing in (0, np.nan, 2):  # depth of which nothing is known, or that fits wherever it is
        wrong_pose.add(np.full((120, 160), nothing, np.float32),
                       Anchors(np.arange(20, 140), np.full(120, 60), np.full(120, 2.0)))
    room = Room(5)
    small = CAMERA.resized(160, 120)
    for number in range(60):
        truth = room.render(small, room.camera_pose(number))[1]
        u, v = np.arange(2, 158, 2), np.full(78, 60)
        seen = cv2.GaussianBlur(truth, (0, 0), 2) * np.float32(np.exp(rng.normal(0, 0.1)))
        depth = truth[v, u] * (1 + 0.01 * rng.standard_normal(u.size))
        right.add(seen, Anchors(u, v, depth))
        wrong_pose.add(seen, Anchors(u + 8, v, depth))  # 3° to the right
        if number < 40:
            assert right.shift is None and wrong_pose.shift is None
    assert right.shift is None
    assert wrong_pose.shift[0] == pytest.approx(-8 / 160, abs=0.02)
    nothing = ExtrinsicsCheck()
    nothing.add(seen, Anchors([1], [1], [1.0]))
    nothing.add(np.full((3, 3), np.nan, np.float32), Anchors(u, v, depth))
    assert nothing.shift is None
