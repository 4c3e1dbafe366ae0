"""How fast depth is on this machine, and whether the fast ways still see the same.

``python -m hybrid_depth_ros.benchmark``, or ``make bench``: the machine's own limit; every runtime
and precision beside the plain network; where a frame's time goes; the depth node over DDS.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_depth_ros.arguments import argument_parser, user_path
from hybrid_depth_ros.benchmark.machine import describe_machine, other_processes_seconds
from hybrid_depth_ros.benchmark.networks import compare_runtimes, untrained_resnet50
from hybrid_depth_ros.benchmark.node import (
    ALL_CONSUMERS,
    MOUNT,
    RATE,
    measure_node,
    ros_messages,
)
from hybrid_depth_ros.benchmark.peers import measure_peers
from hybrid_depth_ros.benchmark.stages import (
    ANCHOR_STAGES,
    BATCH_SIZES,
    CONSUMER_STAGES,
    SampleImage,
    batch_growth,
    frame_stages,
    held_out_images,
    room_image,
)
from hybrid_depth_ros.compressed_depth import FORMATS as COMPRESSED
from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.predictor import free_memory
from hybrid_depth_ros.runtimes.hardware import choose_device, installed
from hybrid_depth_ros.runtimes.selection import load_runtime

SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080))
# shares of the time by which each part ends; the node has the rest
PEAK, NETWORKS, STAGES = 0.03, 0.6, 0.68
COLUMNS = (  # key, head, format, width
    ('forward_ms', 'forward ms', '.1f', 12), ('forward_p95_ms', 'p95', '.1f', 8),
    ('ratio', 'ratio', '.2f', 7), ('gflops', 'GFLOP/s', '.0f', 9),
    ('peak_share', 'of peak', '.0%', 9), ('mean_difference_mm', 'mean mm', '.1f', 9),
    ('max_difference_mm', 'max mm', '.0f', 8), ('delta1', 'δ1', '.3f', 7),
    ('delta1_change', 'change', '+.4f', 9), ('predictor_ms', 'whole ms', '.1f', 10),
    ('fps', 'fps', '.0f', 6), ('predictor_ratio', 'ratio', '.2f', 7))


def measure(weights: Sequence[str], data: str | None, seconds: float, out: Path,
            skip_nodes: bool) -> None:
    """Measure everything, print it, write bench.json and bench.png into `out`."""
    began, device = time.monotonic(), choose_device('auto')
    out.mkdir(parents=True, exist_ok=True)
    for name in weights:
        open_model(name)  # one that isn't there is said before anything is measured
    images = held_out_images(data) if data else [
        SampleImage(room_image(seconds=4.0 * i)[0], None) for i in range(8)]
    machine = describe_machine(device, PEAK * seconds)
    print(f'{machine["cpu"]}, {machine["cores"]} cores; matrix peak in GFLOP/s: ' + ', '.join(
        f'{where} {precision} {gflops:.0f}' for where, of in machine['peak_gflops'].items()
        for precision, gflops in of.items()))
    print('  '.join(f'{name} {version}' for name, version in machine['versions'].items()))
    results: dict[str, Any] = {'machine': machine, 'rows': [], 'best': None, 'stages': {},
                               'batch_ms': {}, 'nodes': []}
    try:
        others, start = other_processes_seconds(), time.monotonic()
        best = measure_networks(results, weights, images, began, seconds * NETWORKS, device)
        others = (other_processes_seconds() - others) / (time.monotonic() - start)
        machine['others_cores'] = others if np.isfinite(others) else None
        if others > 0.1:
            print(f'Others kept {others:.1f} cores busy meanwhile: ratios will differ on a quiet '
                  'machine, most for torch, whose threads wait for each other at each layer')
        if best:
            measure_stages(results, best, began + seconds * STAGES)
        del best
        if skip_nodes:
            print('The node over DDS: skipped')
        else:
            measure_nodes(results, weights[0] if weights else 'lite-nyu', began + seconds)
    finally:  # what was measured is kept
        (out / 'bench.json').write_text(json.dumps(results, indent=2, ensure_ascii=False) + '\n')
    print(f'{time.monotonic() - began:.0f} s; look at {out / "bench.json"}', end='')
    if find_spec('matplotlib'):
        save_plot(results, out / 'bench.png')
        print(f' and {out / "bench.png"}')
    else:
        print('; no plot: matplotlib is not installed')


def measure_networks(results: dict[str, Any], weights: Sequence[str],
                     images: Sequence[SampleImage], began: float, seconds: float,
                     device: str) -> Any:
    """Rows of each network; returns the fastest predictor of the first."""
    print('Ratios are to the plain network in the same run, on the same images.', flush=True)
    # None: a network made here
    untrained = not weights and installed('torch')
    names: list[str | None] = [*(weights or ['lite-nyu']), *([None] if untrained else [])]
    best = None
    for i, name in enumerate(names):
        shown = images if name else [SampleImage(image.rgb, None) for image in images]
        with contextlib.nullcontext(name) if name else untrained_resnet50() as file:
            end = began + seconds * (i + 1) / len(names)
            rows, fastest = compare_runtimes(file, shown, end - time.monotonic(), device,
                                    results['machine']['peak_gflops'])
        print(('\n' if i else '') + table(rows), flush=True)
        results['rows'] += rows
        if i == 0:
            best, results['best'] = fastest or (None, None)
        del fastest
        free_memory()
    return best


def measure_stages(results: dict[str, Any], predictor: Any, end: float) -> None:
    """A frame's stages at each size, and what batches bring."""
    share = max(end - time.monotonic(), 1) / (len(SIZES) + 1)
    stages, messages = results['stages'], ros_messages()
    for width, height in SIZES:
        stages[f'{width}×{height}'] = frame_stages(
            predictor, width, height, share, messages)
    results['batch_ms'] = batch_growth(predictor, share)
    lines = {stage: [took[stage] for took in stages.values()] for stage in stages['640×480']}
    besides = ('forward', *ANCHOR_STAGES, *CONSUMER_STAGES)  # not there by default
    lines['image to depth and cloud, but forward'] = [
        sum(ms for stage, ms in took.items() if stage not in besides) for took in stages.values()]
    print('\n' + f'ms, {results["best"]}'.ljust(42) + ''.join(f'{size:>11}' for size in stages))
    for stage, times in lines.items():
        print(f'{stage:42}' + ''.join(f'{ms:11.2f}' for ms in times))
    print('an image in batches of ' + ', '.join(
        f'{count}: {ms:.1f} ms' for count, ms in results['batch_ms'].items()), flush=True)


