"""Draw docs/motion.png: a cloud along a walk from above, without and with depth by motion.

``python docs/motion_image.py``

A camera goes sideways through a virtual room that nobody trained on, looking down at near things,
whose shape the network gets wrong. Its odometry drifts: 2 % too long, 0.2° per √m. The depth of the
second half of the frames is laid into one cloud by the true poses.
"""

from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.benchmark.room_sensors import drifting
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.poses import PlacedPose
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room, upright_camera_pose

SEED, FRAMES, RATE = 602, 40, 10.0  # frames a second
STEP = 0.03          # metres sideways from frame to frame: 0.3 m/s
CAMERA = Intrinsics.from_horizontal_fov(320, 240, 63.3)
METRES_PER_PIXEL, SIDE = 0.0125, 300


def poses(room):
    """Along one wall at a distance, looking at it and down."""
    width, depth, _ = room.size
    return [upright_camera_pose([width / 2 + STEP * (number - FRAMES / 2), depth - 1.3, 1.1],
                                np.deg2rad(90), np.deg2rad(-35)) for number in range(FRAMES)]


def from_above(frames, centre):
    """uint8 SIDE×SIDE×3 of (rgb, depth, pose) of frames."""
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    v, u = np.mgrid[:CAMERA.height:2, :CAMERA.width:2]
    rays = np.stack(((u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy,
                     np.ones(u.shape)), -1)
    for rgb, depth, pose in frames:
        points = (rays * depth[::2, ::2, None]) @ pose[:3, :3].T + pose[:3, 3]
        column = ((points[..., 0] - centre[0]) / METRES_PER_PIXEL + SIDE / 2).astype(int)
        row = (SIDE / 2 - (points[..., 1] - centre[1]) / METRES_PER_PIXEL).astype(int)
        seen = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
        image[row[seen], column[seen]] = rgb[::2, ::2][seen]
    for _, _, pose in frames:
        place = ((pose[0, 3] - centre[0]) / METRES_PER_PIXEL + SIDE / 2,
                 SIDE / 2 - (pose[1, 3] - centre[1]) / METRES_PER_PIXEL)
        cv2.circle(image, tuple(np.rint(place).astype(int).tolist()), 1, (220, 0, 0), -1)
    return image


def titled(image, title):
    bar = np.full((26, SIDE, 3), 40, np.uint8)
    cv2.putText(bar, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1,
                cv2.LINE_AA)
    return np.vstack((bar, image))


def main():
    predictor, room = DepthPredictor('lite-nyu', precision='fp32'), Room(SEED)
    true = poses(room)
    corrector = AnchorCorrector(['motion'], lookup=lambda *names: placed)
    parts = [], [], []
    for number, (pose, odometry) in enumerate(zip(true, drifting(true))):
        rgb, depth = room.render(CAMERA, pose)
        alone = predictor(rgb, fx=CAMERA.fx)
        placed = PlacedPose(np.linalg.inv(odometry), '', '')
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        info = ImageInfo(round(1e9 * number / RATE) + 1, 'camera', CAMERA, gray, '', rgb)
        corrected = corrector.correct(alone, info, AnchorSettings()).depth
        if number >= FRAMES // 2:
            for part, seen in zip(parts, (alone, corrected, depth)):
                part.append((rgb, seen, pose))
    for name, part in zip(('alone', 'with motion'), parts):
        ratio = np.array([seen / truth for (_, seen, _), (_, truth, _) in zip(part, parts[2])])
        print(f'{name}: δ1 {(np.maximum(ratio, 1 / ratio) < 1.25).mean():.3f}, predicted / true '
              f'{np.median(ratio):.2f}')
    centre = true[FRAMES // 2][:2, 3] + [0, 0.75]
    image = np.hstack([titled(from_above(part, centre), title) for part, title in zip(parts, (
        'from above: network alone', 'with depth by motion', 'true depth'))])
    save_image(Path(__file__).with_name('motion.png'), image)


if __name__ == '__main__':
    main()
