"""Evaluation protocols: the paper's, Eigen's, and whole images as a user has them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import tqdm
from torch import nn

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.metrics import (
    METRIC_NAMES,
    DepthErrors,
    OutlineScores,
    RecordingScores,
    UncertaintyScores,
    align_depth,
)
from hybrid_depth_ros.models import hybrid, resizing
from hybrid_depth_ros.obstacle_metrics import ObstacleScores
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH, DepthPredictor, Prediction
from train.data import normalise
from train.datasets.pairs import RgbdDataset, read_checked

# pixels of the 640×480 original that the 320×256 crop of the 352×264 image covers
PAPER_WIDTH, PAPER_HEIGHT = 582, 466
EIGEN_CROP = np.s_[45:471, 41:601]  # rows and columns of a 640×480 image that are scored
EIGEN_RANGE = (1e-3, 10.0)          # m, depths that are scored
BORDER = 12                         # pixels at each side that are not scored: NYU's white frame
HEIGHT_EDGES = (0.25, 0.45, 0.8, 1.2)  # m, between the bands of camera heights
DISTANCE_EDGES = (0, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10)  # m, of the bands of true depth


def centre_crop(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The paper's test-time input: resize to 352×264, centre crop to 320×256; uint8."""
    size = hybrid.NETWORK_WIDTH, hybrid.NETWORK_HEIGHT
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return resizing.centre_crop(small, hybrid.CROP_WIDTH, hybrid.CROP_HEIGHT)


@dataclass(frozen=True)
class DatasetEvaluation:
    """Errors over a dataset; each set of metrics as :meth:`DepthErrors.metrics` has them.

    Attributes:
        metrics: Pooled over all pixels.
        pixels: How many were scored.
        images: How many images there are.
        rel_per_image: REL of each image; NaN where nothing was scored.
        per_image: Means of the images' own metrics.
        bands: For each band of true depth, as :meth:`BandErrors.report` has them.
    """

    metrics: dict[str, float]
    pixels: int
    images: int
    rel_per_image: list[float]
    per_image: dict[str, float]
    bands: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return asdict(self)


@dataclass(frozen=True)
class HeightBand:
    """Errors of the images whose camera was at one height.

    Attributes:
        lowest, highest: Edges of the band, m; highest is None in the last band.
        images: How many.
        metrics: Pooled over their pixels.
        scaled: δ1 at the right scale of each image.
        ratio: Median of predicted / true depth, of the median image.
    """

    lowest: float
    highest: float | None
    images: int
    metrics: dict[str, float]
    scaled: float
    ratio: float

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {'from': self.lowest, 'to': self.highest, 'images': self.images, **self.metrics,
                'scaled': self.scaled, 'ratio': self.ratio}


@dataclass(frozen=True)
class KindOfView:
    """Errors of the images of one kind of view.

    Attributes:
        kind: Of :data:`train.synthetic.views.VIEW_KINDS`.
        images, metrics, scaled, ratio: As a :class:`HeightBand` has them.
    """

    kind: str
    images: int
    metrics: dict[str, float]
    scaled: float
    ratio: float

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {'kind': self.kind, 'images': self.images, **self.metrics, 'scaled': self.scaled,
                'ratio': self.ratio}


@dataclass(frozen=True)
class WholeImageEvaluation(DatasetEvaluation):
    """Also scored on whole images.

    Attributes:
        outlines: As :meth:`OutlineScores.report` has them.
        aligned: The metrics at the right scale of each image.
        heights: Bands of camera heights, where they are known.
        kinds: Kinds of views, where they are known.
        uncertainty: As :meth:`UncertaintyScores.report` has it; None where the network estimates
            none.
        obstacles: As :meth:`ObstacleScores.report` has it; None where they are not asked for, or
            no camera's height and gravity are known.
    """

    outlines: dict[str, float]
    aligned: dict[str, float]
    heights: list[HeightBand]
    kinds: list[KindOfView]
    uncertainty: dict[str, Any] | None
    obstacles: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {**asdict(self), 'heights': [band.to_json() for band in self.heights],
                'kinds': [kind.to_json() for kind in self.kinds]}


