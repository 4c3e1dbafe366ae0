"""Obstacles above the floor, out of depth: points for a costmap, and a laser scan.

Frames are optical frames (REP 103); heights are metres above the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.floor_plane import FloorPlane, level_axes
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.outlines import snap_edges
from hybrid_depth_ros.point_cloud import POINT, pack_rgb

Floats = npt.NDArray[np.floating]

GRID_WIDTH = 160         # pixels across at which depth is looked at
# One standard deviation of a floor point's height: a share of the camera's height, and an angle.
HEIGHT_ERROR, ANGLE_ERROR = 0.025, np.deg2rad(0.8)
SIGMAS = 2.0             # so many of them must a point be above the floor
# Shares of the camera's height: how high a floor bends up at the image's lower edge, and by how
# much at most from one row to the next. Shares of the image's rows that bend, and of the height at
# the lower edge that a bend has in the mean.
BEND_HEIGHT, BEND_STEP, BEND_ROWS, BEND_MEAN = 0.3, 0.05, 0.25, 0.7
MAX_VOXELS = 2**28       # addresses, of which the points touch few
KNOWN_SHARE = 0.5        # of a direction's pixels: with less known depth it is unknown
REACH_SHARE = 0.95       # of range_max, up to which a direction must be seen to be free


@dataclass(frozen=True)
class ObstacleSettings:
    """What counts as an obstacle.

    Attributes:
        min_height: Metres above the floor; lower things count only where depth is sure of them.
        max_height: Metres above the floor; higher things are passed under.
        min_range: Metres along the floor, level.
        max_range: Metres along the floor.
        voxel_size: Metres, of the thinning; 0: none.
        edge_filter: Share by which inverse depth jumps at an outline. Points there hang in the
            air: most move to one of its sides, some stay, some become unknown. 0: all stay.
    """

    min_height: float = 0.05
    max_height: float = 1.8
    min_range: float = 0.05
    max_range: float = 4.0
    voxel_size: float = 0.05
    edge_filter: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.min_height < self.max_height:
            raise ValueError(f'obstacle heights {self.min_height:g} to {self.max_height:g} m hold '
                             'nothing: make the upper one larger')
        if not 0 <= self.min_range < self.max_range:
            raise ValueError(f'obstacle ranges {self.min_range:g} to {self.max_range:g} m hold '
                             'nothing: make the upper one larger')
        if self.voxel_size > 0 and np.prod(self.voxels, dtype=float) > MAX_VOXELS:
            raise ValueError(f'obstacle voxels of {self.voxel_size:g} m are too small for '
                             f'{self.max_range:g} m around: make them larger, or 0 for all points')

    @property
    def voxels(self) -> tuple[int, int, int]:
        """How many there are along x, y and height."""
        around, high = ((length / self.voxel_size) // 1 + 1
                        for length in (2 * self.max_range, self.max_height))
        return int(around), int(around), int(high)


@dataclass(frozen=True)
class ScanAngles:
    """The directions of a scan, counted to the left of forward, and how far it sees.

    Attributes:
        first: Radians, of the first range.
        increment: Radians from one to the next.
        count: Of ranges.
        range_max: Metres along the floor up to which the image shows what is free.
    """

    first: float
    increment: float
    count: int
    range_max: float


@dataclass(frozen=True)
class Scan:
    """A planar scan in a level frame: x forward, y left, the origin in the camera.

    Attributes:
        ranges: N metres to the nearest obstacle; inf: free as far as is seen; NaN: unknown.
        angle_min: Radians of the first range, counted to the left of forward.
        angle_increment: Radians from one to the next.
    """

    ranges: npt.NDArray[np.float32]
    angle_min: float
    angle_increment: float

    @property
    def angles(self) -> npt.NDArray[np.float64]:
        """N radians."""
        return np.asarray(self.angle_min + self.angle_increment * np.arange(self.ranges.size))


@dataclass(frozen=True)
class Obstacles:
    """Depth on a grid of pixels, as places above the floor; NaN where unknown.

    Attributes:
        x: h×w metres forward along the floor.
        y: h×w metres to the left.
        height: h×w metres above the floor.
        ranges: h×w metres along the floor.
        depth: h×w metres.
        chosen: bool h×w, those that count as obstacles.
        rays: 3×h×w of each pixel's ray at depth 1: forward, left, and away from the floor.
        grid: The pixels.
        plane: The floor.
        settings: What counts.
    """

    x: Floats
    y: Floats
    height: Floats
    ranges: Floats
    depth: Floats
    chosen: npt.NDArray[np.bool_]
    rays: Floats
    grid: _Grid
    plane: FloorPlane
    settings: ObstacleSettings


class _Grid(NamedTuple):
    """Every n-th pixel of an image, and the slopes of its rays."""

    rows: slice
    columns: slice
    x: npt.NDArray[np.float32]  # 1×w, of depth
    y: npt.NDArray[np.float32]  # h×1

    def nearest(self, depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """h×w: the least depth of each pixel and those up to its neighbours on the grid, in a row.

        So no column is left out. Rows between are left out: in the lowest of several the floor
        would be nearer.
        """
        rows = depth[self.rows]
        step = self.columns.step
        known = np.where((rows > 0) & (rows < np.inf), rows, np.float32(np.inf))
        least = cv2.erode(known, np.ones((1, step), np.uint8), anchor=(step // 2, 0))
        z = np.ascontiguousarray(least[:, self.columns])
        last = self.columns.start + (z.shape[1] - 1) * step  # it reaches the image's edge
        z[:, -1] = known[:, last - self.columns.start:].min(1)
        z[np.isinf(z)] = np.nan
        return z

    def rays(self, plane: FloorPlane) -> Floats:
        """3×h×w of each ray at depth 1: level forward and left, and away from the floor."""
        forward, left, up = level_axes(plane).T
        return np.stack([a * self.x + (b * self.y + c) for a, b, c in np.array(
            (forward, left, up - plane.slope), np.float32)])


@lru_cache(maxsize=8)
def _grid(intrinsics: Intrinsics) -> _Grid:
    step = max(1, round(intrinsics.width / GRID_WIDTH))
    rows, columns = (slice(min(step, size) // 2, None, step)  # of a flat image one row at least
                     for size in (intrinsics.height, intrinsics.width))
    return _Grid(rows, columns, *(
        ((np.arange(size)[picked] - centre) / focal).astype(np.float32).reshape(shape)
        for size, picked, centre, focal, shape in (
            (intrinsics.width, columns, intrinsics.cx, intrinsics.fx, (1, -1)),
            (intrinsics.height, rows, intrinsics.cy, intrinsics.fy, (-1, 1)))))


def find_obstacles(depth: npt.NDArray[np.float32], intrinsics: Intrinsics, plane: FloorPlane,
                   settings: ObstacleSettings) -> Obstacles:
    """What stands above the floor.

    A point is an obstacle if it stands above the floor by SIGMAS standard deviations of a floor
    point's height at its range, and by ``min_height``. What rises from the floor all the way to the
    image's lower edge, without a step, is floor: networks bend it up there.

    Args:
        depth: H×W metres, NaN where unknown or too uncertain.
        intrinsics: Of the image.
        plane: The floor.
        settings: What counts.

    Raises:
        ValueError: The intrinsics are for another size.
    """
    if depth.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(f'depth is {depth.shape[1]}×{depth.shape[0]}, the intrinsics are for '
                         f'{intrinsics.width}×{intrinsics.height}')
    grid = _grid(intrinsics)
    z = grid.nearest(depth)
    if settings.edge_filter > 0:
        z = snap_edges(z, settings.edge_filter)
    rays = grid.rays(plane)
    x, y, height = rays * z
    height += np.float32(plane.height)
    ranges = cv2.magnitude(x, y)  # np.hypot takes ten times as long
    sigma = np.sqrt(np.float32(HEIGHT_ERROR * plane.height) ** 2
                    + (np.float32(ANGLE_ERROR) * ranges) ** 2)
    least = np.maximum(np.float32(settings.min_height), np.float32(SIGMAS) * sigma)
    chosen = ((height > least) & (height < settings.max_height)
              & (ranges >= settings.min_range) & (ranges <= settings.max_range))
    floor = (height <= least / 2) & (ranges <= settings.max_range)
    chosen &= ~_bent_floor(floor, height / np.float32(plane.height))
    return Obstacles(x, y, height, ranges, z, chosen, rays, grid, plane, settings)


def _bent_floor(floor: npt.NDArray[np.bool_], height: Floats) -> npt.NDArray[np.bool_]:
    """Pixels above the floor that are floor, bent up at the image's lower edge: bool h×w.

    In a column they are the run from the lower edge up to the first pixel that is floor, if it is
    like a bend: no longer than BEND_ROWS, no higher than BEND_HEIGHT, without a step down to the
    pixel above it, and rising all the way to the lower edge. A platform's top does not rise so.

    Args:
        floor: bool h×w, pixels that are seen to be floor.
        height: h×w, share of the camera's height above the floor; NaN where unknown.
    """
    from_below = ~np.logical_or.accumulate(floor[::-1])[::-1]
    length = from_below.sum(0)
    columns = np.flatnonzero((length > 0) & (length <= BEND_ROWS * len(floor)))
    first = len(floor) - length[columns]  # row of the uppermost
    above, lowest = height[first - 1, columns], height[-1, columns]
    run = np.where(from_below, height, np.float32(0))[:, columns]
    mean = run.sum(0) / length[columns]
    columns = columns[(run.max(0) < BEND_HEIGHT) & (np.abs(above) < BEND_HEIGHT)
                      & (height[first, columns] - above < BEND_STEP)
                      & (mean - above < BEND_MEAN * (lowest - above))]
    bent = np.zeros_like(floor)
    bent[:, columns] = from_below[:, columns]
    return bent


def obstacle_cloud(obstacles: Obstacles, rgb: npt.NDArray[np.uint8] | None = None
                   ) -> npt.NDArray[np.void]:
    """Points that stand above the floor, thinned by voxels.

    Args:
        obstacles: Of :func:`find_obstacles`.
        rgb: H×W×3, the image; without it the points are black.

    Returns:
        1×N of dtype ``point_cloud.POINT``, in the optical frame.
    """
    grid, settings = obstacles.grid, obstacles.settings
    pixels = np.flatnonzero(obstacles.chosen)
    if settings.voxel_size > 0:  # one of the points in each, no mean of several surfaces
        places = (obstacles.x + np.float32(settings.max_range),
                  obstacles.y + np.float32(settings.max_range), obstacles.height)
        index = tuple((place.ravel()[pixels] / np.float32(settings.voxel_size)).astype(np.int32)
                      for place in places)
        last = np.empty(settings.voxels, np.int32)
        last[index] = pixels
        pixels = pixels[last[index] == pixels]
    v, u = np.divmod(pixels, obstacles.depth.shape[1])
    z = obstacles.depth[v, u]
    cloud = np.zeros((1, v.size), POINT)
    cloud['x'], cloud['y'], cloud['z'] = grid.x[0, u] * z, grid.y[v, 0] * z, z
    if rgb is not None:
        cloud['rgb'] = pack_rgb(rgb[grid.rows, grid.columns][v, u])
    return cloud


def obstacle_cells(obstacles: Obstacles, size: float) -> npt.NDArray[np.bool_]:
    """Cells of the floor plane that hold an obstacle, as in a costmap.

    Args:
        obstacles: Of :func:`find_obstacles`.
        size: Metres, of a cell.

    Returns:
        bool n×2n: rows go forward from the camera, columns to the left from max_range at the right.
    """
    farthest = obstacles.settings.max_range
    count = int(np.ceil(farthest / size))
    cells = np.zeros((count, 2 * count), bool)
    rows = np.floor(obstacles.x[obstacles.chosen] / size).astype(int)
    columns = np.floor((obstacles.y[obstacles.chosen] + farthest) / size).astype(int)
    inside = (rows >= 0) & (rows < count) & (columns >= 0) & (columns < 2 * count)
    cells[rows[inside], columns[inside]] = True
    return cells


def scan_angles(intrinsics: Intrinsics, plane: FloorPlane, settings: ObstacleSettings
                ) -> ScanAngles:
    """The directions of a scan by this camera: they stay, while the floor's plane changes a little.

    Args:
        intrinsics: Of the image.
        plane: The floor where the camera stands level.
        settings: What counts.
    """
    grid = _grid(intrinsics)
    direction, reach = _directions(grid.rays(plane), plane, settings)
    seen = reach > settings.min_range
    increment = 1.05 * grid.columns.step / intrinsics.fx  # a column, at least, in each direction
    right, left = ((-direction[seen].min(), direction[seen].max()) if seen.any() else (0.0, 0.0))
    below, above = (int(np.ceil(edge / increment)) for edge in (right, left))
    middle = reach[:, np.abs(grid.x[0]).argmin()].max()
    farthest = min(settings.max_range, max(np.floor(middle * 10) / 10, settings.min_range))
    return ScanAngles(-below * increment, increment, below + above + 1, float(farthest))


def obstacle_scan(obstacles: Obstacles, angles: ScanAngles) -> Scan:
    """The nearest obstacle in each direction.

    Args:
        obstacles: Of :func:`find_obstacles`.
        angles: Of :func:`scan_angles`.
    """
    direction, reach = _directions(obstacles.rays, obstacles.plane, obstacles.settings)
    index = np.rint((direction - np.float32(angles.first))
                    / np.float32(angles.increment)).astype(np.intp)
    inside = (index >= 0) & (index < angles.count) & (reach > 0)
    hits = inside & obstacles.chosen
    nearest = np.full(angles.count, np.inf, np.float32)
    np.minimum.at(nearest, index[hits], obstacles.ranges[hits])
    total, known = (np.bincount(index[pixels], minlength=angles.count) for pixels in (
        inside, inside & np.isfinite(obstacles.depth)))
    # a direction whose highest ray ends on the floor before range_max is not seen up to there
    through = np.bincount(index[inside & (reach >= REACH_SHARE * angles.range_max)],
                          minlength=angles.count)
    free = (known >= KNOWN_SHARE * total) & (through > 0)
    return Scan(np.where(np.isinf(nearest) & ~free, np.float32(np.nan), nearest), angles.first,
                angles.increment)


def _directions(rays: Floats, plane: FloorPlane, settings: ObstacleSettings
                ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Of each pixel's ray: radians to the left of forward, and metres up to which it shows
    obstacles; 0 where it passes above all of them.
    """
    forward, left, up = rays
    slope = up / np.maximum(cv2.magnitude(forward, left), np.float32(1e-6))
    room = settings.max_height - plane.height  # from the camera up to what is passed under
    above = slope >= max(room / max(settings.min_range, 1e-3), room / settings.max_range)
    with np.errstate(divide='ignore'):
        floor = np.where(slope < 0, np.float32(-plane.height) / slope, np.float32(np.inf))
    reach = np.where(above, np.float32(0), np.minimum(floor, np.float32(settings.max_range)))
    return np.arctan2(left, forward), reach
