"""Dense depth that agrees with a few distances that were measured: anchors.

Where the network is wrong, its error is smooth: a whole picture too near, a wall that is tilted, an
object. So the logarithm of measured / predicted depth is taken for a Gaussian process (Rasmussen
and Williams 2006, chapter 2) over column, row and predicted log depth. Its covariance was fitted so
that anchors of one part of real and rendered pictures predict the network's error in the rest; the
term that counts most says that what stands in the same column at the same predicted depth has the
same error: above and below a lidar's plane that is the same thing. Outliers lose their weight by
what the other anchors predict in their place. What the process predicts is made as far as it is
large against the doubt in it, since what anchors say of a chair does not hold for the wall.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from hybrid_depth_ros.anchors import gaussian_process as gp
from hybrid_depth_ros.anchors.smoothing import State, carry, median
from hybrid_depth_ros.anchors.types import Anchors

# Doubt in a correction is DAMPING of its variance, with UNSEEN_SD more at a depth that no share of
# the anchors has. Where little is known (a variance of LITTLE) its natural logarithm grows by
# ASUNDER for the standard deviation of all anchors' log ratios: where they differ among themselves,
# they say little of the rest. Unless they agree within AGREE and COMMON of what all of them say, it
# grows by STRANGE too, and by APART for the distance in log depth from the anchors of the column.
DAMPING, UNSEEN_SD, UNSEEN = 0.07, 0.128, 0.09
ASUNDER, AGREE, COMMON, STRANGE, APART, LITTLE = 11.0, 0.03, 0.25, 1.4, 3.5, 0.02
BESIDE_U, BESIDE_V = 0.05, 0.3  # how near anchors are to be of a place's column, in sides
GRID = 48            # cells along the longer side, in which the correction is computed
SOME = 8             # every so many cells the process's variance is computed
FINE = 32            # cells along that side in which anchors are gathered for the fit, or fewer,
KNOTS, SPARSE, DENSE = 40, 224, 400  # for SPARSE of them at most; above DENSE anchors, KNOTS
THIN = 6000          # anchors that are fitted; all are judged
BAND = 0.15          # anchors beside each other agree within this, in log depth
STUDENT = 3.0        # degrees of freedom of the noise: how soon an anchor loses weight
FAR = 3.0            # standard deviations from which on it has nearly none
REJECT = 0.2         # log depth off the correction from which an anchor counts as rejected
ROUNDS = 3           # one less where MANY anchors make a knot: their median has met outliers before
MANY = 3
LEVELS = 32          # of log depth, for which what depends on it alone is computed


@dataclass(frozen=True)
class Anchored:
    """Corrected depth, and how far to trust it.

    depth: float32 H×W metres; unknown stays unknown. used: bool for each anchor. usable: bool,
    those that lie in the picture on known depth; ``rejected`` counts those of them that are not
    used. residuals: float32 for each anchor, log of measured / corrected depth, NaN where not
    usable; spread: the standard deviation of the used ones' (robust; NaN where there are none),
    a share of depth. scale: what depth was multiplied by, in the middle (median). state: for the
    next frame's `previous`.
    """

    depth: np.ndarray
    used: np.ndarray
    usable: np.ndarray
    residuals: np.ndarray
    scale: float
    spread: float
    state: State

    @property
    def rejected(self):
        """How many usable anchors are not used."""
        return int(np.count_nonzero(self.usable) - np.count_nonzero(self.used))


def anchored(depth, anchors, previous=None, *, stamp=None, time_constant=0.5, smooth=False):
    """Depth, corrected so that it agrees with anchors.

    depth: float32 H×W metres; NaN, inf and what is not above 0 is unknown. anchors: Anchors, or
    None. previous: the result for the same camera's last frame, or its ``state``; None: there is
    none. stamp: seconds, of the picture; None: 0.1 s after the last. time_constant: seconds over
    which few anchors are averaged, and over twice which scale is where `smooth` asks for it and no
    anchor gives it; 0: each frame is by itself. Returns :class:`Anchored`. Raises ValueError where
    depth is not a 2-D array, or anchors are none.
    """
    if not (isinstance(depth, np.ndarray) and depth.ndim == 2 and depth.size):
        raise ValueError('depth must be an array H×W and not empty, got '
                         f'{getattr(depth, "shape", type(depth).__name__)}')
    if not (anchors is None or isinstance(anchors, Anchors)):
        raise ValueError('anchors must be Anchors(u, v, depth) or None, got '
                         f'{type(anchors).__name__}')
    height, width = depth.shape
    side = max(width, height)
    cells = _cells(width, height)
    columns, rows = cells.u.size, cells.v.size
    with np.errstate(divide='ignore', invalid='ignore'):
        seen = np.log(depth[cells.middles], dtype=np.float32)
    known = np.isfinite(seen)
    if known.all():
        level = np.float32(median(seen))
    else:
        level = np.float32(median(seen[known])) if known.any() else np.float32(0)
        seen[~known] = level
    count = 0 if anchors is None else len(anchors)
    used, usable = np.zeros(count, bool), np.zeros(count, bool)
    residuals = np.full(count, np.nan, np.float32)
    measured = None
    if count:
        usable[:] = anchors.inside(width, height)
        chosen = np.flatnonzero(usable)
        u, v, z = (values[chosen] for values in (anchors.u, anchors.v, anchors.depth))
        column, row = (np.rint(values).astype(np.int32) for values in (u, v))
        with np.errstate(divide='ignore', invalid='ignore'):
            predicted = np.log(depth[row, column], dtype=np.float32)
        good = np.isfinite(predicted)
        if not good.all():
            usable[chosen] = good
            chosen, u, v, z, column, row, predicted = (values[good] for values in (
                chosen, u, v, z, column, row, predicted))
        if chosen.size:
            ratio = np.log(z) - predicted
            share = (np.zeros_like(z) if anchors.sigma is None else anchors.sigma[chosen] / z)
            cell = (row * rows // height) * columns + column * columns // width
            u, v = ((values + np.float32(0.5)) / np.float32(side) for values in (u, v))
            measured, agrees = _correction(
                seen - level, level, cells, u, v, predicted - level, ratio, share, cell)
            used[chosen] = agrees
    field, state = carry(previous, seen, measured, np.count_nonzero(used), stamp, time_constant,
                         smooth)
    if field is None:  # nothing is known, nothing is changed
        return Anchored(depth, used, usable, residuals, 1.0, float('nan'), state)
    spread = float('nan')
    if count and chosen.size:
        residuals[chosen] = ratio - field.ravel()[cell]
        if used.any():
            spread = 1.4826 * median(np.abs(residuals[used]))
    factor = cv2.resize(np.exp(field), (width, height))
    factor *= depth
    return Anchored(factor, used, usable, residuals, float(np.exp(median(field.ravel()))), spread,
                    state)


class _Cells(NamedTuple):
    """Of a picture. middles: the pixels in their middles, to index it with. u, v: columns and rows
    in sides, 1-D float32. some: of the grid, those where variance is computed; some_u, some_v:
    their places, one after the other.
    """

    middles: tuple
    u: np.ndarray
    v: np.ndarray
    some: tuple
    some_u: np.ndarray
    some_v: np.ndarray


@functools.lru_cache(maxsize=16)
def _cells(width, height):
    side = max(width, height)
    across, down = (((np.arange(n, dtype=np.float32) + 0.5) * (size / n))
                    for size in (width, height)
                    for n in (max(1, round(GRID * size / side)) if side > GRID else size,))
    u, v = (places / np.float32(side) for places in (across, down))
    step = SOME if min(u.size, v.size) >= 2 * SOME else 1
    some = np.s_[step // 2::step, step // 2::step]
    some_u, some_v = np.meshgrid(u[some[1]], v[some[0]])
    return _Cells(np.ix_(down.astype(np.int32), across.astype(np.int32)), u, v, some,
                  some_u.ravel(), some_v.ravel())


def _front(seen):
    """How far each cell stands before what is beside it, in log depth: float32 rows×columns."""
    soft = cv2.GaussianBlur(seen, (0, 0), 1.2)
    beside = cv2.morphologyEx(soft, cv2.MORPH_CLOSE, np.ones((1, 25), np.uint8))
    return np.clip(beside - soft, 0, 0.7)


def _gathered(u, v, x, front, ratio, share, jump):
    """Anchors that lie near each other become one knot, which the median of them decides.

    Returns the knots' (u, v, x, front), log ratios, the share that agreed, and variance of the
    noise.
    """
    if u.size <= FINE:
        noise = gp.NOISE_SD ** 2 + (gp.EDGE_NOISE * jump) ** 2 + share ** 2
        return (u, v, x, front), ratio, np.ones(u.size), noise.astype(np.float64)
    for across in (FINE, 36, 32, 28, 24, 20, 18, 16, 14, 12, 11, 10, 9, 8, 7, 6, 5, 4):
        cell = (v * across).astype(np.int32) * across + (u * across).astype(np.int32)
        members = np.bincount(cell)
        if np.count_nonzero(members) <= (SPARSE if u.size <= DENSE else KNOTS):
            break
    cell = (np.cumsum(members > 0, dtype=np.int32) - 1)[cell]
    members = members[members > 0]
    order = (cell << 16) | ((ratio + 8) * 4096).clip(0, 65535).astype(np.int32)
    order.sort()
    middle = (order[np.cumsum(members) - members + (members - 1) // 2] & 65535) / 4096 - 8
    agrees = np.abs(ratio - middle[cell].astype(np.float32)) < BAND
    weights = agrees / (1 + (share / gp.NOISE_SD) ** 2) + np.float32(1e-6)
    total = np.bincount(cell, weights)
    mean = [np.bincount(cell, weights * values) / total
            for values in (u, v, x, front, ratio, jump, share)]
    agreed = np.maximum(np.bincount(cell, agrees), 1)
    noise = ((gp.NOISE_SD ** 2 + mean[6] ** 2) * (0.3 + 0.7 / agreed)
             + (gp.EDGE_NOISE * mean[5]) ** 2)
    return tuple(values.astype(np.float32) for values in mean[:4]), mean[4], agreed / members, noise


def _correction(seen, level, cells, u, v, x, ratio, share, cell):
    """The field of log corrections and which anchors agree with it.

    seen: float32 rows×columns, log depth in the _Cells about its median, level. u, v, x, ratio,
    share, cell: 1-D, of the anchors: place in sides, log predicted depth as `seen`, log of
    measured / predicted, standard deviation as a share, cell of the grid.
    """
    window = np.ones((5, 5), np.uint8)
    jump = cv2.morphologyEx(seen, cv2.MORPH_GRADIENT, window).ravel()[cell]
    front = _front(seen)
    grid = (cells.u, cells.v, seen, front, gp.nearness(seen, level))
    thin = slice(None, None, -(-u.size // THIN))
    knots, values, share_agreed, noise = _gathered(*(
        a[thin] for a in (u, v, x, front.ravel()[cell], ratio, share, jump)))
    middle = median(values)
    offset = gp.offset_variance(middle)
    coarse = (cells.some_u, cells.some_v, seen[cells.some].ravel(), front[cells.some].ravel())
    # the knots, and behind them the cells where variance is computed
    places = gp.places(*map(np.concatenate, zip(knots, coarse)), level)
    knots, coarse = ([values[part] for values in places]
                     for part in (slice(values.size), slice(values.size, None)))
    covariances = gp.covariance(places, knots, offset)
    covariance = covariances[:values.size].astype(np.float64)
    width = max(0.15, 1.5 * median(np.abs(values - middle)))
    weights = share_agreed * np.maximum(1 / (1 + ((values - middle) / width) ** 2),
                                        _support(values, covariance - offset) ** 2)
    rounds = ROUNDS - (ratio[thin].size >= MANY * values.size)
    for turn in range(rounds):
        noisy = covariance.copy()
        noisy.ravel()[::values.size + 1] += noise / weights
        inverse = gp.inverse(noisy)
        solution = np.einsum('ij,j->i', inverse, values)
        if turn == rounds - 1:
            break
        # what the others predict in an anchor's place (Rasmussen and Williams, 5.4.2)
        own = inverse.diagonal()
        uncertainty = np.maximum(1 / own - noise / weights, 0) + noise
        off = (solution / own) ** 2 / uncertainty
        weights = share_agreed * np.minimum(1, (STUDENT + 1) / (STUDENT + off))
        weights[off > FAR ** 2] *= 0.02
        weights = np.maximum(weights, 1e-4)
    field = gp.mean(grid, knots, solution, offset)
    off = ratio - field.ravel()[cell]
    agrees = np.abs(off) < REJECT + 2 * share
    # as Wiener's filter: far from all anchors only a correction that is large against its doubt
    variance = gp.variance(coarse, covariances[values.size:], inverse, offset)
    doubt = _doubt(grid, knots, values, weights / noise,
                   cv2.resize(variance.reshape(seen[cells.some].shape), seen.shape[::-1]))
    square = field * field
    doubt += square
    doubt += np.float32(1e-12)
    field *= square
    field /= doubt
    field += _detail(off, agrees / (1 + (jump / 0.1) ** 2 + (share / gp.NOISE_SD) ** 2), cell,
                     seen.shape)
    return field, agrees


def _support(values, covariance):
    """Which share of the anchors that are like each one, by their covariance, agrees with it."""
    alike = np.maximum(covariance, 0)
    alike *= alike
    np.fill_diagonal(alike, 0)
    agrees = np.abs(np.subtract.outer(values, values)) < BAND
    return (alike * agrees).sum(1) / (alike.sum(1) + 1e-9)


def _doubt(grid, knots, values, surety, variance):
    """How far not to trust the process's mean, as a variance: float32 rows×columns.

    values, surety: of the knots, log ratios and what each of them counts. variance: of the process.
    """
    u, v, x = grid[:3]
    surety = (surety / surety.sum()).astype(np.float32)
    middle = float(surety @ values)
    spread = float(np.sqrt(surety @ (values - middle) ** 2))
    levels, below, between = gp.among_levels(x, *gp.ends(x), LEVELS)
    layer = gp.rbf(levels, knots[2], gp.COLUMN_X).mean(1)
    unseen = (UNSEEN_SD / (1 + layer / UNSEEN)) ** 2
    doubt = np.diff(unseen)[below]
    doubt *= between
    doubt += unseen[below]
    doubt += variance
    across, down = (gp.rbf(side[1::2] if side.size > 1 else side, place, length)
                    for side, place, length in ((u, knots[0], BESIDE_U), (v, knots[1], BESIDE_V)))
    down *= surety
    beside = (down * knots[2]) @ across.T
    beside /= down @ across.T
    apart = np.abs(x - cv2.resize(beside, x.shape[::-1]))
    apart *= np.float32(APART)
    apart += np.float32(STRANGE)
    apart *= np.float32(min(1.0, spread / (AGREE + COMMON * abs(middle))))
    apart += np.float32(ASUNDER * spread)
    apart *= np.minimum(variance * np.float32(1 / LITTLE), 1)
    apart += np.float32(np.log(DAMPING))
    doubt *= np.exp(apart)
    return doubt


def _detail(off, weights, cell, shape):
    """What anchors still say in their own cells, blurred: by normalised convolution."""
    sums = np.empty((*shape, 2), np.float32)
    for number, values in enumerate((weights * off, weights)):
        sums[..., number] = np.bincount(cell, values, shape[0] * shape[1]).reshape(shape)
    sums = cv2.GaussianBlur(sums, (7, 7), 1.2, borderType=cv2.BORDER_CONSTANT)
    return sums[..., 0] / (sums[..., 1] + np.float32(1.5 / (2 * np.pi * 1.2 ** 2)))
