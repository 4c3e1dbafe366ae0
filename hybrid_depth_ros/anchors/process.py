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
    np.maximum(k, np.float32(-20), out=k)  # tiny numbers' products would be denormal: slow
    return np.exp(k, k)


def offset_variance(middle):
    """Of the one scale for all, where `middle` is the median of the log ratios."""
    return OFFSET_SD ** 2 + FREELY * max(0.0, middle ** 2 - OFFSET_FREE ** 2)


def _trends(u, v, x, front):
    """What the error may follow all over the picture, each divided by its standard deviation."""
    return np.stack((np.float32(SLOPE_SD) * x, np.float32(FRONT_SD) * front,
                     np.float32(TILT_U) * (u - np.float32(0.5)),
                     np.float32(TILT_V) * (v - np.float32(0.4))), -1)


def covariance(a, b, offset):
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


def mean(grid, knots, weights, offset):
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
    by_level = rbf(np.arange(levels, dtype=np.float32) * np.float32(step) + np.float32(lowest),
                    x2, COLUMN_X).T
    by_column = _product(rbf(u, u2, COLUMN_U) * (np.float32(COLUMN_SD ** 2) * weights),
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
    smooth = _product(rbf(half[1], v2, SMOOTH_V) * (np.float32(SMOOTH_SD ** 2) * weights),
                      rbf(half[0], u2, SMOOTH_U).T)  # so smooth that every second cell will do
    mean += smooth if smooth.shape == mean.shape else cv2.resize(smooth, mean.shape[::-1])
    near = _alike((u, v[:, None], x), knots[:3], _LENGTHS[2:])
    mean += (near @ (np.float32(NEAR_SD ** 2) * weights)).reshape(mean.shape)
    mean *= nearness
    mean += np.float32(SLOPE_SD * trends[0]) * x
    mean += np.float32(FRONT_SD * trends[1]) * front
    mean += np.float32(TILT_U * trends[2]) * (u - np.float32(0.5))
    mean += (np.float32(TILT_V * trends[3]) * (v - np.float32(0.4)) + constant)[:, None]
    return mean


def variance(grid, knots, inverse, offset):
    """The process's variance on the grid, from every eighth cell: float32 rows×columns."""
    u, v, x, front, nearness = grid
    step = 8 if min(x.shape) >= 16 else 1
    some = np.s_[step // 2::step]
    parts = [np.ascontiguousarray(values[some, some]) for values in (x, front, nearness)]
    cells = (np.tile(u[some], parts[0].shape[0]), np.repeat(v[some], parts[0].shape[1]),
             *(values.ravel() for values in parts))
    k = covariance(cells, knots, offset).astype(np.float64)  # a small difference of large numbers
    explained = _product(k, inverse)
    explained *= k
    prior = (offset + (_trends(*cells[:4]) ** 2).sum(-1)
             + (SMOOTH_SD ** 2 + NEAR_SD ** 2 + COLUMN_SD ** 2) * cells[4] ** 2)
    left = np.maximum(prior - explained.sum(1), 1e-5).astype(np.float32)
    return cv2.resize(left.reshape(parts[0].shape), x.shape[::-1])
