"""Architectures that others use beside ours, in time and memory, one 640×480 image each.

Random weights are enough for that; accuracy is what their makers have published. Each stands in a
process of its own, beside lite-nyu, whose turns alternate with its: what keeps the machine busy
meets both.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ('paper-nyu', 'glpn-nyu', 'depth-anything-v2-metric-indoor-small',
         'depth-anything-v2-metric-indoor-base', 'zoedepth-nyu', 'dpt-large')
RUNTIMES = (('openvino', 'auto'), ('torch', 'fp32'))
LITE = 'lite-nyu'
ROUNDS = 12      # turns at most
LIMIT = 300      # seconds for one architecture in one runtime, its export among them
# δ1 on NYU Depth v2. measured: with the data that docs/accuracy.md and docs/anchors.md name; the
# others as published.
ACCURACY = (
    (LITE, 0.772, 'measured'), (f'{LITE}, with a scan', 0.890, 'measured'),
    ('paper-nyu', 0.833, 'published'), ('zoedepth-nyu', 0.951, 'published'),
    ('depth-anything-small', 0.972, 'published, after the best scale and shift'),
    ('dpt-large', 0.917, 'published, after the best scale and shift'))
SAME_TIME = {f'{LITE}, with a scan': LITE,
             'depth-anything-small': 'depth-anything-v2-metric-indoor-small'}


def _depth_anything(t: Any, width: int, heads: int, features: int,
                    neck: Sequence[int]) -> tuple[Any, Any]:
    backbone = t.Dinov2Config(
        hidden_size=width, num_hidden_layers=12, num_attention_heads=heads, patch_size=14,
        image_size=518, out_indices=[3, 6, 9, 12], reshape_hidden_states=False)
    config = t.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=width, neck_hidden_sizes=neck,
        fusion_hidden_size=features, depth_estimation_type='metric', max_depth=20)
    return t.DepthAnythingForDepthEstimation(config), t.DPTImageProcessor(
        size={'height': 518, 'width': 518}, ensure_multiple_of=14, keep_aspect_ratio=True,
        resample=3)


def architecture(name: str) -> tuple[Any, Any]:
    """Network, with random weights, and image processor of a name."""
    import transformers as t
    if name.endswith('-small'):
        return _depth_anything(t, 384, 6, 64, [48, 96, 192, 384])
    if name.endswith('-base'):
        return _depth_anything(t, 768, 12, 128, [96, 192, 384, 768])
    if name == 'glpn-nyu':
        return t.GLPNForDepthEstimation(t.GLPNConfig(
            depths=[3, 8, 27, 3], hidden_sizes=[64, 128, 320, 512],
            num_attention_heads=[1, 2, 5, 8])), t.GLPNImageProcessor()
    if name == 'dpt-large':
        return t.DPTForDepthEstimation(t.DPTConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
            intermediate_size=4096, neck_hidden_sizes=[256, 512, 1024, 1024],
            backbone_out_indices=[5, 11, 17, 23])), t.DPTImageProcessor()
    return t.ZoeDepthForDepthEstimation(t.ZoeDepthConfig()), t.ZoeDepthImageProcessor(
        ensure_multiple_of=32)


def make_random(name: str, folder: Path) -> Path:
    """The architecture of a name with random weights, as a file or folder; returns its path."""
    import torch
    torch.manual_seed(0)
    if name == 'paper-nyu':
        from hybrid_depth_ros.network import HybridDepthNet
        from hybrid_depth_ros.weights import save_network
        save_network(HybridDepthNet('resnet50'), folder / 'paper.safetensors')
        return folder / 'paper.safetensors'
    import transformers
    transformers.utils.logging.disable_progress_bar()
    for part in architecture(name):
        part.save_pretrained(folder)
    return folder


def _resident_megabytes() -> dict[str, float]:
    status = Path('/proc/self/status').read_text()
    return {key: int(value.split()[0]) / 1024 for key, value in (
        line.split(':', 1) for line in status.splitlines() if line.startswith(('VmHWM', 'VmRSS')))}


def measure_peer(path: str, runtime: str, precision: str, seconds: float) -> dict[str, Any]:
    """Measure in this process what one image takes of the network at a path, and of lite-nyu.

    Returns:
        ``ms`` and ``lite_ms`` by the clock, ``cpu_ms`` and ``lite_cpu_ms`` of the processor, which
        other processes change less; ``memory_mb`` that it adds; ``precision``.
    """
    from hybrid_depth_ros.predictor import DepthPredictor
    rgb = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    lite = DepthPredictor(LITE, 'cpu', runtime='openvino')
    lite(rgb)
    before = _resident_megabytes()['VmRSS']
    peer = DepthPredictor(path, 'cpu', precision, runtime=runtime, relative=True)
    peer(rgb)
    memory = _resident_megabytes()['VmRSS'] - before
    took: dict[Any, list[tuple[float, float]]] = {lite: [], peer: []}
    end = time.monotonic() + seconds
    while len(took[peer]) < 3 or (time.monotonic() < end and len(took[peer]) < ROUNDS):
        for predictor, times in took.items():
            start = time.perf_counter(), time.process_time()
            predictor(rgb)
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            time.sleep(0.03)  # threads of the runtime before still spin
    (lite_ms, lite_cpu), (ms, cpu) = (
        1000 * np.min(times[1:], axis=0) for times in took.values())
    return {'ms': ms, 'lite_ms': lite_ms, 'cpu_ms': cpu, 'lite_cpu_ms': lite_cpu,
            'memory_mb': memory, 'precision': peer.runtime.precision}


def _operations(path: Path) -> tuple[float, float]:
    """(10⁹ operations for one 640×480 image, 10⁶ parameters)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from hybrid_depth_ros.models import open_model
    model = open_model(str(path))
    module = model.module()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.from_numpy(model.example_batch()))
    return (counter.get_total_flops() / 1e9,
            sum(parameter.numel() for parameter in module.parameters()) / 1e6)


