"""The six depth error measures of the paper, pooled over all pixels that were scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# Depth below this is scored as this, so that a predicted 0 has a logarithm.
MIN_DEPTH = 1e-3
METRIC_NAMES = ('rmse', 'rel', 'log10', 'delta1', 'delta2', 'delta3')
DISTANCE_BANDS = (0, 1, 2, 4, 10)  # metres of true depth
OUTLINE_JUMP = 0.1    # an outline: depth changes by this share from one pixel to the next but one
OUTLINE_TOLERANCE = 2  # pixels that an outline may be off
SPARSIFICATION_STEPS = 50      # of the sparsification curve
RELIABILITY_EDGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 10.0)  # of sigma / depth
SPARSIFIED = 20_000            # pixels of an image whose errors are sorted, at most
ALIGNMENTS = ('median', 'scale-shift')
MIN_MEDIAN_DEPTH, MAX_MEDIAN_DEPTH = 0.1, 30.0  # metres: what a room's median depth lies between
MAX_8_BIT_DEPTH = 0.2555  # metres: no more fits into 8 bits of millimetres


def unit_warning(depth: npt.NDArray[np.floating]) -> str:
    """Which unit was probably mistaken, where depth is implausible for a room; or empty.

    Args:
        depth: Metres; what is not finite or not above 0 is unknown.
    """
    known = depth[np.isfinite(depth) & (depth > 0)]
    if not known.size:
        return ''
    median, maximum = float(np.median(known)), float(known.max())
    if MIN_MEDIAN_DEPTH <= median <= MAX_MEDIAN_DEPTH and maximum > MAX_8_BIT_DEPTH:
        return ''
    return f'the median depth is {median:.4g} m: ' + (
        ('metres read as millimetres?' if maximum < MAX_8_BIT_DEPTH / 10 else
         '8-bit levels or metres, read as millimetres?') if median <= MAX_MEDIAN_DEPTH else
        'millimetres read as metres?' if median > 10 * MAX_MEDIAN_DEPTH else
        'centimetres or millimetres, read as metres?')


class DepthErrors:
    """Running sums of depth errors; :meth:`metrics` divides them.

    With d the predicted and t the true depth over the valid pixels of every image added
    (Harsányi et al. 2018, section 4): ``RMSE = sqrt(mean((d − t)²))``,
    ``REL = mean(|d − t|/t)``, ``log10 = mean(|log10 d − log10 t|)``, δk is the share of pixels
    with ``max(d/t, t/d) < 1.25^k``.
    """

    def __init__(self) -> None:
        self.pixels = 0
        self._sums = np.zeros(6)

    def add(self, predicted: npt.ArrayLike, truth: npt.ArrayLike,
            valid: npt.NDArray[np.bool_] | None = None) -> int:
        """Add one image or a batch.

        Args:
            predicted: Metres. Pixels that are not finite (no depth was predicted there) are never
                scored.
            truth: Metres, of the same shape.
            valid: bool of that shape; without it, all pixels count whose truth is finite and
                above 0.

        Returns:
            The number of pixels scored.

        Raises:
            ValueError: The shapes differ.
        """
        predicted, truth = np.asarray(predicted), np.asarray(truth)
        if predicted.shape != truth.shape:
            raise ValueError(f'predicted depth is {predicted.shape}, true depth {truth.shape}: '
                             'resize one to the other first')
        scored = np.isfinite(truth) & (truth > 0) & np.isfinite(predicted)
        if valid is not None:
            scored &= valid
        d = np.maximum(predicted[scored].astype(np.float64), MIN_DEPTH)
        t = np.maximum(truth[scored].astype(np.float64), MIN_DEPTH)
        error = np.abs(d - t)
        ratio = np.maximum(d / t, t / d)
        self._sums += ((error ** 2).sum(), (error / t).sum(), np.abs(np.log10(d / t)).sum(),
                       (ratio < 1.25).sum(), (ratio < 1.25 ** 2).sum(), (ratio < 1.25 ** 3).sum())
        self.pixels += d.size
        return d.size

    def merge(self, other: DepthErrors) -> None:
        """Add the sums of another: the same as adding its images here."""
        self._sums += other._sums
        self.pixels += other.pixels

    def metrics(self) -> dict[str, float]:
        """``{'rmse', 'rel', 'log10', 'delta1', 'delta2', 'delta3'}``; NaN when no pixel counts.

        rmse is in metres; the others have no unit.
        """
        means = self._sums / self.pixels if self.pixels else np.full(6, np.nan)
        rmse, *others = means.tolist()
        return dict(zip(METRIC_NAMES, (float(np.sqrt(rmse)), *others)))


def delta1(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """δ1 of one image, as :class:`DepthErrors` scores it: H×W metres each."""
    errors = DepthErrors()
    errors.add(predicted, truth)
    return errors.metrics()['delta1']


def outlines(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Where depth, H×W metres, has an outline: bool H×W. Unknown depth (NaN) has none."""
    log = np.log(np.maximum(depth, MIN_DEPTH))
    found = np.zeros(depth.shape, bool)
    with np.errstate(invalid='ignore'):
        found[:, 1:-1] |= np.abs(log[:, 2:] - log[:, :-2]) > OUTLINE_JUMP
        found[1:-1] |= np.abs(log[2:] - log[:-2]) > OUTLINE_JUMP
    return found


