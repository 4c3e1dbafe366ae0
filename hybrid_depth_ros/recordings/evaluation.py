"""Depth of a recording's frames against their true depth: scores, plots, pictures."""

import numpy as np
import tqdm

from hybrid_depth_ros.metrics import BandErrors, RecordingScores
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
