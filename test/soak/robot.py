"""A simple robot that drives by depth/scan alone, with and without anchors; collisions counted.

``python test/soak/robot.py [--minutes 20] [--rooms 600 609] [--anchors none floor scan motion]
[--json OUT] [--image OUT]``. In each virtual room a round robot goes ahead at 0.3 m/s and turns
where the scan shows something within 0.4 m, as a vacuum cleaner does. Its camera sees what it
drives past; depth, anchors and scan are those of the depth node, without messages. The minutes are
shared by the rooms. A collision is a touch of wall or furniture up to the robot's height; the robot
is then set back. Ends with 1 where depth with an anchor collides more often than depth alone.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.anchors.corrector import AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.benchmark.room_sensors import SensedRoom, level_pose
from hybrid_depth_ros.floor_plane import FloorPlane, FloorTracker
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.obstacles import ObstacleSettings, find_obstacles, obstacle_scan, scan_angles
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room, upright_camera_pose
from hybrid_depth_ros.visualization import draw_floor_map

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 70)
HEIGHT, PITCH = 0.7, 10.0  # m of the camera above the floor, ° down
RADIUS, TALL = 0.2, 0.8    # m, of the robot; the camera is in its middle
SPEED, TURN = 0.3, np.deg2rad(45)  # m/s, rad/s
STOP = 0.4                 # m before the robot's front
STEP = 0.2                 # s from image to image
BACK = 0.3                 # m that it is set back from a collision
SETTINGS = ObstacleSettings(max_height=TALL + 0.1)
AROUND = np.deg2rad(np.arange(0, 360, 5))
DOWN = down_from_pitch(PITCH)


def pose_at(place, yaw):
    """The camera's pose, optical frame → world, 4×4."""
    return upright_camera_pose([*place, HEIGHT], yaw, -np.deg2rad(PITCH))


def clearance(room, place):
    """Metres from a place to the nearest thing up to the robot's height."""
    return min(room.scan(level_pose(pose_at(place, 0.0), height), AROUND).min()
               for height in np.arange(0.06, TALL, 0.09))


def start_of(room):
    """The place of the room with most space, on a grid."""
    places = [np.array([x, y]) for x in np.arange(0.5, room.size[0], 0.4)
              for y in np.arange(0.5, room.size[1], 0.4)]
    return max(places, key=lambda place: clearance(room, place))


class Eyes:
    """From an image to a scan, as the depth node does it."""

    def __init__(self, predictor, room, anchor):
        self.predictor, self.room = predictor, room
        self.sensed = None if anchor == 'none' else SensedRoom(room, anchor, PITCH)
        self.settings = AnchorSettings(camera_height=HEIGHT, camera_pitch=PITCH)
        self.floor = FloorTracker()
        self.level = FloorPlane.from_gravity(HEIGHT, DOWN)
        self.angles = scan_angles(CAMERA, self.level, SETTINGS)

    def look(self, place, yaw, seconds):
        """(image, scan) of the robot's camera."""
        pose = pose_at(place, yaw)
        rgb, _ = self.room.render(CAMERA, pose)
        depth = self.predictor(rgb, fx=CAMERA.fx)
        if self.sensed:
            stamp = round(seconds * 1e9)
            self.sensed.sense(pose, stamp)
            gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
            depth = self.sensed.corrector.correct(
                depth, ImageInfo(stamp, 'camera', CAMERA, gray), self.settings).depth
        plane = self.floor.update(depth, CAMERA, HEIGHT, DOWN, seconds) or self.level
        return rgb, obstacle_scan(find_obstacles(depth, CAMERA, plane, SETTINGS), self.angles)


def turn_of(scan, turning):
    """Where to turn: 0 where the way ahead is free, else 1 (left) or -1, kept while it turns."""
    with np.errstate(invalid='ignore'):  # infinite straight ahead
        forward, aside = scan.ranges * np.cos(scan.angles), scan.ranges * np.sin(scan.angles)
    ahead = np.abs(scan.angles) < np.deg2rad(35)
    near = np.isfinite(scan.ranges) & (forward < RADIUS + STOP) & (
        np.abs(aside) < RADIUS + 0.05)
    unknown = np.isnan(scan.ranges[np.abs(scan.angles) < np.deg2rad(15)]).mean() > 0.3
    if not near.any() and not unknown:
        return 0
    space = np.where(np.isnan(scan.ranges), 0, np.minimum(scan.ranges, SETTINGS.max_range))
    left, right = (space[ahead & (side * scan.angles > 0)].mean() for side in (1, -1))
    return turning or (1 if left > right else -1)


