"""The camera that a CameraInfo describes: intrinsics and rectification of an image."""

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from hybrid_depth_ros.calibration import intrinsics_from_camera_info, rectification_from_camera_info
from hybrid_depth_ros.geometry import Intrinsics


def camera(**changes):
    info = CameraInfo(width=640, height=480, distortion_model='plumb_bob', d=[0.0] * 5,
                      k=np.array([500.0, 0, 320, 0, 510, 240, 0, 0, 1]), r=np.eye(3).ravel(),
                      p=np.array([400.0, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0]))
    for name, value in changes.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize(('changes', 'size', 'wanted'), (
    ({}, (640, 480), (500, 510, 320, 240)),
    ({}, (320, 240), (250, 255, 160, 120)),
    ({'binning_x': 2, 'binning_y': 4}, (320, 120), (250, 127.5, 160, 60)),
    ({'binning_x': 1, 'binning_y': 1}, (640, 480), (500, 510, 320, 240)),
    ({'roi': RegionOfInterest(x_offset=100, y_offset=40, width=200, height=100)}, (200, 100),
     (500, 510, 220, 200)),
    ({'roi': RegionOfInterest(x_offset=100, y_offset=40, width=200, height=100), 'binning_x': 2,
      'binning_y': 2}, (100, 50), (250, 255, 110, 100)),
    # the window, then binning, then somebody halved the picture
    ({'roi': RegionOfInterest(x_offset=100, y_offset=40, width=200, height=100), 'binning_x': 2,
      'binning_y': 2}, (50, 25), (125, 127.5, 55, 50)),
    ({'roi': RegionOfInterest(x_offset=100, y_offset=40)}, (540, 440), (500, 510, 220, 200)),
    ({'width': 0, 'height': 0}, (320, 240), (500, 510, 320, 240)),
))
def test_camera_info_of_part_of_an_image(changes, size, wanted):
    intrinsics = intrinsics_from_camera_info(camera(**changes), *size, rectified=False)
    assert intrinsics == Intrinsics(*size, *wanted)


def test_rectified_images_have_their_own_camera():
    got = intrinsics_from_camera_info(camera(), 320, 240, rectified=True)
    assert got == Intrinsics(320, 240, 200, 205, 155, 115)
    got = intrinsics_from_camera_info(camera(p=np.zeros(12)), 640, 480, rectified=True)
    assert got == Intrinsics(640, 480, 500, 510, 320, 240)


