"""Intrinsics and rectification."""

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.geometry import Intrinsics, Rectification


def test_intrinsics_follow_the_image():
    camera = Intrinsics(640, 480, 518.858, 519.470, 325.582, 253.736)
    half = camera.resized(320, 240)
    assert (half.fx, half.fy, half.cx, half.cy) == (259.429, 259.735, 162.791, 126.868)
    wide = Intrinsics.from_horizontal_fov(640, 480, 90)
    assert wide.fx == pytest.approx(320)
    assert (wide.cx, wide.cy) == (319.5, 239.5)


@pytest.mark.parametrize(('change', 'named'), [
    ({'fx': float('nan')}, 'fx'), ({'fy': 0.0}, 'fy'), ({'fx': -1.0}, 'fx'),
    ({'cx': float('inf')}, 'cx'), ({'cy': 1e30}, 'cy'), ({'width': 0}, 'width')])
def test_impossible_intrinsics_are_named(change, named):
    with pytest.raises(ValueError, match=named):
        Intrinsics(**{'width': 4, 'height': 4, 'fx': 1.0, 'fy': 1.0, 'cx': 2.0, 'cy': 2.0,
                      **change})


@pytest.mark.parametrize(('model', 'distortion'), [
    ('plumb_bob', [-0.25, 0.08, 0.001, -0.002, 0.0]),
    ('rational_polynomial', [0.2, -0.1, 0.001, 0.0, 0.01, 0.3, -0.1, 0.02]),
    ('equidistant', [0.02, -0.01, 0.003, 0.001])])
def test_rectified_points_lie_where_the_pinhole_sees_them(model, distortion):
    camera = Intrinsics(320, 240, 200.0, 205.0, 161.0, 118.0)
    distortion = np.array(distortion)
    corners = np.array([[60.0, 50.0], [250.0, 60.0], [70.0, 190.0], [240.0, 180.0], [160.0, 120.0]])
    project = cv2.fisheye.distortPoints if model == 'equidistant' else None
    rays = (corners - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    if project:
        raw = project(rays[:, None], camera.matrix, distortion)[:, 0]
    else:
        raw = cv2.projectPoints(np.column_stack([rays, np.ones(5)]), np.zeros(3), np.zeros(3),
                                camera.matrix, distortion)[0][:, 0]
    picture = np.zeros((240, 320, 3), np.uint8)
    yy, xx = np.mgrid[:240, :320]
    for u, v in raw:
        blob = 255 * np.exp(-((xx - u) ** 2 + (yy - v) ** 2) / 8)
        picture = np.maximum(picture, blob[..., None].astype(np.uint8))
    straight = Rectification(camera, camera, model, distortion).apply(picture)[..., 0].astype(float)
    for u, v in corners:
        window = np.s_[int(v) - 7:int(v) + 8, int(u) - 7:int(u) + 8]
        weights = straight[window]
        assert (xx[window] * weights).sum() / weights.sum() == pytest.approx(u, abs=0.3)
        assert (yy[window] * weights).sum() / weights.sum() == pytest.approx(v, abs=0.3)


def test_what_the_camera_did_not_see_is_known():
    camera = Intrinsics(64, 48, 50.0, 50.0, 31.5, 23.5)
    wider = Intrinsics(64, 48, 25.0, 25.0, 31.5, 23.5)
    unseen = Rectification(camera, wider, 'plumb_bob', np.zeros(5)).unseen
    assert unseen[0, 0]
    assert not unseen[24, 32]
    assert unseen.mean() == pytest.approx(0.75, abs=0.03)
    with pytest.raises(ValueError, match='ftheta'):
        Rectification(camera, camera, 'ftheta', [0.1])
    with pytest.raises(ValueError, match='finite'):
        Rectification(camera, camera, 'plumb_bob', [float('nan')] * 5)
