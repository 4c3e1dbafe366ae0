"""A simple robot that drives by depth/scan and odometry alone; its collisions are counted.

``python test/soak/robot.py [--minutes 5] [--rooms 700 704] [--anchors none floor scan motion
depth] [--json OUT]``. In each virtual room a round robot goes ahead at 0.3 m/s and turns in place
where it remembers something within 0.4 m, as a vacuum cleaner does. It remembers what its scans
marked and cleared, as nav2's obstacle layer does, and goes nowhere that it has not seen to be free.
Depth, anchors and scan are those of the depth node, without messages; time is the robot's. The
minutes are shared by the rooms. A collision is a touch of wall or furniture up to the robot's
height; the robot is then set back. Where no way is free all around, it takes what is near to be
free, and looks again. Ends with 1 where an anchor makes more collisions.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.anchors.types import AnchorSettings, ImageInfo
from hybrid_depth_ros.benchmark.room_sensors import SensedRoom
from hybrid_depth_ros.floor_plane import FloorPlane, FloorTracker
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.obstacles import ObstacleSettings, find_obstacles, obstacle_scan, scan_angles
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room, upright_camera_pose
from hybrid_depth_ros.virtual_room.shapes import Box

ANCHORS = ('none', 'floor', 'scan', 'motion', 'depth')
CAMERA = Intrinsics.from_horizontal_fov(352, 264, 70)  # the network's own width
HEIGHT, PITCH = 0.7, 10.0  # m of the camera above the floor, ° down
RADIUS, TALL = 0.2, 0.8    # m, of the robot; the camera is in its middle
PASSED_OVER = 0.05         # m, the height of what its wheels take
SPEED, TURN = 0.3, np.deg2rad(45)  # m/s, rad/s
STOP, GO = 0.4, 0.5        # m free before the robot's front: it stops with less, goes with more
BESIDE = 0.05              # m free at its sides
UNSEEN = 0.1               # share of the way ahead that may be unknown: slivers between rays
STEP = 0.4                 # s from image to image
BACK = 0.3                 # m that it is set back from a collision
ODOMETRY_SCALE = 1.02      # of lengths and turns
SETTINGS = ObstacleSettings(max_height=TALL + 0.1)
DOWN = down_from_pitch(PITCH)
CELL = 0.05                # m, of the memory
MAP = 24.0                 # m, its sides
FINE = 0.02                # m, of the cells of the truth
# Nearer than that the image does not show the floor: a ray clears nothing (raytrace_min_range).
BLIND = HEIGHT / np.tan(np.deg2rad(PITCH) + np.arctan(CAMERA.height / 2 / CAMERA.fy))
UNKNOWN, FREE, OBSTACLE = range(3)


class Place(NamedTuple):
    """Where a robot stands: metres, radians to the left of x."""

    x: float
    y: float
    yaw: float

    def moved(self, ahead, left):
        """The same, moved on by metres and turned by radians."""
        return Place(self.x + ahead * np.cos(self.yaw), self.y + ahead * np.sin(self.yaw),
                     self.yaw + left)

    def points(self, ahead, left):
        """(x, y) of points that lie metres ahead and to the left."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return self.x + c * ahead - s * left, self.y + s * ahead + c * left

    def camera(self):
        """The camera's pose, optical frame → world, 4×4."""
        return upright_camera_pose([self.x, self.y, HEIGHT], self.yaw, -np.deg2rad(PITCH))


class Clearances:
    """Metres from each place of a room to the nearest thing that the robot would touch."""

    def __init__(self, room):
        free = np.ones(np.ceil(room.size[:2] / FINE).astype(int)[::-1] + 2, np.uint8)
        free[[0, -1]] = free[:, [0, -1]] = 0  # the walls
        for item in room.objects:
            low, high = item.corners[:, 2].min(), item.corners[:, 2].max()
            if high <= PASSED_OVER or low >= TALL:
                continue
            if isinstance(item, Box):
                hull = cv2.convexHull((item.corners[:, :2] / FINE + 0.5).astype(np.float32))
                cv2.fillConvexPoly(free, np.rint(hull).astype(np.int32), 0)
            else:
                middle = np.rint(item.centre[:2] / FINE + 0.5).astype(int).tolist()
                cv2.circle(free, middle, round(item.half[0] / FINE), 0, -1)
        self.free = free
        self._metres = cv2.distanceTransform(free, cv2.DIST_L2, 5) * FINE

    def at(self, place):
        """Metres at a place; below 0 outside of the room."""
        row, column = (round(axis / FINE + 0.5) for axis in (place.y, place.x))
        inside = 0 <= row < self.free.shape[0] and 0 <= column < self.free.shape[1]
        return float(self._metres[row, column]) if inside else -1.0

    def widest(self):
        """The place with most space around."""
        row, column = np.unravel_index(self._metres.argmax(), self._metres.shape)
        return Place((column - 0.5) * FINE, (row - 0.5) * FINE, 0.7)


