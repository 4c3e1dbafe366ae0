"""What a costmap keeps of a thing that is gone: ``python -m hybrid_depth_ros.benchmark.costmap``.

A cylinder stands before a swaying camera in virtual rooms, and vanishes. A small model of nav2's
layers marks and clears cells by what the depth node publishes, and by what it published before.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.arguments import exit_on_error
from hybrid_depth_ros.benchmark.room_arguments import (
    room_parser,
    room_seeds,
    walk_stops,
    write_report,
)
from hybrid_depth_ros.benchmark.stages import FOV
from hybrid_depth_ros.floor_plane import FloorPlane, FloorTracker, fit_floor, level_axes
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.obstacles import (
    ObstacleSettings,
    Scan,
    find_obstacles,
    obstacle_cloud,
    obstacle_scan,
    scan_angles,
)
from hybrid_depth_ros.outlines import depth_edges
from hybrid_depth_ros.point_cloud import organised_cloud
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import WALK_SECONDS, Room, upright_camera_pose
from hybrid_depth_ros.virtual_room.shapes import Cylinder
from hybrid_depth_ros.virtual_room.textures import Painter

Floats = npt.NDArray[np.floating]

CELL, SIZE = 0.05, 4.0   # metres: of a cell, of the map to each side
HEIGHT, PITCH = 0.6, 8.0  # metres of the camera above the floor, degrees down
AHEAD, RADIUS, TALL = 1.5, 0.15, 0.8  # metres, of the cylinder
FREE_BEHIND, FREE_BESIDE = 0.9, 0.6  # metres, of the cylinder, without furniture
AROUND = 0.5             # metres to each side of the cylinder: cells that count
PLACES = 2               # in each room
BEFORE, AFTER = 3, 10    # costmap updates with the cylinder, and without
UPDATE = 0.2             # seconds from one update to the next
STRIDE, EDGE_FILTER = 8, 0.05  # of the clouds
KEPT = 0.1               # share of the cylinder's cells that may be left


class Costmap:
    """Cells around a sensor at 0, 0 that looks along x, as nav2's layers mark and clear them.

    nav2_costmap_2d's obstacle layer has one level: a ray clears all heights. Its voxel layer has
    several, and its rays end two cells before their points. Each update clears, then marks.

    Args:
        size: Metres to each side.
        levels: Of voxels, from the floor; 1: an obstacle layer.
        level_height: Metres, of each.
        sensor_height: Metres above the floor.
    """

    def __init__(self, size: float = SIZE, levels: int = 1, level_height: float = 0.1,
                 sensor_height: float = 0.0) -> None:
        count = 2 * round(size / CELL)
        self._marked = np.zeros((count, count, levels), bool)
        self._size, self._level_height = size, level_height
        self._origin = np.array([0.0, 0.0, sensor_height])

    @property
    def lethal(self) -> npt.NDArray[np.bool_]:
        """bool n×n: rows along x, columns along y, the sensor in the middle."""
        return np.asarray(self._marked.any(2))

    def update(self, marks: Floats, ends: Floats, mark_range: float, clear_range: float) -> None:
        """One cycle.

        Args:
            marks: N×3, points that mark, within `mark_range` metres; x, y along the floor, height.
            ends: M×3, ends of the rays that clear, up to `clear_range` metres; NaN: no ray.
            mark_range: ``obstacle_max_range``.
            clear_range: ``raytrace_max_range``.
        """
        ends = ends[np.isfinite(ends).all(1)]
        rays = ends - self._origin
        flat = self._marked.shape[2] == 1
        rays = rays[np.hypot(*rays[:, :2].T) > CELL]
        length = np.linalg.norm(rays[:, :2] if flat else rays, axis=1)
        reach = np.minimum(length if flat else np.maximum(length - 2 * CELL, 0), clear_range)
        order = np.argsort(reach)  # so that those that reach so far are the last ones
        rays, reach = rays[order] / length[order, None], reach[order]
        for along in np.arange(0, clear_range, CELL / 2 if flat else CELL):
            self._set(self._origin + rays[np.searchsorted(reach, along):] * along, False)
        distance = np.linalg.norm((marks - self._origin)[:, :2 if flat else 3], axis=1)
        self._set(marks[distance < mark_range], True)

    def _set(self, points: Floats, marked: bool) -> None:
        count, _, levels = self._marked.shape
        x, y = ((points[:, axis] + self._size) * (1 / CELL) for axis in (0, 1))
        z = points[:, 2] * (1 / self._level_height) if levels > 1 else np.zeros_like(x)
        inside = (x >= 0) & (x < count) & (y >= 0) & (y < count) & (z >= 0) & (z < levels)
        self._marked[tuple(place[inside].astype(np.int32) for place in (x, y, z))] = marked


def scan_ends(scan: Scan, range_max: float) -> npt.NDArray[np.float64]:
    """Where the rays of a scan end, as nav2 reads it with ``inf_is_valid``: N×3, NaN for none."""
    ranges = np.where(np.isposinf(scan.ranges), range_max - 1e-4, scan.ranges)
    ranges = np.where(ranges < range_max, ranges, np.nan)
    return np.stack((ranges * np.cos(scan.angles), ranges * np.sin(scan.angles),
                     np.zeros_like(ranges)), axis=1)


def level_cloud(cloud: npt.NDArray[np.void], plane: FloorPlane) -> npt.NDArray[np.float64]:
    """N×3: x and y along the floor, height; NaN where the cloud has no point."""
    points = np.stack([cloud[axis].ravel() for axis in 'xyz'], axis=1).astype(float)
    level = points @ level_axes(plane)
    level[:, 2] += plane.height
    return np.asarray(level)


Predictor = Callable[..., npt.NDArray[np.float32]]
Update = Callable[[npt.NDArray[np.float32], float], None]


def ways(camera: Intrinsics, settings: ObstacleSettings) -> dict[str, tuple[Costmap, Update]]:
    """Costmaps, and what updates each by a frame's depth and time."""
    level = FloorPlane.from_gravity(HEIGHT, down_from_pitch(PITCH))
    floor, angles = FloorTracker(), scan_angles(camera, level, settings)
    flat = Costmap()
    rgb = np.zeros((camera.height, camera.width, 3), np.uint8)

    def obstacles_and_scan(depth: npt.NDArray[np.float32], seconds: float) -> None:
        plane = floor.update(depth, camera, HEIGHT, down_from_pitch(PITCH), seconds) or level
        found = find_obstacles(depth, camera, plane, settings)
        flat.update(level_cloud(obstacle_cloud(found), level),
                    scan_ends(obstacle_scan(found, angles), angles.range_max), 3.0, 3.5)

    solid = Costmap(levels=16, level_height=0.15, sensor_height=HEIGHT)

    def obstacles_and_points(depth: npt.NDArray[np.float32], seconds: float) -> None:
        plane = floor.update(depth, camera, HEIGHT, down_from_pitch(PITCH), seconds) or level
        found = find_obstacles(depth, camera, plane, settings)
        solid.update(level_cloud(obstacle_cloud(found), level),
                     level_cloud(organised_cloud(depth, rgb, camera, STRIDE), level), 3.0, 3.5)

    def by_cloud(dropped: bool) -> tuple[Costmap, Update]:
        voxels = Costmap(levels=16, sensor_height=HEIGHT)

        def update(depth: npt.NDArray[np.float32], seconds: float) -> None:
            kept = (np.where(depth_edges(depth, 0.1), np.float32(np.nan), depth) if dropped
                    else depth)
            points = level_cloud(organised_cloud(
                kept, rgb, camera, STRIDE, 0.3, 10.0, 0.0 if dropped else EDGE_FILTER), level)
            marks = points[(points[:, 2] > 0.2) & (points[:, 2] < 1.6)]
            voxels.update(marks, points, 3.0, 3.5)
        return voxels, update
    return {'`depth/obstacles` marks, `depth/scan` clears': (flat, obstacles_and_scan),
            '`depth/obstacles` marks, all points clear, voxels': (solid, obstacles_and_points),
            '`depth/points` marks and clears': by_cloud(False),
            'earlier: points dropped at outlines': by_cloud(True)}


