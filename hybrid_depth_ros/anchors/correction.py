"""Depth completion from sparse depth: dense depth that agrees with a few measured distances.

Where the network is wrong, its error is smooth: a whole image too near, a tilted wall, an object.
So the log of measured / predicted depth is a Gaussian process over column, row and predicted log
depth (:mod:`~hybrid_depth_ros.anchors.gaussian_process`). Its covariance was fitted so that anchors
of one part of real and rendered images predict the error in the rest. The term that counts most
gives all that stands in one column at one predicted depth the same error: above and below a
lidar's plane that is the same thing. Outliers lose weight by leave-one-out prediction. The mean is
followed as far as it is large against its doubt, as in Wiener's filter, since what anchors say of a
chair does not hold for the wall behind it.
A Gauss-Markov random field then follows what anchors still say of details, up to where depth or
colour steps (:mod:`~hybrid_depth_ros.anchors.random_field`).
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors import gaussian_process as gp
from hybrid_depth_ros.anchors import random_field
from hybrid_depth_ros.anchors.smoothing import TemporalState, median, smoothed_correction
from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.anchors.uncertainty import depth_sigma

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[Any]


@dataclass(frozen=True)
class CorrectionParameters:
    """Of the correction, beside the covariance's own. "Log" is the natural log of a depth."""

    # Grids
    grid_cells: int = 48  # along the longer side, in which the correction is computed
    variance_step: int = 8  # cells from one where the variance is computed to the next
    depth_levels: int = 32  # of log depth, at which the coverage by anchors is computed
    # Inducing points: one for each cell with anchors, of the finest grid with few enough of them
    inducing_grids: tuple[int, ...] = (
        32, 28, 24, 20, 18, 16, 14, 12, 11, 10, 9, 8, 7, 6, 5, 4)  # cells along the side
    few_anchors: int = 400  # up to which max_inducing points are made
    max_inducing: int = 224
    max_inducing_dense: int = 40
    max_fitted: int = 6000  # anchors that are gathered; all are judged
    # What follows details
    detail_side: int = 320  # pixels of the longer side, at which it is computed
    detail_sigma: float = 0.025  # share of the distance; anchors that are less sure say no details
    consensus: float = 0.5  # share of the anchors that agree, or there are no details
    suspect: float = 0.2  # weight to begin with of those that do not agree
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


PARAMETERS = CorrectionParameters()


@dataclass(frozen=True)
class Anchored:
    """Corrected depth, and how far to trust it.

    Attributes:
        depth: float32 H×W metres; unknown stays unknown.
        used: bool for each anchor.
        usable: bool for each anchor: it lies in the image on known depth.
        residuals: float32 for each anchor, log of measured / corrected depth; NaN where not usable.
        scale: what depth was multiplied by, the median.
        state: for the next frame's `previous`.
        anchors: that it was corrected by, or None.
        measured: bool H×W, which pixels a depth image measured and were kept as they are, or None.
        common_sd: standard deviation of what all anchors have in common, share of the depth.
        sigma: standard deviation of `depth`, float32 H×W metres, NaN where it is unknown; None
            where no anchor was used. It is computed when it is asked for.
        spread: the robust standard deviation of the used anchors' residuals, a share of depth; NaN
            where there are none.
    """

    depth: npt.NDArray[np.float32]
    used: Mask
    usable: Mask
    residuals: npt.NDArray[np.float32]
    scale: float
    state: TemporalState
    anchors: Anchors | None = None
    measured: Mask | None = None
    common_sd: float = 0.0

    @functools.cached_property
    def sigma(self) -> npt.NDArray[np.float32] | None:
        """As described above."""
        if self.anchors is None or not self.used.any():
            return None
        sigma = depth_sigma(self.depth, self.anchors.u[self.used], self.anchors.v[self.used],
                            self.measured)
        if self.common_sd:
            sigma = np.hypot(sigma, np.float32(self.common_sd) * self.depth)
        return sigma

    @property
    def spread(self) -> float:
        """As described above."""
        residuals = self.residuals[self.used]
        return 1.4826 * median(np.abs(residuals)) if residuals.size else float('nan')

    @property
    def rejected(self) -> int:
        """How many usable anchors are not used."""
        return int(np.count_nonzero(self.usable) - np.count_nonzero(self.used))


