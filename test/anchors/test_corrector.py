"""A camera's sources, and the depth that they correct."""

from types import SimpleNamespace

import numpy as np
import pytest
from sensor_messages import cloud, scan, sonar, stamped

from hybrid_depth_ros.anchors import corrector as corrector_module
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.anchors.measurements import read_scan
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import POINT
from hybrid_depth_ros.poses import PlacedPose, pose_from_angles, quaternion_from_pose

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)
OPTICAL = pose_from_angles(0, 0, 0, -np.pi / 2, 0, -np.pi / 2)  # of a camera in its body frame


@pytest.mark.parametrize('units', [1, 100, 1000])
@pytest.mark.parametrize('kind', ['scan', 'points', 'range'])
def test_other_units_than_metres_are_refused(kind, units):
    depth = np.full((480, 640), 2, np.float32)
    records = np.zeros(9, POINT)
    records['x'], records['y'] = 2.5 * units, np.linspace(-0.4, 0.4, 9) * units
    message = stamped({
        'scan': lambda: scan([2.5 * units] * 11, angle_increment=0.1, range_max=1e9),
        'points': lambda: cloud(records),
        'range': lambda: sonar(radiation_type=1, range=2.5 * units, max_range=1e9)}[kind]())
    corrector = AnchorCorrector([kind], [np.linalg.inv(OPTICAL)])
    corrector.take(kind, message)
    corrected = corrector.correct(depth, ImageInfo(0, 'optical', CAMERA), AnchorSettings()).depth
    trouble = corrector.sources[kind].trouble
    if units == 1:
        assert not trouble and corrector.sources[kind].used
        assert corrected[240, 320] == pytest.approx(2.5, rel=0.03)
    else:
        assert 'metres (REP 103)' in trouble or 'not millimetres' in trouble
        np.testing.assert_array_equal(corrected, depth)


def test_depth_of_another_size_than_its_camera_is_left_as_it_is():
    depth = np.full((240, 320), 2, np.float32)
    corrector = AnchorCorrector(['range', 'floor'], [np.linalg.inv(OPTICAL), None])
    corrector.take('range', stamped(sonar(radiation_type=1, range=2.5)))
    settings = AnchorSettings(camera_height=0.5)
    np.testing.assert_array_equal(
        corrector.correct(depth, ImageInfo(0, 'optical', CAMERA), settings).depth, depth)
    for source in corrector.sources.values():
        assert 'camera_info is of 640×480 pixels, depth of 320×240' in source.trouble
    corrector.correct(depth, ImageInfo(0, 'optical', CAMERA.resized(320, 240)), settings)
    assert not corrector.sources['range'].trouble


@pytest.mark.parametrize('roll', [-25, 0, 25])
def test_a_rolled_camera_finds_the_floor_by_its_roll(roll):
    down = down_from_pitch(20, roll)
    x, y = np.meshgrid((np.arange(640) - CAMERA.cx) / CAMERA.fx,
                       (np.arange(480) - CAMERA.cy) / CAMERA.fy)
    drop = x * down[0] + y * down[1] + down[2]
    truth = np.where(drop > 0.1, 0.5 / np.maximum(drop, 0.1), 5).astype(np.float32)

    def scale(**angles):
        corrector = AnchorCorrector(['floor'])
        corrector.correct(truth * np.float32(1.5), ImageInfo(0, 'optical', CAMERA),
                          AnchorSettings(camera_height=0.5, **angles))
        return corrector.last.completion.scale
    assert scale(camera_pitch=20, camera_roll=roll) == pytest.approx(1 / 1.5, rel=0.02)
    if roll:
        assert scale(camera_pitch=20) != pytest.approx(1 / 1.5, rel=0.02)


def test_a_message_is_decoded_once_a_frame(monkeypatch):
    """Relative depth needs its anchors twice: for scale and shift, and for the correction."""
    decoded = []

    def counted(message):
        decoded.append(message)
        return read_scan(message)
    monkeypatch.setattr(corrector_module, 'read_scan', counted)
    corrector = AnchorCorrector(['scan'], [np.linalg.inv(OPTICAL)])
    corrector.take('scan', stamped(scan([2.5] * 11, angle_increment=0.1)))
    relative = np.tile(np.linspace(0.2, 0.9, 640, dtype=np.float32), (480, 1))
    corrected = corrector.correct(relative, ImageInfo(0, 'optical', CAMERA), AnchorSettings(),
                                  relative=True)
    assert corrected.scale_shift is not None and corrected.completion.used.any()
    assert len(decoded) == 1


def turned_at(nanoseconds):
    return pose_from_angles(0, 0, 0, 0, 0, 2e-9 * nanoseconds)  # 2 rad/s


def looked_up(frame, stamp, other, other_stamp):
    """Where the lidar was, seen from the camera: both are in the middle of a robot that turns."""
    body = np.linalg.inv(turned_at(stamp)) @ turned_at(other_stamp)
    return PlacedPose(np.linalg.inv(OPTICAL) @ body @ (OPTICAL if other == frame else np.eye(4)),
                      'odom is known until 0.02 s before', '')


