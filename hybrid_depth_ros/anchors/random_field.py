"""What anchors still say after the smooth correction: a Gauss-Markov random field on the image.

Neighbouring pixels have nearly the same log error, unless predicted depth or colour steps between
them: with the difference d its variance is smooth_sd² + (depth_step Δx)² + (colour_step Δc)². So a
correction spreads over what looks like one surface and ends at outlines. The mean is the solution
of one sparse system, whose size does not depend on how many anchors there are.

Source: J. Diebel and S. Thrun, *An Application of Markov Random Fields to Range Sensing*, NIPS
2005.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors import multigrid

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[Any]


@dataclass(frozen=True)
class FieldParameters:
    """Parameters of the field. "Log" is the natural log of a depth."""

    smooth_sd: float = 0.05  # log, from one node to the next
    depth_step: float = 3.0  # log besides, for each unit of the step in predicted log depth
    colour_step: float = 4.0  # log besides, for a step from black to white
    noise_sd: float = 0.015  # log, of a measurement about the field
    prior_precision: float = 1e-3  # of each pixel: far from all anchors the field is 0
    # Outliers: of a mixture, how far anchors are off a field that follows each of them less
    loose_sd: float = 0.04
    agreement: float = 0.1  # log, within which an anchor keeps half of its weight for that field
    node_spacing: tuple[int, ...] = (4, 4, 4, 2)  # pixels, of each solution
    outlier_density: float = 0.3  # of an outlier's log: anywhere over a range of 3.3
    expected_outliers: tuple[float, float] = (0.1, 5.0)  # a prior: so many, of so many anchors
    least_error: float = 0.004  # log, the least median error of the others
    noise_ratio: float = 3.0  # of the noise to that median, where it is more than noise_sd
    iterations: int = 3  # of each solution, of the last one:
    final_iterations: int = 4
    few_anchors: int = 2000  # up to which half of the resolution will do
    fine_iterations: int = 2


PARAMETERS = FieldParameters()


class Samples(NamedTuple):
    """Anchors as samples of the log error, 1-D. column, row: pixels of the field. residual: log of
    measured / predicted depth. sigma: standard deviation of the measurement, a share. trust: 0 to
    1, the first weight."""

    column: Indices
    row: Indices
    residual: Array
    sigma: Array
    trust: Array


def fit(log_depth: Array, image: npt.NDArray[np.uint8] | None, samples: Samples
        ) -> tuple[Array, Mask]:
    """The field's mean given the anchors, and which of them are outliers.

    Args:
        log_depth: float32 H×W, as predicted.
        image: uint8 H×W×3 RGB or H×W, or None.
        samples: the anchors.

    Returns:
        float32 H×W, log; bool for each anchor.
    """
    height, width = log_depth.shape
    half, levels = ((width + 1) // 2, (height + 1) // 2), multigrid.LEVELS - 1
    grids = multigrid.pyramid(links(
        cv2.resize(log_depth, half, interpolation=cv2.INTER_AREA),
        None if image is None else cv2.resize(image, half, interpolation=cv2.INTER_AREA),
        levels), levels)
    precision = 1 / (PARAMETERS.loose_sd ** 2 + samples.sigma ** 2)
    trust, field = samples.trust, None
    for spacing in PARAMETERS.node_spacing:
        part = grids[spacing // 4:]  # half of the resolution, or a quarter
        if field is not None and field.shape != part[0].right.shape:
            field = cv2.resize(field, part[0].right.shape[::-1])
        system, cell = _system(part[0], samples, precision * trust, spacing)
        field = multigrid.solve(part, *system, field, PARAMETERS.iterations)
        off = np.abs(samples.residual - field.ravel()[cell])
        trust = 1 / (1 + (off / PARAMETERS.agreement) ** 2)
    outliers, error = _outliers(np.maximum(off - 2 * samples.sigma, 0))
    noise = max(PARAMETERS.noise_sd, PARAMETERS.noise_ratio * error)
    precision = ~outliers / (noise ** 2 + samples.sigma ** 2)
    system, _ = _system(grids[0], samples, precision, 2)
    field = multigrid.solve(grids, *system, field, PARAMETERS.final_iterations)
    field = _doubled(field, height, width)
    if off.size > PARAMETERS.few_anchors:
        finest = multigrid.pyramid(links(log_depth, image))
        rows, columns = finest[0].right.shape
        field = np.pad(field, ((0, rows - height), (0, columns - width)))
        system, _ = _system(finest[0], samples, precision, 1)
        field = multigrid.solve(finest, *system, field, PARAMETERS.fine_iterations)
    return field[:height, :width], outliers


def _doubled(field: Array, height: int, width: int) -> Array:
    """A field on the next finer grid, without what lies beside the image: float32 H×W."""
    field = field[:(height + 1) // 2, :(width + 1) // 2]
    return cv2.resize(field, (2 * field.shape[1], 2 * field.shape[0]))[:height, :width]


def _outliers(off: Array) -> tuple[Mask, float]:
    """Which anchors are outliers, and the median of what the others are off.

    What anchors are off has a long tail, since small things are off what lies around them: Cauchy's
    distribution. Outliers lie anywhere. Their share follows by expectation maximisation: where
    there are none, small things are believed.
    """
    error = max(PARAMETERS.least_error, float(np.median(off)))
    inlier = error / (np.pi * (error ** 2 + off * off))
    seen, count = PARAMETERS.expected_outliers
    share = 0.1
    for _ in range(8):
        density = share * PARAMETERS.outlier_density
        outlying = density / (density + (1 - share) * inlier)
        share = (float(outlying.sum()) + seen) / (off.size + count)
    return outlying > 0.5, error


def _system(grid: multigrid.Links, samples: Samples, precision: Array, spacing: int
            ) -> tuple[tuple[Array, Array], Indices]:
    """Precision and information of a grid's nodes, `spacing` pixels apart; each sample's node."""
    shape = grid.right.shape
    cell = (samples.row // spacing) * shape[1] + samples.column // spacing
    total, information = (np.bincount(cell, weights, grid.right.size).astype(np.float32)
                          .reshape(shape) for weights in (precision, precision * samples.residual))
    total += np.float32(spacing ** 2 * PARAMETERS.prior_precision)
    return (total, information), cell


def links(log_depth: Array, image: npt.NDArray[np.uint8] | None,
          levels: int = multigrid.LEVELS) -> multigrid.Links:
    """1 / variance of the differences between neighbours, for so many levels of grids.

    log_depth, image: as of :func:`fit`, both of one size.
    """
    rows, columns = (-(-size // 2 ** (levels - 1)) * 2 ** (levels - 1)
                     for size in log_depth.shape)
    if image is not None and image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    conductances = []
    for after, before in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        variance = log_depth[after] - log_depth[before]
        variance *= variance
        variance *= np.float32(PARAMETERS.depth_step ** 2)
        variance += np.float32(PARAMETERS.smooth_sd ** 2)
        if image is not None and variance.size:
            step = cv2.absdiff(image[after], image[before])
            square = cv2.multiply(step, step, scale=(PARAMETERS.colour_step / 255) ** 2,
                                  dtype=cv2.CV_32F)
            variance += square if square.ndim == 2 else cv2.transform(square, np.ones((1, 3)))
        whole = np.zeros((rows, columns), np.float32)
        np.divide(1, variance, out=whole[:variance.shape[0], :variance.shape[1]])
        conductances.append(whole)
    return multigrid.Links(*conductances)
