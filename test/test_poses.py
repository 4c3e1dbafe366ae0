"""Poses of quaternions, of angles and of text."""

import numpy as np
import pytest

from hybrid_depth_ros.poses import pose_from_angles, pose_from_quaternion

OPTICAL = pose_from_angles(0, 0, 0, -np.pi / 2, 0, -np.pi / 2)  # of a camera in its body frame
NAN = float('nan')


def test_poses_follow_rep_103():
    np.testing.assert_allclose(OPTICAL[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)  # z is forward
    np.testing.assert_allclose(OPTICAL[:3, :3] @ [1, 0, 0], [0, -1, 0], atol=1e-12)  # x is right
    np.testing.assert_allclose(pose_from_quaternion((1, 2, 3), (-0.5, 0.5, -0.5, 0.5)),
                               pose_from_angles(1, 2, 3, -np.pi / 2, 0, -np.pi / 2), atol=1e-12)
    for wrong in ((0, 0, 0, 0), (NAN, 0, 0, 1)):
        with pytest.raises(ValueError, match='quaternion'):
            pose_from_quaternion((0, 0, 0), wrong)
