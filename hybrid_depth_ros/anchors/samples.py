"""Anchors as samples of the log of measured / predicted depth, and the image's grid of cells."""

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.smoothing import median
from hybrid_depth_ros.anchors.types import Anchors

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[Any]

GRID_CELLS = 48  # along the longer side of an image
COARSE_STEP = 8  # cells from one of the coarse ones to the next


class Cells(NamedTuple):
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
def cells_of(width: int, height: int) -> Cells:
    """The grid over an image of this size in pixels."""
    side = max(width, height)
    across, down = (((np.arange(n, dtype=np.float32) + 0.5) * (size / n))
                    for size in (width, height)
                    for n in (max(1, round(GRID_CELLS * size / side))
                              if side > GRID_CELLS else size,))
    u, v = (centres / np.float32(side) for centres in (across, down))
    step = COARSE_STEP if min(u.size, v.size) >= 2 * COARSE_STEP else 1
    coarse = np.s_[step // 2::step, step // 2::step]
    coarse_u, coarse_v = np.meshgrid(u[coarse[1]], v[coarse[0]])
    return Cells(np.ix_(down.astype(np.int32), across.astype(np.int32)), u, v, coarse,
                  coarse_u.ravel(), coarse_v.ravel())


def cell_log_depth(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Log depth in the centres of the grid's cells, float32 rows×columns.

    It is the median where depth is unknown, and 0 where nothing is known.
    """
    height, width = depth.shape
    with np.errstate(divide='ignore', invalid='ignore'):
        log_depth = np.log(depth[cells_of(width, height).centres], dtype=np.float32)
    known = np.isfinite(log_depth)
    log_depth[~known] = median(log_depth[known]) if known.any() else 0
    return log_depth


class Samples(NamedTuple):
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

    def part(self, chosen: slice | Mask) -> 'Samples':
        """Some of them."""
        return Samples(*(values[chosen] for values in self))


def samples_of(depth: Array, anchors: Anchors, cells: Cells, level: np.floating
             ) -> tuple[Samples, Indices]:
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
    return Samples(u, v, predicted - level, np.log(z) - predicted, sigma, cell), chosen