def swaying_pose(room: Room, place: float, step: int) -> npt.NDArray[np.float64]:
    """The camera at a place of the room's walk, a little off it: 4×4, optical frame → world."""
    walk = room.camera_pose(place)
    yaw = np.arctan2(walk[1, 2], walk[0, 2])
    sway = 0.01 * np.array([np.sin(2.1 * step), np.cos(1.3 * step)])
    return upright_camera_pose([*(walk[:2, 3] + sway), HEIGHT], yaw + sway[0],
                               -np.deg2rad(PITCH) + sway[1] / 2)


def make_way(room: Room, pose: npt.NDArray[np.float64]) -> None:
    """Take out the furniture that stands between the camera and what is behind the cylinder."""
    ahead = pose[:2, 2] / np.linalg.norm(pose[:2, 2])
    left = np.array([-ahead[1], ahead[0]])

    def in_the_way(corners: Floats) -> bool:
        x, y = ((corners[:, :2] - pose[:2, 3]) @ axis for axis in (ahead, left))
        return bool(x.max() > 0 and x.min() < AHEAD + FREE_BEHIND
                    and y.max() > -FREE_BESIDE and y.min() < FREE_BESIDE)
    room.objects = [item for item in room.objects if not in_the_way(item.corners)]


def place_with_floor(predictor: Predictor, camera: Intrinsics, seed: int, start: float
                     ) -> tuple[Room, float]:
    """A room with free way ahead, and a second of its walk in which the network sees its floor."""
    for second in start + np.arange(0, WALK_SECONDS, 5.0):
        room = Room(seed)
        pose = swaying_pose(room, second, 0)
        make_way(room, pose)
        rgb, _ = room.render(camera, pose)
        if fit_floor(predictor(rgb, fx=camera.fx), camera, HEIGHT, down_from_pitch(PITCH))[0]:
            break
    return room, float(second)


