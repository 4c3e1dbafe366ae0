"""Obstacles above the floor, out of depth: points for a costmap, and a laser scan.

The floor is fitted as a plane to what the network sees as the floor, so that its scale error does
not lift the floor into obstacles. Frames are optical frames (REP 103); heights are metres above the
floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.floor import find_floor
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import POINT, pack_rgb, voxel_downsample

Floats = npt.NDArray[np.floating]

GRID_WIDTH = 160         # pixels across at which depth is looked at
MAX_RAMP = np.deg2rad(12)  # a plane that is steeper against gravity is no floor
FLOOR_MEMORY = 0.5       # seconds over which the floor is averaged
FLOOR_HOLD = 3.0         # seconds that a floor is kept when it is not seen
FIT_ROUNDS, FIT_TOLERANCE = 3, 0.06  # of the plane; log depth within which a cell is of it
# One standard deviation of a floor point's height: a share of the camera's height, and an angle.
HEIGHT_ERROR, ANGLE_ERROR = 0.025, np.deg2rad(0.8)
SIGMAS = 2.0             # so many of them must a point be above the floor
KNOWN_SHARE = 0.5        # of a direction's pixels: with less known depth it is unknown


@dataclass(frozen=True)
class FloorPlane:
    """The floor under a camera.

    Attributes:
        up: 3, unit vector away from the floor, in the optical frame.
        height: Metres of the camera above it, as the depth has it.
    """

    up: npt.NDArray[np.float64]
    height: float

    @classmethod
    def from_gravity(cls, height: float, down: npt.ArrayLike) -> FloorPlane:
        """A level floor. height: metres; down: 3, gravity in the optical frame."""
        direction = np.asarray(down, np.float64)
        return cls(-direction / np.linalg.norm(direction), height)


@dataclass(frozen=True)
class ObstacleSettings:
    """What counts as an obstacle.

    Attributes:
        min_height: Metres above the floor; lower things count only where depth is sure of them.
        max_height: Metres above the floor; higher things are passed under.
        min_range: Metres along the floor.
        max_range: Metres along the floor.
        voxel_size: Metres, of the thinning; 0: none.
        angles: Directions of the scan over the camera's field of view.
    """

    min_height: float = 0.05
    max_height: float = 1.8
    min_range: float = 0.2
    max_range: float = 4.0
    voxel_size: float = 0.05
    angles: int = 160

    def __post_init__(self) -> None:
        if not 0 <= self.min_height < self.max_height:
            raise ValueError(f'obstacle heights {self.min_height:g} to {self.max_height:g} m hold '
                             'nothing: make the upper one larger')
        if not 0 <= self.min_range < self.max_range:
            raise ValueError(f'obstacle ranges {self.min_range:g} to {self.max_range:g} m hold '
                             'nothing: make the upper one larger')


@dataclass(frozen=True)
class Scan:
    """A planar scan in a level frame: x forward, y left, the origin under the camera.

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


class FloorTracker:
    """The floor under a moving camera: fitted in each frame, averaged, held where it is not seen.

    Attributes:
        reason: Why it was not seen in the last frame; empty where it was.
    """

    def __init__(self) -> None:
        self._plane: FloorPlane | None = None
        self._seen = 0.0
        self.reason = ''

    def update(self, depth: npt.NDArray[np.float32], intrinsics: Intrinsics, height: float,
               down: npt.ArrayLike, seconds: float) -> FloorPlane | None:
        """The floor in this frame; None where it was not seen for FLOOR_HOLD seconds.

        Args:
            depth: H×W metres.
            intrinsics: Of the image.
            height: Metres of the camera above the floor, about.
            down: 3, gravity in the optical frame.
            seconds: The frame's time.
        """
        plane, self.reason = fit_floor(depth, intrinsics, height, down)
        passed = seconds - self._seen
        if plane is None:
            return self._plane if self._plane and 0 <= passed <= FLOOR_HOLD else None
        if self._plane and 0 <= passed <= FLOOR_HOLD:
            share = 1 - np.exp(-max(passed, 0.0) / FLOOR_MEMORY)
            up = (1 - share) * self._plane.up + share * plane.up
            log_height = ((1 - share) * np.log(self._plane.height)
                          + share * np.log(plane.height))
            plane = FloorPlane(up / np.linalg.norm(up), float(np.exp(log_height)))
        self._plane, self._seen = plane, seconds
        return plane


