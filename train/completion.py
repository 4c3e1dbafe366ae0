"""Depth completion by the papers' protocol, from sensors simulated in the true depth.

320×240, of which the middle 304×228 is scored and holds the anchors; the network sees the whole
image. RMSE and REL are means over images. Depth images with holes are those of the whole
resolution, and the pixels in the holes are scored.

Source: F. Ma and S. Karaman, *Sparse-to-Dense*, ICRA 2018, section IV.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt
import tqdm

from hybrid_depth_ros.anchors import Anchored, Anchors, complete_depth, correction, fill_holes
from hybrid_depth_ros.anchors.sensors import project
from hybrid_depth_ros.depth_camera import DEPTH_CAMERAS, lost_blocks, measured_depth
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.metrics import DepthErrors, UncertaintyScores
from hybrid_depth_ros.predictor import DepthPredictor
from train.datasets.pairs import RgbdDataset, read_checked

Array = npt.NDArray
Places = tuple[Array, Array]  # columns, rows
Layout = Callable[[Array, np.random.Generator], Places]
SIZE, CROP = (320, 240), (304, 228)
COUNTS = (5, 20, 50, 200, 500, 3000, 30_000)
LINE = 225  # points of a line, as Liao et al. (ICRA 2017) take
ZONES = 8  # along both sides
TILT = np.deg2rad(15)  # of the tilted scan
OFF = np.tan(np.deg2rad(2))  # of a pose, sideways
GROSS = (0.4, 10.0)  # metres, the range of outliers
LOST = 0.4  # of the pixels of a depth image with holes


class View(NamedTuple):
    """One image as it is scored. image: uint8 RGB. depth, truth: metres. fx: pixels."""

    image: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]
    fx: float


class Kind(NamedTuple):
    """Anchors of one kind. layout: where they lie. outliers: their share. off: how far the
    pose turns them sideways, a tangent. zones: each is the mean of a zone."""

    layout: Layout
    outliers: float = 0.0
    off: float = 0.0
    zones: bool = False


def scattered(count: int) -> Layout:
    """So many points anywhere, none twice."""
    def places(truth: Array, rng: np.random.Generator) -> Places:
        rows, columns = np.nonzero(truth > 0)
        chosen = rng.permutation(rows.size)[:count]
        return columns[chosen], rows[chosen]
    return places


def line(tilt: float = 0.0) -> Layout:
    """A line through the middle. tilt: radians."""
    def places(truth: Array, rng: np.random.Generator) -> Places:
        height, width = truth.shape
        columns = np.linspace(2, width - 3, LINE).round().astype(int)
        return columns, (height / 2 + (columns - width / 2) * np.tan(tilt)).round().astype(int)
    return places


def zone_centres(truth: Array, rng: np.random.Generator) -> Places:
    """The middles of ZONES × ZONES zones."""
    columns, rows = ((np.arange(ZONES) + 0.5) * (size // ZONES) - 0.5
                     for size in truth.shape[::-1])
    u, v = np.meshgrid(columns, rows)
    return u.ravel(), v.ravel()


KINDS: dict[str, Kind] = {
    **{f'{count:,} points': Kind(scattered(count)) for count in COUNTS},
    f'a line of {LINE}': Kind(line()), 'a tilted scan': Kind(line(TILT)),
    f'{ZONES}×{ZONES} zones': Kind(zone_centres, zones=True),
    '50 points, 10 % outliers': Kind(scattered(50), 0.1),
    '500 points, 10 % outliers': Kind(scattered(500), 0.1),
    '500 points, 30 % outliers': Kind(scattered(500), 0.3),
    'a line, 10 % outliers': Kind(line(), 0.1),
    '50 points, pose off by 2°': Kind(scattered(50), 0, OFF),
    '500 points, pose off by 2°': Kind(scattered(500), 0, OFF),
    'a line, pose off by 2°': Kind(line(), 0, OFF),
    'zones, pose off by 2°': Kind(zone_centres, 0, OFF, zones=True)}


def measure(kind: Kind, view: View, rng: np.random.Generator) -> Anchors:
    """What a sensor of this kind measures in a view."""
    truth = view.truth
    u, v = kind.layout(truth, rng)
    if kind.zones:
        height, width = (size // ZONES for size in truth.shape)
        tiles = truth[:ZONES * height, :ZONES * width].reshape(ZONES, height, ZONES, width)
        seen = (tiles > 0).sum((1, 3))
        depth = (tiles.sum((1, 3)) / np.maximum(seen, 1)).ravel()
    else:
        depth = truth[v, u]
    gross = np.exp(rng.uniform(np.log(GROSS[0]), np.log(GROSS[1]), depth.size))
    depth = np.where(rng.random(depth.size) < kind.outliers, gross, depth)
    return Anchors(*(values.astype(np.float32)
                     for values in (u + kind.off * view.fx, v, depth)))


def view_of(predictor: DepthPredictor, dataset: RgbdDataset, number: int,
            whole: bool = False) -> View:
    """An image of a dataset as it is scored; whole: at its own resolution."""
    rgb, truth, focal = read_checked(dataset, number)
    depth = predictor(rgb, fx=focal * rgb.shape[1])
    size = (rgb.shape[1], rgb.shape[0]) if whole else SIZE
    left, top = (side * (own - part) // (2 * own)  # the papers' crop of it
                 for side, own, part in zip(size, SIZE, CROP))
    inside = np.s_[top:size[1] - top, left:size[0] - left]
    image, depth, truth = (
        np.ascontiguousarray(cv2.resize(values, size, interpolation=how)[inside])
        for values, how in ((rgb, cv2.INTER_AREA), (depth, cv2.INTER_AREA),
                            (truth.astype(np.float32), cv2.INTER_NEAREST)))
    return View(image, depth, truth, focal * size[0])


def depth_image(camera: str, view: View, rng: np.random.Generator) -> Array:
    """What a depth camera of this kind, or one with holes that are blocks, measures of a view."""
    if camera == 'blocks':
        return np.where(lost_blocks(view.truth.shape, rng, LOST), np.float32(np.nan), view.truth)
    return measured_depth(DEPTH_CAMERAS[camera], view.image, view.truth, view.fx, rng, LOST)


def as_cloud(view: View, measured: Array) -> Anchored:
    """Depth completed by the measured pixels as a cloud of points."""
    height, width = measured.shape
    intrinsics = Intrinsics(width, height, view.fx, view.fx, (width - 1) / 2, (height - 1) / 2)
    rows, columns = np.nonzero(measured > 0)
    z = measured[rows, columns]
    points = np.stack(((columns - intrinsics.cx) / view.fx * z,
                       (rows - intrinsics.cy) / view.fx * z, z)).astype(np.float32)
    return complete_depth(view.depth, project(points, np.eye(4), intrinsics), image=view.image)


WAYS: dict[str, Callable[[View, Array], Anchored]] = {
    'as a cloud': as_cloud,
    'filled': lambda view, measured: fill_holes(view.depth, measured, view.image)}


def holes_table(predictor: DepthPredictor, dataset: RgbdDataset) -> str:
    """RMSE, REL, δ1 of what fills the holes of depth images, and the time, as text."""
    views = [view_of(predictor, dataset, number, whole=True)
             for number in tqdm.trange(len(dataset), unit='image')]
    height, width = views[0].truth.shape
    lines = [f'holes in {len(views)} depth images of {width}×{height}, {1 - LOST:.0%} measured']
    for camera in (*DEPTH_CAMERAS, 'blocks'):
        found: dict[str, list[Any]] = {'alone': [], **{way: [] for way in WAYS}}
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        sigma = {way: UncertaintyScores() for way in WAYS}
        for number, view in enumerate(views):
            measured = depth_image(camera, view, np.random.default_rng(number))
            hidden = view._replace(truth=np.where(measured > 0, np.float32(0), view.truth))
            found['alone'].append(score(hidden, view.depth))
            for way, complete in WAYS.items():
                start = time.process_time()
                result = complete(view, measured)
                times[way].append(time.process_time() - start)
                found[way].append(score(hidden, result.depth))
                if result.sigma is not None:
                    sigma[way].add(result.depth, result.sigma, hidden.truth)
        alone = np.mean(found['alone'], 0)
        lines.append(' | '.join([
            f'{camera:10} alone {alone[0]:.3f} m, {alone[1]:.3f}, {alone[2]:.3f}',
            *(_columns(way, np.mean(found[way], 0), 1000 * float(np.median(times[way])),
                       sigma[way].report()) for way in WAYS)]))
    return '\n'.join(lines)


def score(view: View, depth: Array) -> tuple[float, float, float]:
    """RMSE (metres), REL and δ1 of depth."""
    errors = DepthErrors()
    errors.add(depth, view.truth)
    metrics = errors.metrics()
    return metrics['rmse'], metrics['rel'], metrics['delta1']


def scores(views: Sequence[View], kind: Kind) -> tuple[Array, float, dict[str, Any]]:
    """Means of RMSE, REL and δ1; the median time of a frame, ms of the processor; how good sigma
    is, as :meth:`UncertaintyScores.report` has it."""
    found, times, uncertainty = [], [], UncertaintyScores()
    for number, view in enumerate(views):
        anchors = measure(kind, view, np.random.default_rng(number))
        start = time.process_time()
        result = complete_depth(view.depth, anchors, image=view.image)
        times.append(time.process_time() - start)
        found.append(score(view, result.depth))
        if result.sigma is not None:
            uncertainty.add(result.depth, result.sigma, view.truth)
    return np.mean(found, 0), 1000 * float(np.median(times)), uncertainty.report()


def completion_table(predictor: DepthPredictor, dataset: RgbdDataset, baseline: bool = False
                     ) -> str:
    """RMSE, REL, δ1 and the time of each kind, as text.

    baseline: also what the smooth correction alone brings, in the same process.
    """
    views = [view_of(predictor, dataset, number)
             for number in tqdm.trange(len(dataset), unit='image')]
    alone = np.mean([score(view, view.depth) for view in views], 0)
    lines = [f'{len(views)} images of {CROP[0]}×{CROP[1]}; the network alone: RMSE {alone[0]:.3f} '
             f'm, REL {alone[1]:.3f}, δ1 {alone[2]:.3f}']
    smooth = replace(correction.PARAMETERS, consensus=1.0)  # so no anchors are enough for details
    for name, kind in KINDS.items():
        columns = [f'{name:28}']
        if baseline:
            with mock.patch.object(correction, 'PARAMETERS', smooth):
                columns.append(_columns('smooth', *scores(views, kind)))
        lines.append(' | '.join([*columns, _columns('completed', *scores(views, kind))]))
    return '\n'.join(lines)


def _columns(name: str, means: Array, milliseconds: float, sigma: dict[str, Any]) -> str:
    return (f'{name} {means[0]:.3f} m, {means[1]:.3f}, {means[2]:.3f} '
            f'({milliseconds:.1f} ms), within sigma {sigma["within_1"]:.0%}, AUSE '
            f'{sigma["ause"]:.3f}')
