"""The smooth part of a correction: what anchors say of a whole image, a wall or an object.

Where the network is wrong, its error is smooth: a whole image too near, a tilted wall, an object.
So the log of measured / predicted depth is a Gaussian process over column, row and predicted log
depth (:mod:`~hybrid_depth_ros.anchors.gaussian_process`). Its covariance was fitted so that anchors
of one part of real and rendered images predict the error in the rest. The term that counts most
gives all that stands in one column at one predicted depth the same error: above and below a
lidar's plane that is the same thing. Outliers lose weight by leave-one-out prediction. The mean is
followed as far as it is large against its doubt, as in Wiener's filter, since what anchors say of a
chair does not hold for the wall behind it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors import gaussian_process as gp
from hybrid_depth_ros.anchors.samples import Cells, Samples
from hybrid_depth_ros.anchors.smoothing import median

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[Any]


@dataclass(frozen=True)
class SmoothParameters:
    """Parameters of the smooth correction, without those of the covariance.

    "Log" is the natural log of a depth.
    """

    depth_levels: int = 32  # of log depth, at which the coverage by anchors is computed
    # Inducing points: one for each cell with anchors, of the finest grid with few enough of them
    inducing_grids: tuple[int, ...] = (
        32, 28, 24, 20, 18, 16, 14, 12, 11, 10, 9, 8, 7, 6, 5, 4)  # cells along the side
    few_anchors: int = 400  # up to which max_inducing points are made
    max_inducing: int = 224
    max_inducing_dense: int = 40
    max_fitted: int = 6000  # anchors that are gathered; all are judged
    # Outliers
    agreement: float = 0.15  # log ratio within which anchors beside each other agree
    student_freedom: float = 3.0  # degrees of freedom of the noise (Student's t)
    gross: float = 3.0  # standard deviations from which on an anchor counts for nearly nothing
    rejection: float = 0.2  # log ratio off the correction from which an anchor is rejected
    iterations: int = 3  # of robust weights; one less where `gathered` anchors make a point,
    gathered: int = 3  # since their median has met outliers before
    # Doubt: the variance times a factor, whose log grows where anchors say little about a place
    variance_factor: float = 0.07
    uncovered_sd: float = 0.128  # log ratio, more at a depth where no anchors are,
    coverage: float = 0.09  # down to half where this share of the anchors is
    spread_doubt: float = 11.0  # log factor for each unit of the log ratios' standard deviation
    consensus_sd: float = 0.03  # log ratio within which anchors agree among themselves,
    consensus_share: float = 0.25  # or within this share of their mean; where they do not:
    foreign_doubt: float = 1.4  # log factor
    distance_doubt: float = 3.5  # log factor for each unit of log depth from the anchors beside
    beside_u: float = 0.05  # sides within which anchors are beside a place
    beside_v: float = 0.3
    little_known: float = 0.02  # variance from which on these grow in full


PARAMETERS = SmoothParameters()


def _prominence(log_depth: Array) -> Array:
    """How far each cell stands before what is beside it, in log depth: float32 rows×columns."""
    soft = cv2.GaussianBlur(log_depth, (0, 0), 1.2)
    beside = cv2.morphologyEx(soft, cv2.MORPH_CLOSE, np.ones((1, 25), np.uint8))
    return np.clip(beside - soft, 0, 0.7)


class _InducingPoints(NamedTuple):
    """Anchors that lie near each other, as one. places: (u, v, x, prominence), 1-D float32 each.
    log_ratio: mean of those that agree with the median; agreeing: their share; noise: variance;
    sigma: mean standard deviation of the measurements, a share."""

    places: tuple[Array, Array, Array, Array]
    log_ratio: Array
    agreeing: Array
    noise: Array
    sigma: Array


def _inducing_points(samples: Samples, prominence: Array, step: Array, grids: tuple[int, ...],
                     few: int, most: int) -> _InducingPoints:
    """One point for each cell of a grid, or each anchor where there are few.

    Args:
        samples: the anchors.
        prominence: at each of them.
        step: in log depth around each of them.
        grids: cells along the side, the finest grid first.
        few: anchors up to which each is a point.
        most: points, unless the coarsest grid has more.
    """
    u, v, x, log_ratio, sigma, _ = samples
    if u.size <= few:
        noise = gp.KERNEL.noise_sd ** 2 + (gp.KERNEL.edge_noise * step) ** 2 + sigma ** 2
        return _InducingPoints((u, v, x, prominence), log_ratio, np.ones(u.size),
                               noise.astype(np.float64), sigma)
    for across in grids:
        cell = (v * across).astype(np.int32) * across + (u * across).astype(np.int32)
        members = np.bincount(cell)
        if np.count_nonzero(members) <= most:
            break
    cell = (np.cumsum(members > 0, dtype=np.int32) - 1)[cell]  # without the empty ones
    members = members[members > 0]
    agrees = np.abs(log_ratio - _median_by_cell(log_ratio, cell, members)[cell]
                    ) < PARAMETERS.agreement
    weights = agrees / (1 + (sigma / gp.KERNEL.noise_sd) ** 2) + np.float32(1e-6)
    total = np.bincount(cell, weights)

    def mean(values: Array) -> Array:
        return np.bincount(cell, weights * values) / total
    agreed = np.maximum(np.bincount(cell, agrees), 1)
    noise = ((gp.KERNEL.noise_sd ** 2 + mean(sigma) ** 2) * (0.3 + 0.7 / agreed)
             + (gp.KERNEL.edge_noise * mean(step)) ** 2)
    place = [mean(values).astype(np.float32) for values in (u, v, x, prominence)]
    return _InducingPoints((place[0], place[1], place[2], place[3]), mean(log_ratio),
                           agreed / members, noise, mean(sigma))


def _median_by_cell(values: Array, cell: Indices, members: Indices) -> Array:
    """The lower median of the values in each cell, float32.

    All are sorted at once, by sums in which each cell has its own range of numbers: lexsort takes
    0.5 ms more for 6,000 anchors.
    """
    ordered = np.sort(32.0 * cell + values.clip(-8, 8))
    middle = np.cumsum(members) - members + (members - 1) // 2
    return (ordered[middle] - 32.0 * np.arange(members.size)).astype(np.float32)


def fit(log_depth: Array, level: np.floating, cells: Cells, samples: Samples
        ) -> tuple[Array, Mask]:
    """The field of log corrections, and which anchors agree with it.

    Args:
        log_depth: float32 rows×columns, in the cells, about `level`.
        level: the median log depth.
        cells: the grid.
        samples: the anchors.
    """
    window = np.ones((5, 5), np.uint8)
    step = cv2.morphologyEx(log_depth, cv2.MORPH_GRADIENT, window).ravel()[samples.cell]
    prominence = _prominence(log_depth)
    grid = gp.Grid(cells.u, cells.v, log_depth, prominence,
                   gp.error_amplitude(log_depth, float(level)))
    fitted = slice(None, None, -(-samples.u.size // PARAMETERS.max_fitted))
    most = (PARAMETERS.max_inducing if samples.u[fitted].size <= PARAMETERS.few_anchors
            else PARAMETERS.max_inducing_dense)
    points = _inducing_points(
        samples.part(fitted), prominence.ravel()[samples.cell[fitted]],
        step[fitted], PARAMETERS.inducing_grids, PARAMETERS.inducing_grids[0], most)
    coarse = (cells.coarse_u, cells.coarse_v, log_depth[cells.coarse].ravel(),
              prominence[cells.coarse].ravel())
    u, v, x, front = map(np.concatenate, zip(points.places, coarse))
    inputs = gp.inputs(u, v, x, front, float(level))
    count = points.log_ratio.size
    inducing, coarse_inputs = inputs.part(slice(count)), inputs.part(slice(count, None))
    offset = gp.offset_variance(median(points.log_ratio))
    covariances = gp.covariance(inputs, inducing, offset)
    iterations = PARAMETERS.iterations - (
        samples.u[fitted].size >= PARAMETERS.gathered * count)
    solution, inverse, weights = _robust_solution(points, covariances[:count], offset, iterations)
    field = gp.posterior_mean(grid, inducing, solution, offset)
    residuals = samples.log_ratio - field.ravel()[samples.cell]
    agrees = np.abs(residuals) < PARAMETERS.rejection + 2 * samples.sigma
    variance = gp.posterior_variance(coarse_inputs, covariances[count:], inverse, offset)
    variance = cv2.resize(variance.reshape(log_depth[cells.coarse].shape), log_depth.shape[::-1])
    doubt = _doubt(grid, inducing, points.log_ratio, weights / points.noise, variance)
    field = field * field ** 2 / (field ** 2 + doubt + np.float32(1e-12))
    trust = agrees / (1 + (step / 0.1) ** 2 + (samples.sigma / gp.KERNEL.noise_sd) ** 2)
    return field + _local_mean(residuals, trust, samples.cell, log_depth.shape), agrees


def _robust_solution(points: _InducingPoints, covariance: Array, offset: float, iterations: int
                     ) -> tuple[Array, Array, Array]:
    """K⁻¹ y with noise that follows Student's t, by iteratively reweighted least squares.

    Each anchor's weight comes from what the others predict in its place.

    Returns:
        K⁻¹ y; K⁻¹; the anchors' weights.

    Source: leave-one-out prediction, Rasmussen and Williams 2006, section 5.4.2.
    """
    values, noise = points.log_ratio, points.noise
    middle = median(values)
    width = max(0.15, 1.5 * median(np.abs(values - middle)))
    covariance = covariance.astype(np.float64)
    weights = points.agreeing * np.maximum(
        1 / (1 + ((values - middle) / width) ** 2),
        _neighbours_agreement(values, covariance - offset) ** 2)
    for iteration in range(iterations):
        noisy = covariance.copy()
        noisy.ravel()[::values.size + 1] += noise / weights
        inverse = gp.inverse((noisy + noisy.T) / 2)  # float32 made it a little asymmetric
        solution = np.einsum('ij,j->i', inverse, values)
        if iteration == iterations - 1:
            break
        precision = inverse.diagonal()
        variance = np.maximum(1 / precision - noise / weights, 0) + noise
        squared_error = (solution / precision) ** 2 / variance
        freedom = PARAMETERS.student_freedom
        weights = points.agreeing * np.minimum(1, (freedom + 1) / (freedom + squared_error))
        weights[squared_error > PARAMETERS.gross ** 2] *= 0.02
        weights = np.maximum(weights, 1e-4)
    return solution, inverse, weights


def _neighbours_agreement(values: Array, covariance: Array) -> Array:
    """The share of each anchor's neighbours, by their covariance, that agree with it."""
    similarity = np.maximum(covariance, 0)
    similarity *= similarity
    np.fill_diagonal(similarity, 0)
    agrees = np.abs(np.subtract.outer(values, values)) < PARAMETERS.agreement
    return (similarity * agrees).sum(1) / (similarity.sum(1) + 1e-9)


