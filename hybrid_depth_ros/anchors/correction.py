"""Depth completion from sparse depth: dense depth that agrees with a few measured distances.

A Gaussian process follows the smooth part of the network's error
(:mod:`~hybrid_depth_ros.anchors.smooth_correction`). A Gauss-Markov random field then follows what
anchors still say of details, up to where depth or colour steps
(:mod:`~hybrid_depth_ros.anchors.random_field`).
"""

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors import random_field, smooth_correction
from hybrid_depth_ros.anchors.samples import Samples, cell_log_depth, cells_of, samples_of
from hybrid_depth_ros.anchors.smoothing import TemporalState, median, smoothed_correction
from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.anchors.uncertainty import depth_sigma

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DetailParameters:
    """Parameters of the second step, which corrects details after the smooth correction."""

    side: int = 320  # pixels of the longer side, at which it is computed
    sigma: float = 0.025  # share of the distance; anchors that are less sure say no details
    consensus: float = 0.5  # share of the anchors that agree, or there are no details
    suspect: float = 0.2  # weight to begin with of those that do not agree


PARAMETERS = DetailParameters()


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
    cells = cells_of(width, height)
    log_depth = cell_log_depth(depth)
    level = np.float32(median(log_depth))
    count = 0 if anchors is None else len(anchors)
    used, usable = np.zeros(count, bool), np.zeros(count, bool)
    residuals = np.full(count, np.nan, np.float32)
    measured = samples = detail = None
    if anchors is not None and count:
        samples, chosen = samples_of(depth, anchors, cells, level)
        usable[chosen] = True
        if chosen.size:
            coarse, agrees = smooth_correction.fit(log_depth - level, level, cells, samples)
            after, measured = samples.log_ratio - coarse.ravel()[samples.cell], coarse
            sure = samples.sigma <= PARAMETERS.sigma
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


def _detail(depth: Array, image: npt.NDArray[np.uint8] | None, coarse: Array, samples: Samples,
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
        The log correction besides, float32, its longer side at most ``DetailParameters.side``
        pixels; log of measured / corrected depth of each anchor; which agree now.
    """
    height, width = depth.shape
    scale = min(1.0, PARAMETERS.side / max(height, width))
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
    detail, outliers = random_field.fit(x, image, random_field.Samples(
        column, row, residual, samples.sigma,
        np.where(agrees, np.float32(1), np.float32(PARAMETERS.suspect))))
    return detail, residual - detail[row, column], ~outliers
