"""The log of the network's error as a Gaussian process: Rasmussen and Williams 2006, chapter 2.

Over column, row and predicted log depth; places are in sides of the picture, the longer one.
"""

import cv2
import numpy as np

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
UNTHREADED, UNTHREADED_SIDE = 1 << 18, 112  # multiplications, and the side of a matrix to invert,
# for which OpenBLAS starts no threads: on a busy machine they take longer than the work


def _product(a, b):
    """a @ b, in pieces that are ``UNTHREADED``."""
    rows = max(1, UNTHREADED // b.size)
    if len(a) <= rows:
        return a @ b
    product = np.empty((len(a), b.shape[1]), a.dtype)
    for first in range(0, len(a), rows):
        np.matmul(a[first:first + rows], b, product[first:first + rows])
    return product


def inverse(matrix):
    """Of a symmetric matrix, by blocks (Schur's complement) where it is large."""
    half = len(matrix) // 2
    if len(matrix) <= UNTHREADED_SIDE:
        return np.linalg.inv(matrix)
    first = inverse(matrix[:half, :half])
    between = _product(np.ascontiguousarray(matrix[half:, :half]), first)
    second = inverse(matrix[half:, half:] - _product(between, matrix[:half, half:]))
    corner = -_product(second, between)
    return np.block([[first - _product(np.ascontiguousarray(between.T), corner), corner.T],
                     [corner, second]])


def rbf(a, b, length):
    """exp(−(a − b)² / 2 length²) of all pairs, float32."""
    k = np.subtract.outer(a * np.float32(1 / length), b * np.float32(1 / length))
    k *= k
    k *= np.float32(-0.5)
    np.maximum(k, np.float32(-20), out=k)  # tiny numbers' products would be denormal: slow
    return np.exp(k, k)


def nearness(x, level):
    """By what the error grows where things are seen nearer; x: log depth about its level."""
    return np.exp(np.float32(-NEARER) * (x + np.float32(level - MIDDLE)).clip(-2, 2))


_LENGTHS = ((COLUMN_U, np.inf, COLUMN_X), (SMOOTH_U, SMOOTH_V, np.inf), (NEAR_U, NEAR_V, NEAR_X))
_INVERSE = np.array(_LENGTHS, np.float32).T[..., None] ** -2


def _alike(a, b, inverse):
    """exp(−Σ (difference / length)² / 2) of all pairs of b with a, float32 kinds×b×a, for each of
    several kinds of lengths. a: (u, v, x), float32, that broadcast to one shape; b: likewise, 1-D;
    inverse: 1 / length² of each, 3×kinds×1, in sides.
    """
    squares = np.empty((7, *np.broadcast(*a).shape), np.float32)
    for number, values in enumerate(a):
        np.multiply(values, values, out=squares[2 * number])
        squares[2 * number + 1] = values
    squares[6] = 1
    kinds, count = inverse.shape[1], b[0].size
    parts = np.empty((7, kinds, count), np.float32)
    b = np.concatenate(b).reshape(3, 1, -1)
    parts[:6:2] = inverse * np.float32(-0.5)
    np.multiply(inverse, b, out=parts[1:6:2])
    np.multiply(parts[1:6:2], b * np.float32(-0.5)).sum(0, out=parts[6])
    k = _product(parts.reshape(7, -1).T, squares.reshape(7, -1))
    np.maximum(k, np.float32(-20), out=k)  # tiny numbers' products would be denormal: slow
    return np.exp(k, k).reshape(kinds, count, -1)


def offset_variance(middle):
    """Of the one scale for all, where `middle` is the median of the log ratios."""
    return OFFSET_SD ** 2 + FREELY * max(0.0, middle ** 2 - OFFSET_FREE ** 2)


def places(u, v, x, front, level):
    """What the process needs to know of places, 1-D float32: (u, v, x, nearness, trends).

    x: log depth about its level; front: by how much they stand before what is beside them.
    trends: n×4, what the error may follow all over the picture, times its standard deviation.
    """
    trends = np.empty((u.size, 4), np.float32)
    np.multiply(x, np.float32(SLOPE_SD), out=trends[:, 0])
    np.multiply(front, np.float32(FRONT_SD), out=trends[:, 1])
    np.multiply(u - np.float32(0.5), np.float32(TILT_U), out=trends[:, 2])
    np.multiply(v - np.float32(0.4), np.float32(TILT_V), out=trends[:, 3])
    return u, v, x, nearness(x, level), trends


def covariance(a, b, offset):
    """Of the log errors at `places` a with those at b; offset: variance of the one scale for all.

    Returns float32 a×b.
    """
    k, *others = _alike(a[:3], b[:3], _INVERSE)
    k *= np.float32(COLUMN_SD ** 2)
    for part, sd in zip(others, (SMOOTH_SD, NEAR_SD)):
        part *= np.float32(sd ** 2)
        k += part
    k *= a[3]
    k *= b[3][:, None]
    k += b[4] @ a[4].T
    k += np.float32(offset)
    return k.T


def variance(cells, covariance, inverse, offset):
    """The process's variance at `places` cells, 1-D float32.

    covariance: theirs with the knots, cells×knots; inverse: of the knots' with their noise.
    """
    k = covariance.astype(np.float64)  # a small difference of large numbers
    explained = _product(k, inverse)
    explained *= k
    prior = (offset + (cells[4] ** 2).sum(-1)
             + (SMOOTH_SD ** 2 + NEAR_SD ** 2 + COLUMN_SD ** 2) * cells[3] ** 2)
    return np.maximum(prior - explained.sum(1), 1e-5).astype(np.float32)


def ends(x):
    """The lowest of an array's numbers, and a little more than the highest."""
    return float(x.min()), float(x.max()) + 1e-3


def among_levels(x, lowest, highest, count):
    """Even steps from `lowest` to `highest`, and where numbers lie among them.

    Returns the levels, 1-D float32; for each number the index of the level below, int32, and the
    share of the way to the next, float32.
    """
    step = (highest - lowest) / (count - 1)
    levels = np.arange(count, dtype=np.float32) * np.float32(step) + np.float32(lowest)
    between = (x - np.float32(lowest)) * np.float32(1 / step)
    below = np.minimum(between.astype(np.int32), count - 2)
    between -= below
    return levels, below, between


def mean(grid, knots, weights, offset):
    """The process's mean on a grid: Σ weights · covariance with the knots, float32 rows×columns.

    grid: (u of columns, v of rows, and rows×columns: x, front, nearness). knots: `places`. Each
    part of the covariance is a product over u, v and x, so that only one of them needs a number
    for each pair of cell and knot.
    """
    (u, v, x, front, near), (u2, v2, x2, near2, trends) = grid, knots
    weights = weights.astype(np.float32)
    trends = weights @ trends
    constant = np.float32(offset * float(weights.sum()))
    weights *= near2
    lowest, highest = ends(x)
    count = min(64, int((highest - lowest) / (0.32 * COLUMN_X)) + 2)
    levels, below, between = among_levels(x, lowest, highest, count)
    by_column = _product(rbf(u, u2, COLUMN_U) * (np.float32(COLUMN_SD ** 2) * weights),
                         rbf(levels, x2, COLUMN_X).T).ravel()
    below += np.arange(u.size, dtype=np.int32) * count
    mean = by_column[below]
    below += 1
    above = by_column[below]
    above -= mean
    above *= between
    mean += above
    half = [(side[::2] + side[1::2]) / 2 if side.size % 2 == 0 else side for side in (u, v)]
    smooth = _product(rbf(half[1], v2, SMOOTH_V) * (np.float32(SMOOTH_SD ** 2) * weights),
                      rbf(half[0], u2, SMOOTH_U).T)  # so smooth that every second cell will do
    mean += smooth if smooth.shape == mean.shape else cv2.resize(smooth, mean.shape[::-1])
    alike, = _alike((u, v[:, None], x), knots[:3], _INVERSE[:, 2:])
    mean += ((np.float32(NEAR_SD ** 2) * weights) @ alike).reshape(mean.shape)
    mean *= near
    mean += np.float32(SLOPE_SD * trends[0]) * x
    mean += np.float32(FRONT_SD * trends[1]) * front
    mean += np.float32(TILT_U * trends[2]) * (u - np.float32(0.5))
    mean += (np.float32(TILT_V * trends[3]) * (v - np.float32(0.4)) + constant)[:, None]
    return mean
