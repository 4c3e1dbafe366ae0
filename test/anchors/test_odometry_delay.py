"""How late odometry is, by turns that are known."""

import numpy as np
import pytest

from hybrid_depth_ros.anchors import odometry_delay
from hybrid_depth_ros.anchors.odometry_delay import OdometryDelay, estimate_delay
from hybrid_depth_ros.poses import pose_from_angles

RATE = 15.0
STAMPS = np.arange(60) / RATE


def turns(stamps, delay, noise=0.0, steady=False):
    """Rotation vectors from each stamp less 1 / RATE to it, of odometry that is so late."""
    def angles(t):
        t = t - delay
        return np.stack((0.1 * np.sin(1.3 * t), 0.3 * t if steady else 0.5 * np.sin(1.7 * t),
                         0 * t), -1)
    rng = np.random.default_rng(0)
    return angles(stamps) - angles(stamps - 1 / RATE) + rng.normal(0, noise, (len(stamps), 3))


@pytest.mark.parametrize('delay', [0.0, 0.12, -0.08, 0.2, 0.3, -0.3])
def test_the_delay_is_found_by_noisy_turns(delay):
    """The longest one was not: it lay at the end of those that are tried."""
    found = estimate_delay(STAMPS, turns(STAMPS, delay), turns(STAMPS, 0, 2e-3))
    assert found == pytest.approx(delay, abs=0.02)


def test_nothing_is_said_where_turns_do_not_tell():
    """A steady turn looks the same at all times, a robot that stands at all the more."""
    steady = turns(STAMPS, 0.1, steady=True)[:, [2, 1, 2]]
    assert estimate_delay(STAMPS, steady, steady + 1e-3 * np.sin(STAMPS)[:, None]) is None
    assert estimate_delay(STAMPS, 0 * steady, 1e-3 * np.sin(steady * 1000)) is None
    lost = turns(STAMPS, 0)
    lost[10:55] = np.nan
    assert estimate_delay(STAMPS, turns(STAMPS, 0.1), lost) is None
    unlike = turns(STAMPS, 0)[::-1]
    assert estimate_delay(STAMPS, turns(STAMPS, 0.1), unlike) is None


def test_late_poses_are_taken_as_they_were_then():
    def pose(t):
        return pose_from_angles(0.3 * t, 0, 0, 0, 0, 0.5 * np.sin(1.7 * t))

    odometry, seen = OdometryDelay(), turns(STAMPS, 0)[:, [0, 2, 1]]
    seen[:, 0] = 0
    changes = 0
    for number, stamp in enumerate(STAMPS):
        odometry.add(stamp, pose(stamp - 0.1))
        changes += odometry.compare(seen[number])
        if not changes:
            np.testing.assert_array_equal(odometry.at(stamp), pose(stamp - 0.1))
    assert changes == 1 and odometry.seconds == pytest.approx(0.1, abs=0.02)
    middle = STAMPS[30]
    assert odometry.knows(middle) and not odometry.knows(middle - 60)
    for stamp in (middle, STAMPS[-1]):  # between poses, and beyond the last
        off = np.abs(odometry.at(stamp) - pose(stamp))
        assert off[:3, 3].max() < 0.02 and off[:3, :3].max() < 0.03
    odometry.clear()
    assert odometry.seconds and not odometry.knows(middle)
    with pytest.raises(LookupError):
        odometry.at(middle)


@pytest.mark.parametrize('rate', [15, 120])
def test_the_delay_is_found_at_every_rate(rate):
    """60 frames at 120 Hz are half a second, too short to try 0.3 s before and after."""
    odometry = OdometryDelay()
    for stamp in np.arange(5 * rate) / rate:
        odometry.add(stamp, pose_from_angles(0, 0, 0, 0, 0, 0.5 * np.sin(1.7 * (stamp - 0.1))))
        odometry.compare(np.array(
            [0, 0, 0.5 * np.sin(1.7 * stamp) - 0.5 * np.sin(1.7 * (stamp - 1 / rate))]))
    assert odometry.seconds == pytest.approx(0.1, abs=0.01)


def test_a_delay_near_the_least_does_not_come_and_go(monkeypatch):
    def changes(found):
        estimates = iter(found)
        monkeypatch.setattr(odometry_delay, 'estimate_delay', lambda *turns: next(estimates))
        odometry, seconds = OdometryDelay(), []
        for stamp in np.arange(5 * len(found) + 1) / 15:
            odometry.add(stamp, np.eye(4))
            if odometry.compare(None):
                seconds.append(odometry.seconds)
        return seconds
    assert changes([0.045, 0.045, 0.035, 0.035, 0.045, 0.035, 0.035]) == [0.045]
    assert changes([0.045, 0.045, 0.015, 0.015]) == [0.045, 0]
    assert changes([0.06, 0.06, 0.035, 0.029, 0.01, 0.01, 0.0]) == [0.06, 0.029, 0]