class OutlineScores:
    """Whether predicted outlines stand where the true ones do, pooled over all pixels.

    Outlines as :func:`outlines` finds them, within OUTLINE_TOLERANCE pixels (after Hu et al.,
    *Revisiting Single Image Depth Estimation*, WACV 2019, section 4.2).
    """

    def __init__(self) -> None:
        self._found = self._true = self._right = self._predicted = 0

    def add(self, predicted: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> None:
        """Add one image: arrays H×W of one shape, metres, NaN where unknown."""
        known = np.isfinite(truth) & np.isfinite(predicted)
        found = outlines(np.where(known, predicted, np.nan))
        true = outlines(np.where(known, truth, np.nan))
        window = np.ones((2 * OUTLINE_TOLERANCE + 1,) * 2, np.uint8)
        near_found, near_true = (cv2.dilate(mask.astype(np.uint8), window) > 0
                                 for mask in (found, true))
        self._true += int(true.sum())
        self._found += int((true & near_found).sum())
        self._predicted += int(found.sum())
        self._right += int((found & near_true).sum())

    def report(self) -> dict[str, float]:
        """Recall and precision of outlines, as ``{'found', 'right'}``; NaN where there are none."""
        return {'found': float(self._found / self._true) if self._true else float('nan'),
                'right': float(self._right / self._predicted) if self._predicted else float('nan')}


def align_depth(predicted: npt.NDArray[np.floating], truth: npt.NDArray[np.floating],
                alignment: str) -> npt.NDArray[np.float64]:
    """Predicted depths, fitted to the true depths of their image.

    Args:
        predicted: N metres, all valid.
        truth: N metres.
        alignment: ``median``, times the ratio of the medians; ``scale-shift``, the a·d + b with
            the least squared error.
    """
    d, t = predicted.astype(np.float64), truth.astype(np.float64)
    if alignment == 'median':
        return d * (np.median(t) / max(np.median(d), MIN_DEPTH))
    varied = d - d.mean()
    variance = (varied ** 2).mean()
    scale = float((varied * t).mean() / variance) if variance > 0 else 1.0
    return scale * varied + float(t.mean())


class BandErrors:
    """Depth errors apart by true depth: nearest < t ≤ farthest of each band, metres."""

    def __init__(self, edges: Sequence[float] = DISTANCE_BANDS) -> None:
        self.edges = edges
        self._errors = [DepthErrors() for _ in edges[1:]]

    def add(self, predicted: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> None:
        """Add depths: arrays of one shape, metres."""
        for errors, near, far in zip(self._errors, self.edges, self.edges[1:]):
            inside = (truth > near) & (truth <= far)
            errors.add(predicted[inside], truth[inside])

    def report(self) -> list[dict[str, Any]]:
        """``[{'from', 'to', 'pixels', 'rmse', …}, …]``."""
        return [{'from': near, 'to': far, 'pixels': errors.pixels, **errors.metrics()}
                for errors, near, far in zip(self._errors, self.edges, self.edges[1:])]


class RecordingScores:
    """Errors over the frames of a recording: pooled over pixels, for each band of distance.

    Args:
        alignments: Of ``ALIGNMENTS``, which versions to score too.
        edges: Of the bands, metres.
    """

    def __init__(self, alignments: Sequence[str] = (),
                 edges: Sequence[float] = DISTANCE_BANDS) -> None:
        self.frames = 0
        self._pooled, self._bands = DepthErrors(), BandErrors(edges)
        self._aligned = {how: DepthErrors() for how in alignments}

    def add(self, predicted: npt.NDArray[np.floating],
            truth: npt.NDArray[np.floating]) -> dict[str, Any]:
        """Add one frame: arrays H×W, metres, NaN where unknown.

        Returns:
            The frame's own ``{'pixels', 'rmse', …}``.

        Raises:
            ValueError: The shapes differ.
        """
        frame = DepthErrors()
        frame.add(predicted, truth)
        self._pooled.merge(frame)
        scored = np.isfinite(truth) & (truth > 0) & np.isfinite(predicted)
        d, t = predicted[scored], truth[scored]
        self._bands.add(d, t)
        if d.size:
            for alignment, errors in self._aligned.items():
                errors.add(align_depth(d, t, alignment), t)
        self.frames += 1
        return {'pixels': frame.pixels, **frame.metrics()}

    def report(self) -> dict[str, Any]:
        """``{'frames', 'pixels', 'metrics', 'bands', 'aligned'}``, fit for JSON: None for NaN."""
        report: dict[str, Any] = _nan_to_none({
            'frames': self.frames, 'pixels': self._pooled.pixels,
            'metrics': self._pooled.metrics(), 'bands': self._bands.report(),
            'aligned': {how: errors.metrics() for how, errors in self._aligned.items()}})
        return report

    def table(self) -> str:
        """Text for people: a line for all, for each alignment and each band."""
        report = self.report()
        rows = [('all distances', report['pixels'], report['metrics']),
                *((f'{how}, aligned', report['pixels'], metrics)
                  for how, metrics in report['aligned'].items()),
                *((f'{band["from"]}–{band["to"]} m', band['pixels'], band)
                  for band in report['bands'])]
        lines = [f'{report["frames"]} frames',
                 f'{"":20}{"pixels":>12}' + ''.join(
                     f'{head:>9}' for head in ('RMSE (m)', 'REL', 'log10', 'δ1', 'δ2', 'δ3'))]
        lines += [f'{name:20}{pixels:12}' + ''.join(
            f'{"–":>9}' if metrics[key] is None else f'{metrics[key]:9.3f}' for key in METRIC_NAMES)
            for name, pixels, metrics in rows]
        return '\n'.join(lines)


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def format_metrics(metrics: Mapping[str, float]) -> str:
    """One line for people: ``RMSE 0.593 m  REL 0.130  log10 0.057  δ1 0.833 …``."""
    return (f'RMSE {metrics["rmse"]:.3f} m  REL {metrics["rel"]:.3f}  '
            f'log10 {metrics["log10"]:.3f}  δ1 {metrics["delta1"]:.3f}  '
            f'δ2 {metrics["delta2"]:.3f}  δ3 {metrics["delta3"]:.3f}')


class UncertaintyScores:
    """Whether predicted standard deviations say where depth is off, and by how much.

    AUSE and AURG are areas under sparsification curves of REL: the pixels with the largest
    ``sigma / depth`` are left out step by step. AUSE is the area above the curve that the true
    errors would give (0 is best), AURG the area below the mean error (larger is better); means
    over images.

    Source: Ilg et al., *Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow*,
        ECCV 2018, section 5; Poggi et al., *On the Uncertainty of Self-Supervised Monocular Depth
        Estimation*, CVPR 2020, section 4.
    """

    def __init__(self) -> None:
        self.images = 0
        self._curves = np.zeros((3, SPARSIFICATION_STEPS))  # by sigma, by the true error, by chance
        self._within = np.zeros(3)  # pixels, within one sigma, within two
        self._bins = np.zeros((len(RELIABILITY_EDGES) - 1, 3))

    def add(self, predicted: npt.NDArray[np.floating], sigma: npt.NDArray[np.floating],
            truth: npt.NDArray[np.floating]) -> None:
        """Add one image: arrays H×W of one shape, metres; what is NaN or not above 0 is unknown."""
        known = (np.isfinite(predicted) & np.isfinite(sigma) & np.isfinite(truth) & (truth > 0)
                 & (predicted > 0))
        if not known.any():
            return
        d, s, t = (array[known].astype(np.float64) for array in (predicted, sigma, truth))
        error = np.abs(d - t)
        self._within += (error.size, (error <= s).sum(), (error <= 2 * s).sum())
        which = np.digitize(s / d, RELIABILITY_EDGES[1:-1])
        for column, values in enumerate((np.ones_like(s), error <= s, error <= 2 * s)):
            self._bins[:, column] += np.bincount(which, values, len(self._bins))
        thin = slice(None, None, max(1, error.size // SPARSIFIED))
        rel, share = (error / t)[thin], (s / d)[thin]
        keep = np.maximum(1, np.rint(rel.size * (1 - np.arange(SPARSIFICATION_STEPS)
                                                 / SPARSIFICATION_STEPS))).astype(int)
        for row, key in enumerate((share, rel)):
            means = np.cumsum(rel[np.argsort(key, kind='stable')]) / np.arange(1, rel.size + 1)
            self._curves[row] += means[keep - 1]
        self._curves[2] += rel.mean()
        self.images += 1

    def curves(self) -> npt.NDArray[np.float64]:
        """REL after leaving out 0, 2 … 98 % of the pixels: by sigma, by true error, by chance.

        3×SPARSIFICATION_STEPS, means over images.
        """
        return self._curves / max(1, self.images)

    def report(self) -> dict[str, Any]:
        """``{'ause', 'aurg', 'within_1', 'within_2', 'reliability'}``; NaN where nothing was added.

        ``reliability``: for each range of sigma / depth ``from``, ``to``, ``share`` of the pixels,
        and which share of those lies ``within_1`` and ``within_2``.
        """
        if not self.images:
            return {**dict.fromkeys(('ause', 'aurg', 'within_1', 'within_2'), float('nan')),
                    'reliability': []}
        by_sigma, by_error, by_chance = self.curves()
        pixels, one, two = self._within
        return {'ause': float((by_sigma - by_error).mean()),
                'aurg': float((by_chance - by_sigma).mean()),
                'within_1': float(one / pixels), 'within_2': float(two / pixels),
                'reliability': [
                    {'from': low, 'to': high, 'share': float(count / pixels),
                     'within_1': float(first / count), 'within_2': float(second / count)}
                    for low, high, (count, first, second) in zip(
                        RELIABILITY_EDGES, RELIABILITY_EDGES[1:], self._bins) if count]}


def format_uncertainty(report: Mapping[str, Any]) -> str:
    """One line for people: ``AUSE 0.050  AURG 0.035  within 1 σ 68 %, 2 σ 95 %``."""
    return (f'AUSE {report["ause"]:.3f}  AURG {report["aurg"]:.3f} (of REL)  within 1 σ '
            f'{report["within_1"]:.1%}, 2 σ {report["within_2"]:.1%}')
