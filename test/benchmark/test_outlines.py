"""Points at outlines: what counts as in the air, near, thin and kept."""

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.benchmark.outlines import hanging, score, see


@pytest.fixture
def truth():
    """A box and a pole at 1.5 m before a wall at 3 m."""
    depth = np.full((120, 160), 3.0, np.float32)
    depth[40:90, 20:70] = 1.5
    depth[:, 110:114] = 1.5
    return depth


def test_surfaces_are_not_in_the_air_whatever_their_scale(truth):
    for scale in (1.0, 1.3):
        view = see(truth, scale * truth)
        assert not np.any(hanging(view, view.depth))
        between = np.full_like(truth, 2.1 * scale)
        in_air, in_front = (points.sum() for points in hanging(view, between))
        assert in_air > 0.9 * view.outline.sum() > 1000 > 600 > in_front
        in_air, in_front = hanging(view, np.full_like(truth, 1.3 * scale))
        assert not in_air.any() and np.array_equal(in_front, view.outline)


def test_near_pixels_and_thin_parts_are_counted(truth):
    view = see(truth, truth)
    assert view.near[60, 22] and not view.near[60, 72] and not view.near[60, 45]
    assert view.thin[60, 111] and not view.thin[60, 22]
    lost = np.where(np.arange(160) >= 100, np.float32(np.nan), truth)
    figures = score([view], [lost])
    assert figures['thin parts kept'] < 0.2  # the box's corners count as thin
    assert 0 < figures['near pixels kept'] < 1
    behind = np.where(view.near, np.float32(2.9), truth)
    figures = score([view], [behind])
    assert (figures['near pixels kept'], figures['near pixels kept at their depth']) == (1, 0)
    of_a_near_object = np.where(view.near, np.float32(2.1), truth)
    figures = score([view], [of_a_near_object])
    assert figures['in the air, a frame'] > 500
    assert figures['of these not of near objects'] == 0


def test_a_blurred_outline_hangs_in_the_air(truth):
    blurred = cv2.GaussianBlur(truth, (0, 0), 3)
    figures = score([see(truth, blurred)], [blurred])
    assert figures['in the air, a frame'] > 300