def complete_depth(depth: npt.NDArray[np.floating], anchors: Anchors | None,
                   previous: Anchored | TemporalState | None = None, *,
                   image: npt.NDArray[np.uint8] | None = None, stamp: float | None = None,
                   time_constant: float = 0.5, smooth: bool = False) -> Anchored:
    """Depth, corrected so that it agrees with anchors.

    Args:
        depth: H×W metres; NaN, inf and what is not above 0 is unknown.
        anchors: measured distances, or None.
        previous: the result for the same camera's last frame, or its ``state``, or None.
        image: uint8 H×W×3 RGB or H×W of the same view, in any size, or None. A correction ends
            where its colours change.
        stamp: seconds, of the image; None: 0.1 s after the last.
        time_constant: seconds over which the correction by few anchors is averaged; with `smooth`
            the scale of depth without anchors is smoothed over twice that; 0: not.
        smooth: whether depth without anchors is smoothed over time.

    Raises:
        ValueError: depth is not a 2-D array, anchors are no Anchors, or the image is no uint8.
    """
    check_arguments(depth, anchors, image)
    height, width = depth.shape
    cells = _cells(width, height)
    log_depth = cell_log_depth(depth)
    level = np.float32(median(log_depth))
    count = 0 if anchors is None else len(anchors)
    used, usable = np.zeros(count, bool), np.zeros(count, bool)
    residuals = np.full(count, np.nan, np.float32)
    measured = samples = detail = None
    if anchors is not None and count:
        samples, chosen = _samples(depth, anchors, cells, level)
        usable[chosen] = True
        if chosen.size:
            coarse, agrees = _correction(log_depth - level, level, cells, samples)
            after, measured = samples.log_ratio - coarse.ravel()[samples.cell], coarse
            sure = samples.sigma <= PARAMETERS.detail_sigma
            if sure.any() and agrees[sure].mean() > PARAMETERS.consensus:
                detail, after[sure], agrees[sure] = _detail(
                    depth, image, coarse, samples.part(sure), agrees[sure], level)
                measured = coarse + cv2.resize(detail, coarse.shape[::-1],
                                               interpolation=cv2.INTER_AREA)
                detail -= cv2.resize(measured - coarse, detail.shape[::-1])
            used[chosen] = agrees
    field, state = smoothed_correction(previous, log_depth, measured, int(np.count_nonzero(used)),
                                       stamp, time_constant, smooth)
    if field is None:  # nothing is known, nothing is changed
        return Anchored(depth, used, usable, residuals, 1.0, state, anchors)
    if samples is not None and samples.u.size:
        residuals[usable] = after + (measured - field).ravel()[samples.cell]
    log_factor = field if detail is None else detail + cv2.resize(field, detail.shape[::-1])
    factor: Array = cv2.resize(np.exp(log_factor), (width, height))
    factor *= depth
    return Anchored(factor, used, usable, residuals, float(np.exp(median(field.ravel()))), state,
                    anchors)


anchored = complete_depth


