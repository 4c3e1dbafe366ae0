"""What anchors still say after the smooth correction: a Gaussian process of short reach.

Its covariance is sd² exp(−|Δu| / length_u − |Δv| / length_v − |Δx| / length_x): rough, so that the
mean passes each anchor closely, and it ends at outlines, where x, the log of depth, steps. As a
product of three it is evaluated on a (u, v, x) grid by three small matrix products, and sliced
there by each pixel's depth (a bilateral grid: Chen, Paris and Durand, *Real-time Edge-Aware Image
Processing with the Bilateral Grid*, SIGGRAPH 2007).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ResidualParameters:
    """Of the covariance, the outliers and the grid. "Log" is the natural log of a depth."""

    sd: float = 0.15  # log
    noise_sd: float = 0.02  # log, of a measurement about the process
    length_u: float = 0.2  # sides, along columns
    length_v: float = 0.2  # sides, along rows
    length_x: float = 0.5  # log
    outlier: float = 3.0  # standard deviations off what the other anchors predict,
    small_thing: float = 0.35  # and log beyond them: small things are off their neighbours too;
    gross: float = 0.5  # the more anchors are off by this log,
    gross_share: float = 0.2  # the less it is believed; at this share of them, not at all
    rounds: int = 4  # in which outliers are taken out, or in again
    columns: int = 48  # of the grid, along the longer side
    levels: int = 16  # of the grid, along log depth


PARAMETERS = ResidualParameters()


class Places(NamedTuple):
    """Where anchors lie: columns u and rows v in sides, log depth x; 1-D float32."""

    u: Array
    v: Array
    x: Array


class ResidualFit(NamedTuple):
    """The fitted process.

    Attributes:
        places: of the anchors.
        weights: K⁻¹ y; 0 for outliers.
    """

    places: Places
    weights: Array


def fit(places: Places, residuals: Array, variance: Array, suspects: Mask) -> ResidualFit:
    """The process through anchors' residuals, without outliers.

    One Cholesky factor serves all rounds: what the others predict in the place of several anchors
    at once follows from blocks of K⁻¹, and without the outliers K⁻¹ y does too.

    Args:
        places: of the anchors.
        residuals: log of measured / corrected depth, float32.
        variance: of each measurement.
        suspects: anchors that are outliers unless the others predict them.

    Source: leave-one-out prediction, Rasmussen and Williams 2006, section 5.4.2.
    """
    covariance = _covariance(places, places)
    covariance.ravel()[::residuals.size + 1] += np.float32(PARAMETERS.noise_sd ** 2) + variance
    factor = _lower_inverse(np.linalg.cholesky(covariance))  # L⁻¹: K⁻¹ is its square
    weights = factor.T @ (factor @ residuals)
    precision = np.einsum('ij,ij->j', factor, factor)
    gross = np.mean(np.abs(weights) > PARAMETERS.gross * precision)
    margin = PARAMETERS.small_thing * max(0.0, 1 - float(gross) / PARAMETERS.gross_share)
    outliers = np.flatnonzero(suspects | _off(weights, precision, margin))
    for _ in range(PARAMETERS.rounds):
        if not outliers.size:
            break
        columns = factor.T @ factor[:, outliers]
        block = np.linalg.inv(columns[outliers])  # the covariance of the outliers given the rest
        errors = block @ weights[outliers]
        variance_given_rest = block.diagonal()
        still = _off(errors / variance_given_rest, 1 / variance_given_rest, margin)
        rest_weights = weights - columns @ errors
        rest_precision = precision - np.einsum('ij,ij->i', columns @ block, columns)
        off = _off(rest_weights, np.maximum(rest_precision, 1e-6), margin)
        off[outliers] = still
        if np.array_equal(np.flatnonzero(off), outliers):
            break
        outliers = np.flatnonzero(off)
    if outliers.size:
        columns = factor.T @ factor[:, outliers]
        weights = weights - columns @ np.linalg.solve(columns[outliers], weights[outliers])
        weights[outliers] = 0
    return ResidualFit(places, weights.astype(np.float32))


def _off(weights: Array, precision: Array, margin: float) -> Mask:
    """Whether each anchor is off what the others predict: by w / p, with the variance 1 / p."""
    return np.abs(weights) > (PARAMETERS.outlier * np.sqrt(precision)
                              + margin * precision)


def _covariance(a: Places, b: Places) -> Array:
    """The prior covariance of the residuals at `a` with those at `b`, float32 a×b."""
    exponent = np.zeros((a.u.size, b.u.size), np.float32)
    for first, second, length in zip(a, b, (PARAMETERS.length_u, PARAMETERS.length_v,
                                            PARAMETERS.length_x)):
        exponent -= np.abs(np.subtract.outer(first, second)) * np.float32(1 / length)
    covariance = np.exp(exponent, exponent)
    covariance *= np.float32(PARAMETERS.sd ** 2)
    return covariance


def _lower_inverse(lower: Array) -> Array:
    """The inverse of a lower triangular matrix, by halves: numpy has no triangular solver."""
    half = len(lower) // 2
    if len(lower) <= 48:
        return np.linalg.inv(lower)
    inverse = np.zeros_like(lower)
    inverse[:half, :half] = _lower_inverse(lower[:half, :half])
    inverse[half:, half:] = _lower_inverse(lower[half:, half:])
    inverse[half:, :half] = -inverse[half:, half:] @ (lower[half:, :half] @ inverse[:half, :half])
    return inverse


def mean(fitted: ResidualFit, log_depth: Array, side: float) -> Array:
    """The process's mean at each pixel, float32 H×W.

    Args:
        fitted: the process.
        log_depth: float32 H×W.
        side: the longer side of the image in these pixels.
    """
    height, width = log_depth.shape
    lowest, highest = float(log_depth.min()), float(log_depth.max()) + 1e-3
    counts = (PARAMETERS.levels, *(max(2, round(PARAMETERS.columns * size / max(width, height)))
                                   for size in (height, width)))
    across, down = width / side, height / side
    # levels lie at both ends of log depth, columns and rows in the centres of cells, as for resize
    steps = ((highest - lowest) / (counts[0] - 1), down / counts[1], across / counts[2])
    starts = (lowest, steps[1] / 2, steps[2] / 2)
    places = (fitted.places.x, fitted.places.v, fitted.places.u)
    lengths = (PARAMETERS.length_x, PARAMETERS.length_v, PARAMETERS.length_u)
    grid = _splatted([((values - np.float32(start)) * np.float32(1 / step)).clip(0, count - 1)
                      for values, start, step, count in zip(places, starts, steps, counts)],
                     fitted.weights, counts)
    x, v, u = (_exponential(count, step / length)
               for count, step, length in zip(counts, steps, lengths))
    grid = np.matmul(v, (grid.reshape(-1, counts[2]) @ u).reshape(counts))
    grid = (x @ grid.reshape(counts[0], -1)).reshape(counts) * np.float32(PARAMETERS.sd ** 2)
    return _sliced(grid, (log_depth - np.float32(lowest)) * np.float32(1 / steps[0]))


def _exponential(count: int, step: float) -> Array:
    """exp(−|i − j| step), float32 count×count."""
    steps = np.arange(count, dtype=np.float32) * np.float32(step)
    return np.exp(-np.abs(np.subtract.outer(steps, steps)))


def _splatted(places: list[Array], weights: Array, counts: tuple[int, ...]) -> Array:
    """Weights shared out among the eight grid points around each place, float32."""
    below = [np.clip(values.astype(np.int32), 0, count - 2)
             for values, count in zip(places, counts)]
    shares = [(1 - (values - lower), values - lower) for values, lower in zip(places, below)]
    index, amount = [], []
    for corner in np.ndindex(2, 2, 2):
        x, v, u = (lower + step for lower, step in zip(below, corner))
        index.append((x * counts[1] + v) * counts[2] + u)
        amount.append(weights * shares[0][corner[0]] * shares[1][corner[1]] * shares[2][corner[2]])
    grid = np.bincount(np.concatenate(index), np.concatenate(amount), int(np.prod(counts)))
    return grid.astype(np.float32).reshape(counts)


def _sliced(grid: Array, level: Array) -> Array:
    """A grid's values at each pixel: bilinear in the image, linear between levels.

    The levels lie below each other in one image, so that one remap takes each pixel's own level.
    """
    height, width = level.shape
    levels, rows, columns = grid.shape
    image = grid.reshape(levels * rows, columns)
    below = np.floor(level).clip(0, levels - 2)
    column, row = (((np.arange(size, dtype=np.float32) + 0.5) * np.float32(count / size) - 0.5)
                   .clip(0, count - 1) for size, count in ((width, columns), (height, rows)))
    columns_map = np.tile(column, (height, 1))
    rows_map = below * np.float32(rows) + row[:, None]
    lower = cv2.remap(image, columns_map, rows_map, cv2.INTER_LINEAR)
    upper = cv2.remap(image, columns_map, rows_map + np.float32(rows), cv2.INTER_LINEAR)
    upper -= lower
    upper *= level - below
    upper += lower
    return upper