def measure_peers(out: Path, seconds: float,
                  names: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    """Measure all, print the table, write peers.json and peers.png into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    print('640×480, random weights; ms by the clock; times: processor time, lite-nyu is 1')
    print(f'{"":51}{"million":>9}{"GFLOP":>8}{"ms":>9}{"lite ms":>9}{"times":>7}{"MB":>7}',
          flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            path = make_random(name, Path(folder))
            gflop, millions = _operations(path)
            for runtime, precision in RUNTIMES:
                row: dict[str, Any] = {'name': name, 'runtime': runtime, 'gflop': gflop,
                                       'millions': millions}
                try:
                    done = subprocess.run(
                        [sys.executable, '-m', 'hybrid_depth_ros.benchmark.peers', str(path),
                         runtime, precision, str(seconds / len(names) / len(RUNTIMES))],
                        capture_output=True, text=True, timeout=LIMIT)
                    error: str | None = done.stderr if done.returncode else None
                except subprocess.TimeoutExpired:
                    error = f'not done within {LIMIT} s'
                if error is not None:
                    row['error'] = (error.strip().splitlines() or ['it ended'])[-1][:200]
                    print(f'{name} {runtime}: {row["error"]}', flush=True)
                else:
                    row.update(json.loads(done.stdout.splitlines()[-1]))
                    row['times'] = row['cpu_ms'] / row['lite_cpu_ms']
                    print(f'{name + " " + runtime + " " + row["precision"]:54}'[:54]
                          + f'{millions:6.0f}{gflop:8.0f}{row["ms"]:9.0f}{row["lite_ms"]:9.1f}'
                          f'{row["times"]:7.1f}{row["memory_mb"]:7.0f}', flush=True)
                rows.append(row)
    (out / 'peers.json').write_text(json.dumps(rows, indent=2, ensure_ascii=False) + '\n')
    save_peers_plot(rows, out / 'peers.png')
    print(f'look at {out / "peers.json"} and {out / "peers.png"}')
    return rows


def save_peers_plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """δ1 against how many times the time of lite-nyu an architecture takes."""
    from matplotlib.figure import Figure
    times = {row['name']: row['times'] for row in rows
             if row['runtime'] == 'openvino' and 'times' in row}
    times[LITE] = 1.0
    figure = Figure((8, 5), layout='constrained')
    axes = figure.subplots()
    marks = {'measured': 'o', 'published': 's'}
    for name, delta1, source in ACCURACY:
        where = times.get(SAME_TIME.get(name, name))
        if where is None:
            continue
        short = source.split(',')[0]
        axes.plot(where, delta1, marks[short], color='C2' if 'scan' in name else
                  'C0' if 'scale' not in source else 'C1', markersize=8)
        left = source == 'published'  # so that texts don't meet
        axes.annotate(f'{name}\n({source})', (where, delta1), xytext=(-8 if left else 8, 0),
                      textcoords='offset points', fontsize=8,
                      ha='right' if left else 'left', va='top' if left else 'center')
    axes.set(xscale='log', xlim=(0.7, 300), ylim=(0.65, 1.03),
             xlabel='times the time of lite-nyu, OpenVINO, same processor',
             ylabel='δ1 on NYU Depth v2',
             title='Circles: measured here, on 61 images. Squares: as published, official test')
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


if __name__ == '__main__':
    path, runtime, precision, seconds = sys.argv[1:]
    print(json.dumps(measure_peer(path, runtime, precision, float(seconds))))