class Scores(RecordingScores):
    """Errors over a dataset: pooled over all pixels, of each image, of each band of distance."""

    def __init__(self) -> None:
        super().__init__(edges=DISTANCE_EDGES)
        self._each: list[dict[str, Any]] = []

    def add(self, predicted: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]
            ) -> dict[str, Any]:
        """Add one image: float arrays of one shape, metres, truth 0 where there is none."""
        self._each.append(super().add(predicted, truth))
        return self._each[-1]

    def evaluation(self) -> DatasetEvaluation:
        """What was scored so far."""
        scored = [each for each in self._each if np.isfinite(each['rel'])]
        return DatasetEvaluation(
            self._pooled.metrics(), self._pooled.pixels, len(self._each),
            [each['rel'] for each in self._each],
            {name: float(np.mean([each[name] for each in scored])) if scored else float('nan')
             for name in METRIC_NAMES}, self._bands.report())


@torch.inference_mode()
def evaluate_paper(network: nn.Module, dataset: RgbdDataset, batch: int = 8,
                   progress: bool = False, flip: bool = False) -> DatasetEvaluation:
    """The paper's protocol over a dataset of 640×480 pairs.

    Resize to 352×264, centre crop 320×256, predict 160×128, enlarge to 582×466 and compare
    with the centre-cropped ground truth. A camera unlike NYU's is corrected for.

    Args:
        network: float N×3×256×320 → metres N×1×128×160.
        dataset: What is scored.
        batch: Images at once.
        progress: Whether a bar is shown.
        flip: Predict the mean of the prediction and that of the mirrored image.

    Source: Harsányi et al. 2018, section 4.
    """
    scores, weight = Scores(), next(network.parameters())
    for first in tqdm.tqdm(range(0, len(dataset), batch), disable=not progress, unit='batch'):
        indices = range(first, min(first + batch, len(dataset)))
        pairs = [dataset.read(i) for i in indices]
        images = np.stack([normalise(centre_crop(rgb).astype(np.float32) / np.float32(255))
                           for rgb, _ in pairs])
        inputs = torch.from_numpy(images).to(weight, memory_format=torch.channels_last)
        predicted = network(inputs).float()
        if flip:
            predicted = (predicted + network(inputs.flip(3)).float().flip(3)) / 2
        for depth, i, (_, truth) in zip(predicted.cpu().numpy()[:, 0], indices, pairs):
            height, width = truth.shape
            width, height = round(width * PAPER_WIDTH / 640), round(height * PAPER_HEIGHT / 480)
            scores.add(cv2.resize(depth, (width, height)) * (dataset.focal(i) / NYU_FX_PER_WIDTH),
                       resizing.centre_crop(truth, width, height))
    return scores.evaluation()


def evaluate_eigen(network: nn.Module, dataset: RgbdDataset, progress: bool = False,
                   flip: bool = False) -> DatasetEvaluation:
    """The protocol of Eigen et al. 2014 as today's literature uses it, over 640×480 pairs.

    The whole image through :class:`DepthPredictor`, depth clipped to EIGEN_RANGE; scored where
    the truth is in that range, inside EIGEN_CROP. Other sizes are scored in the same share of
    the image. Arguments as for :func:`evaluate_paper`.
    """
    scores, predictor = Scores(), DepthPredictor(network)
    for i in tqdm.trange(len(dataset), disable=not progress, unit='image'):
        rgb, truth = dataset.read(i)
        fx = dataset.focal(i) * rgb.shape[1]
        depth = predictor(rgb, fx=fx)
        if flip:
            mirrored = np.ascontiguousarray(rgb[:, ::-1])
            depth = (depth + predictor(mirrored, fx=fx)[:, ::-1]) / 2
        height, width = truth.shape
        rows, columns = (slice(round(part.start * size / full), round(part.stop * size / full))
                         for part, size, full in zip(EIGEN_CROP, (height, width), (480, 640)))
        cropped = np.zeros_like(truth)
        cropped[rows, columns] = truth[rows, columns]
        cropped[(cropped <= EIGEN_RANGE[0]) | (cropped > EIGEN_RANGE[1])] = 0
        scores.add(np.clip(depth, *EIGEN_RANGE), cropped)
    return scores.evaluation()


