"""Depth of a recording's frames against their true depth: scores, plots, images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tqdm

from hybrid_depth_ros.depth_camera import hidden_pixels
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.metrics import BandErrors, RecordingScores, UncertaintyScores, unit_warning
from hybrid_depth_ros.obstacle_metrics import ObstacleScores
from hybrid_depth_ros.recordings.pairs import Pair, PairedRecording
from hybrid_depth_ros.recordings.recorded_anchors import RecordedAnchors
from hybrid_depth_ros.visualization import side_by_side

CORRECTION_SIZE = (64, 48)  # pixels: the correction by anchors of each frame is kept at this size
UNIT_RATIO = 3.0  # of true depth to predicted in most frames: no network is so wrong, a unit is
RATIO_STRIDE = 4  # pixels: every n-th row and column counts for that ratio
PLOT_EDGES = tuple(np.arange(0, 10.5, 0.5).tolist())  # metres: bands of the plot


def best_median_worst(rel: Sequence[float]) -> list[tuple[str, int]]:
    """``[('best', i), ('median', i), ('worst', i)]`` of a list of errors; none of an empty one."""
    order = np.argsort(rel, kind='stable').tolist()
    return [(name, order[place]) for name, place in (
        ('best', 0), ('median', len(order) // 2), ('worst', -1))] if order else []


def plot_distances(axes: Any, bands: Sequence[Mapping[str, Any]]) -> None:
    """Draw REL and the share of pixels against true distance.

    Args:
        axes: Of matplotlib.
        bands: As :meth:`hybrid_depth_ros.metrics.BandErrors.report` gives them.
    """
    middles = [(band['from'] + band['to']) / 2 for band in bands]
    widths = [band['to'] - band['from'] for band in bands]
    total = max(sum(band['pixels'] for band in bands), 1)
    axes.bar(middles, [band['rel'] for band in bands], [0.9 * width for width in widths])
    axes.set(xlabel='true distance (m)', ylabel='REL')
    share = axes.twinx()
    share.plot(middles, [band['pixels'] / width / total for band, width in zip(bands, widths)],
               'k.-')
    share.set_ylabel('share of pixels per metre (line)')


def _median_ratio(truth: npt.NDArray[np.float32], depth: npt.NDArray[np.float32]) -> float:
    """The median ratio of true to predicted depth where both are known; NaN for none."""
    with np.errstate(divide='ignore', invalid='ignore'):
        ratios = (truth / depth)[::RATIO_STRIDE, ::RATIO_STRIDE]
    known = np.isfinite(ratios) & (ratios > 0)
    return float(np.median(ratios[known])) if known.any() else np.nan


class Evaluation:
    """Depth of a recording's frames against their true depth, frame by frame.

    Args:
        pairs: The frames.
        predictor: As :class:`hybrid_depth_ros.predictor.DepthPredictor`; None where `pairs` holds
            predicted depth in the images' place.
        alignments: Of ``metrics.ALIGNMENTS``, to score too.
        anchors: What corrects the depth.
        camera_height: Metres above the floor, for the scores of obstacles; 0: none.
        down: 3, gravity in the optical frame, likewise.
        hide: Give a part of the true depth to the anchors, and score the rest of it alone.

    Attributes:
        scores: Of the depth, after anchors where there are some.
        scores_before: Of the depth before anchors.
        uncertainty: Of the network's own depth; empty where it estimates no standard deviation.
        rows: ``{'stamp', 'pixels', 'rmse', …}`` of each frame.
        obstacles: ObstacleScores of the frames whose camera is known.
    """

    def __init__(self, pairs: PairedRecording, predictor: Any = None,
                 alignments: Sequence[str] = (), anchors: RecordedAnchors | None = None,
                 camera_height: float = 0.0, down: npt.ArrayLike = (0, 1, 0),
                 hide: bool = False) -> None:
        self.pairs, self.predictor, self.anchors = pairs, predictor, anchors
        self.scores_before = RecordingScores(alignments)
        self.scores, self._distances = RecordingScores(alignments), BandErrors(PLOT_EDGES)
        self.uncertainty = UncertaintyScores()
        self.rows: list[dict[str, Any]] = []
        self._corrections: dict[int, npt.NDArray[np.float32]] = {}
        self._relative = getattr(predictor, 'relative', False)  # anchors make metres of it
        self.obstacles = ObstacleScores()
        self._camera_height, self._down, self._hide = camera_height, down, hide
        self._ratios: list[float] = []  # of true depth to predicted, of each frame
        # topic → the warning about its first implausible frame, how many there are
        self._unit_warnings: dict[str, tuple[str, int]] = {}

    def predict(self, pair: Pair) -> npt.NDArray[np.float32]:
        """Depth of a pair's image, float32 H×W metres."""
        return self._predict(pair)[0]

    def _predict(self, pair: Pair) -> tuple[npt.NDArray[np.float32],
                                            npt.NDArray[np.float32] | None]:
        """Depth of a pair's image and its standard deviation, metres; None: nobody estimates it."""
        if self.predictor is None:
            return pair.image, None
        fx = pair.camera.fx if pair.camera else None
        if hasattr(self.predictor, 'predict'):
            prediction = self.predictor.predict(pair.image, fx=fx)
            return prediction.depth, prediction.sigma
        return self.predictor(pair.image, fx=fx), None

    def run(self, row_written: Callable[[dict[str, Any]], object] = lambda row: None) -> None:
        """Score all frames; row_written is called with each row."""
        recorded = {self.pairs.stamp(i): self.pairs.recorded(i) for i in range(len(self.pairs))}
        for pair in tqdm.tqdm(self.pairs, unit='frame', disable=None):
            depth, sigma = self._predict(pair)
            measured, truth = self._hidden(pair) if self._hide else (None, pair.truth)
            if sigma is not None and not self._relative:
                self.uncertainty.add(depth, sigma, truth)
            self._check_unit(self.pairs.truth_topic, pair.truth)
            self._ratios.append(_median_ratio(pair.truth, depth))
            if self.predictor is None:
                self._check_unit(self.pairs.image_topic, pair.image)
            if self.anchors:
                if not self._relative:
                    self.scores_before.add(depth, truth)
                depth = self._correct(self.anchors, pair, depth, recorded[pair.stamp], measured)
            # stamps as people read them, exact: a float has no room for nanoseconds
            row = {'stamp': f'{pair.stamp // 10**9}.{pair.stamp % 10**9:09d}',
                   **self.scores.add(depth, truth)}
            self._distances.add(depth, truth)
            if self._camera_height > 0 and pair.camera:
                self.obstacles.add(depth, truth, pair.camera, self._camera_height, self._down)
            self.rows.append(row)
            row_written(row)

    def _hidden(self, pair: Pair) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """What of a pair's true depth the anchors are given, and what is scored, NaN elsewhere."""
        rgb = pair.image if pair.image.ndim == 3 else np.zeros((*pair.image.shape, 3), np.uint8)
        hidden = hidden_pixels(rgb, pair.truth, pair.camera.fx if pair.camera else rgb.shape[1],
                               len(self.rows))
        unknown = np.float32(np.nan)
        return np.where(hidden, unknown, pair.truth), np.where(hidden, pair.truth, unknown)

    def _correct(self, anchors: RecordedAnchors, pair: Pair, depth: npt.NDArray[np.float32],
                 recorded: int, measured: npt.NDArray[np.float32] | None
                 ) -> npt.NDArray[np.float32]:
        corrected: npt.NDArray[np.float32] = anchors.correct(
            depth, pair.stamp, recorded, pair.camera, self._relative,
            pair.image if self.predictor else None, measured)
        # kept for images of it: anchors can only go through the frames once
        with np.errstate(divide='ignore', invalid='ignore'):
            factor = cv2.resize(corrected, CORRECTION_SIZE) / cv2.resize(depth, CORRECTION_SIZE)
        self._corrections[pair.stamp] = np.nan_to_num(factor, nan=1.0, posinf=1.0)
        return corrected

    def _check_unit(self, topic: str, depth: npt.NDArray[np.float32]) -> None:
        if warning := unit_warning(depth):
            first, count = self._unit_warnings.get(topic, (f'{topic}: {warning}', 0))
            self._unit_warnings[topic] = first, count + 1

    def warnings(self) -> list[str]:
        """Sentences about depths that are implausible for a room, or for this one."""
        ratio = np.nanmedian(self._ratios) if np.isfinite(self._ratios).any() else 1.0
        odd = [] if self._relative or 1 / UNIT_RATIO < ratio < UNIT_RATIO else [
            f'{self.pairs.truth_topic} is {ratio:.2g} times what is predicted: is its unit right? '
            '16UC1 is read as millimetres, and some cameras count in 0.1 or 0.25 mm']
        return odd + [first if count == len(self.rows) else
                      f'{first} ({count} of {len(self.rows)} frames like this)'
                      for first, count in self._unit_warnings.values()]

    def plot(self, path: Path) -> None:
        """Draw error against distance and error over time on one page."""
        from matplotlib.figure import Figure
        figure = Figure(figsize=(8, 8), layout='constrained')
        distance, time = figure.subplots(2)
        plot_distances(distance, self._distances.report())
        stamps = np.array([float(row['stamp']) for row in self.rows])
        time.plot(stamps - stamps[:1], [row['rel'] for row in self.rows], '.-', label='REL')
        time.plot(stamps - stamps[:1], [row['rmse'] for row in self.rows], '.-',
                  label='RMSE (m)')
        time.set(xlabel='time (s)', ylim=(0, None))
        time.legend()
        figure.savefig(path)

    def save_images(self, folder: Path) -> Iterator[str]:
        """Write RGB | depth (| anchored) | true depth of the best, median and worst frame by REL.

        Without a colour topic the first panel is black.

        Yields:
            A sentence about each.
        """
        places = {f'{s // 10**9}.{s % 10**9:09d}': i for i, s in enumerate(
            map(self.pairs.stamp, range(len(self.pairs))))}
        rows = [row for row in self.rows if row['pixels']]
        for name, i in best_median_worst([row['rel'] for row in rows]):
            row = rows[i]
            pair = self.pairs.read(places[row['stamp']])
            rgb = (pair.image if pair.image.ndim == 3 else
                   np.zeros((*pair.image.shape, 3), np.uint8))
            depth = self.predict(pair)
            anchored: npt.NDArray[np.floating] | None = None
            if pair.stamp in self._corrections:
                anchored = depth * cv2.resize(self._corrections[pair.stamp],
                                              (depth.shape[1], depth.shape[0]))
            # inverse depth is not shown as if it were metres
            image = (side_by_side(rgb, anchored, pair.truth)
                     if self._relative and anchored is not None else
                     side_by_side(rgb, depth, pair.truth, anchored))
            save_image(folder / f'{name}.png', image)
            yield f'{folder / name}.png: the frame of {row["stamp"]} s, REL {row["rel"]:.3f}'
