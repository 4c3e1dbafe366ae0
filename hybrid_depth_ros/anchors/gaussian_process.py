"""The log of the network's error as a Gaussian process over column, row and predicted log depth.

The names follow Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, chapter 2.
Columns and rows are measured in sides of the image: shares of its longer side.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Hyperparameters:
    """Of the covariance, fitted so that some anchors of an image predict the error at the others.

    ``*_sd`` is a standard deviation of the log error, ``*_u``, ``*_v`` and ``*_x`` are correlation
    lengths along columns, along rows (both in sides) and along log depth.
    """

    offset_sd: float = 0.12  # one scale for the whole image
    plausible_offset: float = 0.15  # log scale; a larger one means other weights or another place
    offset_freedom: float = 10.0  # times its excess square is the offset's variance then
    slope_sd: float = 0.064  # for each unit of log depth
    tilt_u_sd: float = 0.05  # from one side of the image to the other
    tilt_v_sd: float = 0.05
    prominence_sd: float = 0.108  # for each unit of log depth that a thing stands before its sides
    column_sd: float = 0.115  # the same column at the same depth: above and below a lidar's plane
    column_u: float = 0.181
    column_x: float = 0.297
    smooth_sd: float = 0.092  # neighbours in the image, at any depth
    smooth_u: float = 0.39
    smooth_v: float = 0.215
    local_sd: float = 0.108  # near neighbours at the same depth
    local_u: float = 0.051
    local_v: float = 0.13
    local_x: float = 0.125
    near_growth: float = 0.37  # by which these three grow for each unit of log depth nearer
    near_from: float = 0.9  # than this log depth
    noise_sd: float = 0.04  # of a pixel of the network about those around it
    edge_noise: float = 0.25  # at an outline besides, for each unit of the step in log depth


KERNEL = Hyperparameters()
_U_CENTRE, _V_CENTRE = np.float32(0.5), np.float32(0.4)  # sides, about which tilts turn
_LENGTHS = ((KERNEL.column_u, np.inf, KERNEL.column_x), (KERNEL.smooth_u, KERNEL.smooth_v, np.inf),
            (KERNEL.local_u, KERNEL.local_v, KERNEL.local_x))
_PRECISIONS = np.array(_LENGTHS, np.float32).T[..., None] ** -2  # (u, v, x) × 3 terms × 1
_SMALLEST_EXPONENT = np.float32(-20)  # products of smaller numbers would be denormal: slow
# OpenBLAS starts threads above these, and on a busy machine waits for them longer than it computes.
_SERIAL_MULTIPLICATIONS, _SERIAL_INVERSE = 1 << 18, 112


class Inputs(NamedTuple):
    """Where the process is evaluated: N places, float32.

    u, v: columns and rows in sides. x: log depth about the image's median. amplitude: of the error,
    see :func:`error_amplitude`. trends: N×4, the features of the linear terms, each times its sd.
    """

    u: Array
    v: Array
    x: Array
    amplitude: Array
    trends: Array

    def part(self, chosen: slice) -> 'Inputs':
        """Some of the places."""
        return Inputs(*(values[chosen] for values in self))


class Grid(NamedTuple):
    """The image's cells as places. u: of the columns, v: of the rows, in sides; 1-D float32.
    x, prominence, amplitude: float32 rows×columns."""

    u: Array
    v: Array
    x: Array
    prominence: Array
    amplitude: Array


def _product(a: Array, b: Array) -> Array:
    """a @ b in blocks that OpenBLAS multiplies in this thread."""
    rows = max(1, _SERIAL_MULTIPLICATIONS // b.size)
    if len(a) <= rows:
        return a @ b
    product = np.empty((len(a), b.shape[1]), a.dtype)
    for first in range(0, len(a), rows):
        np.matmul(a[first:first + rows], b, product[first:first + rows])
    return product


def inverse(matrix: Array) -> Array:
    """The inverse of a symmetric matrix, by Schur's complement where it is large.

    One call of LAPACK with threadpoolctl's limit of one thread takes 0.3 ms more for 224 rows, and
    a frame needs three.
    """
    half = len(matrix) // 2
    if len(matrix) <= _SERIAL_INVERSE:
        return np.linalg.inv(matrix)
    first = inverse(matrix[:half, :half])
    between = _product(np.ascontiguousarray(matrix[half:, :half]), first)
    second = inverse(matrix[half:, half:] - _product(between, matrix[:half, half:]))
    corner = -_product(second, between)
    return np.block([[first - _product(np.ascontiguousarray(between.T), corner), corner.T],
                     [corner, second]])


def squared_exponential(a: Array, b: Array, length: float) -> Array:
    """exp(−(a − b)² / 2 length²) of all pairs of two 1-D arrays, float32."""
    k = np.subtract.outer(a * np.float32(1 / length), b * np.float32(1 / length))
    k *= k
    k *= np.float32(-0.5)
    np.maximum(k, _SMALLEST_EXPONENT, out=k)
    return np.exp(k, k)


def error_amplitude(x: Array, level: float) -> Array:
    """The factor by which the error is larger where things are nearer.

    Args:
        x: log depth about `level`, the log of metres.
    """
    nearer = x + np.float32(level - KERNEL.near_from)
    return np.exp(np.float32(-KERNEL.near_growth) * nearer.clip(-2, 2))


def _correlations(a: tuple[Array, Array, Array], b: tuple[Array, Array, Array],
                  precisions: Array) -> Array:
    """exp(−Σ (difference / length)² / 2) of all pairs, for several sets of lengths at once.

    The squares are multiplied out, so that one matrix product gives all exponents.

    Args:
        a: (u, v, x), float32, that broadcast to one shape.
        b: (u, v, x), float32, 1-D.
        precisions: 1 / length², 3×sets×1.

    Returns:
        float32 sets×b×a.
    """
    monomials = np.empty((7, *np.broadcast(*a).shape), np.float32)
    for number, values in enumerate(a):
        np.multiply(values, values, out=monomials[2 * number])
        monomials[2 * number + 1] = values
    monomials[6] = 1
    sets, count = precisions.shape[1], b[0].size
    factors = np.empty((7, sets, count), np.float32)
    places = np.concatenate(b).reshape(3, 1, -1)
    factors[:6:2] = precisions * np.float32(-0.5)
    np.multiply(precisions, places, out=factors[1:6:2])
    np.multiply(factors[1:6:2], places * np.float32(-0.5)).sum(0, out=factors[6])
    k = _product(factors.reshape(7, -1).T, monomials.reshape(7, -1))
    np.maximum(k, _SMALLEST_EXPONENT, out=k)
    return np.exp(k, k).reshape(sets, count, -1)


def offset_variance(median_ratio: float) -> float:
    """The prior variance of the one scale for all, given the median of the log ratios."""
    implausible = max(0.0, median_ratio ** 2 - KERNEL.plausible_offset ** 2)
    return KERNEL.offset_sd ** 2 + KERNEL.offset_freedom * implausible


def inputs(u: Array, v: Array, x: Array, prominence: Array, level: float) -> Inputs:
    """The places where the process is evaluated.

    Args:
        u: columns in sides, 1-D float32.
        v: rows in sides.
        x: log depth about `level`.
        prominence: log depth by which the place stands before what is beside it.
        level: log of metres.
    """
    trends = np.empty((u.size, 4), np.float32)
    np.multiply(x, np.float32(KERNEL.slope_sd), out=trends[:, 0])
    np.multiply(prominence, np.float32(KERNEL.prominence_sd), out=trends[:, 1])
    np.multiply(u - _U_CENTRE, np.float32(KERNEL.tilt_u_sd), out=trends[:, 2])
    np.multiply(v - _V_CENTRE, np.float32(KERNEL.tilt_v_sd), out=trends[:, 3])
    return Inputs(u, v, x, error_amplitude(x, level), trends)


def covariance(a: Inputs, b: Inputs, offset: float) -> Array:
    """The prior covariance of the log errors at `a` with those at `b`, float32 a×b.

    Args:
        a: places.
        b: places.
        offset: the variance of the one scale for all.
    """
    column, smooth, local = _correlations((a.u, a.v, a.x), (b.u, b.v, b.x), _PRECISIONS)
    k = column
    k *= np.float32(KERNEL.column_sd ** 2)
    for term, sd in ((smooth, KERNEL.smooth_sd), (local, KERNEL.local_sd)):
        term *= np.float32(sd ** 2)
        k += term
    k *= a.amplitude
    k *= b.amplitude[:, None]
    k += b.trends @ a.trends.T
    k += np.float32(offset)
    return k.T


def posterior_variance(places: Inputs, covariances: Array, inverse: Array, offset: float) -> Array:
    """The process's variance given the anchors, 1-D float32.

    Args:
        places: where.
        covariances: of the places with the anchors, N×M.
        inverse: of the anchors' covariance with their noise, M×M float64.
        offset: the variance of the one scale for all.
    """
    k = covariances.astype(np.float64)  # a small difference of large numbers
    explained = _product(k, inverse)
    explained *= k
    stationary = KERNEL.smooth_sd ** 2 + KERNEL.local_sd ** 2 + KERNEL.column_sd ** 2
    prior = offset + (places.trends ** 2).sum(-1) + stationary * places.amplitude ** 2
    return np.maximum(prior - explained.sum(1), 1e-5).astype(np.float32)


def interpolation_levels(x: Array, count: int) -> tuple[Array, npt.NDArray[np.int32], Array]:
    """Even levels over the range of `x`, and where its numbers lie among them.

    Returns:
        The levels, 1-D float32; for each number the index of the level below it, int32, and the
        share of the way to the next, float32.
    """
    lowest, highest = value_range(x)
    step = (highest - lowest) / (count - 1)
    levels = np.arange(count, dtype=np.float32) * np.float32(step) + np.float32(lowest)
    share = (x - np.float32(lowest)) * np.float32(1 / step)
    below = np.minimum(share.astype(np.int32), count - 2)
    share -= below
    return levels, below, share


def value_range(x: Array) -> tuple[float, float]:
    """The lowest of an array's numbers, and a little more than the highest."""
    return float(x.min()), float(x.max()) + 1e-3


