"""Depth of a recording's frames against their true depth: scores, plots, pictures."""

import cv2
import numpy as np
import tqdm

from hybrid_depth_ros.image_files import save_picture, side_by_side
from hybrid_depth_ros.metrics import BandErrors, RecordingScores, unit_doubt

CORRECTION = (64, 48)  # pixels in which what anchors did to a frame is kept
UNIT_RATIO = 3.0  # of true depth to predicted in most frames: no network is so wrong, a unit is
FINE_EDGES = tuple(np.arange(0, 10.5, 0.5).tolist())  # metres, of the plot


def best_median_worst(rel):
    """``[('best', i), ('median', i), ('worst', i)]`` of a list of errors; of none, none."""
    order = np.argsort(rel, kind='stable').tolist()
    return [(name, order[place]) for name, place in (
        ('best', 0), ('median', len(order) // 2), ('worst', -1))] if order else []


def plot_distances(axes, bands):
    """Draw REL and the share of pixels against true distance. bands: as BandErrors reports."""
    middles = [(band['from'] + band['to']) / 2 for band in bands]
    widths = [band['to'] - band['from'] for band in bands]
    total = max(sum(band['pixels'] for band in bands), 1)
    axes.bar(middles, [band['rel'] for band in bands], [0.9 * width for width in widths])
    axes.set(xlabel='true distance (m)', ylabel='REL')
    share = axes.twinx()
    share.plot(middles, [band['pixels'] / width / total for band, width in zip(bands, widths)],
               'k.-')
    share.set_ylabel('share of pixels per metre (line)')


def _ratio(truth, depth):
    """The median ratio of the one to the other where both are known, of every fourth pixel."""
    with np.errstate(divide='ignore', invalid='ignore'):
        ratios = (truth / depth)[::4, ::4]
    known = np.isfinite(ratios) & (ratios > 0)
    return float(np.median(ratios[known])) if known.any() else np.nan


class Evaluation:
    """Depth of a recording's frames against their true depth, frame by frame.

    pairs: a PairedRecording. predictor: as DepthPredictor; None: what `pairs` sees is depth.
    anchors: RecordedAnchors that correct it, or None. ``scores``: RecordingScores; ``before``:
    those without anchors; ``rows``: ``{'stamp', 'pixels', 'rmse', …}`` of each frame.
    """

    def __init__(self, pairs, predictor=None, alignments=(), anchors=None):
        self.pairs, self.predictor, self.anchors = pairs, predictor, anchors
        self.before, self._corrections = RecordingScores(alignments), {}
        self.scores, self.distances, self.rows = (
            RecordingScores(alignments), BandErrors(FINE_EDGES), [])
        self._relative = getattr(predictor, 'relative', False)  # anchors make metres of it
        self._ratios = []  # of true depth to predicted, of each frame
        self._doubts = {}  # topic → what is doubted of its first such frame, how many there are

    def predict(self, pair):
        """float32 H×W metres."""
        if self.predictor is None:
            return pair.seen
        return self.predictor(pair.seen, fx=pair.camera.fx if pair.camera else None)

    def run(self, row_written=lambda row: None):
        """Score all frames; row_written is called with each row."""
        self._recorded = {self.pairs.stamp(i): self.pairs.recorded(i)
                          for i in range(len(self.pairs))}
        for pair in tqdm.tqdm(self.pairs, unit='frame', disable=None):
            depth = self.predict(pair)
            self._doubt(self.pairs.truth, pair.truth)
            self._ratios.append(_ratio(pair.truth, depth))
            if self.predictor is None:
                self._doubt(self.pairs.seen, pair.seen)
            if self.anchors:
                if not self._relative:
                    self.before.add(depth, pair.truth)
                depth = self._anchored(pair, depth)
            # stamps as people read them, exact: a float has no room for nanoseconds
            row = {'stamp': f'{pair.stamp // 10**9}.{pair.stamp % 10**9:09d}',
                   **self.scores.add(depth, pair.truth)}
            self.distances.add(depth, pair.truth)
            self.rows.append(row)
            row_written(row)

    def _anchored(self, pair, depth):
        corrected = self.anchors.correct(depth, pair.stamp, self._recorded[pair.stamp],
                                         pair.camera, self._relative)
        # for pictures of it later on: frames can only be gone through once
        with np.errstate(divide='ignore', invalid='ignore'):
            factor = cv2.resize(corrected, CORRECTION) / cv2.resize(depth, CORRECTION)
        self._corrections[pair.stamp] = np.nan_to_num(factor, nan=1.0, posinf=1.0)
        return corrected

    def _doubt(self, topic, depth):
        if doubt := unit_doubt(depth):
            first, count = self._doubts.get(topic, (f'{topic}: {doubt}', 0))
            self._doubts[topic] = first, count + 1

    def doubts(self):
        """Sentences about depths that can hardly be those of a room, or of this one."""
        ratio = np.nanmedian(self._ratios) if np.isfinite(self._ratios).any() else 1.0
        odd = [] if self._relative or 1 / UNIT_RATIO < ratio < UNIT_RATIO else [
            f'{self.pairs.truth} is {ratio:.2g} times what is predicted: is its unit right? '
            '16UC1 is read as millimetres, and some cameras count in 0.1 or 0.25 mm']
        return odd + [first if count == len(self.rows) else
                f'{first} ({count} of {len(self.rows)} frames like this)'
                for first, count in self._doubts.values()]

    def plot(self, path):
        """Draw error against distance and error over time on one page."""
        from matplotlib.figure import Figure
        figure = Figure(figsize=(8, 8), layout='constrained')
        distance, time = figure.subplots(2)
        plot_distances(distance, self.distances.report())
        stamps = np.array([float(row['stamp']) for row in self.rows])
        time.plot(stamps - stamps[:1], [row['rel'] for row in self.rows], '.-', label='REL')
        time.plot(stamps - stamps[:1], [row['rmse'] for row in self.rows], '.-',
                  label='RMSE (m)')
        time.set(xlabel='time (s)', ylim=(0, None))
        time.legend()
        figure.savefig(path)

    def save_pictures(self, folder):
        """Write RGB | depth (| anchored) | true depth of the best, median and worst frame by REL.

        Yields a sentence about each. Without a colour topic the first panel is black.
        """
        places = {f'{s // 10**9}.{s % 10**9:09d}': i for i, s in enumerate(
            map(self.pairs.stamp, range(len(self.pairs))))}
        rows = [row for row in self.rows if row['pixels']]
        for name, i in best_median_worst([row['rel'] for row in rows]):
            row = rows[i]
            pair = self.pairs.read(places[row['stamp']])
            rgb = (pair.seen if pair.seen.ndim == 3 else
                   np.zeros((*pair.seen.shape, 3), np.uint8))
            depth, anchored = self.predict(pair), None
            if pair.stamp in self._corrections:
                anchored = depth * cv2.resize(self._corrections[pair.stamp], depth.shape[::-1])
            if self._relative:  # is not shown as if it were metres
                depth, anchored = anchored, None
            save_picture(folder / f'{name}.png', side_by_side(rgb, depth, pair.truth, anchored))
            yield f'{folder / name}.png: the frame of {row["stamp"]} s, REL {row["rel"]:.3f}'
