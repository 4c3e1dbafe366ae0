"""What anchors bring: ``python -m train.anchors --data PATH``, sensors simulated from true depth.

With ``--completion``: depth completion by the papers' protocol (:mod:`train.completion`).
With ``--floor FIRST-LAST`` instead: the camera's height as the anchor, in virtual rooms; with
``--flicker FIRST-LAST``: what smoothing over time does on walks through these, without any anchor;
with ``--orientation FIRST-LAST``: after how many images a lidar is withheld that is turned or
mirrored, and one that is right; with ``--motion WALK …``: depth by the camera's own motion, with
odometry as it is and with wrong one.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import tqdm

from hybrid_depth_ros.anchors import Anchors, anchored
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.orientation_check import OrientationCheck
from hybrid_depth_ros.arguments import argument_parser, exit_on_error
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.metrics import delta1
from hybrid_depth_ros.poses import pose_from_angles, read_pose
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.sources import LIDAR_ANGLES, LIDAR_NOISE, LIDAR_POSE
from hybrid_depth_ros.virtual_room import WALK_SECONDS, Room, upright_camera_pose
from hybrid_depth_ros.weights import load_network
from train.arguments import add_data_arguments, open_data
from train.completion import completion_table, holes_table
from train.datasets.pairs import RgbdDataset, parse_ranges, read_checked
from train.datasets.raycast_rooms import PREFIX, VirtualRooms
from train.motion import motion_lines
from train.protocols import BORDER
from train.walks import open_walks

Depth = npt.NDArray[np.floating]                        # H×W, m
Seen = tuple[npt.NDArray, npt.NDArray, npt.NDArray]     # columns, rows (pixels), depths (m)
Sensor = Callable[[Depth, np.random.Generator], Seen]
NOISE = 0.01         # share of the distance, standard deviation
CASES = ((0.05, 0), (0.3, 0), (0.05, 1))  # share of gross outliers, and whether poses are off by 2°
TILTED = np.tan(np.deg2rad(2))
HARM = 0.02          # δ1 that an image may lose
CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)
RATES = 30, 10       # frames a second; the first is what is drawn
WITHHELD_AFTER = 1, 2, 5  # images
LIDAR = np.asarray(read_pose(LIDAR_POSE))
HEIGHTS, PITCHES = (0.2, 0.35, 0.7, 1.0, 1.4), (11, 3)


def scan(truth: Depth, rng: np.random.Generator, row: float = 0.5) -> Seen:
    """Columns, rows and depths of a lidar's 160 beams in one row of the image."""
    height, width = truth.shape
    u = np.linspace(0.022 * width, 0.977 * width, 160)
    v = np.full(u.size, row * height)
    return u, v, truth[v.round().astype(int), u.round().astype(int)]


