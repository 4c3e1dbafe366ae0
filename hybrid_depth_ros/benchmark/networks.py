"""Every runtime and precision beside the plain network, image by image."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.benchmark.stages import SampleImage, milliseconds, predict
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.metrics import DepthErrors
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH, DepthPredictor
from hybrid_depth_ros.runtimes.hardware import NEEDS, RUNTIMES, gpu_is_here, installed
from hybrid_depth_ros.runtimes.selection import available_precisions
from hybrid_depth_ros.weights import load_network, save_network

PAUSE = 0.03                 # seconds: threads of the runtime before still spin
FX = NYU_FX_PER_WIDTH * 640  # of the images
MAX_REASON = 140             # characters of why something could not be measured
BORDER = 12                  # pixels: NYU's frames have no depth there
LEAST_TURNS = 5
NETWORK_SIZE = (288, 352)    # height and width at which operations are counted


class PlainRuntime:
    """The network as it was trained, in eager torch: unfused, contiguous NCHW, float32."""

    name, precision = 'plain', 'fp32'

    def __init__(self, weights: str, device: str) -> None:
        import torch

        from hybrid_depth_ros.imagenet import IMAGENET_MEAN, IMAGENET_STD
        self._torch, self.device = torch, device
        self.network = load_network(weights).to(device)
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1)
                                 for values in (IMAGENET_MEAN, IMAGENET_STD))

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 N×H×W×3 → depth N×H×W, metres."""
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            batch = (batch.contiguous().float() / 255 - self._mean) / self._std
            depth: npt.NDArray[np.float32] = self.network(batch)[:, 0].cpu().numpy()
            return depth

    def gflop(self, height: int, width: int) -> float:
        """10⁹ operations for one image; a multiply-add is two."""
        from torch.utils.flop_counter import FlopCounterMode
        with self._torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.network(self._torch.zeros(1, 3, height, width, device=self.device))
        return counter.get_total_flops() / 1e9


class Candidate(NamedTuple):
    """A way to run a network; `unavailable`: why it can't be measured here, or empty."""

    runtime: str
    precision: str
    device: str
    unavailable: str = ''


@dataclass
class _Measurement:
    """A way that runs, and what was measured of it.

    Attributes:
        row: Of the table.
        predictor: A DepthPredictor.
        forward: Seconds of the forward pass in each turn.
        whole: Seconds of the whole predictor in each turn.
        differences: Mean and largest difference of depth from the plain network's, mm.
        errors: Against true depth, where there is some.
    """

    row: dict[str, Any]
    predictor: Any
    forward: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    differences: list[tuple[float, float]] = field(default_factory=list)
    errors: DepthErrors = field(default_factory=DepthErrors)


def candidates(weights: str, device: str) -> Iterator[Candidate]:
    """All ways to run a network that there are, whether they work here or not."""
    missing = {name: f'not installed: {how}' for name, (_, how) in NEEDS.items()
               if not installed(name)}
    yield Candidate('plain', 'fp32', device, missing.get('torch', ''))
    for name in RUNTIMES[1:]:
        where = device if name in ('torch', 'tensorrt') else 'cpu'
        no_gpu = 'no NVIDIA GPU here' if name == 'tensorrt' and not gpu_is_here() else ''
        if unavailable := missing.get(name) or no_gpu:
            yield Candidate(name, '', where, unavailable)
            continue
        able = available_precisions(name, open_model(str(weights)), where)
        yield from (Candidate(name, precision, where) for precision in able)
        if name == 'openvino' and 'int8' not in able:
            yield Candidate(name, 'int8', where,
                            'no int8 graph beside the weights: python -m train.quantise')


def make_predictor(weights: str, candidate: Candidate) -> Any:
    """The DepthPredictor of a candidate."""
    runtime, precision, device, _ = candidate
    if runtime != 'plain':
        return DepthPredictor(weights, device, precision, runtime=runtime)
    predictor = DepthPredictor(weights, device, 'fp32', runtime='torch')
    predictor.runtime = PlainRuntime(weights, device)
    return predictor


