"""Dense depth that agrees with a few distances that were measured: anchors.

Where the network is wrong, its error is smooth: a whole picture too near, a wall that is tilted, an
object. So the logarithm of measured / predicted depth is taken for a Gaussian process (Rasmussen
and Williams 2006, chapter 2) over column, row and predicted log depth. Its covariance was fitted so
that anchors of one part of real and rendered pictures predict the network's error in the rest; the
term that counts most says that what stands in the same column at the same predicted depth has the
same error: above and below a lidar's plane that is the same thing. Outliers lose their weight by
what the other anchors predict in their place.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hybrid_depth_ros.anchors.smoothing import State, carry

# The covariance of the log of the network's error, in parts. *_SD: its standard deviation; U, V:
# correlation lengths along columns and rows, in sides of the picture; X: along log depth.
OFFSET_SD = 0.12     # one scale for all
OFFSET_FREE, FREELY = 0.15, 10  # but a median beyond this is of other weights or another room
SLOPE_SD = 0.064     # for each unit of log depth
TILT_U, TILT_V = 0.05, 0.05  # from one side of the picture to the other
FRONT_SD = 0.108     # for each unit of log depth that something stands before what is beside it
COLUMN_SD, COLUMN_U, COLUMN_X = 0.115, 0.181, 0.297  # the same column at the same depth
SMOOTH_SD, SMOOTH_U, SMOOTH_V = 0.092, 0.39, 0.215
NEAR_SD, NEAR_U, NEAR_V, NEAR_X = 0.108, 0.051, 0.13, 0.125
NEARER, MIDDLE = 0.37, 0.9  # these three grow so much as log depth falls below this one
NOISE_SD = 0.04      # what one pixel of the network differs from those around it
EDGE_NOISE = 0.25   # and at an outline, as a share of the jump in log depth there
DAMPING = 0.4        # made is a correction whose square is well above this share of its variance,
UNSEEN_SD, UNSEEN = 0.4, 0.05  # to which this is added at a depth that no share of anchors has

GRID = 64            # cells along the longer side, in which the correction is computed
FINE = 40            # cells along that side in which anchors are gathered for the fit, or fewer,
KNOTS, SPARSE, DENSE = 40, 224, 400  # for SPARSE of them at most; above DENSE anchors, KNOTS
UNTHREADED, UNTHREADED_SIDE = 1 << 18, 112  # multiplications, and the side of a matrix to invert,
# for which OpenBLAS starts no threads: on a busy machine they take longer than the work
THIN = 6000          # anchors that are fitted; all are judged
BAND = 0.15          # anchors of one cell agree within this, in log depth
STUDENT = 3.0        # degrees of freedom of the noise: how soon an anchor loses weight
FAR = 3.0            # standard deviations from which on it has nearly none
REJECT = 0.2         # log depth off the correction from which an anchor counts as rejected
ROUNDS = 3


@dataclass(frozen=True)
class Anchors:
    """Distances that were measured, where they lie in a picture.

    u, v: columns and rows in pixels, (0, 0) the middle of the top-left one. depth: metres along
    the optical axis (REP 118). sigma: their standard deviations, metres, or None where they are
    small. 1-D arrays, stored as float32; of what can't be (not finite, depth not above 0, sigma
    below 0, outside of the picture) no use is made. Raises ValueError where lengths differ.
    """

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    sigma: np.ndarray | None = None

    def __post_init__(self):
        for name in ('u', 'v', 'depth', 'sigma'):
            given = getattr(self, name)
            if given is None and name == 'sigma':
                continue
            try:
                values = np.asarray(given, np.float32)
            except (TypeError, ValueError) as error:
                raise ValueError(f'{name} of the anchors is not an array of numbers') from error
            if values.ndim != 1 or values.size != np.size(self.u):
                raise ValueError(f'{name} of the anchors has the shape {values.shape}; u, v, depth '
                                 'and sigma must be 1-D and of one length')
            object.__setattr__(self, name, values)

    def __len__(self):
        return self.u.size

    @classmethod
    def joined(cls, parts):
        """All anchors of several Anchors, in their order."""
        parts = list(parts)
        if not parts:
            return cls(*np.empty((3, 0), np.float32))
        sigma = None if all(part.sigma is None for part in parts) else np.concatenate([
            np.zeros_like(part.u) if part.sigma is None else part.sigma for part in parts])
        return cls(*(np.concatenate([getattr(part, name) for part in parts])
                     for name in ('u', 'v', 'depth')), sigma)


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
    which few anchors are averaged, and scale where `smooth` asks for it and no anchor gives it; 0:
    each frame is by itself. Returns :class:`Anchored`. Raises ValueError where depth
    is not a 2-D array.
    """
    if not (isinstance(depth, np.ndarray) and depth.ndim == 2 and depth.size):
        raise ValueError('depth must be an array H×W and not empty, got '
                         f'{getattr(depth, "shape", type(depth).__name__)}')
    height, width = depth.shape
    side = max(width, height)
    columns, rows = (max(1, round(GRID * n / side)) if side > GRID else n
                     for n in (width, height))
    places = [((np.arange(n) + 0.5) * (size / n)).astype(np.int32)
              for n, size in ((rows, height), (columns, width))]
    with np.errstate(divide='ignore', invalid='ignore'):
        seen = np.log(depth[places[0][:, None], places[1]], dtype=np.float32)
    known = np.isfinite(seen)
    level = np.float32(_median(seen[known])) if known.any() else np.float32(0)
    seen = np.where(known, seen, level)
    count = 0 if anchors is None else len(anchors)
    used, usable = np.zeros(count, bool), np.zeros(count, bool)
    residuals = np.full(count, np.nan, np.float32)
    measured = None
    if count:
        usable[:] = _inside(anchors, width, height)
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
                seen - level, level, u, v, predicted - level, ratio, share, cell,
                (np.arange(columns, dtype=np.float32) + 0.5) * (width / columns / side),
                (np.arange(rows, dtype=np.float32) + 0.5) * (height / rows / side))
            used[chosen] = agrees
    field, state = carry(previous, seen, measured, np.count_nonzero(used), stamp, time_constant,
                         smooth)
    if field is None:  # nothing is known, nothing is changed
        return Anchored(depth, used, usable, residuals, 1.0, float('nan'), state)
    spread = float('nan')
    if count and chosen.size:
        residuals[chosen] = ratio - field.ravel()[cell]
        if used.any():
            spread = 1.4826 * float(_median(np.abs(residuals[used])))
    factor = cv2.resize(np.exp(field), (width, height))
    factor *= depth
    return Anchored(factor, used, usable, residuals, float(np.exp(_median(field.ravel()))), spread,
                    state)


