"""Every runtime and precision beside the plain network, picture by picture."""

import contextlib
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from hybrid_depth_ros.benchmark.stages import milliseconds, predict
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.metrics import DepthErrors
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH, DepthPredictor
from hybrid_depth_ros.runtimes.hardware import NEEDS, RUNTIMES, gpu_is_here, installed
from hybrid_depth_ros.runtimes.selection import precisions
from hybrid_depth_ros.weights import load_network, save_network

PAUSE = 0.03                            # seconds: threads of the runtime before still spin
FX = NYU_FX_PER_WIDTH * 640            # of the pictures


class PlainRuntime:
    """The network as it was trained, in eager torch: unfused, contiguous NCHW, float32."""

    name, precision = 'plain', 'fp32'

    def __init__(self, weights, device):
        import torch

        from hybrid_depth_ros.network import IMAGENET_MEAN, IMAGENET_STD
        self._torch, self.device = torch, device
        self.network = load_network(weights).to(device)
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1)
                                 for values in (IMAGENET_MEAN, IMAGENET_STD))

    def __call__(self, pixels):
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            batch = (batch.contiguous().float() / 255 - self._mean) / self._std
            return self.network(batch)[:, 0].cpu().numpy()

    def gflop(self, height, width):
        """10⁹ operations for one picture; a multiply-add is two."""
        from torch.utils.flop_counter import FlopCounterMode
        with self._torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.network(self._torch.zeros(1, 3, height, width, device=self.device))
        return counter.get_total_flops() / 1e9


def candidates(weights, device):
    """(runtime, precision, device, '' or why not) of all that could be measured."""
    missing = {name: f'not installed: {how}' for name, (_, how) in NEEDS.items()
               if not installed(name)}
    yield 'plain', 'fp32', device, missing.get('torch', '')
    for name in RUNTIMES[1:]:
        where = device if name in ('torch', 'tensorrt') else 'cpu'
        no_gpu = 'no NVIDIA GPU here' if name == 'tensorrt' and not gpu_is_here() else ''
        if missing.get(name) or no_gpu:
            yield name, '', where, missing.get(name) or no_gpu
            continue
        able = precisions(name, open_model(str(weights)), where)
        yield from ((name, precision, where, '') for precision in able)
        if name == 'openvino' and 'int8' not in able:
            yield name, 'int8', where, 'no int8 graph beside the weights: python -m train.quantise'


def make_predictor(weights, runtime, precision, device):
    if runtime != 'plain':
        return DepthPredictor(weights, device, precision, runtime=runtime)
    predictor = DepthPredictor(weights, device, 'fp32', runtime='torch')
    predictor.runtime = PlainRuntime(weights, device)
    return predictor


def compare_runtimes(weights, pictures, seconds, device, peaks):
    """Rows for one network; all that runs takes turns, picture by picture.

    pictures: [(uint8 480×640×3, true depth or None)]. Returns (rows, the fastest's predictor
    and name, or None).
    """
    end = time.monotonic() + seconds
    rows, running = _prepared(weights, pictures[0][0], device)
    plain = next((entry for entry in running if entry[0]['runtime'] == 'plain'), None)
    turns = _take_turns(running, plain, pictures, end)
    gflop = plain and plain[1].runtime.gflop(288, 352)
    for row, _, took, differences, errors in running:
        forward, whole = zip(*took)
        row.update(turns=turns, forward_ms=milliseconds(forward), predictor_ms=milliseconds(whole),
                   forward_p95_ms=milliseconds(forward, 95), fps=1000 / milliseconds(whole))
        if errors.pixels:
            row.update(delta1=errors.metrics()['delta1'], scored=min(turns, len(pictures)))
        if plain:
            _compare_with(plain[0], gflop, row, differences, peaks)
    best = min(running, default=None, key=lambda entry: entry[0]['predictor_ms'])
    return rows, best and (best[1], '{weights} {runtime} {precision}'.format(**best[0]))


def _prepared(weights, rgb, device):
    """A row for all that there may be, and of what runs (row, predictor, [], [], DepthErrors)."""
    rows, running, slow = [], [], np.inf
    for runtime, precision, where, absent in candidates(weights, device):
        row = {'weights': Path(weights).stem, 'runtime': runtime, 'precision': precision,
               'device': where, 'status': absent or 'ok'}
        rows.append(row)
        if absent:
            continue
        try:
            predictor = make_predictor(weights, runtime, precision, where)
            took = min(sum(predict(predictor, rgb, FX)[1].values())
                       for _ in range(3))  # the first call compiles
            if runtime == 'plain':
                slow = max(1.0, 5 * took)
            if took > slow:  # all would wait for it
                row['status'] = f'left out: {took:.1f} s for one picture'
                continue
            running.append((row, predictor, [], [], DepthErrors()))
        except Exception as error:  # one that doesn't work here must not stop the others
            row['status'] = reason(error)[:140]
    return rows, running


def _take_turns(running, plain, pictures, end):
    """Fill in the times of what runs, differences from plain in mm, and errors; → turns taken."""
    turns = 0
    while running and (turns < 5 or time.monotonic() < end):
        rgb, truth = pictures[turns % len(pictures)]
        first, depths = turns % len(running), {}  # nobody always follows the same one
        for row, predictor, took, *_ in running[first:] + running[:first]:
            time.sleep(PAUSE)
            depths[id(row)], stages = predict(predictor, rgb, FX)
            took.append((stages['forward'], sum(stages.values())))
        for row, _, _, differences, errors in running if turns < len(pictures) else ():
            if plain:
                off = 1000 * np.abs(depths[id(row)] - depths[id(plain[0])])
                differences.append((off.mean(), off.max()))
            if truth is not None:  # without what NYU's cameras see of their frames
                errors.add(depths[id(row)][12:-12, 12:-12], truth[12:-12, 12:-12])
        turns += 1
    return turns


def _compare_with(plain, gflop, row, differences, peaks):
    gflops = gflop / row['forward_ms'] * 1000
    peak = peaks.get(row['device'], {}).get(row['precision'])
    means, most = zip(*differences)
    row.update(ratio=plain['forward_ms'] / row['forward_ms'], gflop=gflop,
               predictor_ratio=plain['predictor_ms'] / row['predictor_ms'],
               gflops=gflops, peak_share=peak and gflops / peak,
               mean_difference_mm=float(np.mean(means)), max_difference_mm=float(max(most)))
    if 'delta1' in row:
        row['delta1_change'] = row['delta1'] - plain['delta1']


@contextlib.contextmanager
def untrained_resnet50():
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
