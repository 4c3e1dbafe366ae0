"""By how much odometry is late against the images, found by how both turn.

Of a camera that turns faster and slower, the turns that the tracks show are those of odometry some
time before or after. That time is the one at which they differ least (temporal calibration by
rotation rates: Furgale et al., *Unified temporal and spatial calibration for multi-sensor systems*,
IROS 2013, for the time alone).
"""

from collections import deque

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.poses import interpolate_poses

Floats = npt.NDArray[np.float64]

MOST = 0.3          # seconds, late or early
STEP = 0.01         # seconds, between those that are tried
FRAMES = 60         # whose turns are compared
LEAST = 12          # of them, for it to say anything
EACH = 5            # frames from one estimate to the next
ASIDE, TIMES = 0.1, 1.6  # so many times worse it must be so many seconds aside
AGREE = 0.03        # seconds by which two estimates may differ
NOTICED = 0.04      # seconds, below which nothing is changed
KEPT = 128          # poses


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
        self._poses: deque[tuple[float, Floats]] = deque(maxlen=KEPT)
        self._turns: deque[tuple[float, Floats, Floats]] = deque(maxlen=FRAMES)
        self._added = 0

    def add(self, stamp: float, pose: Floats) -> None:
        """Take in what odometry says of a frame. stamp: seconds; pose: 4×4, camera → world."""
        self._poses.append((stamp, pose))

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
        """Whether the pose of a frame's moment is between two that are kept."""
        return bool(self._poses) and self._poses[0][0] <= min(stamp, stamp + self.seconds)

    def compare(self, seen: Floats | None) -> bool:
        """Take in how the camera turned from the last frame to this one, as the tracks show.

        Args:
            seen: rotation vector in the last frame's axes, radians; None where they don't show it.

        Returns:
            Whether the delay is another one now.
        """
        if len(self._poses) < 2:
            return False
        (_, before), (stamp, pose) = self._poses[-2], self._poses[-1]
        said = cv2.Rodrigues(np.ascontiguousarray(before[:3, :3].T @ pose[:3, :3]))[0][:, 0]
        self._turns.append((stamp, said, np.full(3, np.nan) if seen is None else seen))
        self._added += 1
        if self._added % EACH:
            return False
        found = estimate_delay(*(np.array(values) for values in zip(*self._turns)))
        agreed = (found is not None and self._last is not None
                  and abs(found - self._last) < AGREE)
        self._last = self._last if found is None else found
        if not agreed or found is None:
            return False
        changed = found if abs(found) > NOTICED else 0.0
        if abs(changed - self.seconds) < AGREE:
            return False
        self.seconds = changed
        return True


def estimate_delay(stamps: Floats, said: Floats, seen: Floats) -> float | None:
    """Seconds by which turns that are said lag behind those that are seen; None: it can't be told.

    Args:
        stamps: N seconds.
        said: N×3 rotation vectors, from the stamp before to each, radians.
        seen: likewise, NaN where nothing is known.
    """
    path = np.cumsum(said, 0)
    inside = np.flatnonzero((stamps[:-1] - MOST >= stamps[0]) & (stamps[1:] + MOST <= stamps[-1])
                            & np.isfinite(seen[1:]).all(1))
    if inside.size < LEAST:
        return None
    delays = np.arange(-MOST, MOST + STEP / 2, STEP)
    ends, starts = (stamps[inside + one] + delays[:, None] for one in (1, 0))
    turned = np.stack([np.interp(ends, stamps, path[:, axis]) - np.interp(starts, stamps,
                                                                          path[:, axis])
                       for axis in range(3)], -1)
    off = np.linalg.norm(turned - seen[inside + 1], axis=-1).mean(1)
    best = int(off.argmin())
    aside = round(ASIDE / STEP)
    others = np.concatenate((off[:max(best - aside, 0)], off[best + aside:]))
    if not 0 < best < len(off) - 1 or off[best] * TIMES > others.min():
        return None
    left, middle, right = off[best - 1:best + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(delays[best] + STEP * np.clip(shift, -1, 1))