def vanish(predictor: Predictor, seeds: Sequence[int]) -> dict[str, dict[str, float]]:
    """How many of a vanished cylinder's cells are left, by way.

    Args:
        predictor: A :class:`hybrid_depth_ros.predictor.DepthPredictor`.
        seeds: Of the rooms.

    Returns:
        For each way ``cells`` that the cylinder had, ``left`` after one update and after all,
        ``places`` that keep more than KEPT of them after all, and ``seconds`` until a place has no
        more of them than that (median; the last update's where it never has).
    """
    camera = Intrinsics.from_horizontal_fov(640, 480, FOV)
    kept: dict[str, list[list[int]]] = {}
    for seed in seeds:
        for seconds in walk_stops(seed, PLACES):
            room, start = place_with_floor(predictor, camera, seed, seconds)
            middle = swaying_pose(room, start, 0)
            ahead = middle[:2, 2] / np.linalg.norm(middle[:2, 2])
            cylinder = Cylinder([*(middle[:2, 3] + AHEAD * ahead), TALL / 2], RADIUS, TALL,
                                Painter(np.random.default_rng(seed)).plain(
                                    np.array([150.0, 60, 50])))
            maps, fresh = (ways(camera, ObstacleSettings()) for _ in range(2))
            history: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in maps}
            for step in range(BEFORE + AFTER):
                if step < BEFORE:
                    room.objects.append(cylinder)
                rgb, _ = room.render(camera, swaying_pose(room, start, step))
                if step < BEFORE:
                    room.objects.pop()
                depth = predictor(rgb, fx=camera.fx)
                for name, (costmap, update) in maps.items():
                    update(depth, step * UPDATE)
                    if step == BEFORE + AFTER - 1:
                        fresh[name][1](depth, step * UPDATE)
                    history[name].append(costmap.lethal.copy())
            x, y = np.indices(history[next(iter(maps))][0].shape) * CELL - SIZE
            around = (np.abs(x - AHEAD) < AROUND) & (np.abs(y) < AROUND)
            for name, states in history.items():
                own = states[BEFORE - 1] & ~fresh[name][0].lethal & around
                kept.setdefault(name, []).append(
                    [int((own & state).sum()) for state in states[BEFORE - 1:]])
    report = {}
    for name, counts in kept.items():
        table = np.array(counts)
        gone = table[:, 1:] <= KEPT * np.maximum(table[:, :1], 1)
        first = np.where(gone.any(1), gone.argmax(1) + 1, AFTER)
        report[name] = {'cells': float(table[:, 0].mean()), 'left': float(table[:, 1].mean()),
                        'left at the end': float(table[:, -1].mean()),
                        'places': int((~gone[:, -1]).sum()), 'of': len(table),
                        'seconds': float(np.median(first) * UPDATE)}
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = room_parser(__doc__, 'costmap', 605).parse_args(argv)
    with exit_on_error('costmap'):
        report = vanish(DepthPredictor(args.weights, 'cpu'),
                        room_seeds(args))
        for name, row in report.items():
            print(f'{name}: {row["cells"]:.0f} cells of the cylinder, {row["left"]:.1f} left after '
                  f'{UPDATE:g} s, {row["left at the end"]:.1f} after {AFTER * UPDATE:g} s; '
                  f'{row["places"]} of {row["of"]} places keep more than {KEPT:.0%}; gone after '
                  f'{row["seconds"]:.1f} s')
        write_report(args, report)


if __name__ == '__main__':
    main()