def posterior_mean(grid: Grid, anchors: Inputs, weights: Array, offset: float) -> Array:
    """The process's mean on a grid: Σ weights · covariance with the anchors.

    The column term is a product over u and x, the smooth one over u and v: each is summed over
    the anchors on its own small grid and interpolated. Only the local term needs a number for each
    pair of cell and anchor.

    Args:
        grid: the cells.
        anchors: M places.
        weights: K⁻¹ y of the anchors, M.
        offset: the variance of the one scale for all.

    Returns:
        float32 rows×columns.
    """
    u, v, x = grid.u, grid.v, grid.x
    weights = weights.astype(np.float32)
    slope, prominence, tilt_u, tilt_v = weights @ anchors.trends
    constant = np.float32(offset * float(weights.sum()))
    weights *= anchors.amplitude
    mean = _column_mean(u, x, anchors, weights)
    smooth_u, smooth_v = (  # so smooth that every second cell will do
        (side[::2] + side[1::2]) / 2 if side.size % 2 == 0 else side for side in (u, v))
    smooth = _product(
        squared_exponential(smooth_v, anchors.v, KERNEL.smooth_v)
        * (np.float32(KERNEL.smooth_sd ** 2) * weights),
        squared_exponential(smooth_u, anchors.u, KERNEL.smooth_u).T)
    mean += smooth if smooth.shape == mean.shape else cv2.resize(smooth, mean.shape[::-1])
    local, = _correlations((u, v[:, None], x), (anchors.u, anchors.v, anchors.x),
                           _PRECISIONS[:, 2:])
    mean += ((np.float32(KERNEL.local_sd ** 2) * weights) @ local).reshape(mean.shape)
    mean *= grid.amplitude
    mean += np.float32(KERNEL.slope_sd * slope) * x
    mean += np.float32(KERNEL.prominence_sd * prominence) * grid.prominence
    mean += np.float32(KERNEL.tilt_u_sd * tilt_u) * (u - _U_CENTRE)
    mean += (np.float32(KERNEL.tilt_v_sd * tilt_v) * (v - _V_CENTRE) + constant)[:, None]
    return mean


def _column_mean(u: Array, x: Array, anchors: Inputs, weights: Array) -> Array:
    """The column term of the mean: at levels of log depth for each column, then interpolated."""
    lowest, highest = value_range(x)
    count = min(64, int((highest - lowest) / (0.32 * KERNEL.column_x)) + 2)
    levels, below, share = interpolation_levels(x, count)
    by_level = _product(squared_exponential(u, anchors.u, KERNEL.column_u)
                        * (np.float32(KERNEL.column_sd ** 2) * weights),
                        squared_exponential(levels, anchors.x, KERNEL.column_x).T).ravel()
    index = below + np.arange(u.size, dtype=np.int32) * count
    mean = by_level[index]
    above = by_level[index + 1]
    above -= mean
    above *= share
    mean += above
    return mean
