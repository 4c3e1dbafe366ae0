"""Obstacles that a network shows: ``python -m hybrid_depth_ros.benchmark.obstacles``.

Virtual rooms from cameras at several heights; alone, and with each anchor. What is published is
compared with all points of the depth: nothing may be lost on the way to a costmap.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.corrector import AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.arguments import exit_on_error
from hybrid_depth_ros.benchmark.room_arguments import (
    room_parser,
    room_seeds,
    walk_stops,
    write_report,
)
from hybrid_depth_ros.benchmark.room_sensors import SensedRoom
from hybrid_depth_ros.benchmark.stages import FOV
from hybrid_depth_ros.floor_plane import FloorPlane, fit_floor, level_axes
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.obstacle_metrics import ObstacleScores
from hybrid_depth_ros.obstacles import (
    ObstacleSettings,
    find_obstacles,
    obstacle_cloud,
    obstacle_scan,
    scan_angles,
)
from hybrid_depth_ros.point_cloud import organised_cloud
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room

SIZE = (640, 480)
PLACES = 4  # views of each room
SETTINGS = ObstacleSettings(min_height=0.1, max_height=1.0)
DIRECTIONS = 64          # over the camera's field of view, for all points and what is published
NEAR, FREE = 2.0, 2.6    # metres: an obstacle is within, a free direction has none within
ACROSS_VOXEL = 33        # directions of a voxel: less than one of DIRECTIONS apart, from 0.1 m on
MISSED, TOO_FAR = 2.5, 1.25  # metres within which one must be seen; factor of its distance
STEP, IMAGES = 0.4, 6    # seconds from image to image, and how many motion has seen
EDGE_FILTER = 0.05       # the depth node's default
MOUNTS = ((1.4, 11.0), (1.0, 8.0), (0.7, 8.0), (0.35, 3.0))  # metres high, degrees down


class ProductScores:
    """How the nearest obstacle in each direction is seen in each product of a depth image."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}

    def add(self, depth: npt.NDArray[np.float32], truth: npt.NDArray[np.float32],
            camera: Intrinsics, height: float, down: npt.ArrayLike) -> None:
        """Add one image: depth and truth H×W metres, the camera's height, gravity."""
        level = FloorPlane.from_gravity(height, down)
        plane = fit_floor(depth, camera, height, down)[0] or level
        obstacles = find_obstacles(depth, camera, plane, SETTINGS)
        rgb = np.zeros((*depth.shape, 3), np.uint8)
        scan = obstacle_scan(obstacles, scan_angles(camera, level, SETTINGS))
        edges = np.linspace(-1, 1, DIRECTIONS + 1) * np.arctan(camera.width / 2 / camera.fx)
        true = _nearest(organised_cloud(truth, rgb, camera), level, edges)
        thinned, everything = obstacle_cloud(obstacles), (-np.inf, np.inf)
        everything_seen = _nearest(organised_cloud(depth, rgb, camera), level, edges)
        published = _nearest(organised_cloud(depth, rgb, camera, edge_filter=EDGE_FILTER), level,
                             edges)
        in_scan = _binned(scan.angles, scan.ranges, edges)
        products = {  # ranges of voxels, and of the points that stand for them
            'all points': (everything_seen, everything_seen),
            'depth/points': (published, published),
            'depth/obstacles': (
                _nearest(thinned, level, edges, everything, SETTINGS.voxel_size),
                _nearest(thinned, level, edges, everything)),
            'depth/scan': (in_scan, in_scan)}
        for name, (ranges, least) in products.items():
            counts = self._counts.setdefault(name, dict.fromkeys(
                ('near', 'too far', 'missed', 'free', 'false'), 0))
            near, free = true < NEAR, true > FREE
            for key, chosen in (('near', near), ('free', free),
                                ('missed', near & (ranges > MISSED)),
                                ('too far', near & (ranges > TOO_FAR * true)),
                                ('false', free & (least < NEAR))):
                counts[key] += int(chosen.sum())

    def report(self) -> dict[str, dict[str, float]]:
        """By product, how many directions are near and free, and the shares of them that are over
        25 % too far, not seen, and false.
        """
        return {name: {'near': count['near'], 'free': count['free'], **{
            key: count[key] / max(count[whole], 1) for key, whole in (
                ('too far', 'near'), ('missed', 'near'), ('false', 'free'))}}
            for name, count in self._counts.items()}


