"""Score depth against the true depth in a ROS 2 recording: ``evaluate_bag BAG``.

Runs the network on every colour frame that has a true depth image of the same moment, or with
--predicted scores the depth that is already in the recording. Needs no ROS.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import csv
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hybrid_depth_ros.anchors.corrector import AnchorSettings
from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.arguments import argument_parser, exit_on_error, number, user_path
from hybrid_depth_ros.depth_camera import HIDDEN
from hybrid_depth_ros.files import check_writable, result_file
from hybrid_depth_ros.metrics import ALIGNMENTS, METRIC_NAMES, format_uncertainty, unit_warning
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.recordings.evaluation import Evaluation
from hybrid_depth_ros.recordings.pairs import PairedRecording
from hybrid_depth_ros.recordings.recorded_anchors import BY_TF, TYPES, RecordedAnchors
from hybrid_depth_ros.recordings.time_synchronizer import SLOP


def _load_predictor(args: Namespace) -> Any:
    from hybrid_depth_ros.predictor import DepthPredictor
    metres = args.anchor_depth or any(getattr(args, f'anchor_{kind}') for kind in TYPES)
    return DepthPredictor(args.weights, args.device, relative=metres)


def _anchors(args: Namespace, pairs: PairedRecording) -> RecordedAnchors | None:
    topics = {kind: getattr(args, f'anchor_{kind}') for kind in TYPES}
    if not (any(topics.values()) or args.anchor_floor or args.anchor_depth
            or args.temporal_smoothing):
        return None
    return RecordedAnchors(
        pairs.recording, pairs.image_topic, topics, args.anchor_floor,
        [read_pose(text) for text in args.anchor_pose],
        AnchorSettings(args.anchor_age, args.anchor_time_constant, args.temporal_smoothing,
                       args.camera_height, args.camera_pitch, args.camera_roll, args.floor_frame,
                       args.fixed_frame, args.anchor_min_range, args.anchor_max_range),
        args.fixed_frame, pairs.other_camera, args.anchor_depth)


@contextmanager
def _csv_writer(path: Path | None) -> Iterator[Callable[[dict[str, Any]], object]]:
    """A function that writes a frame's errors into the CSV file at `path`; nowhere for None."""
    if not path:
        yield lambda row: None
        return
    with result_file(path) as partial, open(partial, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, ('stamp', 'pixels', *METRIC_NAMES))
        writer.writeheader()
        yield writer.writerow


def evaluate(args: Namespace, predictor: Any = None) -> int:
    """Do what the command line asks for; returns the exit status."""
    if args.obstacles and not args.camera_height > 0:
        raise ValueError('--obstacles needs the height of the camera above the floor: give '
                         '--camera-height in metres, and --camera-pitch')
    with ExitStack() as stack:
        pairs = PairedRecording(args.bag, args.image, args.depth, args.camera_info,
                                args.depth_camera_info, args.predicted, args.slop / 1000)
        stack.callback(pairs.recording.close)
        if predictor is None and not args.predicted:
            predictor = _load_predictor(args)
        # before the long work: what can't be written must not be found out after it
        if args.plots:
            args.plots.mkdir(parents=True, exist_ok=True)
            try:
                import matplotlib  # noqa: F401
            except ImportError as error:
                raise OSError('--plots needs matplotlib: pip install matplotlib') from error
        for file in filter(None, (args.json, args.csv)):
            check_writable(file)
        print(f'{args.bag}: {len(pairs)} pairs of {pairs.image_topic} and '
              f'{pairs.truth_topic}', flush=True)
        warned: set[str] = set()

        def warn(sentences: Sequence[str]) -> None:
            for sentence in sentences:
                if sentence not in warned:
                    print(sentence, file=sys.stderr, flush=True)
            warned.update(sentences)
        first = pairs.first()
        warn(pairs.assumptions())
        if first and (warning := unit_warning(first.truth)):
            warn([f'{pairs.truth_topic}: {warning}'])
        anchors = _anchors(args, pairs)
        evaluation = Evaluation(
            pairs, predictor, args.align, anchors, args.camera_height if args.obstacles else 0.0,
            down_from_pitch(args.camera_pitch, args.camera_roll), args.anchor_depth)
        failure: BaseException | None = None
        try:
            with _csv_writer(args.csv) as write_row:
                try:
                    evaluation.run(write_row)
                except (Exception, KeyboardInterrupt) as error:  # what was scored is kept
                    failure = error
            warn([*pairs.assumptions(), *evaluation.warnings()])
            if args.json and evaluation.rows:
                _write_report(args, evaluation, sorted(warned))
        except OSError as error:
            failure = error
        _print_results(args, evaluation, failure)
        if failure and not isinstance(failure, KeyboardInterrupt):
            raise failure
        if args.plots and evaluation.rows:
            evaluation.plot(args.plots / 'errors.png')
            print(f'{args.plots / "errors.png"}: error against distance and over time')
            for sentence in evaluation.save_images(args.plots):
                print(sentence)
    return 130 if failure else 0