def _doubt(grid: gp.Grid, anchors: gp.Inputs, log_ratio: Array, precision: Array, variance: Array
           ) -> Array:
    """How far not to follow the process's mean, as a variance: float32 rows×columns.

    Args:
        grid: the cells.
        anchors: the inducing points.
        log_ratio: theirs.
        precision: theirs, 1 / variance of their noise.
        variance: of the process.
    """
    share = (precision / precision.sum()).astype(np.float32)
    consensus = float(share @ log_ratio)
    spread = float(np.sqrt(share @ (log_ratio - consensus) ** 2))
    levels, below, between = gp.interpolation_levels(grid.x, PARAMETERS.depth_levels)
    density = gp.squared_exponential(levels, anchors.x, gp.KERNEL.column_x).mean(1)
    uncovered = (PARAMETERS.uncovered_sd / (1 + density / PARAMETERS.coverage)) ** 2
    doubt = np.diff(uncovered)[below] * between + uncovered[below] + variance
    strange = min(1.0, spread / (PARAMETERS.consensus_sd
                                 + PARAMETERS.consensus_share * abs(consensus)))
    log_factor = np.float32(strange) * (
        PARAMETERS.foreign_doubt
        + np.float32(PARAMETERS.distance_doubt) * _distance_in_depth(grid, anchors, share))
    log_factor += np.float32(PARAMETERS.spread_doubt * spread)
    log_factor *= np.minimum(variance / np.float32(PARAMETERS.little_known), 1)
    return doubt * np.float32(PARAMETERS.variance_factor) * np.exp(log_factor)


