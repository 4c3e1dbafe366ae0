"""Outlines of objects in depth: where it jumps, and which side of the jump a pixel belongs to."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

GRID_WIDTH = 160  # pixels of the grid on which jumps in depth are looked for
WINDOW = 6        # pixels of that grid, to each side of a jump, in which both of its sides lie
# Pixels of that grid within which the near side must be seen, and the far one.
NEAR_REACH, FAR_REACH = 5, 7
# From 0, as far as the farthest around it, to 1, as the nearest: a pixel shows the near side from
# NEAR_SIDE on, the far side up to FAR_SIDE. A pixel on the jump itself shows the near side from
# 1 - JUMP_END on, the far side up to JUMP_END.
NEAR_SIDE, FAR_SIDE, JUMP_END = 0.7, 0.2, 0.1
ON_SURFACE = 0.05  # log depth off an extended surface, within which a pixel is on it
BEHIND = 0.1       # log depth behind the near side, from which on a pixel may hang in the air


def depth_edges(depth: npt.NDArray[np.float32], fraction: float) -> npt.NDArray[np.bool_]:
    """The pixels on a jump in depth, where a network hangs points in the air.

    Depth is compared on a grid of every n-th pixel, n being 1/160 of the image's width. A network's
    output is enlarged, so a step is a ramp over many pixels: direct neighbours hardly differ, and
    the grid misses nothing. A plane n·X = c, however slanted, is no jump: its inverse depth
    n·(x, y, 1) / c is linear along rows and columns, so the least slope around a pixel is
    subtracted.

    Args:
        depth: H×W metres. NaN and values not above 0 are unknown and make no jump.
        fraction: Depth has to change by more than this share of itself, from the pixel's place on
            the grid to the neighbours there.

    Returns:
        bool H×W.
    """
    grid = _Grid(depth)
    return grid.enlarge(_grid_edges(grid.depth, fraction))


def snap_edges(depth: npt.NDArray[np.float32], fraction: float) -> npt.NDArray[np.float32]:
    """Depth whose outlines are steps: a pixel on a jump takes the depth of one of its sides.

    Depth follows the image (:func:`hybrid_depth_ros.upsampling.upsample`), so a pixel of the far
    half of a jump, in inverse depth, belongs to the far side, and takes its depth. One of the near
    half takes the near side's, where that is seen close by: free space counts as much as obstacles.

    Two kinds of pixels can't be told: those of the near half whose near side is not seen, and those
    on the near surface, extended along its slope, as the floor in front of an object is. They keep
    their own depth; far behind the near side they are left out, as they may hang in the air.

    Args:
        depth: H×W metres, NaN where unknown.
        fraction: As in :func:`depth_edges`.

    Returns:
        H×W metres, NaN where unknown.
    """
    grid = _Grid(depth)
    edges = _grid_edges(grid.depth, fraction)
    with np.errstate(all='ignore'):  # what is unknown stays so
        log = _without_outliers(np.log(grid.depth))
        jumps = _find_jumps(log, edges, fraction)
        on_near_surface = np.abs(jumps.own - _extended(log, edges, jumps)) < ON_SURFACE
        snapped = depth.copy()
        pixels, inside = grid.pixels(jumps.places)
        own = snapped.ravel()[np.where(inside, pixels, 0)]
        # one value for all pixels of a place on the grid
        near, far, near_seen, on_near_surface, far_behind = (values[:, None, None] for values in (
            np.exp(jumps.near), np.exp(jumps.far), jumps.near_seen,
            jumps.near_seen & on_near_surface, jumps.own - jumps.near > BEHIND))
        near_half = 1 / own > (1 / near + 1 / far) / 2
        told = np.where(near_half, near, far)
        untold = np.where(far_behind, np.float32(np.nan), own)
        sides = np.where(on_near_surface | near_half & ~near_seen, untold, told)
        moved = inside & (own > 0)
        snapped.ravel()[pixels[moved]] = sides[moved]
    return snapped


class _Jumps(NamedTuple):
    """Places on the grid where depth jumps, N of them, and both sides of each jump.

    Attributes:
        places: N flat indices.
        own: N, log depth there.
        near: N, log depth of the near side.
        far: N, of the far side.
        near_seen: bool N, whether a pixel within NEAR_REACH shows the near side; else `near` is the
            nearest that is around the place.
        near_pixel: N flat indices of the pixels that show it.
    """

    places: Indices
    own: Floats
    near: Floats
    far: Floats
    near_seen: Flags
    near_pixel: Indices


def _find_jumps(log: Floats, edges: Flags, fraction: float) -> _Jumps:
    """Both sides of each jump, by the nearest pixels that show them.

    The nearest and the farthest pixels around may be other parts of slanted surfaces. An edge whose
    sides differ by no more than `fraction` is no jump: both are one slanted surface.
    """
    window = np.ones((2 * WINDOW + 1,) * 2, np.uint8)
    known = np.isfinite(log)
    nearest = cv2.erode(np.where(known, log, np.float32(np.inf)), window)
    farthest = cv2.dilate(np.where(known, log, np.float32(-np.inf)), window)
    nearness = (farthest - log) / (farthest - nearest)
    shows_near = known & (nearness > np.where(edges, 1 - JUMP_END, NEAR_SIDE))
    shows_far = known & (nearness < np.where(edges, JUMP_END, FAR_SIDE))
    places = np.flatnonzero(edges)
    near_pixel, near_distance = _nearest_pixel(shows_near, places)
    far_pixel, far_distance = _nearest_pixel(shows_far, places)
    near_seen, far_seen = near_distance <= NEAR_REACH, far_distance <= FAR_REACH
    near = np.where(near_seen, log.ravel()[near_pixel], nearest.ravel()[places])
    far = np.where(far_seen, log.ravel()[far_pixel], farthest.ravel()[places])
    jump = far - near > np.log1p(fraction)
    return _Jumps(*(values[jump] for values in (
        places, log.ravel()[places], near, far, near_seen, near_pixel)))


def _without_outliers(log: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The median of 3×3, where all of them are known: single pixels are no side of a jump."""
    known = np.isfinite(log)
    inner = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(inner, cv2.medianBlur(np.where(known, log, np.float32(0)), 3), log)


