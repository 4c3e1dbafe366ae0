"""By how much odometry is late against the images, found by how both turn.

Of a camera that turns faster and slower, the turns that the tracks show are those of odometry some
time before or after. That time is the one at which they differ least (temporal calibration by
rotation rates: Furgale et al., *Unified temporal and spatial calibration for multi-sensor systems*,
IROS 2013, for the time alone).
"""

from collections import deque
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.poses import interpolate_poses

Floats = npt.NDArray[np.float64]

MAX_DELAY = 0.3           # seconds, late or early
TRIED_BEYOND = 0.03       # seconds, else the longest delay is no minimum between others
DELAY_STEP = 0.01         # seconds between the delays that are tried
KEPT_TURNS = 60, 2.0      # as many frames at least, and as many seconds
KEPT_POSES = 128, 2.0     # likewise
MIN_FRAMES = 12           # fewest turns that are compared,
MIN_SECONDS = 0.35        # and the shortest time that they take
ESTIMATE_INTERVAL = 5, 0.15  # frames, and seconds, from one estimate to the next, at least
MIN_ERROR_RATIO = 1.6     # of the turns at other delays to those at the best one,
OTHER_DELAY = 0.1         # where others are as many seconds away or more
MAX_DIFFERENCE = 0.03     # seconds between two estimates that agree
MIN_DELAY = 0.04          # seconds, below which nothing is changed
ACCELERATION_SD = 1.0     # m/s² and rad/s², of motion beyond the last pose


def _drop_old(values: deque[Any], kept: tuple[int, float]) -> None:
    """Drop the first values that are beyond as many and as many seconds before the last."""
    while len(values) > kept[0] and values[-1][0] - values[0][0] > kept[1]:
        values.popleft()


class OdometryDelay:
    """Odometry's poses, and how late they are.

    Attributes:
        seconds: by which they are late, below 0: early; 0 where that is not known, or little.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: float | None = None  # estimate
        self.clear()

    def clear(self) -> None:
        """Forget poses, as after a gap. What is known of the delay stays."""
        self._poses: deque[tuple[float, Floats]] = deque()
        self._turns: deque[tuple[float, Floats, Floats]] = deque()
        self._added, self._estimated = 0, -np.inf

    def add(self, stamp: float, pose: Floats) -> None:
        """Take in what odometry says of a frame. stamp: seconds; pose: 4×4, camera → world."""
        self._poses.append((stamp, pose))
        _drop_old(self._poses, KEPT_POSES)

    def at(self, stamp: float) -> Floats:
        """The pose of a moment, as if odometry were in time; beyond the last, motion goes on.

        Args:
            stamp: seconds, of a frame.

        Raises:
            LookupError: there is no pose.
        """
        if not self._poses:
            raise LookupError('odometry has no pose yet')
        if not self.seconds:
            for known, pose in reversed(self._poses):
                if known == stamp:
                    return pose
        wanted = stamp + self.seconds
        stamps = [known for known, _ in self._poses]
        if len(stamps) == 1:
            return self._poses[0][1]
        after = int(np.clip(np.searchsorted(stamps, wanted), 1, len(stamps) - 1))
        (first, before), (second, then) = self._poses[after - 1], self._poses[after]
        share = (wanted - first) / (second - first)
        return np.asarray(interpolate_poses(before, then, share), np.float64)

    def knows(self, stamp: float) -> bool:
        """Whether the poses reach back to a frame's moment; beyond the last, motion goes on."""
        return bool(self._poses) and self._poses[0][0] <= min(stamp, stamp + self.seconds)

    def step(self, start: float, end: float) -> Floats:
        """4×4, how the camera moves between the moments of two frames, in the first's axes."""
        step: Floats = np.linalg.inv(self.at(start)) @ self.at(end)
        return step

    def extrapolation_sd(self, stamps: Floats) -> Floats:
        """Standard deviation of the steps between frames as far as they lie beyond the last pose.

        Args:
            stamps: N seconds.

        Returns:
            N − 1, metres and radians.
        """
        beyond = np.maximum(np.asarray(stamps) + self.seconds - self._poses[-1][0], 0)
        sd: Floats = 0.5 * ACCELERATION_SD * np.diff(beyond ** 2)
        return sd

    def compare(self, image_turn: Floats | None) -> bool:
        """Take in how the camera turned from the last frame to this one, as the tracks show.

        Args:
            image_turn: rotation vector in the last frame's axes, radians; None where they don't
                show it.

        Returns:
            Whether the delay is another one now.
        """
        if len(self._poses) < 2:
            return False
        (_, before), (stamp, pose) = self._poses[-2], self._poses[-1]
        odometry_turn = cv2.Rodrigues(np.ascontiguousarray(before[:3, :3].T @ pose[:3, :3]))[0]
        self._turns.append((stamp, odometry_turn[:, 0],
                            np.full(3, np.nan) if image_turn is None else image_turn))
        _drop_old(self._turns, KEPT_TURNS)
        self._added += 1
        if (self._added < ESTIMATE_INTERVAL[0]
                or stamp - self._estimated < ESTIMATE_INTERVAL[1]):
            return False
        self._added, self._estimated = 0, stamp
        found = estimate_delay(*(np.array(values) for values in zip(*self._turns)))
        agreed = (found is not None and self._last is not None
                  and abs(found - self._last) < MAX_DIFFERENCE)
        self._last = self._last if found is None else found
        if not agreed or found is None:
            return False
        # half of it where there is a delay, else one of this size would come and go
        least = MIN_DELAY / 2 if self.seconds else MIN_DELAY
        changed = found if abs(found) > least else 0.0
        if changed == self.seconds or (changed and abs(changed - self.seconds) < MAX_DIFFERENCE):
            return False
        self.seconds = changed
        return True


def estimate_delay(stamps: Floats, odometry_turns: Floats, image_turns: Floats) -> float | None:
    """Seconds by which odometry's turns lag behind the images'; None where turns don't tell.

    Args:
        stamps: N seconds.
        odometry_turns: N×3 rotation vectors, from the stamp before to each, radians.
        image_turns: likewise, NaN where nothing is known.
    """
    path = np.cumsum(odometry_turns, 0)
    most = MAX_DELAY + TRIED_BEYOND
    inside = np.flatnonzero((stamps[:-1] - most >= stamps[0])
                            & (stamps[1:] + most <= stamps[-1])
                            & np.isfinite(image_turns[1:]).all(1))
    if (inside.size < MIN_FRAMES
            or stamps[inside[-1] + 1] - stamps[inside[0]] < MIN_SECONDS):
        return None
    delays = np.arange(-most, most + DELAY_STEP / 2, DELAY_STEP)
    ends, starts = (stamps[inside + one] + delays[:, None] for one in (1, 0))
    turned = np.stack([np.interp(ends, stamps, path[:, axis]) - np.interp(starts, stamps,
                                                                          path[:, axis])
                       for axis in range(3)], -1)
    error = np.linalg.norm(turned - image_turns[inside + 1], axis=-1).mean(1)
    best = int(error.argmin())
    away = round(OTHER_DELAY / DELAY_STEP)
    others = np.concatenate((error[:max(best - away, 0)], error[best + away:]))
    if not 0 < best < len(error) - 1 or error[best] * MIN_ERROR_RATIO > others.min():
        return None
    left, middle, right = error[best - 1:best + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(delays[best] + DELAY_STEP * np.clip(shift, -1, 1))
