"""How far depth by motion is followed beside the network's."""

import numpy as np

from hybrid_depth_ros.anchors.odometry_check import weighed
from hybrid_depth_ros.anchors.types import Anchors

DEPTH = np.full((60, 80), 2.0, np.float32)
DEPTH[:, 40:] = 3.0


def tracks(ratio, sigma):
    u, v = (axis.ravel() for axis in np.meshgrid(np.arange(5, 80, 5.0), np.arange(5, 60, 5.0)))
    z = ratio * DEPTH[v.astype(int), u.astype(int)]
    return Anchors(u, v, z, sigma * z)


def median_ratio(anchors):
    return np.median(anchors.depth / DEPTH[anchors.v.astype(int), anchors.u.astype(int)])


def test_a_scale_that_is_hardly_known_changes_little():
    assert 0.93 < median_ratio(weighed(tracks(0.8, 0.15), DEPTH, 0.14)) < 1


def test_a_scale_that_is_known_is_followed():
    assert abs(median_ratio(weighed(tracks(0.5, 0.05), DEPTH, 0.04)) - 0.5) < 0.01


def test_the_common_error_is_no_reason_to_leave_details_out():
    found = weighed(tracks(0.5, 0.05), DEPTH, 0.045)
    share = found.sigma / found.depth
    at_outline = (found.u > 35) & (found.u < 45)
    assert share[~at_outline].max() < 0.025 < share[at_outline].min()


def test_unknown_depth_and_no_tracks_are_left_as_they_are():
    anchors = tracks(1.2, 0.1)
    assert weighed(anchors, np.full_like(DEPTH, np.nan), 0.05) is anchors
    none = Anchors.joined(())
    assert weighed(none, DEPTH, 0.05) is none