def fit_floor(depth: npt.NDArray[np.float32], intrinsics: Intrinsics, height: float,
              down: npt.ArrayLike) -> tuple[FloorPlane | None, str]:
    """The plane that depth has as the floor, and why there is none.

    Inverse depth of a plane is linear in the image; it is fitted to the cells that
    :func:`hybrid_depth_ros.anchors.floor.find_floor` finds, those off it left out.
    """
    floor = find_floor(depth, intrinsics, height, down)
    if floor.reason:
        return None, floor.reason
    columns, rows = floor.anchors.u.astype(int), floor.anchors.v.astype(int)
    rays = np.stack(((columns - intrinsics.cx) / intrinsics.fx,
                     (rows - intrinsics.cy) / intrinsics.fy, np.ones(columns.size)), axis=1)
    z = depth[rows, columns].astype(np.float64)
    kept = np.isfinite(z) & (z > 0)
    plane = np.zeros(3)
    for _ in range(FIT_ROUNDS):
        if kept.sum() < 3:
            return None, 'too little of the floor is seen'
        weights = z[kept, None]  # of relative errors
        plane = np.linalg.lstsq(rays[kept] * weights, np.ones(int(kept.sum())), rcond=None)[0]
        with np.errstate(invalid='ignore', divide='ignore'):
            kept = np.abs(np.log(rays @ plane * z)) < FIT_TOLERANCE
    length = float(np.linalg.norm(plane))
    direction = np.asarray(down, np.float64) / np.linalg.norm(down)
    tilt = np.arccos(np.clip(plane @ direction / length, -1, 1))
    if tilt > MAX_RAMP:  # what was found is level by the cells alone
        return FloorPlane(-direction, floor.height), ''
    return FloorPlane(-plane / length, 1 / length), ''


@dataclass(frozen=True)
class LevelPoints:
    """Depth on a grid of pixels, as places above the floor; NaN where unknown.

    Attributes:
        x: h×w metres forward along the floor.
        y: h×w metres to the left.
        height: h×w metres above the floor.
        depth: h×w metres.
        rows: h, of the grid in the image.
        columns: w, likewise.
        intrinsics: Of the image.
        plane: The floor.
    """

    x: Floats
    y: Floats
    height: Floats
    depth: Floats
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    intrinsics: Intrinsics
    plane: FloorPlane


def _level_axes(plane: FloorPlane) -> tuple[Floats, Floats]:
    """Forward and left along the floor, unit vectors in the optical frame."""
    axis = np.array([0.0, 0.0, 1.0])
    forward = axis - plane.up * plane.up[2]
    if np.linalg.norm(forward) < 0.1:  # it looks straight down: the image's top is forward
        axis = np.array([0.0, -1.0, 0.0])
        forward = axis - plane.up * (plane.up @ axis)
    forward /= np.linalg.norm(forward)
    return forward, np.cross(plane.up, forward)


