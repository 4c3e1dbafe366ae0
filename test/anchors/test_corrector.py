"""A camera's sources, and the depth that they correct."""

import numpy as np
import pytest
from sensor_messages import cloud, scan, sonar, stamped

from hybrid_depth_ros.anchors import corrector as corrector_module
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.anchors.sensors import scan_points
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import POINT
from hybrid_depth_ros.poses import pose_from_angles

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
        return scan_points(message)
    monkeypatch.setattr(corrector_module, 'scan_points', counted)
    corrector = AnchorCorrector(['scan'], [np.linalg.inv(OPTICAL)])
    corrector.take('scan', stamped(scan([2.5] * 11, angle_increment=0.1)))
    relative = np.tile(np.linspace(0.2, 0.9, 640, dtype=np.float32), (480, 1))
    corrected = corrector.correct(relative, ImageInfo(0, 'optical', CAMERA), AnchorSettings(),
                                  relative=True)
    assert corrected.scale_shift is not None and corrected.completion.used.any()
    assert len(decoded) == 1
