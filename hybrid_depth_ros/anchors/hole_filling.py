"""Depth completion of a depth image with holes: measured pixels stay, the others agree with them.

In a hole the network's depth gives the shape. The log of measured / predicted depth around it says
what that is off, and is carried on into the hole by the Gauss-Markov random field of
:mod:`~hybrid_depth_ros.anchors.random_field`, up to where predicted depth or colour steps. Since
many pixels are measured, the field is solved on cells of some pixels, which is as good and fast.

Source: P. Pérez, M. Gangnet and A. Blake, *Poisson Image Editing*, SIGGRAPH 2003, for the idea.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors import multigrid, random_field, smooth_correction
from hybrid_depth_ros.anchors.correction import Anchored, check_arguments
from hybrid_depth_ros.anchors.samples import cell_log_depth
from hybrid_depth_ros.anchors.smoothing import TemporalState, median
from hybrid_depth_ros.anchors.types import Anchors

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

SIDE = 160  # cells along the longer side, in which the field is solved
ITERATIONS = 6  # of its solution
MEASURED_SD = 0.005  # log, of a cell's mean about the field
LOCAL_WINDOW, LOCAL_SD = 5, 0.1  # cells, and log off their mean at which one counts half: outlines
FLYING = np.float32(1.04)  # a pixel so many times nearer than one beside it, and farther than
# another one, lies between two things where nothing is (a flying pixel)
FEW_BESIDE = 6  # pixels of 25; with fewer measured ones a pixel is alone in a hole: a speckle
MAX_ANCHORS = 3000  # of the measured pixels, that stand for all of them


def fill_holes(depth: npt.NDArray[np.floating], measured: npt.NDArray[np.floating],
               image: npt.NDArray[np.uint8] | None = None, *, stamp: float = 0.0) -> Anchored:
    """Measured depth, and in its holes predicted depth that agrees with it.

    Args:
        depth: H×W metres as predicted; what is not finite and above 0 is unknown.
        measured: H×W metres of the same pixels, likewise.
        image: uint8 H×W×3 RGB or H×W of the same view, in any size, or None.
        stamp: seconds, of the image.

    Returns:
        Its ``measured`` says which pixels were kept. Flying pixels and speckles are not: they are
        estimated anew. Its ``anchors`` are some of those that were kept.

    Raises:
        ValueError: these are no such arrays.
    """
    check_arguments(depth, None, image)
    if not isinstance(measured, np.ndarray) or measured.shape != depth.shape:
        raise ValueError('measured must be an array of the shape of depth, '
                         f'{depth.shape}, got {getattr(measured, "shape", type(measured))}')
    if not np.issubdtype(measured.dtype, np.floating):
        raise ValueError(f'measured must be metres in floats, got {measured.dtype}: are these '
                         'millimetres? Then pass measured / 1000, with 0 where unknown')
    depth, measured = (np.ascontiguousarray(values, np.float32) for values in (depth, measured))
    kept = believed_pixels(measured)
    level, field = _field(depth, measured, kept, image)
    filled = cv2.exp(cv2.resize(field, depth.shape[::-1]))
    filled *= depth
    cv2.copyTo(measured, kept, filled)
    log_depth = cell_log_depth(depth)
    state = TemporalState(stamp, log_depth, cv2.resize(
        field, log_depth.shape[::-1], interpolation=cv2.INTER_AREA), of_depth_image=True)
    anchors = anchors_among(measured, kept)
    residuals = _residuals(anchors, depth, field)
    used = np.isfinite(residuals)
    return Anchored(filled, used, used, residuals, float(np.exp(level)), state, anchors,
                    kept.view(np.bool_))


def fill_remaining_holes(completed: Anchored, measured: npt.NDArray[np.floating],
                         image: npt.NDArray[np.uint8] | None = None) -> Anchored:
    """:func:`fill_holes` of depth that other anchors have corrected before.

    Args:
        completed: by the others.
        measured: as there.
        image: as there.

    Returns:
        Its anchors are the others and then the depth image's. ``scale`` and ``residuals`` are of
        both corrections together, ``state`` is that of the first: the next frame begins with it.
    """
    filled = fill_holes(completed.depth, measured, image)
    others = completed.anchors or Anchors.joined(())
    residuals = np.concatenate([completed.residuals, filled.residuals])
    usable = np.concatenate([completed.usable, filled.usable])
    used = np.concatenate([completed.used, filled.used])
    chosen = np.flatnonzero(completed.usable)
    rows, columns = (np.rint(values[chosen]).astype(np.int32) for values in (others.v, others.u))
    residuals[chosen] = np.log(others.depth[chosen] / filled.depth[rows, columns])
    sigma = 0 if others.sigma is None else others.sigma[chosen] / others.depth[chosen]
    used[chosen] &= (np.abs(residuals[chosen])
                     < smooth_correction.PARAMETERS.rejection + 2 * sigma)
    return Anchored(filled.depth, used, usable, residuals, completed.scale * filled.scale,
                    completed.state, Anchors.joined((others, filled.anchors or others)),
                    filled.measured)


def believed_pixels(measured: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Which pixels of a depth image are measurements: uint8 H×W, 255 where they are, else 0.

    Left out are flying pixels at outlines, between what is near and what is far, and speckles, the
    few pixels that a stereo camera finds in the midst of what it can't see.
    """
    known = cv2.inRange(measured, 1e-3, 1e4)
    window = np.ones((3, 3), np.uint8)
    near = cv2.erode(cv2.copyTo(measured, known, np.full_like(measured, 1e9)), window)
    far = cv2.dilate(cv2.copyTo(measured, known, np.zeros_like(measured)), window)
    near *= FLYING
    far *= 1 / FLYING
    flying = cv2.compare(near, measured, cv2.CMP_LT) & cv2.compare(far, measured, cv2.CMP_GT)
    beside = cv2.blur(known, (5, 5))
    known &= ~flying
    known &= cv2.threshold(beside, 255 * (FEW_BESIDE - 0.5) / 25, 255, cv2.THRESH_BINARY)[1]
    return known


