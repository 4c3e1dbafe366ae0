"""Draw docs/tilted_camera.jpg, a scan of few rows beside ours:
``python docs/tilted_camera_image.py``.

A camera that looks down sees the floor in the rows around its middle, which
``depthimage_to_laserscan`` takes. Prints how often each scan is wrong in the rooms 690 to 694.
"""

from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.floor_plane import FloorPlane, fit_floor
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.obstacles import (
    ObstacleSettings,
    Scan,
    find_obstacles,
    obstacle_scan,
    scan_angles,
)
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room
from hybrid_depth_ros.visualization import draw_floor_map, titled

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)
SEEDS, SECONDS = range(690, 695), (5.0, 25.0, 45.0)  # rooms, and seconds of the walk
HEIGHT, PITCHES, SHOWN = 0.6, (0.0, 10.0, 20.0, 30.0), (10.0, 693, 5.0)  # pitch, seed, second
ROWS = (1, 100)
RANGES = 0.45, 10.0  # its defaults
SETTINGS = ObstacleSettings(max_height=1.2)
REACH = 4.0


def middle_rows(depth, rows):
    """What depthimage_to_laserscan makes of a depth image: the nearest of some rows, by column."""
    first = int(CAMERA.cy - rows / 2)
    slope = (np.arange(CAMERA.width) - CAMERA.cx) / CAMERA.fx
    ranges = depth[first:first + rows] * np.hypot(slope, 1)
    ranges = np.where((ranges >= RANGES[0]) & (ranges <= RANGES[1]), ranges, np.inf).min(0)
    angles = -np.arctan(slope[::-1])
    even = np.linspace(angles[0], angles[-1], angles.size)
    index = np.rint(np.interp(even, -np.arctan(slope)[::-1], np.arange(angles.size)[::-1]))
    return Scan(ranges[index.astype(int)].astype(np.float32), float(even[0]),
                float(even[1] - even[0]))


def scans(predictor, seed, seconds, pitch):
    """(image, true scan, scans by name) of a view."""
    room, down = Room(seed), down_from_pitch(pitch)
    rgb, truth = room.render(CAMERA, room.mounted_camera_pose(seconds, HEIGHT, pitch))
    depth = predictor(rgb, fx=CAMERA.fx)
    level = FloorPlane.from_gravity(HEIGHT, down)
    angles = scan_angles(CAMERA, level, SETTINGS)
    true, ours = (obstacle_scan(find_obstacles(seen, CAMERA, plane, SETTINGS), angles)
                  for seen, plane in ((truth, level),
                                      (depth, fit_floor(depth, CAMERA, HEIGHT, down)[0] or level)))
    return rgb, true, {**{f'{rows} rows': middle_rows(depth, rows) for rows in ROWS}, 'ours': ours}


def errors(scan, true):
    """Shares of the directions in which a wall is seen that is not there, and none that is."""
    ranges = np.interp(true.angles, scan.angles, np.nan_to_num(scan.ranges, nan=99, posinf=99))
    known = ~np.isnan(true.ranges)
    near = known & (true.ranges < 2)
    false = known & (ranges < REACH) & (true.ranges > 1.3 * ranges)
    return false.sum(), known.sum(), (near & (ranges > 1.25 * true.ranges)).sum(), near.sum()


def points(scan):
    """N×2 of a scan's obstacles: metres forward and to the left."""
    seen = np.isfinite(scan.ranges)
    return scan.ranges[seen, None] * np.stack((np.cos(scan.angles), np.sin(scan.angles)), 1)[seen]


def plan(scan, true, title):
    """uint8 H×2H×3: a scan beside the truth, from above."""
    drawn = draw_floor_map(points(scan), scan.angles, scan.ranges, REACH, points(true))
    return titled(cv2.resize(drawn, (480, 240), interpolation=cv2.INTER_AREA), title)


def draw(predictor):
    """RGB: the image with its rows, their scan, and ours."""
    pitch, seed, seconds = SHOWN
    rgb, true, each = scans(predictor, seed, seconds, pitch)
    first = int(CAMERA.cy - ROWS[1] / 2)
    cv2.rectangle(rgb, (0, first), (CAMERA.width - 1, first + ROWS[1]), (190, 50, 35), 2)
    return np.hstack([
        cv2.resize(rgb, (320, 240), interpolation=cv2.INTER_AREA),
        plan(each[f'{ROWS[1]} rows'], true, f'depthimage_to_laserscan, {ROWS[1]} rows'),
        plan(each['ours'], true, 'depth/scan')])


def main():
    predictor = DepthPredictor('lite-nyu', 'cpu')
    save_image(Path(__file__).with_name('tilted_camera.jpg'), draw(predictor))
    for pitch in PITCHES:
        counts = {}
        for seed in SEEDS:
            for seconds in SECONDS:
                _, true, each = scans(predictor, seed, seconds, pitch)
                for name, scan in each.items():
                    counts.setdefault(name, []).append(errors(scan, true))
        for name, rows in counts.items():
            false, known, missed, near = np.sum(rows, 0)
            print(f'{pitch:g}° down, {name}: {false / known:.0%} of the directions false, '
                  f'{missed / max(near, 1):.0%} of those with something within 2 m missed')


if __name__ == '__main__':
    main()