def _write_report(args: Namespace, evaluation: Evaluation, warnings: Sequence[str]) -> None:
    pairs, before = evaluation.pairs, evaluation.scores_before
    report = {**evaluation.scores.report(), 'damaged': len(pairs.damaged), 'bag': str(args.bag),
              'seen': pairs.image_topic, 'truth': pairs.truth_topic, 'said': warnings,
              'weights': None if args.predicted else args.weights}
    if evaluation.uncertainty.images:
        report['uncertainty'] = evaluation.uncertainty.report()
    if args.obstacles:
        report['obstacles'] = evaluation.obstacles.report()
    if args.anchor_depth:
        report['hidden'] = HIDDEN
    if evaluation.anchors and before.frames:
        report['without_anchors'] = before.report()
    with result_file(args.json) as file:
        file.write_text(json.dumps(report, indent=2) + '\n')


def _print_results(args: Namespace, evaluation: Evaluation, failure: BaseException | None) -> None:
    """Print what was scored and what was left out; OSError where all was."""
    pairs, anchors = evaluation.pairs, evaluation.anchors
    if failure:
        print('\nInterrupted' if isinstance(failure, KeyboardInterrupt) else '\nEnded early',
              f': {len(evaluation.rows)} of {len(pairs)} frames were scored.', sep='',
              file=sys.stderr)
    elif not evaluation.rows:
        raise OSError(f'not one of {len(pairs)} pairs could be scored; the first: '
                      f'{pairs.damaged[0]}')
    if pairs.damaged:
        print(f'{len(pairs.damaged)} frames left out; the first: {pairs.damaged[0]}',
              file=sys.stderr)
    if evaluation.predictor and pairs.missing_camera_reason:
        print(f"{pairs.missing_camera_reason}; depth is taken to be from a camera like NYU's",
              file=sys.stderr)
    if anchors:
        for sentence in anchors.said():
            print(sentence, file=sys.stderr)
        if args.anchor_depth:
            print(f'{HIDDEN:.0%} of the measured pixels are hidden; these are scored')
        if not getattr(evaluation.predictor, 'relative', False):
            print(f'without anchors: {evaluation.scores_before.table()}\n\n', end='')
        print('with anchors: ', end='')
    print(evaluation.scores.table())
    if evaluation.obstacles.images:
        print(f'\n{evaluation.obstacles.table()}')
    if evaluation.uncertainty.images:
        print(f'uncertainty: {format_uncertainty(evaluation.uncertainty.report())}')


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of every evaluation: the weights, and where the figures go."""
    parser.add_argument('--weights', default='lite-nyu', help='registered name or file')
    parser.add_argument('--json', type=user_path, metavar='OUT', help='write the figures here too')


def add_anchor_arguments(parser: ArgumentParser) -> None:
    """The arguments of anchors; names and defaults are those of the depth node's parameters."""
    defaults = AnchorSettings()
    for kind, what in TYPES.items():
        parser.add_argument(f'--anchor-{kind}', nargs='+', default=(), metavar='TOPIC',
                            help=f'correct depth by these topics of {what}'
                            + (f'; {BY_TF}: by the poses of /tf' if kind == 'motion' else ''))
    parser.add_argument('--anchor-depth', action='store_true',
                        help='hide a part of the depth images, fill it by the rest of them, and '
                        'score what was filled')
    parser.add_argument('--anchor-min-range', type=number(0), default=defaults.min_depth,
                        metavar='M', help='of the depth camera, with --anchor-depth')
    parser.add_argument('--anchor-max-range', type=number(0), default=defaults.max_depth,
                        metavar='M', help='likewise; 0: no limit')
    parser.add_argument('--anchor-floor', action='store_true',
                        help="correct depth by the camera's height above the floor")
    parser.add_argument('--anchor-pose', nargs='+', default=[''], metavar='"X Y Z ROLL PITCH YAW"',
                        help='of the sensors seen from the camera (m, degrees), one for all or one '
                        'for each, those of scans first, of ranges last; empty: by /tf')
    parser.add_argument('--camera-height', type=number(0), default=defaults.camera_height,
                        metavar='M', help='default: by /tf')
    parser.add_argument('--camera-pitch', type=number(), default=defaults.camera_pitch,
                        metavar='DEGREES', help='down, with --camera-height')
    parser.add_argument('--camera-roll', type=number(), default=defaults.camera_roll,
                        metavar='DEGREES', help='clockwise, as seen from behind')
    parser.add_argument('--anchor-age', type=number(0), default=defaults.age, metavar='S')
    parser.add_argument('--anchor-time-constant', type=number(0), default=defaults.time_constant,
                        metavar='S')
    parser.add_argument('--temporal-smoothing', action='store_true')
    parser.add_argument('--floor-frame', default=defaults.floor_frame, metavar='FRAME')
    parser.add_argument('--fixed-frame', default='odom', metavar='FRAME')