def evaluate_whole(predictor: DepthPredictor | Callable[..., npt.NDArray[np.float32]],
                   dataset: RgbdDataset, progress: bool = False, obstacles: bool = False
                   ) -> WholeImageEvaluation:
    """Whole images as a user has them, of any camera and size.

    Args:
        predictor: A :class:`DepthPredictor`, or what is called as one.
        dataset: What is scored.
        progress: Whether a bar is shown.
        obstacles: Score obstacles above the floor too, where the camera's height and gravity are
            known.
    """
    scores, outlines, aligned = Scores(), OutlineScores(), DepthErrors()
    uncertainty, found = UncertaintyScores(), ObstacleScores()
    heights: dict[int, _GroupErrors] = {}
    kinds: dict[str, _GroupErrors] = {}
    for i in tqdm.trange(len(dataset), disable=not progress, unit='image'):
        rgb, truth, focal = read_checked(dataset, i)
        fx = focal * rgb.shape[1]
        prediction = (predictor.predict(rgb, fx=fx) if isinstance(predictor, DepthPredictor)
                      else Prediction(predictor(rgb, fx=fx), metric=True))
        depth = cv2.resize(prediction.depth, truth.shape[::-1])
        truth[:BORDER], truth[-BORDER:], truth[:, :BORDER], truth[:, -BORDER:] = 0, 0, 0, 0
        known = (truth > 0) & np.isfinite(depth)
        high, down = (dataset.height(i), dataset.down(i)) if obstacles else (None, None)
        if high is not None and down is not None:
            rows, columns = truth.shape
            found.add(depth, np.where(truth > 0, truth, np.float32(np.nan)), Intrinsics(
                columns, rows, focal * columns, focal * columns, (columns - 1) / 2,
                (rows - 1) / 2), high, down)
        scores.add(depth, truth)
        if prediction.sigma is not None:
            uncertainty.add(depth, cv2.resize(prediction.sigma, truth.shape[::-1]), truth)
        outlines.add(depth, np.where(known, truth, np.nan))
        if not known.any():
            continue
        fitted = align_depth(depth[known], truth[known], 'median')
        aligned.add(fitted, truth[known])
        height, kind = dataset.height(i), dataset.kind(i)
        groups = []
        if height is not None:
            groups.append(heights.setdefault(int(np.searchsorted(HEIGHT_EDGES, height)),
                                             _GroupErrors()))
        if kind is not None:
            groups.append(kinds.setdefault(kind, _GroupErrors()))
        for errors in groups:
            errors.plain.add(depth, truth)
            errors.scaled.add(fitted, truth[known])
            errors.ratios.append(float(np.median(depth[known] / truth[known])))
    return WholeImageEvaluation(
        **vars(scores.evaluation()), outlines=outlines.report(), aligned=aligned.metrics(),
        heights=[HeightBand((0, *HEIGHT_EDGES)[band], (*HEIGHT_EDGES, None)[band],
                            *errors.summary()) for band, errors in sorted(heights.items())],
        kinds=[KindOfView(kind, *errors.summary()) for kind, errors in sorted(kinds.items())],
        uncertainty=uncertainty.report() if uncertainty.images else None,
        obstacles=found.report() if found.images else None)


class _GroupErrors:
    """Errors of some of the images: as they are, at the right scale, the scales."""

    def __init__(self) -> None:
        self.plain, self.scaled = DepthErrors(), DepthErrors()
        self.ratios: list[float] = []

    def summary(self) -> tuple[int, dict[str, float], float, float]:
        """How many images, their metrics, δ1 at the right scale, the median scale."""
        return (len(self.ratios), self.plain.metrics(), self.scaled.metrics()['delta1'],
                float(np.median(self.ratios)))