@pytest.mark.parametrize(('changes', 'complaint'), (
    ({'k': np.zeros(9)}, 'uncalibrated'),
    ({'k': np.full(9, np.nan)}, 'fx is nan'),
    ({'k': np.array([500.0, 0, np.inf, 0, 510, 240, 0, 0, 1])}, 'cx is inf'),
    ({'k': np.array([-500.0, 0, 320, 0, 510, 240, 0, 0, 1])}, 'fx is -500'),
))
def test_camera_info_errors(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        intrinsics_from_camera_info(camera(**changes), 640, 480)

DISTORTIONS = (('plumb_bob', [-0.3, 0.1, 1e-3, -2e-3, 0.01]),
               ('rational_polynomial', [0.2, -0.1, 1e-3, 1e-3, 0.02, 0.3, -0.05, 0.01]),
               ('equidistant', [-0.02, 0.01, -0.005, 0.001]))

TILT = cv2.Rodrigues(np.array([0.01, -0.02, 0.015]))[0]


@pytest.mark.parametrize('rotation', (np.eye(3), np.zeros((3, 3)), TILT))
@pytest.mark.parametrize(('model', 'coefficients'), DISTORTIONS)
def test_rectification_agrees_with_undistorted_points(model, coefficients, rotation):
    """The map looks up, for a rectified point, the pixel that undistortPoints took it from."""
    info = camera(distortion_model=model, d=coefficients, r=rotation.ravel().astype(float))
    rectification = rectification_from_camera_info(info, 640, 480)
    assert rectification.rectified == Intrinsics(640, 480, 400, 410, 310, 230)
    turn = rotation if rotation.any() else np.eye(3)
    matrix, target = info.k.reshape(3, 3), info.p.reshape(3, 4)[:, :3]
    seen = np.stack(np.meshgrid(np.arange(140, 520, 60.0), np.arange(100, 400, 60.0)), 2)
    seen = seen.reshape(-1, 1, 2)
    undistort = (cv2.fisheye.undistortPoints if model == 'equidistant' else cv2.undistortPoints)
    wanted = undistort(seen, matrix, np.array(coefficients), R=turn, P=target)
    y, x = np.mgrid[:480, :640]
    for (u, v), (wanted_u, wanted_v) in zip(seen[:, 0], wanted[:, 0]):
        # the map between the pixels around the point
        near = (slice(round(wanted_v) - 1, round(wanted_v) + 2),
                slice(round(wanted_u) - 1, round(wanted_u) + 2))
        map_x, map_y = (m[near].astype(float) for m in rectification._maps)
        fit = np.c_[x[near].ravel() - wanted_u, y[near].ravel() - wanted_v, np.ones(9)]
        looked = [np.linalg.lstsq(fit, m.ravel(), rcond=None)[0][2] for m in (map_x, map_y)]
        assert np.hypot(looked[0] - u, looked[1] - v) < 0.05


def test_distorted_lines_are_straight_afterwards():
    coefficients = np.array([-0.3, 0.1, 1e-3, -2e-3, 0.01])
    info = camera(d=coefficients, p=np.zeros(12))
    matrix = info.k.reshape(3, 3)
    # a scene of vertical and horizontal bars, seen through the lens
    pixels = np.stack(np.meshgrid(np.arange(640.0), np.arange(480.0)), 2).reshape(-1, 1, 2)
    ideal = cv2.undistortPoints(pixels, matrix, coefficients, P=matrix).reshape(480, 640, 2)
    bars = 127.5 + 60 * np.sin(ideal[..., 0] / 20) + 60 * np.sin(ideal[..., 1] / 20)
    rectification = rectification_from_camera_info(info, 640, 480)
    straight = rectification.apply(np.repeat(np.rint(bars).astype(np.uint8)[..., None], 3, 2))
    y, x = np.mgrid[:480, :640]
    wanted = 127.5 + 60 * np.sin(x / 20) + 60 * np.sin(y / 20)
    inside = ~rectification.unseen
    inside[:2] = inside[-2:] = inside[:, :2] = inside[:, -2:] = False
    assert inside.mean() > 0.9
    assert np.abs(straight[..., 0] - wanted)[inside].max() < 2.5
    assert np.abs(bars - wanted)[inside].max() > 50


def test_rectification_follows_the_image_size():
    info = camera(d=[-0.3, 0.1, 0.0, 0.0, 0.0])
    assert rectification_from_camera_info(info, 320, 240).rectified == Intrinsics(
        320, 240, 200, 205, 155, 115)
    assert rectification_from_camera_info(camera(d=[]), 640, 480) is None


@pytest.mark.parametrize(('changes', 'complaint'), (
    ({'distortion_model': 'scaramuzza'}, "'scaramuzza' is not known"),
    ({'d': [0.1, 0.2, 0.3]}, '3 distortion coefficients'),
    ({'d': [0.1], 'distortion_model': 'equidistant'}, '1 distortion coefficients'),
    ({'d': [0.1, np.nan, 0.0, 0.0]}, 'not all finite'),
    ({'r': np.full(9, np.nan)}, 'rectification matrix'),
    ({'k': np.zeros(9)}, 'uncalibrated'),
))
def test_rectification_errors(changes, complaint):
    info = camera(**{'d': [-0.3, 0.1, 0.0, 0.0, 0.0], **changes})
    with pytest.raises(ValueError, match=complaint):
        rectification_from_camera_info(info, 640, 480)