def main(argv: Sequence[str] | None = None, predictor: Any = None) -> int:
    """The command line; `predictor` takes the place of the one that --weights names."""
    parser = argument_parser(__doc__, prog='evaluate_bag')
    parser.add_argument('bag', metavar='BAG', help='rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('--image', metavar='TOPIC', help='colour; needed where there are several')
    parser.add_argument('--depth', metavar='TOPIC',
                        help='true depth; needed where there are several')
    parser.add_argument('--camera-info', metavar='TOPIC',
                        help="the colour camera's; default: camera_info beside its images")
    parser.add_argument('--depth-camera-info', metavar='TOPIC', help="the depth camera's, likewise")
    parser.add_argument('--slop', type=number(0), default=SLOP * 1000, metavar='MS',
                        help='most that the stamps of a pair may differ (default: %(default)g)')
    add_arguments(parser)
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--predicted', metavar='TOPIC',
                        help='score this depth topic instead of running the network')
    parser.add_argument('--align', nargs='+', choices=ALIGNMENTS, default=(),
                        help='score depth that is fitted to the truth of each frame too')
    parser.add_argument('--csv', type=user_path, metavar='OUT',
                        help='write the errors of each frame')
    parser.add_argument('--plots', type=user_path, metavar='FOLDER',
                        help='draw errors, and the best, median and worst frame')
    parser.add_argument('--obstacles', action='store_true', help='score obstacles above the floor '
                        'too; needs --camera-height and --camera-pitch')
    add_anchor_arguments(parser)
    args = parser.parse_args(argv)
    if 0 < args.anchor_max_range <= args.anchor_min_range:
        parser.error(f'--anchor-max-range {args.anchor_max_range:g} m is not above '
                     f'--anchor-min-range {args.anchor_min_range:g} m')
    with exit_on_error('evaluate_bag'):
        return evaluate(args, predictor)


if __name__ == '__main__':
    sys.exit(main())