class Memory:
    """What scans have shown around a robot, as nav2's obstacle layer keeps it.

    Attributes:
        cells: UNKNOWN, FREE or OBSTACLE; rows along y, columns along x of odometry, the start in
            the middle.
    """

    def __init__(self, start):
        self.cells = np.full((round(MAP / CELL),) * 2, UNKNOWN, np.uint8)
        self._start = start
        self._along = np.arange(BLIND, SETTINGS.max_range, CELL / 2)
        grid = np.mgrid[-1:1:CELL, -1:1:CELL]
        self._disc = grid[:, np.hypot(*grid) < 1.0]

    def _index(self, x, y):
        return tuple(np.clip(((value - start + MAP / 2) / CELL).astype(int), 0,
                             len(self.cells) - 1)
                     for value, start in ((y, self._start.y), (x, self._start.x)))

    def at(self, x, y):
        """The cells at points of odometry's frame."""
        return self.cells[self._index(x, y)]

    def free_around(self, place, radius):
        """Take it as free around a place."""
        self.cells[self._index(*place.points(*(radius * self._disc)))] = FREE

    def mark(self, place, ahead, left):
        """Obstacles at points before a place."""
        self.cells[self._index(*place.points(ahead, left))] = OBSTACLE

    def add(self, place, scan, range_max):
        """Clear along the rays of a scan, then mark where they end."""
        ranges = np.where(np.isposinf(scan.ranges), range_max, scan.ranges)
        ray, step = np.nonzero(self._along < np.nan_to_num(ranges)[:, None] - CELL)
        angle = scan.angles[ray]
        self.cells[self._index(*place.points(self._along[step] * np.cos(angle),
                                             self._along[step] * np.sin(angle)))] = FREE
        hit = np.isfinite(scan.ranges)
        angle, ranges = scan.angles[hit], scan.ranges[hit]
        self.mark(place, ranges * np.cos(angle), ranges * np.sin(angle))

    def allows(self, place, metres):
        """Whether the way ahead is seen to be free for metres before the robot's front."""
        ahead, left = np.meshgrid(np.arange(0, RADIUS + metres, CELL / 2),
                                  np.arange(-RADIUS - BESIDE, RADIUS + BESIDE + 1e-6, CELL / 2))
        cells = self.at(*place.points(ahead, left))
        return bool((cells != OBSTACLE).all() and (cells == UNKNOWN).mean() <= UNSEEN)


class Eyes:
    """From an image to a scan, as the depth node does it."""

    def __init__(self, predictor, room, anchor):
        self.predictor, self.room = predictor, room
        self.sensed = None if anchor == 'none' else SensedRoom(room, anchor, PITCH)
        self.settings = AnchorSettings(camera_height=HEIGHT, camera_pitch=PITCH)
        self.floor = FloorTracker()
        self.level = FloorPlane.from_gravity(HEIGHT, DOWN)
        self.angles = scan_angles(CAMERA, self.level, SETTINGS)

    def look(self, place, odometry, seconds):
        """(image, scan) of the robot's camera; the place, and where odometry has it."""
        rgb, truth = self.room.render(CAMERA, place.camera())
        depth = self.predictor(rgb, fx=CAMERA.fx)
        if self.sensed:
            stamp = round(seconds * 1e9)
            self.sensed.sense(place.camera(), stamp, odometry.camera())
            self.sensed.sense_depth(rgb, truth, CAMERA.fx, stamp)
            gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
            depth = self.sensed.corrector.correct(
                depth, ImageInfo(stamp, 'camera', CAMERA, gray, rgb=rgb), self.settings).depth
        plane = self.floor.update(depth, CAMERA, HEIGHT, DOWN, seconds) or self.level
        return rgb, obstacle_scan(find_obstacles(depth, CAMERA, plane, SETTINGS), self.angles)