def zones(truth: Depth, rng: np.random.Generator, share: float | None = None) -> Seen:
    """Of 8×8 zones, each the mean of what it sees, or where so large a share of it is nearer."""
    height, width = (size // 8 for size in truth.shape)
    tiles = truth[:8 * height, :8 * width].reshape(8, height, 8, width).swapaxes(1, 2)
    cells = np.where(tiles > 0, tiles, np.nan).reshape(64, -1)
    seen = np.isfinite(cells).any(1)
    depth = np.zeros(64)
    depth[seen] = (np.nanmean(cells[seen], 1) if share is None else
                   np.nanquantile(cells[seen], share, axis=1))
    u, v = np.meshgrid((np.arange(8) + 0.5) * width - 0.5, (np.arange(8) + 0.5) * height - 0.5)
    return u.ravel(), v.ravel(), depth


def points(truth: Depth, rng: np.random.Generator) -> Seen:
    """Of 200 points anywhere."""
    u, v = (rng.integers(0.022 * size, 0.977 * size, 200) for size in truth.shape[::-1])
    return u, v, truth[v, u]


SENSORS: dict[str, Sensor] = {
    'scan, middle row': scan, 'scan, a sixth below': lambda t, rng: scan(t, rng, 0.65),
    '8×8 zones': zones, 'zones, nearest tenth': lambda t, rng: zones(t, rng, 0.1),
    '200 points': points}


def measured(sensor: Sensor, truth: Depth, rng: np.random.Generator, outliers: float,
             shift: float) -> Anchors:
    """Anchors of a sensor with NOISE, gross outliers and places that are `shift` pixels aside."""
    u, v, depth = sensor(truth, rng)
    known = depth > 0
    depth = depth * (1 + NOISE * rng.standard_normal(depth.size))
    gross = np.exp(rng.uniform(np.log(0.4), np.log(10), depth.size))
    depth = np.where(rng.random(depth.size) < outliers, gross, depth)
    return Anchors(*(values[known].astype(np.float32) for values in (u + shift, v, depth)))


def inner_delta1(depth: Depth, truth: Depth) -> float:
    """δ1 of one image, but for NYU's white frame."""
    inside = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    return delta1(depth[inside], truth[inside])


def sensors_table(predictor: DepthPredictor, dataset: RgbdDataset) -> str:
    """δ1 alone and with each sensor in each case, as text; how many images it harms."""
    alone: list[float] = []
    scores: dict[tuple[str, tuple[float, int]], list[float]] = {
        (name, case): [] for name in SENSORS for case in CASES}
    for i in tqdm.trange(len(dataset), unit='image'):
        rgb, truth, focal = read_checked(dataset, i)
        depth = cv2.resize(predictor(rgb, fx=focal * rgb.shape[1]), truth.shape[::-1])
        alone.append(inner_delta1(depth, truth))
        for (name, case), found in scores.items():
            outliers, off = case
            anchors = measured(SENSORS[name], truth, np.random.default_rng(i), outliers,
                               off * TILTED * focal * truth.shape[1])
            found.append(inner_delta1(anchored(depth, anchors).depth, truth))
    lines = [f'the network alone: δ1 {np.mean(alone):.4f} on {len(alone)} images']
    for (name, (outliers, off)), found in scores.items():
        gain = np.array(found) - alone
        lines.append(f'{name:20} {outliers:4.0%} outliers{", 2° sideways" * off:13} δ1 '
                     f'{np.mean(found):.4f} ({gain.mean():+.4f}), {(gain < -HARM).sum()} images '
                     f'lose more than {HARM}, the worst {gain.min():+.3f}')
    return '\n'.join(lines)


def floor_table(predictor: DepthPredictor, seeds: range, views: int = 2) -> str:
    """Median of predicted / true depth over all pixels, without and with the floor, as text."""
    lines = []
    rooms = [Room(seed) for seed in seeds]
    for pitch in PITCHES:
        for height in HEIGHTS:
            before, after, each = [], [], []
            for seed, room in zip(seeds, rooms):
                for number in range(views):
                    walk = room.camera_pose(27 * number + seed % 7)
                    pose = upright_camera_pose([*walk[:2, 3], height], np.arctan2(
                        walk[1, 2], walk[0, 2]), -np.deg2rad(pitch))
                    rgb, truth = room.render(CAMERA, pose)
                    depth = predictor(rgb, fx=CAMERA.fx)
                    corrected = AnchorCorrector(['floor']).correct(
                        depth, ImageInfo(0, 'optical', CAMERA),
                        AnchorSettings(camera_height=height, camera_pitch=pitch)).depth
                    before.append((depth / truth)[::4, ::4])
                    after.append((corrected / truth)[::4, ::4])
                    each.append(np.median(after[-1]))
            lines.append(f'{height:4.2f} m, {pitch:2} degrees down: {np.median(before):.2f} → '
                         f'{np.median(after):.3f}; image by image {min(each):.2f} to '
                         f'{max(each):.2f}')
    return '\n'.join(lines)


def orientation_table(predictor: DepthPredictor, seeds: range, views: int = 10) -> str:
    """The share of walks after whose first images a lidar is withheld, as text."""
    seen = []
    for seed in seeds:
        room = Room(seed)
        for number in range(views):
            pose = room.camera_pose(2 + 6 * number)
            rgb, _ = room.render(CAMERA, pose)
            ranges = room.scan(pose @ LIDAR, LIDAR_ANGLES) + np.random.default_rng(number).normal(
                0, LIDAR_NOISE, LIDAR_ANGLES.size)
            beams = np.stack((np.cos(LIDAR_ANGLES), np.sin(LIDAR_ANGLES), 0 * LIDAR_ANGLES))
            seen.append((predictor(rgb, fx=CAMERA.fx), (ranges * beams).astype(np.float32)))
    yaws = {degrees: pose_from_angles(0, 0, 0, 0, 0, np.deg2rad(degrees)) for degrees in (45, 180)}
    lines = []
    for name, move, times in (
            ('right', np.eye(4), 1), ('right, depth 1.4 times as far', np.eye(4), 1.4),
            ('right, depth 0.7 times as far', np.eye(4), 0.7), ('turned by 180°', yaws[180], 1),
            ('turned by 45°', yaws[45], 1), ('mirrored', np.diag([1.0, -1, 1, 1]), 1)):
        shares = []
        for images in WITHHELD_AFTER:
            withheld = []
            for first in range(0, len(seen), images):
                check = OrientationCheck(False)
                for depth, points in seen[first:first + images]:
                    check.add(depth * np.float32(times), points, LIDAR @ move, CAMERA)
                withheld.append(bool(check.trouble))
            shares.append(f'{np.mean(withheld):.0%} of {len(withheld)} after {images}')
        lines.append(f'{name}: {", ".join(shares)}')
    return '\n'.join(lines)


def log_scales(ratio: Depth, parts: tuple[int, int] = (3, 4)) -> npt.NDArray[np.float64]:
    """Log of the median of predicted / true depth, then of the median in parts beside each other.

    ratio: H×W, which are multiples of `parts`, rows and columns. Returns float 1 + parts.
    """
    rows, columns = parts
    tiles = ratio.reshape(rows, ratio.shape[0] // rows, columns, -1).swapaxes(1, 2)
    return np.log([np.median(ratio), *np.median(tiles.reshape(rows * columns, -1), axis=1)])


def flicker_table(predictor: DepthPredictor, seeds: range, seconds: int = 12,
                  cuts: int = 12) -> str:
    """How scale changes from frame to frame of a walk, without and with smoothing, as text.

    Then the scene is cut to places in the next seed's room: there, smoothing is to end at once.
    """
    lines = []
    for seed in seeds:
        room, other, walk = Room(seed), Room(seed + 1), []
        for number in range(seconds * RATES[0]):
            rgb, truth = room.render(CAMERA, room.camera_pose(number / RATES[0]))
            walk.append((predictor(rgb, fx=CAMERA.fx), truth[::4, ::4]))
        for rate in RATES:
            previous, scales = None, []
            for number, (depth, truth) in enumerate(walk[::RATES[0] // rate]):
                previous = anchored(depth, None, previous, stamp=number / rate, smooth=True)
                scales.append([log_scales(seen[::4, ::4] / truth)
                               for seen in (depth, previous.depth)])
            changes = np.diff(scales, axis=0).std(0)  # (without, with) × (the whole, its parts)
            figures = [f'{before:.4f} → {after:.4f} ({before / after:.1f} times less)'
                       for before, after in (changes[:, 0], changes[:, 1:].mean(1))]
            lines.append(f'room {seed}, {rate} frames a second: standard deviation of log scale '
                         f'from frame to frame {figures[0]}, that of parts {figures[1]}')
        ended = 0
        for place in range(cuts):
            rgb, _ = other.render(CAMERA, other.camera_pose(WALK_SECONDS * place / cuts))
            depth = predictor(rgb, fx=CAMERA.fx)
            there = anchored(depth, None, previous, stamp=seconds, smooth=True)
            ended += np.array_equal(there.depth, depth)
        lines.append(f'room {seed}: a cut to another room ends smoothing {ended} times of {cuts}')
    return '\n'.join(lines)


def seeds(text: str) -> range:
    """``600-605``, or ``room:600-605`` → range; ArgumentTypeError for anything else."""
    try:
        rooms = VirtualRooms(PREFIX + text.removeprefix(PREFIX))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return range(rooms.first, rooms.last + 1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument('--weights', default='lite-nyu', help='registered name or file')
    parser.add_argument('--data', help='RGB-D data in any form that training takes')
    add_data_arguments(parser, 'test')
    parser.add_argument('--ranges', type=parse_ranges, metavar='[[A,B],…]',
                        help='keep only frames numbered A to B')
    parser.add_argument('--completion', nargs='*', choices=('points', 'holes'),
                        help="depth completion of --data by the papers' protocol; points: from 5 "
                        'to 30,000, a line, zones, outliers, poses that are off; holes: of depth '
                        'images; default: both')
    parser.add_argument('--baseline', action='store_true',
                        help='with --completion: the smooth correction alone beside it, too')
    parser.add_argument('--floor', type=seeds, metavar='FIRST-LAST',
                        help='the floor in the virtual rooms of these seeds')
    parser.add_argument('--flicker', type=seeds, metavar='FIRST-LAST',
                        help='smoothing over time, on walks through the rooms of these seeds')
    parser.add_argument('--orientation', type=seeds, metavar='FIRST-LAST',
                        help='a lidar that is turned or mirrored, in the rooms of these seeds')
    parser.add_argument('--motion', nargs='+', metavar='WALK',
                        help="depth by the camera's own motion: folders with poses.txt beside the "
                        'images, and room:FIRST-LAST, four walks in each of these rooms')
    args = parser.parse_args(argv)
    if not (args.data or args.floor or args.flicker or args.orientation or args.motion):
        parser.error('say --data PATH, --floor FIRST-LAST, --flicker FIRST-LAST, --orientation '
                     'FIRST-LAST or --motion WALK')
    if args.baseline and args.completion is None:
        parser.error('--baseline goes with --completion')
    if args.completion is not None and not args.data:
        parser.error('--completion needs --data PATH')
    with exit_on_error('train.anchors'):
        predictor = DepthPredictor(load_network(args.weights))
        if args.floor:
            print(floor_table(predictor, args.floor))
        if args.flicker:
            print(flicker_table(predictor, args.flicker))
        if args.orientation:
            print(orientation_table(predictor, args.orientation))
        if args.motion:
            walks = [walk for name in args.motion for walk in open_walks(name)]
            for line in motion_lines(predictor, walks):
                print(line, flush=True)
        if args.data:
            dataset = open_data(args, args.data)
            if args.ranges:
                dataset = dataset.numbered(args.ranges)
            if args.completion is None:
                print(sensors_table(predictor, dataset))
            elif 'points' in (args.completion or ['points']):
                print(completion_table(predictor, dataset, args.baseline))
            if args.completion is not None and 'holes' in (args.completion or ['holes']):
                print(holes_table(predictor, dataset))


if __name__ == '__main__':
    main()