def _field(depth: Array, measured: Array, kept: Array, image: Array | None
           ) -> tuple[float, Array]:
    """The median log of measured / predicted depth, and the field of it: float32 rows×columns."""
    height, width = depth.shape
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    some = (slice(None, None, max(1, max(width, height) // (2 * SIDE))),) * 2
    depth, measured, kept = (np.ascontiguousarray(values[some])
                             for values in (depth, measured, kept))
    ratio = cv2.divide(measured, depth)
    compared = cv2.inRange(ratio, 1e-4, 1e4) & kept  # not where predicted depth is unknown
    log_ratio = cv2.log(cv2.copyTo(ratio, compared, np.ones_like(ratio)))
    weight = _shrunk(compared, size).astype(np.float32)
    weight *= np.float32(1 / 255)
    mean = _shrunk(log_ratio, size) / np.maximum(weight, np.float32(1e-6))
    if not weight.any():
        return 0.0, np.zeros_like(mean)
    level = median(mean[weight > 0])
    mean -= np.float32(level)
    mean[weight == 0] = 0
    around = cv2.blur(weight * mean, (LOCAL_WINDOW,) * 2)
    around /= cv2.blur(weight, (LOCAL_WINDOW,) * 2) + np.float32(1e-6)
    weight /= 1 + ((mean - around) * np.float32(1 / LOCAL_SD)) ** 2
    x = _shrunk(depth, size)
    with np.errstate(divide='ignore', invalid='ignore'):
        x = np.log(x)
    known = np.isfinite(x)
    if not known.all():
        x[~known] = median(x[known]) if known.any() else 0
    if image is not None:
        image = _shrunk(image, size)
    links = random_field.links(x, image)
    rows, columns = links.right.shape
    weight, mean = (cv2.copyMakeBorder(
        values, 0, rows - size[1], 0, columns - size[0], cv2.BORDER_CONSTANT, value=0)
        for values in (weight, mean))
    start = _pull_push(weight, mean)
    weight *= np.float32(MEASURED_SD ** -2)
    information = weight * mean
    weight += np.float32(random_field.PARAMETERS.prior_precision / scale ** 2)
    field = multigrid.solve(multigrid.pyramid(links), weight, information, start, ITERATIONS)
    return level, field[:size[1], :size[0]] + np.float32(level)


def _shrunk(values: Array, size: tuple[int, int]) -> Array:
    """Means over the cells of a grid of size (columns, rows); in two steps, which is faster."""
    twice = 2 * size[0], 2 * size[1]
    if values.shape[1] > twice[0] and values.shape[0] > twice[1]:
        values = cv2.resize(values, twice, interpolation=cv2.INTER_AREA)
    shrunk: Array = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _pull_push(weight: Array, values: Array) -> Array:
    """Values carried on to where their weight is 0, by means over larger and larger cells.

    Source: S. Gortler et al., *The Lumigraph*, SIGGRAPH 1996.
    """
    sums = [(weight * values, weight)]
    for _ in range(multigrid.LEVELS - 1):
        sums.append(tuple(cv2.resize(part, (part.shape[1] // 2, part.shape[0] // 2),
                                     interpolation=cv2.INTER_AREA) for part in sums[-1]))
    filled: Array = np.zeros_like(sums[-1][0])
    for total, share in reversed(sums):
        coarser = cv2.resize(filled, share.shape[::-1])
        trust = np.minimum(4 * share, 1)
        filled = coarser + trust * (total / (share + np.float32(1e-6)) - coarser)
    return filled


def anchors_among(measured: Array, kept: Array) -> Anchors:
    """Some of the pixels of a depth image as anchors, regularly spaced.

    Args:
        measured: float32 H×W metres.
        kept: H×W, not 0 where these are measurements.
    """
    step = max(1, int(np.ceil(np.sqrt(measured.size / MAX_ANCHORS))))
    rows, columns = (step * places + step // 2
                     for places in np.nonzero(kept[step // 2::step, step // 2::step]))
    return Anchors(columns.astype(np.float32), rows.astype(np.float32), measured[rows, columns])


def _residuals(anchors: Anchors, depth: Array, field: Array) -> Array:
    """Log of measured / corrected depth of each anchor, NaN where depth is unknown."""
    rows, columns = (values.astype(np.int32) for values in (anchors.v, anchors.u))
    with np.errstate(divide='ignore', invalid='ignore'):
        residuals = np.log(anchors.depth / depth[rows, columns])
    residuals -= field[rows * field.shape[0] // depth.shape[0],
                       columns * field.shape[1] // depth.shape[1]]
    residuals[~np.isfinite(residuals)] = np.nan
    return residuals