def cell_log_depth(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Log depth in the centres of the grid's cells, float32 rows×columns.

    It is the median where depth is unknown, and 0 where nothing is known.
    """
    height, width = depth.shape
    with np.errstate(divide='ignore', invalid='ignore'):
        log_depth = np.log(depth[_cells(width, height).centres], dtype=np.float32)
    known = np.isfinite(log_depth)
    log_depth[~known] = median(log_depth[known]) if known.any() else 0
    return log_depth


def check_arguments(depth: Any, anchors: Any, image: Any) -> None:
    """Raise ValueError where these are not as :func:`complete_depth` takes them."""
    if not (isinstance(depth, np.ndarray) and depth.ndim == 2 and depth.size):
        raise ValueError('depth must be an array H×W and not empty, got '
                         f'{getattr(depth, "shape", type(depth).__name__)}')
    if not (anchors is None or isinstance(anchors, Anchors)):
        raise ValueError('anchors must be Anchors(u, v, depth) or None, got '
                         f'{type(anchors).__name__}')
    if image is not None and not (
            isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size
            and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))):
        raise ValueError('image must be uint8 H×W×3 RGB or H×W, got '
                         f'{getattr(image, "dtype", "")} {getattr(image, "shape", type(image))}')


class _Cells(NamedTuple):
    """The grid over an image.

    centres: the pixels in the cells' centres, to index the image with. u, v: columns and rows in
    sides, 1-D float32. coarse: the cells where variance is computed, to index the grid with;
    coarse_u, coarse_v: their places, one after the other.
    """

    centres: tuple[Indices, ...]
    u: Array
    v: Array
    coarse: tuple[slice, slice]
    coarse_u: Array
    coarse_v: Array


@functools.lru_cache(maxsize=16)
def _cells(width: int, height: int) -> _Cells:
    side = max(width, height)
    across, down = (((np.arange(n, dtype=np.float32) + 0.5) * (size / n))
                    for size in (width, height)
                    for n in (max(1, round(PARAMETERS.grid_cells * size / side))
                              if side > PARAMETERS.grid_cells else size,))
    u, v = (centres / np.float32(side) for centres in (across, down))
    step = PARAMETERS.variance_step if min(u.size, v.size) >= 2 * PARAMETERS.variance_step else 1
    coarse = np.s_[step // 2::step, step // 2::step]
    coarse_u, coarse_v = np.meshgrid(u[coarse[1]], v[coarse[0]])
    return _Cells(np.ix_(down.astype(np.int32), across.astype(np.int32)), u, v, coarse,
                  coarse_u.ravel(), coarse_v.ravel())


class _Samples(NamedTuple):
    """Usable anchors as samples of the log error, 1-D.

    u, v: places in sides. x: log predicted depth about the image's median. log_ratio: of measured /
    predicted. sigma: standard deviation of the measurement, as a share. cell: of the grid.
    """

    u: Array
    v: Array
    x: Array
    log_ratio: Array
    sigma: Array
    cell: Indices

    def part(self, chosen: slice | Mask) -> '_Samples':
        """Some of them."""
        return _Samples(*(values[chosen] for values in self))


def _samples(depth: Array, anchors: Anchors, cells: _Cells, level: np.floating
             ) -> tuple[_Samples, Indices]:
    """The usable anchors as samples, and which they are."""
    height, width = depth.shape
    chosen = np.flatnonzero(anchors.inside(width, height))
    u, v = anchors.u[chosen], anchors.v[chosen]
    column, row = np.rint(u).astype(np.int32), np.rint(v).astype(np.int32)
    with np.errstate(divide='ignore', invalid='ignore'):
        predicted = np.log(depth[row, column], dtype=np.float32)
    known = np.isfinite(predicted)
    if not known.all():
        chosen, column, row = chosen[known], column[known], row[known]
        u, v, predicted = u[known], v[known], predicted[known]
    z = anchors.depth[chosen]
    sigma = np.zeros_like(z) if anchors.sigma is None else anchors.sigma[chosen] / z
    columns, rows = cells.u.size, cells.v.size
    cell = (row * rows // height) * columns + column * columns // width
    u, v = ((values + np.float32(0.5)) / np.float32(max(width, height)) for values in (u, v))
    return _Samples(u, v, predicted - level, np.log(z) - predicted, sigma, cell), chosen


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


def _inducing_points(samples: _Samples, prominence: Array, step: Array, grids: tuple[int, ...],
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


def _correction(log_depth: Array, level: np.floating, cells: _Cells, samples: _Samples
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


def _detail(depth: Array, image: npt.NDArray[np.uint8] | None, coarse: Array, samples: _Samples,
            agrees: Mask, level: np.floating) -> tuple[Array, Array, Mask]:
    """What anchors still say after the coarse correction.

    Args:
        depth: H×W metres as predicted.
        image: uint8 of the same view, or None.
        coarse: the correction so far, float32 rows×columns.
        samples: the anchors.
        agrees: those that agree with it.
        level: the median log depth.

    Returns:
        The log correction besides, float32 at ``detail_side``; log of measured / corrected depth of
        each anchor; which agree now.
    """
    height, width = depth.shape
    scale = min(1.0, PARAMETERS.detail_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    with np.errstate(divide='ignore', invalid='ignore'):
        x = np.log(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST), dtype=np.float32)
    x[~np.isfinite(x)] = level
    correction = cv2.resize(coarse, size)
    x += correction
    if image is not None:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    side = np.float32(max(height, width))
    column = np.minimum((samples.u * (size[0] * side / width)).astype(np.int32), size[0] - 1)
    row = np.minimum((samples.v * (size[1] * side / height)).astype(np.int32), size[1] - 1)
    residual = samples.log_ratio - correction[row, column]
    detail, outliers = random_field.follow(x, image, random_field.Samples(
        column, row, residual, samples.sigma,
        np.where(agrees, np.float32(1), np.float32(PARAMETERS.suspect))))
    return detail, residual - detail[row, column], ~outliers


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