def odometry_at(nanoseconds):
    x, y, z, w = quaternion_from_pose(turned_at(nanoseconds))
    message = stamped(SimpleNamespace(child_frame_id='base', pose=SimpleNamespace(
        pose=SimpleNamespace(position=SimpleNamespace(x=0.0, y=0.0, z=0.0),
                             orientation=SimpleNamespace(x=x, y=y, z=z, w=w)))))
    message.header.stamp.nanosec = nanoseconds
    return message


def test_without_tf_odometry_says_how_the_robot_turned():
    forward = np.linalg.inv(OPTICAL)
    corrector = AnchorCorrector(['scan', 'motion'], [forward, forward])
    for moment in range(0, 90_000_000, 20_000_000):
        corrector.take('motion', odometry_at(moment))
    message = stamped(scan([2, 3, 2], angle_min=-0.1, angle_increment=0.1, angle_max=0.1))
    corrector.take('scan', message)
    anchors = corrector.measure(np.full((480, 640), 3, np.float32),
                                ImageInfo(10**8, 'optical', CAMERA), AnchorSettings())
    far = float(anchors.u[np.argmax(anchors.depth)])
    # it lay ahead, and the robot turned left by 0.2 rad
    assert np.arctan((far - CAMERA.cx) / CAMERA.fx) == pytest.approx(0.2, abs=0.002)


@pytest.mark.parametrize('pose', [None, np.linalg.inv(OPTICAL)])
def test_each_beam_of_a_turning_robot_is_at_its_time(pose):
    """A sweep of 0.1 s; walls of 2 and 4 m in turn, each 10° wide."""
    stamps = np.linspace(0, 1e8, 720)
    angles = np.linspace(-np.pi, np.pi, 720)
    in_room = angles + 2e-9 * stamps
    ranges = 2.0 + 2.0 * (np.floor(np.rad2deg(in_room) / 10) % 2)
    message = stamped(scan(ranges, angle_min=-np.pi, angle_max=np.pi,
                           angle_increment=2 * np.pi / 719, time_increment=0.1 / 719,
                           scan_time=0.1))
    corrector = AnchorCorrector(['scan'], [pose], looked_up)
    corrector.take('scan', message)
    image = ImageInfo(10**8, 'optical', CAMERA)
    depth = np.full((480, 640), 3, np.float32)
    anchors = corrector.measure(depth, image, AnchorSettings())
    # where the camera looks 0.1 s after the start
    direction = np.rad2deg(0.2 - np.arctan((anchors.u - CAMERA.cx) / CAMERA.fx))
    away = np.hypot(anchors.depth, anchors.depth * (anchors.u - CAMERA.cx) / CAMERA.fx)
    wanted = 2.0 + 2.0 * (np.floor(direction / 10) % 2)
    middle = np.abs((direction % 10) - 5) < 4.3  # not at the edges of walls
    np.testing.assert_allclose(away[middle], wanted[middle], rtol=0.01)
    assert corrector.sources['scan'].note == 'odom is known until 0.02 s before'


def test_fields_that_are_not_believed_are_told_of():
    corrector = AnchorCorrector(['scan', 'range'], [np.linalg.inv(OPTICAL)])
    corrector.take('scan', stamped(scan([2.5] * 21, angle_min=-30.0, angle_max=30.0,
                                        angle_increment=3.0)))
    corrector.take('range', stamped(sonar(field_of_view=15.0, range=2.5)))
    corrector.correct(np.full((480, 640), 2, np.float32), ImageInfo(0, 'optical', CAMERA),
                      AnchorSettings())
    scans, ranges = corrector.sources.values()
    assert 'taken for degrees' in scans.warning and scans.used and not scans.trouble
    assert 'field_of_view 15' in ranges.warning and not ranges.trouble


def test_one_range_is_one_doubtful_anchor():
    depth = np.full((480, 640), 2, np.float32)
    for kind, metres, least, most in ((0, 6.0, 1.0, 1.25), (0, 0.7, 0.8, 1.0), (1, 2.4, 1.1, 1.2)):
        corrector = AnchorCorrector(['range'], [np.linalg.inv(OPTICAL)])
        corrector.take('range', stamped(sonar(radiation_type=kind, range=metres, max_range=9.0)))
        corrector.correct(depth, ImageInfo(0, 'optical', CAMERA), AnchorSettings())
        assert least < corrector.last.completion.scale < most


def test_messages_without_a_stamp_are_named():
    corrector = AnchorCorrector(['scan'], [np.linalg.inv(OPTICAL)])
    corrector.take('scan', stamped(scan([2.5] * 11, angle_increment=0.1)))
    corrector.correct(np.full((480, 640), 2, np.float32), ImageInfo(10**18, 'optical', CAMERA),
                      AnchorSettings())
    assert 'carry no stamp' in corrector.sources['scan'].trouble