def _nearest(cloud: npt.NDArray[np.void], level: FloorPlane, edges: npt.NDArray[np.float64],
             heights: tuple[float, float] = (SETTINGS.min_height, SETTINGS.max_height),
             width: float = 0.0) -> npt.NDArray[np.float64]:
    """Range of the nearest point in each direction; a point stands for a voxel of this width."""
    x, y, up = (axis[0] * cloud['x'] + axis[1] * cloud['y'] + axis[2] * cloud['z']
                for axis in level_axes(level).T)
    height = up + level.height
    chosen = (height > heights[0]) & (height < heights[1])
    angles, ranges = np.arctan2(y[chosen], x[chosen]), np.hypot(x[chosen], y[chosen])
    half = width / 2 / np.maximum(ranges, 0.1)
    return np.min([_binned(angles + side * half, ranges, edges)
                   for side in (np.linspace(-1, 1, ACROSS_VOXEL) if width else (0,))], axis=0)


def _binned(angles: npt.NDArray[np.floating], ranges: npt.NDArray[np.floating],
            edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The least range between each two edges; inf where there is none."""
    nearest = np.full(edges.size - 1, np.inf)
    index = np.searchsorted(edges, angles) - 1
    inside = (index >= 0) & (index < nearest.size) & np.isfinite(ranges)
    np.minimum.at(nearest, index[inside], ranges[inside])
    return nearest


def depths_at(predictor: DepthPredictor, room: Room, camera: Intrinsics, seconds: float,
              height: float, pitch: float) -> tuple[
        dict[str, npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """Depth alone and with each anchor at a second of the walk, and the truth: H×W metres."""
    sensed = {anchor: SensedRoom(room, anchor, pitch) for anchor in ('floor', 'scan', 'motion')}
    settings = AnchorSettings(camera_height=height, camera_pitch=pitch)
    for number in range(IMAGES):
        pose = room.mounted_camera_pose(seconds - STEP * (IMAGES - 1 - number), height, pitch)
        rgb, truth = room.render(camera, pose)
        depth = predictor(rgb, fx=camera.fx)
        image = ImageInfo(round(number * STEP * 1e9), 'camera', camera,
                          cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), rgb=rgb)
        sensed['motion'].sense(pose, image.stamp)
        if number < IMAGES - 1:
            sensed['motion'].corrector.measure(depth, image, settings)
    sensed['scan'].sense(pose, image.stamp)
    return {'alone': depth, **{f'with {anchor}': sensor.corrector.correct(
        depth.copy(), image, settings).depth for anchor, sensor in sensed.items()}}, truth


def product_table(report: Mapping[str, Mapping[str, float]]) -> str:
    """Lines for people."""
    counted = next(iter(report.values()))
    lines = [f'{counted["near"]:g} directions with an obstacle, {counted["free"]:g} free ones',
             f'{"nearest obstacle by direction":32}{"> 25 % too far":>15}{"not seen":>10}'
             f'{"false":>8}']
    return '\n'.join(lines + [f'{name:32}{row["too far"]:15.1%}{row["missed"]:10.1%}'
                              f'{row["false"]:8.1%}' for name, row in report.items()])


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = room_parser(__doc__, 'obstacles', 619).parse_args(argv)
    camera = Intrinsics.from_horizontal_fov(*SIZE, FOV)
    with exit_on_error('obstacles'):
        predictor = DepthPredictor(args.weights, 'cpu')
        reports = []
        for height, pitch in MOUNTS:
            down = down_from_pitch(pitch)
            scores: dict[str, ObstacleScores] = {}
            products: dict[str, ProductScores] = {}
            for seed in room_seeds(args):
                room = Room(seed)
                for seconds in walk_stops(seed, PLACES):
                    depths, truth = depths_at(predictor, room, camera, seconds, height, pitch)
                    for name, depth in depths.items():
                        for made in (scores.setdefault(name, ObstacleScores()),
                                     products.setdefault(name, ProductScores())):
                            made.add(depth, truth, camera, height, down)
            for name, score in scores.items():
                published = products[name].report()
                print(f'camera {height:g} m high, {pitch:g}° down, {name}\n{score.table()}\n'
                      f'{product_table(published)}\n', flush=True)
                reports.append({'height': height, 'pitch': pitch, 'depth': name,
                                'products': published, **score.report()})
        write_report(args, reports)


if __name__ == '__main__':
    main()
