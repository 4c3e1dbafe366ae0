"""A robot's sensors in a virtual room: what each measures corrects a depth that is wrong."""

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.anchors.types import AnchorSettings, ImageInfo
from hybrid_depth_ros.benchmark.room_sensors import SensedRoom
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import Room

CAMERA = Intrinsics.from_horizontal_fov(160, 120, 70)
HEIGHT, PITCH = 0.7, 10.0


@pytest.mark.parametrize('anchor', ['scan', 'depth'])
def test_a_depth_that_is_too_large_is_corrected_by_what_is_measured(anchor):
    room = Room(5)
    pose = room.mounted_camera_pose(12.0, HEIGHT, PITCH)
    rgb, truth = room.render(CAMERA, pose)
    sensed = SensedRoom(room, anchor, PITCH)
    stamp = 3 * 10**9
    sensed.sense(pose, stamp)
    sensed.sense_depth(rgb, truth, CAMERA.fx, stamp)
    corrected = sensed.corrector.correct(
        1.25 * truth, ImageInfo(stamp, 'camera', CAMERA, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY),
                                rgb=rgb),
        AnchorSettings(camera_height=HEIGHT, camera_pitch=PITCH)).depth
    assert not sensed.corrector.sources[anchor].trouble
    assert abs(float(np.median(corrected / truth)) - 1) < 0.1
