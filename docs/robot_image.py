"""Draw docs/robot.jpg, a drive of test/soak/robot.py: ``python docs/robot_image.py``.

Above what the camera sees, below what the robot remembers of the room from above: free is green,
obstacles are red, grey is unknown, blue is what stands there.
"""

import runpy
from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.predictor import DepthPredictor

FOLDER = Path(__file__).resolve().parent
SEED, ANCHOR, SECONDS, COLUMNS = 700, 'floor', 60.0, 8
WIDTH, PIXELS_PER_METRE = 200, 36
COLOURS = np.array([(190, 190, 190), (222, 240, 222), (190, 50, 35)], np.uint8)
STANDING, PATH, BODY = (60, 110, 200), (90, 90, 90), (20, 20, 20)


def floor_map(robot, fine, path):
    """uint8 H×W×3: the robot's memory, the truth, and the robot with its path."""
    width, depth = (round(side * PIXELS_PER_METRE) for side in robot.room.size[:2])
    y, x = np.mgrid[:depth, :width] / PIXELS_PER_METRE
    drift = np.array(robot.odometry[:2]) - robot.place[:2]  # the memory is in odometry's frame
    image = COLOURS[robot.memory.at(x + drift[0], y + drift[1])]
    rows, columns = ((axis / fine + 0.5).astype(int) for axis in (y, x))
    standing = (robot.clearances.free[rows, columns] == 0).astype(np.uint8)
    outline = standing - cv2.erode(standing, np.ones((3, 3), np.uint8))
    image[outline > 0] = STANDING
    pixels = [tuple(round(axis * PIXELS_PER_METRE) for axis in place[:2]) for place in path]
    cv2.polylines(image, [np.array(pixels, np.int32)], False, PATH, 1, cv2.LINE_AA)
    cv2.circle(image, pixels[-1], round(0.2 * PIXELS_PER_METRE), BODY, 1, cv2.LINE_AA)
    ahead = robot.place.moved(0.3, 0.0)
    cv2.line(image, pixels[-1], tuple(round(axis * PIXELS_PER_METRE) for axis in ahead[:2]), BODY,
             1, cv2.LINE_AA)
    return cv2.resize(image[::-1], (WIDTH, round(WIDTH * depth / width)),
                      interpolation=cv2.INTER_AREA)


def strip():
    """RGB: moments of the drive side by side."""
    drive = runpy.run_path(str(FOLDER.parent / 'test' / 'soak' / 'robot.py'))
    robot = drive['Robot'](DepthPredictor('lite-nyu', 'cpu'), SEED, ANCHOR)
    steps, path, columns = round(SECONDS / drive['STEP']), [robot.place], []
    for step in range(steps):
        rgb, _ = robot.step(step * drive['STEP'])
        path.append(robot.place)
        if (step + 1) % (steps // COLUMNS) == 0 and len(columns) < COLUMNS:
            columns.append(np.vstack((
                cv2.resize(rgb, (WIDTH, WIDTH * 3 // 4), interpolation=cv2.INTER_AREA),
                floor_map(robot, drive['FINE'], path))))
    print(f'{len(robot.collisions)} collisions in {robot.metres:.1f} m')
    return np.hstack(columns)


if __name__ == '__main__':
    cv2.imwrite(str(FOLDER / 'robot.jpg'), strip()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