def measure_nodes(results: dict[str, Any], weights: str, end: float) -> None:
    """The depth node with one camera and with several, and with everybody who may listen to one."""
    if not ros_messages():
        print('The node over DDS: skipped, as ROS is not installed')
        return
    for ending in (signal.SIGTERM, signal.SIGHUP):  # end as Ctrl-C does, with the processes
        signal.signal(ending, signal.default_int_handler)
    # the node will find it in the cache
    results['node_runtime'] = load_runtime(open_model(weights))[1]
    free_memory()
    print(f'\nThe node over DDS, {RATE:g} Hz of 640×480 in all; {results["node_runtime"]}')
    parts = len(BATCH_SIZES) + len(COMPRESSED)
    share = max((end - time.monotonic() - 6 * parts) / (parts + 2), 1)
    for count in BATCH_SIZES:
        names = [f'camera{i}' for i in range(1, count + 1)] if count > 1 else ['']
        measured(results, f'{count} camera(s)', partial(measure_node, weights, names, share))
    for form in COMPRESSED:
        measured(results, f'1 camera with obstacles, scan and compressedDepth by {form}', partial(
            measure_node, weights, [''], share, ALL_CONSUMERS,
            (*MOUNT, f'compressed_depth_format:={form}')))


def measured(results: dict[str, Any], name: str, measure: Callable[[], dict[str, Any]]) -> None:
    """Add a row of the depth node, and print it."""
    try:
        node = {'name': name, **measure()}
    except OSError as error:
        node = {'name': name, 'error': explain(error)}
    results['nodes'].append(node)
    print(f'{name}: ' + (node.get('error') or (
        f'depth {node["depth_fps"]:.1f}, all of it {node["whole_fps"]:.1f} fps; image to last '
        f'message {node.get("latency_ms", np.nan):.0f} ms, p95 '
        f'{node.get("latency_p95_ms", np.nan):.0f} ms; {node["cores"]:.2f} cores, '
        f'{node["resident_mb"]:.0f} MB; first depth after {node["first_depth_s"]:.1f} s'
        + (f'; {node["idle_cores"]:.1%} of a core while nobody listens'
           if 'idle_cores' in node else ''))), flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as lines of text."""
    lines = [f'{"weights runtime precision":42}' + ''.join(
        f'{head:>{width}}' for _, head, _, width in COLUMNS)]
    for row in rows:
        label = ' '.join(filter(None, (row['weights'], row['runtime'], row['precision'],
                                       row['device'] if row['device'] != 'cpu' else '')))
        lines.append(f'{label:42}' + (f'  {row["status"]}' if row['status'] != 'ok' else ''.join(
            f'{"–" if row.get(key) is None else format(row[key], form):>{width}}'
            for key, _, form, width in COLUMNS)))
    return '\n'.join(lines)


def save_plot(results: dict[str, Any], path: Path) -> None:
    """Forward passes, and the stages of a frame at each size, as bars."""
    from matplotlib.figure import Figure
    figure = Figure((13, 7), layout='constrained')
    left, right = figure.subplots(1, 2)
    rows = [row for row in results['rows'] if row['status'] == 'ok'][::-1]
    left.barh([f'{row["weights"]}\n{row["runtime"]} {row["precision"]}' for row in rows],
              [row['forward_ms'] for row in rows])
    left.set(xscale='log', xlabel='ms', title='Forward pass for a 640×480 image, median')
    sizes, below = results['stages'], np.zeros(len(results['stages']))
    for stage in next(iter(sizes.values()), ()):
        times = np.array([took[stage] for took in sizes.values()])
        right.bar(list(sizes), times, bottom=below, label=stage)
        below += times
    right.set(ylabel='ms', title=f'A frame by {results["best"]}, medians')
    if sizes:
        right.legend()
    figure.savefig(path, dpi=100)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    # nothing of it leaves this machine or meets another ROS graph; before rclpy is loaded
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.randint(1, 100)))
    parser = argument_parser(__doc__, prog='benchmark')
    parser.add_argument('--weights', nargs='+', default=[], metavar='NAME_OR_FILE',
                        help='networks to measure; without, lite-nyu and an untrained ResNet-50')
    parser.add_argument('--data', metavar='FOLDER', help='NYU Depth v2 images: scores δ1')
    parser.add_argument('--seconds', type=float, default=180.0, help='for all of it, about')
    parser.add_argument('--out', type=user_path, default=Path('bench_out'))
    parser.add_argument('--skip-nodes', action='store_true', help='nothing over DDS')
    parser.add_argument('--peers', action='store_true',
                        help='the architectures that others use, beside ours, instead')
    args = parser.parse_args(argv)
    try:
        if not args.seconds > 0:
            raise ValueError(f'--seconds is {args.seconds:g}; it must be above 0')
        if args.peers:
            if not find_spec('transformers'):
                raise ValueError("--peers needs transformers: pip install "
                                 "'hybrid_depth_ros[transformers]'")
            measure_peers(args.out, args.seconds)
            return
        measure(args.weights, args.data, args.seconds, args.out, args.skip_nodes)
    except (OSError, ValueError) as error:
        sys.exit(f'benchmark: {explain(error)}')
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main()