def _nearest_pixel(chosen: Flags, places: Indices) -> tuple[Indices, Floats]:
    """At flat places the flat index of the nearest of the chosen pixels, and its distance."""
    distance, label = cv2.distanceTransformWithLabels(
        (~chosen).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    pixel_of = np.zeros(int(label.max()) + 1, np.intp)
    pixel_of[label[chosen]] = np.flatnonzero(chosen)
    return pixel_of[label.ravel()[places]], distance.ravel()[places]


def _extended(log: Floats, edges: Flags, jumps: _Jumps) -> Floats:
    """N: log depth that the near side's surface has at each jump, extended as a plane.

    Inverse depth of a plane is linear in the image. Pixels on edges tell no slope.
    """
    inverse = np.exp(-log)
    last_row, last_column = inverse.shape[0] - 1, inverse.shape[1] - 1
    rows, columns = np.divmod(jumps.near_pixel, inverse.shape[1])
    v, u = np.divmod(jumps.places, inverse.shape[1])
    down = (inverse[np.minimum(rows + 1, last_row), columns]
            - inverse[np.maximum(rows - 1, 0), columns]) / 2
    right = (inverse[rows, np.minimum(columns + 1, last_column)]
             - inverse[rows, np.maximum(columns - 1, 0)]) / 2
    change = down * (v - rows) + right * (u - columns)
    change[edges[rows, columns] | ~np.isfinite(change)] = 0
    extended: Floats = -np.log(inverse[rows, columns] + change)
    return extended


class _Grid:
    """Every n-th pixel of depth, and its way back to all pixels."""

    def __init__(self, depth: npt.NDArray[np.float32]) -> None:
        self._shape = depth.shape
        self._step = step = max(1, round(depth.shape[1] / GRID_WIDTH))
        # what is left over, halved
        self._top, self._left = ((size - 1) % step // 2 for size in depth.shape)
        self.depth = np.ascontiguousarray(depth[self._top::step, self._left::step])

    def enlarge(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """H×W: each pixel takes the value of the nearest one on the grid."""
        rows, columns = self._shape
        middle = (self._step - 1) // 2
        above, before = middle - self._top, middle - self._left
        return values.repeat(self._step, 0).repeat(self._step, 1)[
            above:above + rows, before:before + columns]

    def pixels(self, places: npt.NDArray[np.intp]
               ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Flat pixels that :meth:`enlarge` gives the value of each flat place on the grid.

        Returns:
            n×step×step, and which of them lie in the image.
        """
        (rows, columns), middle = self._shape, (self._step - 1) // 2
        v, u = (along[:, None] * self._step + np.arange(self._step) - (middle - edge)
                for along, edge in zip(np.divmod(places, self.depth.shape[1]),
                                       (self._top, self._left)))
        inside = ((v >= 0) & (v < rows))[:, :, None] & ((u >= 0) & (u < columns))[:, None]
        return v[:, :, None] * columns + u[:, None], inside


def _grid_edges(depth: npt.NDArray[np.float32], fraction: float) -> npt.NDArray[np.bool_]:
    window, surroundings = np.ones((3, 3), np.uint8), np.ones((7, 7), np.uint8)
    # 1 / 0, and what has nothing known near it, become infinite or NaN: no jump either
    with np.errstate(divide='ignore', over='ignore', invalid='ignore'):
        inverse = np.reciprocal(depth)
        known = (inverse >= 0) & (inverse < np.inf)
        low, high = np.where(known, inverse, np.inf), np.where(known, inverse, -np.inf)
        inverse = np.where(known, inverse, np.float32(np.nan))
        change = cv2.dilate(high, window) - cv2.erode(low, window)
        for axis in (0, 1):
            ahead, behind, middle = (np.s_[n:m] if axis == 0 else np.s_[:, n:m] for n, m in (
                (2, None), (0, -2), (1, -1)))
            # a slope that leads outside or to the unknown is infinite: never the least
            slope = np.full_like(inverse, np.inf)
            slope[middle] = np.fmin(np.abs(inverse[ahead] - inverse[behind]), np.inf)
            change -= cv2.erode(slope, surroundings)
        edges: npt.NDArray[np.bool_] = change > np.float32(fraction) * inverse
        return edges