def _distance_in_depth(grid: gp.Grid, anchors: gp.Inputs, share: Array) -> Array:
    """How far each cell is from the anchors beside it, in log depth: float32 rows×columns."""
    across, down = (
        gp.squared_exponential(side[1::2] if side.size > 1 else side, places, length)
        for side, places, length in ((grid.u, anchors.u, PARAMETERS.beside_u),
                                     (grid.v, anchors.v, PARAMETERS.beside_v)))
    down *= share
    beside = ((down * anchors.x) @ across.T) / (down @ across.T)
    return np.abs(grid.x - cv2.resize(beside, grid.x.shape[::-1]))


def _local_mean(residuals: Array, weights: Array, cell: Indices, shape: tuple[int, ...]) -> Array:
    """What anchors still say in their own cells, blurred: normalised convolution."""
    sums: Array = np.empty((*shape, 2), np.float32)
    for number, values in enumerate((weights * residuals, weights)):
        sums[..., number] = np.bincount(cell, values, shape[0] * shape[1]).reshape(shape)
    sums = cv2.GaussianBlur(sums, (7, 7), 1.2, borderType=cv2.BORDER_CONSTANT)
    return sums[..., 0] / (sums[..., 1] + np.float32(1.5 / (2 * np.pi * 1.2 ** 2)))