def level_points(depth: npt.NDArray[np.float32], intrinsics: Intrinsics,
                 plane: FloorPlane) -> LevelPoints:
    """Depth as places above the floor.

    Args:
        depth: H×W metres, NaN where unknown or too uncertain.
        intrinsics: Of the image.
        plane: The floor.
    """
    step = max(1, round(depth.shape[1] / GRID_WIDTH))
    rows, columns = (np.arange(step // 2, size, step) for size in depth.shape)
    x = ((columns - intrinsics.cx) / intrinsics.fx).astype(np.float32)[None]
    y = ((rows - intrinsics.cy) / intrinsics.fy).astype(np.float32)[:, None]
    z = depth[rows[:, None], columns]
    z = np.where(np.isfinite(z) & (z > 0), z, np.float32(np.nan))
    forward, left = _level_axes(plane)

    def along(axis: Floats) -> Floats:
        a, b, c = axis.astype(np.float32)
        return (a * x + b * y + c) * z
    return LevelPoints(along(forward), along(left),
                       along(plane.up) + np.float32(plane.height), z, rows, columns, intrinsics,
                       plane)


def _is_obstacle(points: LevelPoints,
                 settings: ObstacleSettings) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Which points are obstacles, and how far all are along the floor."""
    ranges = np.hypot(points.x, points.y)
    sigma = np.hypot(np.float32(HEIGHT_ERROR * points.plane.height),
                     np.float32(ANGLE_ERROR) * ranges)
    least = np.maximum(np.float32(settings.min_height), np.float32(SIGMAS) * sigma)
    return ((points.height > least) & (points.height < settings.max_height)
            & (ranges >= settings.min_range) & (ranges <= settings.max_range)), ranges


def obstacle_cloud(points: LevelPoints, settings: ObstacleSettings,
                   rgb: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.void]:
    """Points that stand above the floor, thinned by voxels.

    Args:
        points: Of :func:`level_points`.
        settings: What counts.
        rgb: H×W×3, the image; without it the points are black.

    Returns:
        1×N of dtype ``point_cloud.POINT``, in the optical frame.
    """
    chosen, _ = _is_obstacle(points, settings)
    v, u = np.nonzero(chosen)
    intrinsics = points.intrinsics
    cloud = np.zeros((1, v.size), POINT)
    z = points.depth[v, u]
    rows, columns = points.rows[v], points.columns[u]
    cloud['x'] = (columns - intrinsics.cx) / intrinsics.fx * z
    cloud['y'] = (rows - intrinsics.cy) / intrinsics.fy * z
    cloud['z'] = z
    if rgb is not None:
        cloud['rgb'] = pack_rgb(rgb[rows, columns])
    return voxel_downsample(cloud, settings.voxel_size) if settings.voxel_size > 0 else cloud


def obstacle_cells(points: LevelPoints, settings: ObstacleSettings,
                   size: float) -> npt.NDArray[np.bool_]:
    """Cells of the floor plane that hold an obstacle, as in a costmap.

    Args:
        points: Of :func:`level_points`.
        settings: What counts.
        size: Metres, of a cell.

    Returns:
        bool n×2n: rows go forward from the camera, columns to the left from max_range at the right.
    """
    chosen, _ = _is_obstacle(points, settings)
    count = int(np.ceil(settings.max_range / size))
    cells = np.zeros((count, 2 * count), bool)
    rows = np.floor(points.x[chosen] / size).astype(int)
    columns = np.floor((points.y[chosen] + settings.max_range) / size).astype(int)
    inside = (rows >= 0) & (rows < count) & (columns >= 0) & (columns < 2 * count)
    cells[rows[inside], columns[inside]] = True
    return cells


def obstacle_scan(points: LevelPoints, settings: ObstacleSettings) -> Scan:
    """The nearest obstacle in each direction.

    Args:
        points: Of :func:`level_points`.
        settings: What counts.
    """
    chosen, ranges = _is_obstacle(points, settings)
    intrinsics = points.intrinsics
    left_edge = np.arctan((intrinsics.cx + 0.5) / intrinsics.fx)
    right_edge = np.arctan((intrinsics.width - 0.5 - intrinsics.cx) / intrinsics.fx)
    increment = float(left_edge + right_edge) / settings.angles
    angle_min = -float(right_edge) + increment / 2

    def direction(y: Floats, x: Floats) -> npt.NDArray[np.intp]:
        return np.floor((np.arctan2(y, x) + right_edge) / increment).astype(np.intp)
    nearest = np.full(settings.angles, np.inf, np.float32)
    bins = direction(points.y[chosen], points.x[chosen])
    inside = (bins >= 0) & (bins < settings.angles)
    np.minimum.at(nearest, bins[inside], ranges[chosen][inside])
    # A direction is a column of the image, about: how much of its depth is known?
    columns = direction(-(points.columns - intrinsics.cx) / intrinsics.fx,
                        np.ones(points.columns.size)).clip(0, settings.angles - 1)
    concerned = _may_show_obstacles(points, settings)
    known = np.bincount(columns, (np.isfinite(points.depth) & concerned).sum(0), settings.angles)
    total = np.bincount(columns, concerned.sum(0), settings.angles)
    filled = np.flatnonzero(total)
    if not filled.size:
        return Scan(np.full(settings.angles, np.nan, np.float32), angle_min, increment)
    share = np.interp(np.arange(settings.angles), filled, known[filled] / total[filled])
    unknown = np.isinf(nearest) & (share < KNOWN_SHARE)
    return Scan(np.where(unknown, np.float32(np.nan), nearest), angle_min, increment)


def _may_show_obstacles(points: LevelPoints,
                        settings: ObstacleSettings) -> npt.NDArray[np.bool_]:
    """Pixels whose rays pass below the height of obstacles somewhere within the range."""
    intrinsics, plane = points.intrinsics, points.plane
    x = ((points.columns - intrinsics.cx) / intrinsics.fx)[None]
    y = ((points.rows - intrinsics.cy) / intrinsics.fy)[:, None]

    def along(axis: Floats) -> Floats:
        total: Floats = axis[0] * x + axis[1] * y + axis[2]
        return total
    forward, left = _level_axes(plane)
    slope = along(plane.up) / np.maximum(np.hypot(along(forward), along(left)), 1e-6)
    room = settings.max_height - plane.height
    return np.asarray(slope < max(room / max(settings.min_range, 1e-3),
                                  room / settings.max_range))