class Robot:
    """A robot in a room, and what it does next.

    Attributes:
        place: Where it is.
        odometry: Where it believes to be.
        memory: What it has seen.
        metres: Driven.
        collisions: Places of them.
        resets: How often it forgot what it had seen, since no way was free.
    """

    def __init__(self, predictor, seed, anchor):
        self.room = Room(seed)
        self.clearances = Clearances(self.room)
        self.place = self.odometry = self.clearances.widest()
        self.eyes, self.memory = Eyes(predictor, self.room, anchor), Memory(self.place)
        self.memory.free_around(self.place, max(RADIUS, self.clearances.at(self.place) - CELL))
        self.metres, self.resets, self.collisions = 0.0, 0, []
        self._turning, self._turned = 0, 0.0
        self._trail = []

    def step(self, seconds):
        """Look, and move for STEP seconds: (image, scan)."""
        rgb, scan = self.eyes.look(self.place, self.odometry, seconds)
        self.memory.add(self.odometry, scan, self.eyes.angles.range_max)
        self.memory.free_around(self.odometry, RADIUS)
        if self.memory.allows(self.odometry, GO if self._turning else STOP):
            self._turning, self._turned = 0, 0.0
            self._go()
        else:
            self._turn()
        return rgb, scan

    def _move(self, ahead, left):
        self.place = self.place.moved(ahead, left)
        self.odometry = self.odometry.moved(ahead * ODOMETRY_SCALE, left * ODOMETRY_SCALE)

    def _go(self):
        self._trail.append((self.place, self.odometry))
        self._move(SPEED * STEP, 0.0)
        if self.clearances.at(self.place) >= RADIUS:
            self.metres += SPEED * STEP
            return
        self.collisions.append(self.place)
        self.memory.mark(self.odometry, np.array([RADIUS]), np.array([0.0]))  # its bumper
        back = min(len(self._trail), round(BACK / SPEED / STEP))
        self.place, self.odometry = self._trail[-back]
        del self._trail[-back:]

    def _turn(self):
        """In place: towards the nearest way that is free, or around, to look for one."""
        if not self._turning:
            tries = np.deg2rad(np.arange(10, 180, 10))
            sides = [next((turn for turn in tries if self.memory.allows(
                self.odometry.moved(0.0, side * turn), GO)), np.inf) for side in (1, -1)]
            self._turning = 1 if sides[0] <= sides[1] else -1
        if self._turned >= 2 * np.pi:  # as nav2's recovery does
            self.memory.free_around(self.odometry, RADIUS + GO + CELL)
            self._turned, self.resets = 0.0, self.resets + 1
        self._move(0.0, self._turning * TURN * STEP)
        self._turned += TURN * STEP


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=5)
    parser.add_argument('--rooms', type=int, nargs=2, default=(700, 704))
    parser.add_argument('--anchors', nargs='+', default=list(ANCHORS), choices=ANCHORS)
    parser.add_argument('--weights', default='lite-nyu')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    predictor = DepthPredictor(args.weights, 'cpu')
    seeds = range(args.rooms[0], args.rooms[1] + 1)
    minutes = args.minutes / len(seeds)
    report = {anchor: dict.fromkeys(('minutes', 'collisions', 'metres', 'resets'), 0.0)
              for anchor in args.anchors}
    for seed in seeds:
        for anchor, total in report.items():
            robot = Robot(predictor, seed, anchor)
            for step in range(round(minutes * 60 / STEP)):
                robot.step(step * STEP)
            for name, value in (('minutes', minutes), ('collisions', len(robot.collisions)),
                                ('metres', robot.metres), ('resets', robot.resets)):
                total[name] += value
            print(f'room {seed}, {anchor}: {len(robot.collisions)} collisions, '
                  f'{robot.metres:.1f} m, {robot.resets} resets', flush=True)
        if args.json:  # each room takes minutes
            args.json.write_text(json.dumps(report, indent=1) + '\n')
    for anchor, total in report.items():
        print(f'{anchor:7}{total["collisions"]:.0f} collisions in {total["metres"]:.0f} m and '
              f'{total["minutes"]:.3g} minutes, {total["resets"]:.0f} times no way was free')
    alone = report.get('none')
    worse = alone and [anchor for anchor, total in report.items()
                       if total['collisions'] > alone['collisions'] + 2]
    if worse:
        print(f'more collisions than alone: {", ".join(worse)}')
    return 1 if worse else 0


if __name__ == '__main__':
    sys.exit(main())
