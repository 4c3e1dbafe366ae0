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

import numpy as np
import tqdm

from hybrid_depth_ros.bags import SLOP, PairedRecording
from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.metrics import ALIGNMENTS, NAMES, BandErrors, RecordingScores
from hybrid_depth_ros.pictures import picture, save_picture

FINE_EDGES = tuple(np.arange(0, 10.5, 0.5).tolist())  # metres, of the plot


class Evaluation:
    """Depth of a recording's frames against their true depth, frame by frame.

    pairs: a PairedRecording. predictor: as DepthPredictor; None: what `pairs` sees is depth.
    ``scores``: RecordingScores; ``rows``: ``{'stamp', 'pixels', 'rmse', …}`` of each frame.
    """

    def __init__(self, pairs, predictor=None, alignments=()):
        self.pairs, self.predictor = pairs, predictor
        self.scores, self.distances, self.rows = (
            RecordingScores(alignments), BandErrors(FINE_EDGES), [])

    def predict(self, pair):
        """float32 H×W metres."""
        if self.predictor is None:
            return pair.seen
        return self.predictor(pair.seen, fx=pair.camera.fx if pair.camera else None)

    def run(self, row_written=lambda row: None):
        """Score all frames; row_written is called with each row."""
        for pair in tqdm.tqdm(self.pairs, unit='frame', disable=None):
            depth = self.predict(pair)
            # stamps as people read them, exact: a float has no room for nanoseconds
            row = {'stamp': f'{pair.stamp // 10**9}.{pair.stamp % 10**9:09d}',
                   **self.scores.add(depth, pair.truth)}
            self.distances.add(depth, pair.truth)
            self.rows.append(row)
            row_written(row)

    def plot(self, path):
        """Draw error against distance and error over time on one page."""
        from matplotlib.figure import Figure
        figure = Figure(figsize=(8, 8), layout='constrained')
        distance, time = figure.subplots(2)
        bands = self.distances.report()
        middles = [(band['from'] + band['to']) / 2 for band in bands]
        distance.bar(middles, [band['rel'] for band in bands], 0.45)
        distance.set(xlabel='true distance (m)', ylabel='REL')
        share = distance.twinx()
        total = sum(band['pixels'] for band in bands)
        share.plot(middles, [band['pixels'] / max(total, 1) for band in bands], 'k.-')
        share.set_ylabel('share of pixels (line)')
        stamps = np.array([float(row['stamp']) for row in self.rows])
        time.plot(stamps - stamps[:1], [row['rel'] for row in self.rows], '.-', label='REL')
        time.plot(stamps - stamps[:1], [row['rmse'] for row in self.rows], '.-',
                  label='RMSE (m)')
        time.set(xlabel='time (s)', ylim=(0, None))
        time.legend()
        figure.savefig(path)

    def save_pictures(self, folder):
        """Write RGB | depth | true depth of the best, median and worst frame by REL.

        Yields a sentence about each. Without a colour topic the first panel is black.
        """
        places = {f'{s // 10**9}.{s % 10**9:09d}': i for i, s in enumerate(
            map(self.pairs.stamp, range(len(self.pairs))))}
        ranked = sorted((row for row in self.rows if row['pixels']), key=lambda row: row['rel'])
        if not ranked:
            return
        for name, row in (('best', ranked[0]), ('median', ranked[len(ranked) // 2]),
                          ('worst', ranked[-1])):
            pair = self.pairs.read(places[row['stamp']])
            rgb = (pair.seen if pair.seen.ndim == 3 else
                   np.zeros((*pair.seen.shape, 3), np.uint8))
            save_picture(folder / f'{name}.png', picture(rgb, self.predict(pair), pair.truth))
            yield f'{folder / name}.png: the frame of {row["stamp"]} s, REL {row["rel"]:.3f}'


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
    parser.add_argument('--weights', default='lite-nyu', help='registered name or file')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--predicted', metavar='TOPIC',
                        help='score this depth topic instead of running the network')
    parser.add_argument('--align', nargs='+', choices=ALIGNMENTS, default=(),
                        help='score depth that is fitted to the truth of each frame too')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write the figures here too')
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
