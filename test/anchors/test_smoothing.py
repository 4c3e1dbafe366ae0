"""A correction from frame to frame: carried on, faded, averaged, smoothed."""

import cv2
import numpy as np
import pytest
from anchor_scenes import delta1, points, scan

from hybrid_depth_ros.anchors import anchored


def flickering(rooms, rng, frames=40, sd=0.05):
    seen = rooms[0][1]
    return [seen * np.float32(np.exp(sd * rng.standard_normal())) for _ in range(frames)]


def log_scales(depths, truth):
    return np.array([np.log(np.median(depth / truth)) for depth in depths])


def test_smoothing_takes_the_flicker_without_any_anchor(rooms):
    truth = rooms[0][0]
    frames, previous, smoothed = flickering(rooms, np.random.default_rng(0)), None, []
    for number, seen in enumerate(frames):
        previous = anchored(seen, None, previous, stamp=number / 10, smooth=True)
        smoothed.append(previous.depth)
    before, after = (np.diff(log_scales(depths, truth)).std() for depths in (frames, smoothed))
    assert after < before / 2
    settled = [log_scales(depths, truth)[10:].mean() for depths in (frames, smoothed)]
    assert settled[0] == pytest.approx(settled[1], abs=0.02)
    plain = anchored(frames[1], None, anchored(frames[0], None))
    np.testing.assert_array_equal(plain.depth, frames[1])  # unless it is asked for


def parts(ratio):
    """Log scale of 12 parts of a picture."""
    return np.log(np.median(ratio.reshape(3, 40, 4, -1).swapaxes(1, 2).reshape(12, -1), axis=1))


def test_smoothing_takes_the_flicker_of_parts_too(rooms):
    truth, seen = (depth[::4, ::4] for depth in rooms[0])
    rng, previous, before, after = np.random.default_rng(0), None, [], []
    for number in range(60):
        flicker = cv2.resize(rng.normal(0, 0.01, (3, 4)).astype(np.float32), seen.shape[::-1],
                             interpolation=cv2.INTER_NEAREST)
        depth = seen * np.exp(flicker)
        previous = anchored(depth, None, previous, stamp=number / 30, smooth=True)
        before.append(parts(depth / truth))
        after.append(parts(previous.depth / truth))
    assert np.diff(after, axis=0).std() < np.diff(before, axis=0).std() / 2


@pytest.mark.parametrize('rate', (10, 30))
def test_what_moves_by_itself_is_hardly_behind(rooms, rate):
    """A person who comes nearer by 0.4 of log depth in a second, while nothing else moves."""
    seen, previous, moves = rooms[0][1][::4, ::4], None, np.s_[30:120, 60:100]
    for number in range(2 * rate):
        depth = seen.copy()
        depth[moves] *= np.float32(0.8 * np.exp(-0.4 * number / rate))
        previous = anchored(depth, None, previous, stamp=number / rate, smooth=True)
        off = np.abs(np.log(previous.depth / depth))
        assert off.max() < 0.035  # its part's 0.02, and the whole picture's


def test_smoothing_has_no_lag_behind_steady_motion_nor_at_a_cut(rooms):
    seen, previous = rooms[0][1], None
    for number in range(60):  # towards everything, at 10 % a second
        away = np.float32(np.exp(-0.01 * number))
        previous = anchored(seen * away, None, previous, stamp=number / 10, smooth=True)
    assert np.median(previous.depth / (seen * away)) == pytest.approx(1, abs=0.01)
    for other in (rooms[2][1], seen * np.float32(3)):
        cut = anchored(other, None, previous, stamp=6.0, smooth=True)
        np.testing.assert_array_equal(cut.depth, other)


@pytest.mark.parametrize('rate', (10, 30))
@pytest.mark.parametrize('speed', (0.25, 1.0))  # of log depth in a second; the second: a fast turn
def test_smoothing_soon_sees_that_motion_has_ended(rooms, speed, rate):
    seen, previous, off = rooms[0][1], None, []
    for number in range(6 * rate):
        away = np.float32(np.exp(-speed * min(number / rate, 3)))
        previous = anchored(seen * away, None, previous, stamp=number / rate, smooth=True)
        off.append(abs(np.log(np.median(previous.depth / (seen * away)))))
    assert max(off) < 0.15 * speed ** 0.5
    assert max(off[4 * rate:]) < 0.03


def test_a_correction_is_carried_and_fades(rooms):
    truth, seen = rooms[0]
    rng = np.random.default_rng(0)
    first = anchored(seen, points(truth, rng)[0], stamp=0.0)
    good = delta1(first.depth, truth)
    later, scales = first, []
    for number in range(1, 300):
        later = anchored(seen, None, later.state, stamp=number / 10)
        scales.append(later.scale)
        if number == 5:
            assert delta1(later.depth, truth) > good - 0.02
    assert scales[0] == pytest.approx(first.scale, rel=0.02)
    assert np.all(np.diff(np.abs(np.log(scales))) <= 1e-6)
    assert scales[-1] == pytest.approx(1, abs=0.01)


def test_few_anchors_are_averaged_and_many_are_taken_as_they_are(rooms):
    truth, seen = rooms[0]
    rng = np.random.default_rng(0)
    jumps = {}
    for count in (5, 100):
        alone, carried, previous = [], [], None
        for number in range(30):
            anchors = points(truth, rng, count, noise=0.05, outliers=0)[0]
            previous = anchored(seen, anchors, previous, stamp=number / 10)
            carried.append(previous.depth[::20, ::20])
            alone.append(anchored(seen, anchors).depth[::20, ::20])
        jumps[count] = [np.abs(np.diff(np.log(depths), axis=0)).mean()
                        for depths in (alone, carried)]
    assert jumps[5][1] < 0.6 * jumps[5][0]
    assert jumps[100][1] == jumps[100][0]


def test_the_state_outlives_what_clocks_do(rooms):
    truth, seen = rooms[0]
    anchors = scan(truth, np.random.default_rng(0))[0]
    alone = anchored(seen, anchors).depth
    previous = anchored(seen, anchors, stamp=100.0)
    for stamp in (99.0, 100.0, 1e9, -5.0):  # back in time, the same, far ahead
        np.testing.assert_allclose(anchored(seen, anchors, previous, stamp=stamp).depth, alone)
    np.testing.assert_allclose(
        anchored(seen, anchors, previous, stamp=100.1, time_constant=0).depth, alone)
    half = cv2.resize(seen, (320, 200))
    assert anchored(half, None, previous, stamp=100.1).scale == 1  # another camera
