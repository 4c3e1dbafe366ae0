"""Images for people: what a colour means, and which panels stand side by side."""

import numpy as np

from hybrid_depth_ros.visualization import FULL_COLOUR_SHARE, colour_uncertainty, side_by_side


def test_the_brighter_the_less_sure():
    depth = np.full((2, 5), 2.0, np.float32)
    sigma = np.float32([[0.0, 0.1, 0.4, 2 * FULL_COLOUR_SHARE, np.nan]] * 2)
    brightness = colour_uncertainty(sigma, depth)[0].astype(int).sum(-1)
    assert (np.diff(brightness[:4]) > 0).all() and brightness[0] > 0 == brightness[4]
    depth[:] = 0
    assert (colour_uncertainty(sigma, depth)[:, :1] == 0).all()  # 0 / 0


def test_uncertainty_stands_beside_depth_where_there_is_any():
    rgb, depth = np.zeros((48, 64, 3), np.uint8), np.full((48, 64), 2.0, np.float32)
    plain = side_by_side(rgb, depth)
    both = side_by_side(rgb, depth, sigma=0.6 * depth)
    assert both.shape[1] - plain.shape[1] == 64
    assert (both[30:, 128:192].min(-1) > 150).all()  # 60 % is as bright as it gets
