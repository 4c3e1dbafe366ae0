"""Draw docs/demo.png, near things without and with a lidar's anchors.

``python docs/anchors_image.py``

Views that fill the image with things 0.5 to 1.6 m away, in six virtual rooms that nobody trained
on, seen by the demo's camera and lidar. Prints δ1 of all of them, and draws the one below.
"""

from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.anchors import anchored
from hybrid_depth_ros.anchors.sensors import project
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.metrics import delta1
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.sources import LIDAR_ANGLES, LIDAR_RANGE, RoomSource
from hybrid_depth_ros.virtual_room import upright_camera_pose
from hybrid_depth_ros.visualization import (
    colour_depth,
    depth_range,
    draw_anchors,
    scale_bar,
    titled,
)

ROOMS, VIEWS, DRAWN = range(600, 606), 12, (602, 4)  # room and number of the view that is drawn


def near_views(source, rng):
    """VIEWS times colour, true depth and the camera's pose, from 0.3 to 1.6 m above the floor."""
    width, depth, _ = source._room.size
    views = []
    while len(views) < VIEWS:
        eye = [rng.uniform(0.5, width - 0.5), rng.uniform(0.5, depth - 0.5), rng.uniform(0.3, 1.6)]
        pose = upright_camera_pose(np.array(eye), rng.uniform(0, 6.28),
                                   np.radians(rng.uniform(-45, 5)))
        rgb, truth = source._room.render(source.intrinsics, pose)
        if 0.5 < np.median(truth) < 1.6 and truth.min() >= 0.2:
            views.append((rgb, truth, pose))
    return views


def scan(source, pose):
    """The lidar's beams as anchors."""
    ranges = source._room.scan(pose @ source._lidar, LIDAR_ANGLES)
    points = np.stack((ranges * np.cos(LIDAR_ANGLES), ranges * np.sin(LIDAR_ANGLES), 0 * ranges))
    seen = (ranges > LIDAR_RANGE[0]) & (ranges < LIDAR_RANGE[1])
    return project(points[:, seen], source._lidar, source.intrinsics)


def error(depth, truth):
    """Relative error in colours: white right, red 50 % too near, blue 50 % too far."""
    off = np.clip((depth - truth) / truth / 0.5, -1, 1)[..., None]
    return (255 * (1 + np.where(off < 0, off * [0, 1, 1], -off * [1, 1, 0]))).astype(np.uint8)


def draw(rgb, truth, alone, corrected, anchors):
    near, far = depth_range(truth, alone, corrected)
    bar = scale_bar(len(rgb), near, far)
    top = [titled(rgb, 'camera'), titled(colour_depth(alone, near, far), 'depth: network alone'),
           titled(colour_depth(corrected, near, far), "depth: with the lidar's anchors"), bar]
    yellow = np.tile(np.uint8([[255, 220, 0]]), (len(anchors), 1))
    dots = draw_anchors(rgb, anchors.u, anchors.v, yellow)
    bottom = [titled(dots, 'anchors: one line of the lidar'),
              titled(error(alone, truth), f'error: delta1 {delta1(alone, truth):.2f}'),
              titled(error(corrected, truth), f'error: delta1 {delta1(corrected, truth):.2f}'),
              np.zeros_like(bar)]
    for y, (text, colour) in enumerate((('-50 %', (255, 80, 80)), ('right', (255, 255, 255)),
                                        ('+50 %', (120, 120, 255)))):
        cv2.putText(bottom[-1], text, (8, 60 + 40 * y), cv2.FONT_HERSHEY_SIMPLEX, 0.55, colour, 1,
                    cv2.LINE_AA)
    return np.vstack([np.hstack(top), np.hstack(bottom)])


def main():
    predictor = DepthPredictor('lite-nyu', precision='fp32', runtime='openvino')
    rng, figures = np.random.default_rng(1), []
    for seed in ROOMS:
        source = RoomSource(seed=seed)
        for number, (rgb, truth, pose) in enumerate(near_views(source, rng)):
            alone, anchors = predictor(rgb, fx=source.intrinsics.fx), scan(source, pose)
            corrected = anchored(alone, anchors).depth
            figures.append((delta1(alone, truth), delta1(corrected, truth)))
            print(f'room {seed}, view {number}: δ1 {figures[-1][0]:.3f}, '
                  f'with anchors {figures[-1][1]:.3f}', flush=True)
            if (seed, number) == DRAWN:
                image = draw(rgb, truth, alone, corrected, anchors)
                save_image(Path(__file__).with_name('demo.png'),
                             cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
    print('mean of {}: δ1 {:.3f}, with anchors {:.3f}'.format(len(figures), *np.mean(figures, 0)))


if __name__ == '__main__':
    main()
