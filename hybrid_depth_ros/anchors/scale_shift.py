"""Metres from a network that gives none: relative inverse depth, fitted to anchors.

Such a network (MiDaS: Ranftl et al., *Towards Robust Monocular Depth Estimation*, TPAMI 2022,
section 5) leaves two numbers of a picture open: 1 / metres = scale · relative + shift. Two anchors
at different depths give them, more give them robustly. What is wrong from place to place after that
is :func:`hybrid_depth_ros.anchors.correction.anchored`'s, as with any network.
"""

from typing import NamedTuple

import numpy as np

from hybrid_depth_ros.anchors.smoothing import (
    DEFAULT_INTERVAL,
    MAX_GAP,
    SUFFICIENT_ANCHORS,
    median,
)

MOST = 2000          # anchors that are fitted
PAIRS = 128          # of anchors that a line is tried through
NOISE = 0.05         # share of depth that anchor and network differ by where both are right
SHIFT_SD = 0.5       # of the shift, in medians of the anchors' inverse depth: what a sky has, 0
CARRIED = 5.0        # seconds that a line is used without anchors
OTHER_SCENE = 0.3    # median share that the last line misses anchors by, of a picture it is not for
FARTHEST = 200.0     # metres, from which on relative depth says nothing


class ScaleShift(NamedTuple):
    """1 / metres = scale · relative + shift, of a picture. stamp: seconds, when anchors gave it;
    used: how many agreed."""

    scale: float
    shift: float
    stamp: float
    used: int

    def metres(self, relative):
        """Relative inverse depth → float32 metres; NaN where it is not known or farther than
        :data:`FARTHEST`."""
        inverse = np.float32(self.scale) * relative + np.float32(self.shift)
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.where(inverse > 1 / FARTHEST, 1 / inverse, np.nan).astype(np.float32)


def fit_scale_shift(relative, anchors, previous=None, *, stamp=None, time_constant=0.5):
    """Metres of relative inverse depth, by scale and shift that anchors give.

    relative: float32 H×W, larger is nearer; what is not finite is unknown. anchors: Anchors.
    previous: the ScaleShift of the same camera's last image, or None. stamp: seconds;
    None: 0.1 s after the last. time_constant: seconds over which the lines of few anchors are
    averaged; 0: not. Returns (float32 H×W metres, ScaleShift). LookupError where no anchor lies on
    known depth, nor did within the last seconds.
    """
    if stamp is None:
        stamp = previous.stamp + DEFAULT_INTERVAL if previous else 0.0
    height, width = relative.shape
    there = np.flatnonzero(anchors.inside(width, height))
    there = there[::-(-there.size // MOST) or 1]
    column, row = (np.rint(values[there]).astype(np.int32) for values in (anchors.u, anchors.v))
    seen, inverse = relative[row, column].astype(np.float64), 1 / anchors.depth[there].astype(float)
    known = np.isfinite(seen)
    seen, inverse = seen[known], inverse[known]
    passed = stamp - previous.stamp if previous else np.inf
    if not seen.size:
        if 0 <= passed <= CARRIED:
            return previous.metres(relative), previous
        raise LookupError('the network gives no metres, and no anchor lies in the picture to give '
                          'them')
    scale, shift, used = _fit(seen, inverse)
    if time_constant > 0 and used < SUFFICIENT_ANCHORS and 0 < passed <= MAX_GAP:
        missed = median(np.abs((previous.scale * seen + previous.shift) / inverse - 1))
        if missed < OTHER_SCENE:
            share = np.exp(-passed / time_constant) * (1 - used / SUFFICIENT_ANCHORS)
            scale += share * (previous.scale - scale)
            shift += share * (previous.shift - shift)
    line = ScaleShift(float(scale), float(shift), stamp, used)
    return line.metres(relative), line


def _fit(seen, inverse):
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
        wanted = np.append(np.sqrt(weights) / NOISE, 0)
        solved = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        if not (np.isfinite(solved).all() and solved[0] > 0):
            break
        scale, shift = solved
    off = np.abs(scale * seen + shift - inverse) / inverse
    return float(scale), float(shift), int(np.count_nonzero(off < 4 * NOISE))
