"""Metres from a network that gives none: relative inverse depth, fitted to anchors.

Such a network (MiDaS: Ranftl et al., *Towards Robust Monocular Depth Estimation*, TPAMI 2022,
section 5) leaves two numbers of an image open: 1 / metres = scale · relative + shift. Two anchors
at different depths give them, more give them robustly. What is wrong from place to place after that
is :func:`hybrid_depth_ros.anchors.correction.anchored`'s, as with any network.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.smoothing import (
    DEFAULT_INTERVAL,
    MAX_GAP,
    SUFFICIENT_ANCHORS,
    median,
)
from hybrid_depth_ros.anchors.types import Anchors

MAX_FITTED = 2000  # anchors
PAIRS = 128  # of anchors, through which a line is tried (RANSAC)
NOISE = 0.05  # share of depth by which anchor and network differ where both are right
SHIFT_SD = 0.5  # prior of the shift, in medians of the anchors' inverse depth: a sky has 0
MAX_AGE = 5.0  # seconds that scale and shift are used without anchors
OTHER_SCENE = 0.3  # median share by which they miss the anchors of a scene they are not for
FARTHEST = 200.0  # metres, from which on relative depth says nothing


class ScaleShift(NamedTuple):
    """1 / metres = scale · relative + shift, of an image.

    Attributes:
        scale: 1 / metres for each unit of the network's output.
        shift: 1 / metres.
        stamp: seconds, when anchors gave it.
        used: how many of them agreed.
    """

    scale: float
    shift: float
    stamp: float
    used: int

    def metres(self, relative: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Metres of relative inverse depth; NaN where unknown or farther than ``FARTHEST``."""
        inverse = np.float32(self.scale) * relative + np.float32(self.shift)
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.where(inverse > 1 / FARTHEST, 1 / inverse, np.nan).astype(np.float32)


def fit_scale_shift(relative: npt.NDArray[np.float32], anchors: Anchors,
                    previous: ScaleShift | None = None, *, stamp: float | None = None,
                    time_constant: float = 0.5) -> tuple[npt.NDArray[np.float32], ScaleShift]:
    """Metres of relative inverse depth, by scale and shift that anchors give.

    Args:
        relative: H×W, larger is nearer; what is not finite is unknown.
        anchors: measured distances.
        previous: the fit of the same camera's last image, or None.
        stamp: seconds; None: 0.1 s after the last.
        time_constant: seconds over which fits to few anchors are averaged; 0: not.

    Returns:
        float32 H×W metres, and the fit.

    Raises:
        LookupError: no anchor lies on known depth, nor did within the last seconds.
    """
    if stamp is None:
        stamp = previous.stamp + DEFAULT_INTERVAL if previous else 0.0
    height, width = relative.shape
    there = np.flatnonzero(anchors.inside(width, height))
    there = there[::-(-there.size // MAX_FITTED) or 1]
    column, row = (np.rint(values[there]).astype(np.int32) for values in (anchors.u, anchors.v))
    seen, inverse = relative[row, column].astype(np.float64), 1 / anchors.depth[there].astype(float)
    known = np.isfinite(seen)
    seen, inverse = seen[known], inverse[known]
    passed = stamp - previous.stamp if previous else np.inf
    if not seen.size:
        if previous and 0 <= passed <= MAX_AGE:
            return previous.metres(relative), previous
        raise LookupError('the network gives no metres, and no anchor lies in the image to give '
                          'them')
    scale, shift, used = _fit(seen, inverse)
    if previous and time_constant > 0 and used < SUFFICIENT_ANCHORS and 0 < passed <= MAX_GAP:
        missed = median(np.abs((previous.scale * seen + previous.shift) / inverse - 1))
        if missed < OTHER_SCENE:
            share = np.exp(-passed / time_constant) * (1 - used / SUFFICIENT_ANCHORS)
            scale += share * (previous.scale - scale)
            shift += share * (previous.shift - shift)
    fit = ScaleShift(float(scale), float(shift), stamp, used)
    return fit.metres(relative), fit


def _fit(seen: npt.NDArray[np.float64], inverse: npt.NDArray[np.float64]
         ) -> tuple[float, float, int]:
    """Scale, shift and how many agree: of the line with the least relative error, robustly.

    Through pairs of anchors first, so that half of them may be wrong; then by least squares of
    those that agree. A weak prior on the shift decides where all anchors have one depth.
    """
    low = np.percentile(seen, 2)
    level = max(float(np.mean(np.abs(seen))), 1e-12)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, seen.size, PAIRS) for _ in range(2))
    apart = seen[first] - seen[second]
    good = np.abs(apart) > 1e-3 * level
    scales = (inverse[first] - inverse[second])[good] / apart[good]
    lines = np.stack((scales, inverse[first][good] - scales * seen[first][good]))
    typical = median(inverse)
    alone = median(inverse / np.maximum(seen, 1e-3 * level)), 0.0  # without a shift
    lines = np.concatenate((lines, np.array(alone)[:, None]), axis=1)
    # nearer must be nearer, and what is farthest of the anchors not behind all
    sensible = (lines[0] > 0) & (lines[0] * low + lines[1] > -SHIFT_SD * typical)
    lines = lines[:, sensible]
    if not lines.size:
        return float(alone[0]), 0.0, 0
    off = np.abs(np.outer(lines[0], seen) + lines[1][:, None] - inverse) / inverse
    # the shift costs little, but where nothing else tells
    cost = np.minimum(off / NOISE, 6).mean(1) + (lines[1] / (SHIFT_SD * typical)) ** 2 / seen.size
    scale, shift = lines[:, np.argmin(cost)]
    for _ in range(5):
        off = (scale * seen + shift - inverse) / inverse
        weights = 1 / (1 + (off / (2 * NOISE)) ** 2) ** 2
        sure = np.sqrt(weights) / (inverse * NOISE)
        rows = np.stack((seen * sure, sure), 1)
        rows = np.vstack((rows, [0, 1 / (SHIFT_SD * typical)]))
        target = np.append(np.sqrt(weights) / NOISE, 0)
        solved = np.linalg.lstsq(rows, target, rcond=None)[0]
        if not (np.isfinite(solved).all() and solved[0] > 0):
            break
        scale, shift = solved
    off = np.abs(scale * seen + shift - inverse) / inverse
    return float(scale), float(shift), int(np.count_nonzero(off < 4 * NOISE))
