"""Obstacles that a network shows: ``python -m hybrid_depth_ros.benchmark.obstacles``.

Virtual rooms from cameras at several heights; alone, and with the floor as an anchor.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import json
from collections.abc import Sequence

import numpy as np

from hybrid_depth_ros.anchors import anchored
from hybrid_depth_ros.anchors.floor import down_from_pitch, find_floor
from hybrid_depth_ros.arguments import argument_parser, exit_on_error, user_path
from hybrid_depth_ros.benchmark.stages import FOV
from hybrid_depth_ros.files import result_file
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.obstacle_metrics import ObstacleScores
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import WALK_SECONDS, Room, upright_camera_pose

SIZE = (640, 480)
PLACES = 4  # views of each room
MOUNTS = ((1.4, 11.0), (1.0, 8.0), (0.7, 8.0), (0.35, 3.0))  # metres high, degrees down


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argument_parser(__doc__, prog='obstacles')
    parser.add_argument('--weights', default='lite-nyu')
    parser.add_argument('--rooms', nargs=2, type=int, default=(600, 609), metavar='SEED',
                        help='first and last (default: %(default)s)')
    parser.add_argument('--json', type=user_path, metavar='OUT')
    args = parser.parse_args(argv)
    camera = Intrinsics.from_horizontal_fov(*SIZE, FOV)
    with exit_on_error('obstacles'):
        predictor = DepthPredictor(args.weights, 'cpu')
        rooms = [Room(seed) for seed in range(args.rooms[0], args.rooms[1] + 1)]
        reports = []
        for height, pitch in MOUNTS:
            down = down_from_pitch(pitch)
            scores = {'alone': ObstacleScores(), 'with floor': ObstacleScores()}
            for number, room in enumerate(rooms):
                for place in range(PLACES):
                    walk = room.camera_pose(WALK_SECONDS / PLACES * place + number)
                    pose = upright_camera_pose(
                        [*walk[:2, 3], height], np.arctan2(walk[1, 2], walk[0, 2]),
                        -np.deg2rad(pitch))
                    rgb, truth = room.render(camera, pose)
                    depth = predictor(rgb, fx=camera.fx)
                    floor = find_floor(depth, camera, height, down)
                    corrected = anchored(depth, floor.anchors).depth if not floor.reason else depth
                    for name, seen in (('alone', depth), ('with floor', corrected)):
                        scores[name].add(seen, truth, camera, height, down)
            for name, score in scores.items():
                print(f'camera {height:g} m high, {pitch:g}° down, {name}\n{score.table()}\n',
                      flush=True)
                reports.append({'height': height, 'pitch': pitch, 'depth': name,
                                **score.report()})
        if args.json:
            with result_file(args.json) as file:
                file.write_text(json.dumps(reports, indent=1) + '\n')


if __name__ == '__main__':
    main()
