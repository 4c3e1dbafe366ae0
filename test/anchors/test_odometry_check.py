"""How far depth by motion is followed beside the network's."""

import numpy as np

from hybrid_depth_ros.anchors.odometry_check import OdometryCheck, moved_to_their_side, weighed
from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics

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


def test_a_scale_of_which_nothing_is_known_changes_nothing():
    assert 0.98 < median_ratio(weighed(tracks(0.8, 0.15), DEPTH, np.inf)) < 1.02


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


def test_tracks_at_an_outline_go_to_the_side_that_they_follow():
    """Half of the tracks beside outlines had the depth of the other side: floors turned into
    obstacles."""
    all_too_far = tracks(0.8, 0.05)
    u, v = (np.append(values, [more]) for values, more in ((all_too_far.u, [42, 37, 37, 60]),
                                                           (all_too_far.v, [32, 22, 42, 32])))
    z = np.append(all_too_far.depth, 0.8 * np.array([2, 2, 3, 2]))
    moved = moved_to_their_side(Anchors(u, v, z, 0.05 * z), DEPTH, 6.0)
    np.testing.assert_array_equal(moved.depth, z.astype(np.float32))
    beyond, right, before, alone = moved.u[-4:]
    assert 36 <= beyond < 40 and right == 37 and 40 <= before <= 43
    assert alone == 60  # no outline is near: a thing that the network does not see
    away = np.abs(all_too_far.u - 39.5) > 6
    np.testing.assert_array_equal(moved.u[:-4][away], all_too_far.u[away])


def test_outlines_are_left_where_nothing_tells_their_side():
    few = Anchors(np.array([42.0]), np.array([32.0]), np.array([2.0]), np.array([0.1]))
    assert moved_to_their_side(few, DEPTH, 6.0) is few
    unknown = np.full_like(DEPTH, np.nan)
    assert moved_to_their_side(few, unknown, 6.0) is few


CAMERA = Intrinsics(80, 60, 70, 70, 39.5, 29.5)


def told(ratio, others=None, height=None, frames=4):
    check = OdometryCheck()
    floor = height and (CAMERA, height, np.array([0.0, 1, 0]))
    return [check.add(tracks(ratio, 0.1), DEPTH, others or {}, floor)
            for _ in range(frames)][-1]


def test_odometry_that_is_right_is_believed():
    assert told(0.5) == told(1.2) == told(0.9, {'scan': tracks(1, 0.0)}, 0.7) == ''


def test_depth_far_beyond_the_networks_is_named():
    assert "2 times the network's: odometry is probably too long" in told(2.0)


def test_depth_far_before_the_networks_is_named():
    assert "0.1 times the network's: odometry is probably of another frame" in told(0.1)


def test_another_sensor_tells_odometry_that_is_twice_too_long_from_a_network_that_sees_too_far():
    # the network sees all 1.6 times too far
    assert told(2 / 1.6) == ''
    said = told(2 / 1.6, {'scan': tracks(1 / 1.6, 0.0)})
    assert said.startswith('depth by motion is 2 times that by scan: odometry is probably too long')
    assert 'too short' in told(0.5, {'points': tracks(1.0, 0.0)})


def test_the_cameras_height_tells_it_too():
    assert 'of the tracks lie far below the floor, which is 0.7 m' in told(1.45, height=0.7)