def drive(predictor, seed, anchor, seconds, views=None):
    """Drive in one room: collisions and metres."""
    room = Room(seed)
    place, yaw, turning = start_of(room), 0.7, 0
    eyes, collisions, metres = Eyes(predictor, room, anchor), 0, 0.0
    steps = round(seconds / STEP)
    for step in range(steps):
        rgb, scan = eyes.look(place, yaw, step * STEP)
        turning = turn_of(scan, turning)
        if turning:
            yaw += turning * TURN * STEP
        else:
            ahead = SPEED * STEP * np.array([np.cos(yaw), np.sin(yaw)])
            place = place + ahead
            if clearance(room, place) < RADIUS:
                collisions += 1
                place, turning = place - ahead * (1 + BACK / np.linalg.norm(ahead)), 1
                if clearance(room, place) < RADIUS:
                    place = start_of(room)
                yaw += np.pi / 2
            else:
                metres += SPEED * STEP
        if views is not None and step % max(1, steps // 4) == 0:
            views.append((rgb, scan, room, place, yaw))
    return collisions, metres


def strip(views):
    """Images of the drive above maps of its scans (red) and of the truth (blue), RGB."""
    columns = []
    for rgb, scan, room, place, yaw in views:
        beams = np.deg2rad(np.arange(-90, 90, 0.5))
        true = np.min([room.scan(level_pose(pose_at(place, yaw), height), beams)
                       for height in np.arange(0.06, TALL, 0.09)], 0)
        seen = np.isfinite(scan.ranges)
        points, standing = (ranges[:, None] * np.stack((np.cos(angles), np.sin(angles)), 1)
                            for ranges, angles in ((scan.ranges[seen], scan.angles[seen]),
                                                   (true, beams)))
        plan = draw_floor_map(points, scan.angles, scan.ranges, 3.0, standing)
        columns.append(np.vstack([cv2.resize(part, (320, 320 * part.shape[0] // part.shape[1]))
                                  for part in (rgb, plan)]))
    return np.hstack(columns)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=20)
    parser.add_argument('--rooms', type=int, nargs=2, default=(600, 609))
    parser.add_argument('--anchors', nargs='+', default=['none', 'floor', 'scan', 'motion'],
                        choices=('none', 'floor', 'scan', 'motion'))
    parser.add_argument('--weights', default='lite-nyu')
    parser.add_argument('--json', type=Path)
    parser.add_argument('--image', type=Path)
    args = parser.parse_args()
    predictor, report, views = DepthPredictor(args.weights, 'cpu'), {}, []
    seeds = range(args.rooms[0], args.rooms[1] + 1)
    for anchor in args.anchors:
        drives = [drive(predictor, seed, anchor, args.minutes * 60 / len(seeds),
                        views if anchor == args.anchors[0] and seed == seeds[0] else None)
                  for seed in seeds]
        collisions, metres = (float(sum(part)) for part in zip(*drives))
        report[anchor] = {'collisions': int(collisions), 'metres': metres,
                          'minutes': args.minutes, 'rooms': len(seeds)}
        print(f'{anchor:7} {collisions:.0f} collisions in {metres:.0f} m and {args.minutes:g} '
              f'minutes, {len(seeds)} rooms', flush=True)
    if args.image:
        cv2.imwrite(str(args.image), strip(views)[..., ::-1])
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + '\n')
    alone = report.get('none')
    worse = alone and [name for name, row in report.items()
                       if row['collisions'] > alone['collisions'] + 2]
    if worse:
        print(f'more collisions than alone: {", ".join(worse)}')
    return 1 if worse else 0


if __name__ == '__main__':
    sys.exit(main())