def compare_runtimes(weights: str, images: Sequence[SampleImage], seconds: float, device: str,
                     peaks: Mapping[str, Mapping[str, float]]
                     ) -> tuple[list[dict[str, Any]], tuple[Any, str] | None]:
    """Rows for one network; all that runs takes turns, image by image.

    Args:
        weights: Name or file.
        images: Of 640×480.
        seconds: To measure for.
        device: Of what can run on a GPU.
        peaks: GFLOP/s by device and precision.

    Returns:
        Rows, and the fastest's predictor and name, or None.
    """
    end = time.monotonic() + seconds
    rows, running = _prepare(weights, images[0].rgb, device)
    plain = next((entry for entry in running if entry.row['runtime'] == 'plain'), None)
    turns = _take_turns(running, plain, images, end)
    gflop = plain.predictor.runtime.gflop(*NETWORK_SIZE) if plain else np.nan
    for entry in running:
        whole = milliseconds(entry.whole)
        entry.row.update(
            turns=turns, forward_ms=milliseconds(entry.forward), predictor_ms=whole,
            forward_p95_ms=milliseconds(entry.forward, 95), fps=1000 / whole)
        if entry.errors.pixels:
            entry.row.update(delta1=entry.errors.metrics()['delta1'],
                             scored=min(turns, len(images)))
        if plain:
            _compare_with(plain.row, gflop, entry, peaks)
    best = min(running, default=None, key=lambda entry: entry.row['predictor_ms'])
    if best is None:
        return rows, None
    return rows, (best.predictor, '{weights} {runtime} {precision}'.format(**best.row))


def _prepare(weights: str, rgb: npt.NDArray[np.uint8],
             device: str) -> tuple[list[dict[str, Any]], list[_Measurement]]:
    """A row for each candidate, and those that run."""
    rows: list[dict[str, Any]] = []
    running: list[_Measurement] = []
    too_slow = np.inf
    for candidate in candidates(weights, device):
        row = {'weights': Path(weights).stem, 'runtime': candidate.runtime,
               'precision': candidate.precision, 'device': candidate.device,
               'status': candidate.unavailable or 'ok'}
        rows.append(row)
        if candidate.unavailable:
            continue
        try:
            predictor = make_predictor(weights, candidate)
            took = min(sum(predict(predictor, rgb, FX)[1]) for _ in range(3))  # the first compiles
            if candidate.runtime == 'plain':
                too_slow = max(1.0, 5 * took)
            if took > too_slow:  # all would wait for it
                row['status'] = f'left out: {took:.1f} s for one image'
                continue
            running.append(_Measurement(row, predictor))
        except Exception as error:  # one that doesn't work here must not stop the others
            row['status'] = reason(error)[:MAX_REASON]
    return rows, running


def _take_turns(running: list[_Measurement], plain: _Measurement | None,
                images: Sequence[SampleImage], end: float) -> int:
    """Measure what runs until `end`; returns how many turns each has taken."""
    turns = 0
    inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    while running and (turns < LEAST_TURNS or time.monotonic() < end):
        rgb, truth = images[turns % len(images)]
        first, depths = turns % len(running), {}  # nobody always follows the same one
        for entry in running[first:] + running[:first]:
            time.sleep(PAUSE)
            depths[id(entry)], stages = predict(entry.predictor, rgb, FX)
            entry.forward.append(stages.forward)
            entry.whole.append(sum(stages))
        for entry in running if turns < len(images) else ():
            if plain:
                difference = 1000 * np.abs(depths[id(entry)] - depths[id(plain)])
                entry.differences.append((float(difference.mean()), float(difference.max())))
            if truth is not None:
                entry.errors.add(depths[id(entry)][inner], truth[inner])
        turns += 1
    return turns


def _compare_with(plain: dict[str, Any], gflop: float, entry: _Measurement,
                  peaks: Mapping[str, Mapping[str, float]]) -> None:
    row = entry.row
    gflops = gflop / row['forward_ms'] * 1000
    peak = peaks.get(row['device'], {}).get(row['precision'])
    means, largest = zip(*entry.differences)
    row.update(ratio=plain['forward_ms'] / row['forward_ms'], gflop=gflop,
               predictor_ratio=plain['predictor_ms'] / row['predictor_ms'],
               gflops=gflops, peak_share=peak and gflops / peak,
               mean_difference_mm=float(np.mean(means)), max_difference_mm=max(largest))
    if 'delta1' in row:
        row['delta1_change'] = row['delta1'] - plain['delta1']


@contextlib.contextmanager
def untrained_resnet50() -> Iterator[str]:
    """A weights file of the paper's network, for its speed; nothing of it stays in the cache."""
    import torch

    from hybrid_depth_ros.network import HybridDepthNet
    torch.manual_seed(0)
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'resnet50-untrained.safetensors')
        save_network(HybridDepthNet('resnet50'), path)
        os.environ['HYBRID_DEPTH_CACHE'] = folder
        try:
            yield str(path)
        finally:
            os.environ.clear()
            os.environ.update(environment)
