"""Score depth against the true depth in a ROS 2 recording: ``evaluate_bag BAG``.

Runs the network on every colour frame that has a true depth image of the same moment, or with
--predicted scores the depth that is already in the recording. Needs no ROS.
"""

import argparse
import csv
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.metrics import ALIGNMENTS, NAMES
from hybrid_depth_ros.recordings.evaluation import Evaluation
from hybrid_depth_ros.recordings.pairing import SLOP
from hybrid_depth_ros.recordings.pairs import PairedRecording


def _load_predictor(args):
    from hybrid_depth_ros.predictor import DepthPredictor
    return DepthPredictor(args.weights, args.device)


def _open(path, stack):
    return stack.enter_context(open(path, 'w', newline='', encoding='utf-8'))


def evaluate(args, predictor=None):
    """Do what the command line asks for; returns the exit status."""
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
        json_file = args.json and _open(args.json, stack)
        csv_file = args.csv and _open(args.csv, stack)
        print(f'{args.bag}: {len(pairs)} pairs of {pairs.seen} and {pairs.truth}', flush=True)
        evaluation = Evaluation(pairs, predictor, args.align)
        writer = csv_file and csv.DictWriter(csv_file, ('stamp', 'pixels', *NAMES))
        if writer:
            writer.writeheader()
        interrupted = False
        try:
            evaluation.run(writer.writerow if writer else lambda row: None)
        except KeyboardInterrupt:
            interrupted = True
            print(f'\nInterrupted: {len(evaluation.rows)} of {len(pairs)} frames were scored.',
                  file=sys.stderr)
        if pairs.damaged:
            print(f'{len(pairs.damaged)} frames left out; the first: {pairs.damaged[0]}',
                  file=sys.stderr)
        if predictor and pairs.without_camera:
            print(f"{pairs.without_camera}; depth is taken to be from a camera like NYU's",
                  file=sys.stderr)
        print(evaluation.scores.table())
        if json_file:
            json.dump({**evaluation.scores.report(), 'damaged': len(pairs.damaged),
                       'bag': str(args.bag), 'seen': pairs.seen, 'truth': pairs.truth,
                       'weights': None if args.predicted else args.weights}, json_file, indent=2)
            json_file.write('\n')
        if args.plots and evaluation.rows:
            evaluation.plot(args.plots / 'errors.png')
            print(f'{args.plots / "errors.png"}: error against distance and over time')
            for sentence in evaluation.save_pictures(args.plots):
                print(sentence)
    return 130 if interrupted else 0


def add_arguments(parser):
    """What every evaluation is told: the weights, and where the figures go."""
    parser.add_argument('--weights', default='lite-nyu', help='registered name or file')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write the figures here too')


def main(argv=None, predictor=None):
    """The command line; predictor stands in for the one that --weights names."""
    parser = argparse.ArgumentParser(prog='evaluate_bag', description=__doc__)
    parser.add_argument('bag', metavar='BAG', help='rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('--image', metavar='TOPIC', help='colour; needed where there are several')
    parser.add_argument('--depth', metavar='TOPIC',
                        help='true depth; needed where there are several')
    parser.add_argument('--camera-info', metavar='TOPIC',
                        help="the colour camera's; default: camera_info beside its images")
    parser.add_argument('--depth-camera-info', metavar='TOPIC', help="the depth camera's, likewise")
    parser.add_argument('--slop', type=float, default=SLOP * 1000, metavar='MS',
                        help='most that the stamps of a pair may differ (default: %(default)g)')
    add_arguments(parser)
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--predicted', metavar='TOPIC',
                        help='score this depth topic instead of running the network')
    parser.add_argument('--align', nargs='+', choices=ALIGNMENTS, default=(),
                        help='score depth that is fitted to the truth of each frame too')
    parser.add_argument('--csv', type=Path, metavar='OUT', help='write the errors of each frame')
    parser.add_argument('--plots', type=Path, metavar='FOLDER',
                        help='draw errors, and the best, median and worst frame')
    args = parser.parse_args(argv)
    try:
        return evaluate(args, predictor)
    except (OSError, ValueError) as error:
        sys.exit(f'evaluate_bag: {explain(error)}')


if __name__ == '__main__':
    sys.exit(main())
