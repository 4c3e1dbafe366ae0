"""Draw obstacles on the floor beside the truth, and what their figures mean:
``python docs/obstacles_image.py``.

Writes obstacles.png (a view of the virtual room: camera, depth, and a map from above) and
obstacle_figures.svg.
"""

from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.floor_plane import FloorPlane, fit_floor
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.obstacles import ObstacleSettings, find_obstacles, obstacle_scan, scan_angles
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room
from hybrid_depth_ros.visualization import colour_depth, depth_range, draw_floor_map

FOLDER = Path(__file__).resolve().parent
SEED, SECONDS, HEIGHT, PITCH, REACH = 603, 15.0, 1.0, 8.0, 4.0


def view():
    """RGB: image | depth | map."""
    camera, down = Intrinsics.from_horizontal_fov(640, 480, 63.3), down_from_pitch(PITCH)
    room = Room(SEED)
    rgb, truth = room.render(camera, room.mounted_camera_pose(SECONDS, HEIGHT, PITCH))
    depth = DepthPredictor('lite-nyu', 'cpu')(rgb, fx=camera.fx)
    level, settings = FloorPlane.from_gravity(HEIGHT, down), ObstacleSettings()
    plane = fit_floor(depth, camera, HEIGHT, down)[0] or level
    found, true = (find_obstacles(seen, camera, floor, settings)
                   for seen, floor in ((depth, plane), (truth, level)))
    scan = obstacle_scan(found, scan_angles(camera, level, settings))
    seen, standing = (np.stack((each.x[each.chosen], each.y[each.chosen]), 1)
                      for each in (found, true))
    plan = draw_floor_map(seen, scan.angles, scan.ranges, REACH, standing)
    coloured = colour_depth(depth, *depth_range(depth))
    return np.hstack([cv2.resize(part, (round(part.shape[1] * 320 / part.shape[0]), 320),
                                 interpolation=cv2.INTER_AREA)
                      for part in (rgb, coloured, plan)])


def figures():
    """SVG: when a direction counts as found, free or false."""
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 250" '
             'font-family="sans-serif" font-size="14">',
             '<rect width="700" height="250" fill="white"/>']

    def row(y, name, marks, spans):
        parts.append(f'<text x="10" y="{y + 5}">{name}</text>'
                     f'<line x1="150" y1="{y}" x2="680" y2="{y}" stroke="#bbb"/>')
        for start, end, colour, text in spans:
            parts.append(f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" stroke="{colour}" '
                         f'stroke-width="8" opacity="0.5"/><text x="{(start + end) / 2}" '
                         f'y="{y - 10}" text-anchor="middle" font-size="12">{text}</text>')
        for x, colour, text in marks:
            parts.append(f'<rect x="{x - 5}" y="{y - 9}" width="10" height="18" fill="{colour}"/>'
                         f'<text x="{x}" y="{y + 26}" text-anchor="middle" font-size="12">{text}'
                         '</text>')
    blue, red, green = '#3c6ec8', '#be3223', '#4a9a4a'
    row(45, 'found within R', [(400, blue, 'true: r &lt; R'), (470, red, 'seen: r′')],
        [(150, 500, green, 'r′ up to 1.25 r')])
    row(125, 'false within R', [(340, red, 'seen within R'), (640, blue, 'true: beyond 1.3 R')],
        [(150, 450, green, 'R')])
    row(205, '5 cm cells', [(300, blue, 'true'), (375, red, 'right'), (560, red, 'false')],
        [(225, 380, green, 'within 25 cm')])
    return '\n'.join(parts) + '\n</svg>\n'


if __name__ == '__main__':
    save_image(FOLDER / 'obstacles.png', view())
    (FOLDER / 'obstacle_figures.svg').write_text(figures())
