"""The standard deviation of completed depth."""

import numpy as np
import pytest
from anchor_scenes import points

from hybrid_depth_ros.anchors import Anchors, anchored


def test_sigma_grows_far_from_anchors_and_at_outlines():
    seen = np.full((480, 640), 2, np.float32)
    seen[:, 320:] = 4
    result = anchored(seen, Anchors([100, 500], [240, 240], [2.0, 4.0]))
    sigma = result.sigma
    assert sigma.dtype == np.float32 and sigma.shape == seen.shape
    assert sigma[240, 100] < 0.03 and sigma[240, 500] == pytest.approx(2 * sigma[240, 100], rel=0.1)
    assert sigma[240, 100] < sigma[240, 120] < sigma[240, 150] <= sigma[240, 300]
    assert sigma[240, 319] > 0.4 > sigma[240, 280]
    assert result.sigma is sigma  # computed once


def test_sigma_is_smaller_the_more_anchors_there_are_and_says_what_is_off(rooms):
    truth, seen = rooms[0]
    rng = np.random.default_rng(0)
    means = []
    for count in (5, 50, 500):
        result = anchored(seen, points(truth, rng, count, noise=0, outliers=0)[0])
        error = np.abs(result.depth - truth)
        means.append(result.sigma.mean())
        surest = result.sigma < np.quantile(result.sigma / result.depth, 0.5) * result.depth
        assert error[surest].mean() < 0.8 * error.mean()
    assert means[0] > 1.5 * means[1] > 2 * means[2]


def test_without_an_anchor_nothing_is_said_and_unknown_depth_has_no_sigma():
    seen = np.full((60, 80), 2, np.float32)
    assert anchored(seen, None).sigma is None
    assert anchored(seen, Anchors([100], [10], [2.0])).sigma is None
    seen[:, :40] = np.nan
    sigma = anchored(seen, Anchors([60], [10], [2.0])).sigma
    assert np.isnan(sigma[:, :40]).all() and (sigma[:, 40:] > 0).all()