def _inside(anchors, width, height):
    u, v, depth = anchors.u, anchors.v, anchors.depth
    inside = (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    inside &= (depth > 1e-3) & (depth < 1e4)
    if anchors.sigma is not None:
        inside &= (anchors.sigma >= 0) & (anchors.sigma < np.inf)
    return inside


def _median(values):
    middle = values.size // 2
    return np.partition(values, middle)[middle]


def _product(a, b):
    """a @ b, in pieces that are ``UNTHREADED``."""
    rows = max(1, UNTHREADED // b.size)
    if len(a) <= rows:
        return a @ b
    product = np.empty((len(a), b.shape[1]), a.dtype)
    for first in range(0, len(a), rows):
        np.matmul(a[first:first + rows], b, product[first:first + rows])
    return product


def _inverse(matrix):
    """Of a symmetric matrix, by blocks (Schur's complement) where it is large."""
    half = len(matrix) // 2
    if len(matrix) <= UNTHREADED_SIDE:
        return np.linalg.inv(matrix)
    first = _inverse(matrix[:half, :half])
    between = _product(np.ascontiguousarray(matrix[half:, :half]), first)
    second = _inverse(matrix[half:, half:] - _product(between, matrix[:half, half:]))
    corner = -_product(second, between)
    return np.block([[first - _product(np.ascontiguousarray(between.T), corner), corner.T],
                     [corner, second]])


def _rbf(a, b, length):
    """exp(−(a − b)² / 2 length²) of all pairs, float32."""
    k = np.subtract.outer(a * np.float32(1 / length), b * np.float32(1 / length))
    k *= k
    k *= np.float32(-0.5)
    np.maximum(k, np.float32(-20), k)  # tiny numbers' products would be denormal: slow
    return np.exp(k, k)


def _nearness(x, level):
    """By what the error grows where things are seen nearer; x: log depth about its level."""
    return np.exp(np.float32(-NEARER) * (x + np.float32(level - MIDDLE)).clip(-2, 2))


_LENGTHS = ((COLUMN_U, np.inf, COLUMN_X), (SMOOTH_U, SMOOTH_V, np.inf), (NEAR_U, NEAR_V, NEAR_X))


def _alike(a, b, lengths):
    """exp(−Σ (difference / length)² / 2) of all pairs of a with b, float32, for each of `lengths`:
    beside each other. a: (u, v, x), float32, that broadcast to one shape; b: likewise, 1-D;
    lengths: three of each, in sides.
    """
    squares = np.empty((*np.broadcast(*a).shape, 7), np.float32)
    for number, values in enumerate(a):
        squares[..., 2 * number] = values * values
        squares[..., 2 * number + 1] = values
    squares[..., 6] = 1
    parts = np.empty((7, len(lengths), b[0].size), np.float32)
    for number, scales in enumerate(lengths):
        inverse = np.array(scales, np.float32)[:, None] ** -2
        parts[:6:2, number] = inverse / -2
        parts[1:6:2, number] = inverse * b
        parts[6, number] = (parts[1:6:2, number] * b).sum(0) / -2
    k = _product(squares.reshape(-1, 7), parts.reshape(7, -1))
    np.maximum(k, np.float32(-20), k)  # tiny numbers' products would be denormal: slow
    return np.exp(k, k)


def _trends(u, v, x, front):
    """What the error may follow all over the picture, each divided by its standard deviation."""
    return np.stack((np.float32(SLOPE_SD) * x, np.float32(FRONT_SD) * front,
                     np.float32(TILT_U) * (u - np.float32(0.5)),
                     np.float32(TILT_V) * (v - np.float32(0.4))), -1)


def _covariance(a, b, offset):
    """Of the log errors at a with those at b, each (u, v, x, front, nearness) of 1-D float32.

    offset: variance of the one scale for all.
    """
    nearness, nearness2 = a[4], b[4]
    parts = _alike(a[:3], b[:3], _LENGTHS).reshape(nearness.size, len(_LENGTHS), nearness2.size)
    k = parts[:, 0] * np.float32(COLUMN_SD ** 2)
    for number, sd in ((1, SMOOTH_SD), (2, NEAR_SD)):
        k += parts[:, number] * np.float32(sd ** 2)
    k *= nearness2
    k *= nearness[:, None]
    k += _trends(*a[:4]) @ _trends(*b[:4]).T
    k += np.float32(offset)
    return k


def _mean(grid, knots, weights, offset):
    """The process's mean on a grid: Σ weights · covariance with the knots, float32 rows×columns.

    grid: (u of columns, v of rows, and rows×columns: x, front, nearness). Each part of the
    covariance is a product over u, v and x, so that only one of them needs a number for each pair
    of cell and knot.
    """
    (u, v, x, front, nearness), (u2, v2, x2, _, nearness2) = grid, knots
    weights = weights.astype(np.float32)
    trends = weights @ _trends(*knots[:4])
    constant = np.float32(offset * float(weights.sum()))
    weights *= nearness2
    lowest, highest = float(x.min()), float(x.max()) + 1e-3
    levels = min(64, int((highest - lowest) / (0.32 * COLUMN_X)) + 2)
    step = (highest - lowest) / (levels - 1)
    by_level = _rbf(np.arange(levels, dtype=np.float32) * np.float32(step) + np.float32(lowest),
                    x2, COLUMN_X).T
    by_column = _product(_rbf(u, u2, COLUMN_U) * (np.float32(COLUMN_SD ** 2) * weights),
                         by_level).ravel()
    between = (x - np.float32(lowest)) * np.float32(1 / step)
    below = np.minimum(between.astype(np.int32), levels - 2)
    between -= below
    below += np.arange(u.size, dtype=np.int32) * levels
    mean = by_column[below]
    below += 1
    above = by_column[below]
    above -= mean
    above *= between
    mean += above
    half = [(side[::2] + side[1::2]) / 2 if side.size % 2 == 0 else side for side in (u, v)]
    smooth = _product(_rbf(half[1], v2, SMOOTH_V) * (np.float32(SMOOTH_SD ** 2) * weights),
                      _rbf(half[0], u2, SMOOTH_U).T)  # so smooth that every second cell will do
    mean += smooth if smooth.shape == mean.shape else cv2.resize(smooth, mean.shape[::-1])
    near = _alike((u, v[:, None], x), knots[:3], _LENGTHS[2:])
    mean += (near @ (np.float32(NEAR_SD ** 2) * weights)).reshape(mean.shape)
    mean *= nearness
    mean += np.float32(SLOPE_SD * trends[0]) * x
    mean += np.float32(FRONT_SD * trends[1]) * front
    mean += np.float32(TILT_U * trends[2]) * (u - np.float32(0.5))
    mean += (np.float32(TILT_V * trends[3]) * (v - np.float32(0.4)) + constant)[:, None]
    return mean


def _variance(grid, knots, inverse, offset):
    """The process's variance on the grid, and what is not known of other columns and depths than
    those of the knots; from every eighth cell."""
    u, v, x, front, nearness = grid
    step = 8 if min(x.shape) >= 16 else 1
    some = np.s_[step // 2::step]
    parts = [np.ascontiguousarray(values[some, some]) for values in (x, front, nearness)]
    cells = (np.tile(u[some], parts[0].shape[0]), np.repeat(v[some], parts[0].shape[1]),
             *(values.ravel() for values in parts))
    k = _covariance(cells, knots, offset).astype(np.float64)  # a small difference of large numbers
    explained = _product(k, inverse)
    explained *= k
    prior = (offset + (_trends(*cells[:4]) ** 2).sum(-1)
             + (SMOOTH_SD ** 2 + NEAR_SD ** 2 + COLUMN_SD ** 2) * cells[4] ** 2)
    layer = _rbf(cells[2], knots[2], COLUMN_X).mean(1)
    unseen = UNSEEN_SD / (1 + layer / UNSEEN)
    variance = np.maximum(prior - explained.sum(1), 1e-5) + unseen * unseen
    return cv2.resize(variance.astype(np.float32).reshape(parts[0].shape), x.shape[::-1])


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
        return (u, v, x, front), ratio, np.ones(u.size), (
            NOISE_SD ** 2 + (EDGE_NOISE * jump) ** 2 + share ** 2).astype(np.float64)
    for across in (FINE, 36, 32, 28, 24, 20, 18, 16, 14, 12, 11, 10, 9, 8, 7, 6, 5, 4):
        cell = (v * across).astype(np.int32) * across + (u * across).astype(np.int32)
        members = np.bincount(cell)
        if np.count_nonzero(members) <= (SPARSE if u.size <= DENSE else KNOTS):
            break
    cell = (np.cumsum(members > 0, dtype=np.int32) - 1)[cell]
    members = members[members > 0]
    order = (cell << 16) | ((ratio + 8) * 4096).clip(0, 65535).astype(np.int32)
    order.sort()
    median = (order[np.cumsum(members) - members + (members - 1) // 2] & 65535) / 4096 - 8
    agrees = np.abs(ratio - median[cell].astype(np.float32)) < BAND
    weights = agrees / (1 + (share / NOISE_SD) ** 2) + np.float32(1e-6)
    total = np.bincount(cell, weights)
    mean = [np.bincount(cell, weights * values) / total
            for values in (u, v, x, front, ratio, jump, share)]
    agreed = np.bincount(cell, agrees).clip(1)
    noise = ((NOISE_SD ** 2 + mean[6] ** 2) * (0.3 + 0.7 / agreed) + (EDGE_NOISE * mean[5]) ** 2)
    return tuple(values.astype(np.float32) for values in mean[:4]), mean[4], agreed / members, noise


def _correction(seen, level, u, v, x, ratio, share, cell, grid_u, grid_v):
    """The field of log corrections and which anchors agree with it.

    seen: float32 rows×columns, log depth on the grid about its median, level. u, v, x, ratio,
    share, cell: 1-D, of the anchors: place in sides, log predicted depth as `seen`, log of
    measured / predicted, standard deviation as a share, cell of the grid. grid_u, grid_v: of the
    cells.
    """
    window = np.ones((5, 5), np.uint8)
    jump = (cv2.dilate(seen, window) - cv2.erode(seen, window)).ravel()[cell]
    front = _front(seen)
    grid = (grid_u, grid_v, seen, front, _nearness(seen, level))
    thin = slice(None, None, -(-u.size // THIN))
    knots, values, share_agreed, noise = _gathered(*(
        a[thin] for a in (u, v, x, front.ravel()[cell], ratio, share, jump)))
    knots = (*knots, _nearness(knots[2], level))
    middle = float(_median(values))
    offset = OFFSET_SD ** 2 + FREELY * max(0.0, middle ** 2 - OFFSET_FREE ** 2)
    covariance = _covariance(knots, knots, offset).astype(np.float64)
    width = max(0.15, 1.5 * float(_median(np.abs(values - middle))))
    weights = share_agreed / (1 + ((values - middle) / width) ** 2)
    for turn in range(ROUNDS):
        noisy = covariance.copy()
        noisy.ravel()[::values.size + 1] += noise / weights
        inverse = _inverse(noisy)
        solution = np.einsum('ij,j->i', inverse, values)
        if turn == ROUNDS - 1:
            break
        # what the others predict in an anchor's place (Rasmussen and Williams, 5.4.2)
        own = inverse.diagonal()
        uncertainty = np.maximum(1 / own - noise / weights, 0) + noise
        off = (solution / own) ** 2 / uncertainty
        weights = share_agreed * np.minimum(1, (STUDENT + 1) / (STUDENT + off))
        weights[off > FAR ** 2] *= 0.02
        weights = np.maximum(weights, 1e-4)
    field = _mean(grid, knots, solution, offset)
    off = ratio - field.ravel()[cell]
    agrees = np.abs(off) < REJECT + 2 * share
    square = field * field
    # far from all anchors, where little is known, only a large correction is made
    square *= square
    doubt = _variance(grid, knots, inverse, offset)
    doubt *= np.float32(DAMPING)
    doubt *= doubt
    doubt += square
    doubt += np.float32(1e-12)
    field *= square
    field /= doubt
    field += _detail(off, agrees / (1 + (jump / 0.1) ** 2 + (share / NOISE_SD) ** 2), cell,
                     seen.shape)
    return field, agrees


def _detail(off, weights, cell, shape):
    """What anchors still say in their own cells, blurred: by normalised convolution."""
    size = shape[0] * shape[1]
    sums = np.dstack([np.bincount(cell, values, size).reshape(shape).astype(np.float32)
                      for values in (weights * off, weights)])
    sums = cv2.GaussianBlur(sums, (7, 7), 1.2, borderType=cv2.BORDER_CONSTANT)
    return sums[..., 0] / (sums[..., 1] + np.float32(1.5 / (2 * np.pi * 1.2 ** 2)))
