"""How fast depth is on this machine, and whether the fast ways still see the same.

``python -m hybrid_depth_ros.benchmark``, or ``make bench``: the machine's own limit; every runtime
and precision beside the plain network; where a frame's time goes; the depth node over DDS.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hybrid_depth_ros.errors import explain, reason
from hybrid_depth_ros.geometry import Intrinsics, organised_cloud
from hybrid_depth_ros.metrics import DepthErrors
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH, DepthPredictor, free_memory
from hybrid_depth_ros.room import Room
from hybrid_depth_ros.runtimes import (
    NEEDS,
    RUNTIMES,
    choose_device,
    gpu_is_here,
    installed,
    load_runtime,
    precisions,
    versions,
)
from hybrid_depth_ros.weights import load_network, save_network, weights_path

HELD_OUT = [[129, 166], [1340, 1383]]  # scenes of NYU Depth v2 that lite-nyu never saw
FOV = 63.3                             # degrees: the camera node's
SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080))
COUNTS = (1, 2, 4)                     # pictures in a batch, cameras on a node
RATE = 30.0                            # Hz, of all cameras together
EDGE_FILTER = 0.1                      # the depth node's default
# shares of the time by which each part ends; the node has the rest
PEAK, NETWORKS, STAGES = 0.03, 0.6, 0.68
REST = 0.03                            # seconds: threads of the runtime before still spin
NODE_TIMEOUT = 30.0                    # seconds for a node to start and its depth to come
COLUMNS = (  # key, head, format, width
    ('forward_ms', 'forward ms', '.1f', 12), ('forward_p95_ms', 'p95', '.1f', 8),
    ('ratio', 'ratio', '.2f', 7), ('gflops', 'GFLOP/s', '.0f', 9),
    ('peak_share', 'of peak', '.0%', 9), ('mean_difference_mm', 'mean mm', '.1f', 9),
    ('max_difference_mm', 'max mm', '.0f', 8), ('delta1', 'δ1', '.3f', 7),
    ('delta1_change', 'change', '+.4f', 9), ('predictor_ms', 'whole ms', '.1f', 10),
    ('fps', 'fps', '.0f', 6), ('predictor_ratio', 'ratio', '.2f', 7))


def milliseconds(seconds, percentile=50):
    return float(1000 * np.percentile(seconds, percentile))


# --- the machine --------------------------------------------------------------------------


def best_gflops(ones, finish, seconds):
    """The most GFLOP/s of multiplying n×n matrices. ones(n) makes one, finish() waits for it."""
    size, best, end = 512, 0.0, time.perf_counter() + seconds
    matrix = ones(size)
    while not best or time.perf_counter() < end:
        start = time.perf_counter()
        matrix @ matrix
        finish()
        took = time.perf_counter() - start
        best = max(best, 2e-9 * size ** 3 / took)
        if took < seconds / 20 and size < 8192:
            size *= 2
            matrix = ones(size)
    return best


def measure_peaks(device, seconds):
    """Matrix multiplication's GFLOP/s: ``{device: {precision: …}}``; without torch, NumPy's."""
    if not find_spec('torch'):
        return {'cpu': {'fp32': best_gflops(
            lambda n: np.ones((n, n), np.float32), lambda: None, seconds)}}
    import torch
    kinds = {'cpu': {'fp32': torch.float32, 'bf16': torch.bfloat16}}
    if device != 'cpu':
        kinds[device] = {**kinds['cpu'], 'fp16': torch.float16}
    share = seconds / sum(map(len, kinds.values()))
    return {where: {precision: best_gflops(
        lambda n, kind=kind, where=where: torch.ones(n, n, dtype=kind, device=where),
        (lambda: None) if where == 'cpu' else torch.cuda.synchronize, share)
        for precision, kind in of.items()} for where, of in kinds.items()}


def describe_machine(device, seconds):
    """CPU, cores, versions, and the peaks that are measured for `seconds`."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        cpu = next((line.partition(':')[2].strip() for line in
                    Path('/proc/cpuinfo').read_text().splitlines()
                    if line.startswith('model name')), cpu)
    return {'cpu': cpu, 'cores': os.cpu_count(),
            'versions': {'python': sys.version.split()[0], **versions((
                'numpy', 'torch', 'openvino', 'onnxruntime', 'onnxruntime-gpu', 'tensorrt'))},
            'peak_gflops': measure_peaks(device, seconds)}


def others_at_work():
    """Processor seconds that all but this process have used since the start; NaN if unknown."""
    with contextlib.suppress(OSError):
        user, nice, system, _, _, *interrupts = map(
            int, Path('/proc/stat').read_text().split('\n')[0].split()[1:8])
        return (sum((user, nice, system, *interrupts)) / os.sysconf('SC_CLK_TCK')
                - time.process_time())
    return np.nan


# --- networks -----------------------------------------------------------------------------


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


def possibilities(weights, device):
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
        able = precisions(name, weights_path(weights), where)
        yield from ((name, precision, where, '') for precision in able)
        if name == 'openvino' and 'int8' not in able:
            yield name, 'int8', where, 'no int8 graph beside the weights: python -m train.quantise'


def make_predictor(weights, runtime, precision, device):
    if runtime != 'plain':
        return DepthPredictor(weights, device, precision, runtime=runtime)
    predictor = DepthPredictor(weights, device, 'fp32', runtime='torch')
    predictor.runtime = PlainRuntime(weights, device)
    return predictor


def predict(predictor, rgb, fx):
    """What the predictor does to one picture: depth, and the seconds of each of its stages."""
    times = [time.perf_counter()]
    view = predictor.view(rgb, fx)
    times.append(time.perf_counter())
    output = predictor.runtime(view.pixels[None])[0]
    times.append(time.perf_counter())
    depth = view.restore(output)
    times.append(time.perf_counter())
    return depth, dict(zip(('resize', 'forward', 'restore'), np.diff(times).tolist()))


def compare(weights, pictures, seconds, device, peaks):
    """Rows for one network; all that runs takes turns, picture by picture.

    pictures: [(uint8 480×640×3, true depth or None)]. Returns (rows, the fastest's predictor
    and name, or None).
    """
    end, rows, running = time.monotonic() + seconds, [], []
    slow, fx = np.inf, NYU_FX_PER_WIDTH * 640
    for runtime, precision, where, absent in possibilities(weights, device):
        row = {'weights': Path(weights).stem, 'runtime': runtime, 'precision': precision,
               'device': where, 'status': absent or 'ok'}
        rows.append(row)
        if absent:
            continue
        try:
            predictor = make_predictor(weights, runtime, precision, where)
            took = min(sum(predict(predictor, pictures[0][0], fx)[1].values())
                       for _ in range(3))  # the first call compiles
            if runtime == 'plain':
                slow = max(1.0, 5 * took)
            if took > slow:  # all would wait for it
                row['status'] = f'left out: {took:.1f} s for one picture'
                continue
            running.append((row, predictor, [], [], DepthErrors()))
        except Exception as error:  # one that doesn't work here must not stop the others
            row['status'] = reason(error)[:140]
    plain = next((entry for entry in running if entry[0]['runtime'] == 'plain'), None)
    turns = 0
    while running and (turns < 5 or time.monotonic() < end):
        rgb, truth = pictures[turns % len(pictures)]
        first, depths = turns % len(running), {}  # nobody always follows the same one
        for row, predictor, took, *_ in running[first:] + running[:first]:
            time.sleep(REST)
            depths[id(row)], stages = predict(predictor, rgb, fx)
            took.append((stages['forward'], sum(stages.values())))
        for row, _, _, differences, errors in running if turns < len(pictures) else ():
            if plain:
                off = 1000 * np.abs(depths[id(row)] - depths[id(plain[0])])
                differences.append((off.mean(), off.max()))
            if truth is not None:  # without what NYU's cameras see of their frames
                errors.add(depths[id(row)][12:-12, 12:-12], truth[12:-12, 12:-12])
        turns += 1
    gflop = plain and plain[1].runtime.gflop(288, 352)
    for row, _, took, differences, errors in running:
        forward, whole = zip(*took)
        row.update(turns=turns, forward_ms=milliseconds(forward), predictor_ms=milliseconds(whole),
                   forward_p95_ms=milliseconds(forward, 95), fps=1000 / milliseconds(whole))
        if plain:
            peak = peaks.get(row['device'], {}).get(row['precision'])
            gflops = gflop / row['forward_ms'] * 1000
            means, most = zip(*differences)
            row.update(ratio=plain[0]['forward_ms'] / row['forward_ms'], gflop=gflop,
                       predictor_ratio=plain[0]['predictor_ms'] / row['predictor_ms'],
                       gflops=gflops, peak_share=peak and gflops / peak,
                       mean_difference_mm=float(np.mean(means)),
                       max_difference_mm=float(max(most)))
        if errors.pixels:
            row.update(delta1=errors.metrics()['delta1'], scored=min(turns, len(pictures)))
            if plain:
                row['delta1_change'] = row['delta1'] - plain[0]['delta1']
    best = min(running, default=None, key=lambda entry: entry[0]['predictor_ms'])
    return rows, best and (best[1], '{weights} {runtime} {precision}'.format(**best[0]))


def room_picture(width=640, height=480, seconds=0.0):
    """The virtual room: uint8 H×W×3, and the camera that sees it."""
    room, camera = Room(0), Intrinsics.from_horizontal_fov(width, height, FOV)
    return room.render(camera, room.camera_pose(seconds))[0], camera


def nyu_pictures(folder):
    """The held-out NYU frames with their true depth, spread so that the first few will do."""
    try:
        from train.datasets import SyncTree
    except ImportError as error:
        raise ValueError(f'--data needs what training needs ({error}): run this in the '
                         'repository after pip install -e ".[train]"') from error
    frames = SyncTree(folder).numbered(HELD_OUT)
    return [frames.read(i) for i in sorted(range(len(frames)), key=lambda i: i * 0.618034 % 1)]


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


# --- where a frame's time goes ------------------------------------------------------------


def frame_stages(predictor, width, height, seconds):
    """Median ms of each stage from message to messages; without ROS, of those between."""
    rgb, camera = room_picture(width, height)
    try:
        from std_msgs.msg import Header

        from hybrid_depth_ros import messages
        header = Header(frame_id='camera')
        image = messages.rgb_to_image(rgb, header)
    except ImportError:
        messages = None
    frames, end = [], time.monotonic() + seconds
    while len(frames) < 4 or time.monotonic() < end:
        took = {}

        def timed(stage, function, *arguments, took=took):
            start = time.perf_counter()
            result = function(*arguments)
            took[stage] = time.perf_counter() - start
            return result
        if messages:
            rgb = timed('message to array', messages.image_to_rgb, image)
        depth, stages = predict(predictor, rgb, camera.fx)
        took.update(stages)
        if messages:
            timed('depth message', messages.depth_to_image, depth, header, '32FC1')
        cloud = timed('cloud', organised_cloud, depth, rgb, camera, 1, 0.0, 0.0, EDGE_FILTER)
        if messages:
            timed('cloud message', messages.cloud_message, cloud, header)
        frames.append(took)
    # the first frame of a size compiles
    return {stage: milliseconds([took[stage] for took in frames[1:]]) for stage in frames[0]}


def batch_growth(predictor, seconds):
    """Median ms per picture of the whole predictor for each size of a batch; they take turns."""
    rgb, took, end = room_picture()[0], {n: [] for n in COUNTS}, time.monotonic() + seconds
    while len(took[1]) < 4 or time.monotonic() < end:
        for count, values in took.items():
            start = time.perf_counter()
            predictor([rgb] * count)
            values.append((time.perf_counter() - start) / count)
    return {count: milliseconds(values[1:]) for count, values in took.items()}


# --- the node over DDS --------------------------------------------------------------------


def create_cameras(names, rate=RATE):
    """A node with one picture of the room on each camera's topics, again and again.

    rate: Hz, of all cameras together.
    """
    import rclpy
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from hybrid_depth_ros.messages import camera_info_message, rgb_to_image
    node, (rgb, camera) = rclpy.create_node('benchmark_cameras'), room_picture()
    image = rgb_to_image(rgb, Header(frame_id='camera'))
    info = camera_info_message(camera, image.header)
    turns = itertools.cycle([(node.create_publisher(CameraInfo, f'{name}/camera_info', 2),
                              node.create_publisher(Image, f'{name}/image', 2))
                             for name in names])

    def publish():
        image.header.stamp = info.header.stamp = node.get_clock().now().to_msg()
        for publisher, message in zip(next(turns), (info, image)):
            publisher.publish(message)
    node.create_timer(1 / rate, publish)
    return node


def usage(process):
    """Processor seconds that a process has used, and its resident memory in MB."""
    folder = Path(f'/proc/{process.pid}')
    fields = (folder / 'stat').read_text().rsplit(')', 1)[1].split()
    return ((int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK'),
            int(fields[21]) * os.sysconf('SC_PAGE_SIZE') / 1e6)


def measure_node(weights, names, seconds):
    """The depth node as a process, between cameras in another and a listener here, over DDS.

    Latency is from the image's stamp to its cloud. With one camera, the node's CPU while nobody
    listens too. Raises OSError where a process ends or no depth comes.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image, PointCloud2
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    listener, executor = rclpy.create_node('benchmark'), SingleThreadedExecutor()
    executor.add_node(listener)
    depths, latencies, processes = [], [], []

    def take_cloud(data):
        sec, nanosec = struct.unpack_from('<iI' if data[1] else '>iI', data, 4)  # CDR: the stamp
        latencies.append((time.time_ns() - nanosec) / 1e9 - sec)

    def listen(timeout, until=lambda: False):
        end = time.monotonic() + timeout
        while time.monotonic() < end and not until():
            executor.spin_once(timeout_sec=0.05)
            if any(process.poll() is not None for process in processes):
                raise OSError('a process gave up; its reason stands above')
        return until()

    def load():
        """Cores that the node keeps busy for `seconds`, and how long these were."""
        depths.clear()
        latencies.clear()
        before, start = usage(processes[1])[0], time.monotonic()
        listen(seconds)
        took = time.monotonic() - start
        return (usage(processes[1])[0] - before) / took, took
    subscriptions = [
        listener.create_subscription(kind, f'{name}/depth/{topic}', take, 5, raw=True)
        for name in names for kind, topic, take in (
            (Image, 'image', lambda _: depths.append(time.monotonic())),
            (PointCloud2, 'points', take_cloud))]
    try:
        processes.append(subprocess.Popen([sys.executable, '-m', 'hybrid_depth_ros.benchmark',
                                           '--be-cameras', *names]))
        listen(NODE_TIMEOUT, lambda: listener.count_publishers(f'{names[-1]}/image'))
        start = time.monotonic()
        processes.append(subprocess.Popen([
            sys.executable, '-m', 'hybrid_depth_ros.depth_node', '--ros-args', '--log-level',
            'error', '-p', f'weights:={weights}',
            *(['-p', f'cameras:=[{", ".join(names)}]'] if len(names) > 1 else [])]))
        if not listen(NODE_TIMEOUT, lambda: depths and latencies):
            raise OSError(f'no depth and cloud within {NODE_TIMEOUT:.0f} s of the start')
        first = depths[0] - start
        listen(1.0)  # until all cameras have been found
        cores, took = load()
        result = {'cameras': len(names), 'first_depth_s': first, 'depth_fps': len(depths) / took,
                  'cloud_fps': len(latencies) / took, 'cores': cores,
                  'resident_mb': usage(processes[1])[1]}
        if latencies:
            result.update(latency_ms=milliseconds(latencies),
                          latency_p95_ms=milliseconds(latencies, 95))
        if len(names) == 1:
            for subscription in subscriptions:
                listener.destroy_subscription(subscription)
            listen(1.0)
            result['idle_cores'], _ = load()
        return result
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
        executor.shutdown()
        listener.destroy_node()
        rclpy.try_shutdown()


# --- what people see ----------------------------------------------------------------------


def table(rows):
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


def save_plot(results, path):
    """Forward passes, and the stages of a frame at each size, as bars."""
    from matplotlib.figure import Figure
    figure = Figure((13, 7), layout='constrained')
    left, right = figure.subplots(1, 2)
    rows = [row for row in results['rows'] if row['status'] == 'ok'][::-1]
    left.barh([f'{row["weights"]}\n{row["runtime"]} {row["precision"]}' for row in rows],
              [row['forward_ms'] for row in rows])
    left.set(xscale='log', xlabel='ms', title='Forward pass for a 640×480 picture, median')
    sizes, below = results['stages'], np.zeros(len(results['stages']))
    for stage in next(iter(sizes.values()), ()):
        times = np.array([took[stage] for took in sizes.values()])
        right.bar(list(sizes), times, bottom=below, label=stage)
        below += times
    right.set(ylabel='ms', title=f'A frame by {results["best"]}, medians')
    if sizes:
        right.legend()
    figure.savefig(path, dpi=100)


def measure(weights, data, seconds, out, skip_nodes):
    """Measure everything, print it, write bench.json and bench.png into `out`."""
    began, device = time.monotonic(), choose_device('auto')
    out.mkdir(parents=True, exist_ok=True)
    for name in weights:
        weights_path(name)  # one that isn't there is said before anything is measured
    pictures = nyu_pictures(data) if data else [
        (room_picture(seconds=4.0 * i)[0], None) for i in range(8)]
    machine = describe_machine(device, PEAK * seconds)
    print(f'{machine["cpu"]}, {machine["cores"]} cores; matrix peak in GFLOP/s: ' + ', '.join(
        f'{where} {precision} {gflops:.0f}' for where, of in machine['peak_gflops'].items()
        for precision, gflops in of.items()))
    print('  '.join(f'{name} {version}' for name, version in machine['versions'].items()))
    results = {'machine': machine, 'rows': [], 'best': None, 'stages': {}, 'batch_ms': {},
               'nodes': []}
    try:
        others, start = others_at_work(), time.monotonic()
        best = measure_networks(results, weights, pictures, began, seconds * NETWORKS, device)
        others = (others_at_work() - others) / (time.monotonic() - start)
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


def measure_networks(results, weights, pictures, began, seconds, device):
    """Rows of each network; returns the fastest predictor of the first."""
    print('Ratios are to the plain network in the same run, on the same pictures.', flush=True)
    # None: a network made here
    untrained = not weights and installed('torch')
    names, best = [*(weights or ['lite-nyu']), *([None] if untrained else [])], None
    for i, name in enumerate(names):
        seen = pictures if name else [(rgb, None) for rgb, _ in pictures]
        with contextlib.nullcontext(name) if name else untrained_resnet50() as file:
            end = began + seconds * (i + 1) / len(names)
            rows, fastest = compare(file, seen, end - time.monotonic(), device,
                                    results['machine']['peak_gflops'])
        print(('\n' if i else '') + table(rows), flush=True)
        results['rows'] += rows
        if i == 0:
            best, results['best'] = fastest or (None, None)
        del fastest
        free_memory()
    return best


def measure_stages(results, predictor, end):
    """A frame's stages at each size, and what batches bring."""
    share = max(end - time.monotonic(), 1) / (len(SIZES) + 1)
    stages = results['stages']
    for width, height in SIZES:
        stages[f'{width}×{height}'] = frame_stages(predictor, width, height, share)
    results['batch_ms'] = batch_growth(predictor, share)
    lines = {stage: [took[stage] for took in stages.values()] for stage in stages['640×480']}
    lines['all but forward'] = [sum(took.values()) - took['forward'] for took in stages.values()]
    print('\n' + f'ms, {results["best"]}'.ljust(42) + ''.join(f'{size:>11}' for size in stages))
    for stage, times in lines.items():
        print(f'{stage:42}' + ''.join(f'{ms:11.2f}' for ms in times))
    print('a picture in batches of ' + ', '.join(
        f'{count}: {ms:.1f} ms' for count, ms in results['batch_ms'].items()), flush=True)


def measure_nodes(results, weights, end):
    """The depth node with one camera and with several."""
    try:
        import rclpy  # noqa: F401
        import sensor_msgs.msg  # noqa: F401
    except ImportError as error:
        print(f'The node over DDS: skipped, as ROS is not installed ({error})')
        return
    for ending in (signal.SIGTERM, signal.SIGHUP):  # end as Ctrl-C does, with the processes
        signal.signal(ending, signal.default_int_handler)
    results['node_runtime'] = load_runtime(weights)[1]  # the node will find it in the cache
    free_memory()
    print(f'\nThe node over DDS, {RATE:g} Hz of 640×480 in all; {results["node_runtime"]}')
    share = max((end - time.monotonic() - 6 * len(COUNTS)) / (len(COUNTS) + 1), 1)
    for count in COUNTS:
        names = [f'camera{i}' for i in range(1, count + 1)] if count > 1 else ['']
        try:
            node = measure_node(weights, names, share)
        except OSError as error:
            node = {'cameras': count, 'error': explain(error)}
        results['nodes'].append(node)
        print(f'{count} camera(s): ' + (node.get('error') or (
            f'depth {node["depth_fps"]:.1f}, cloud {node["cloud_fps"]:.1f} fps; image to cloud '
            f'{node.get("latency_ms", np.nan):.0f} ms, p95 '
            f'{node.get("latency_p95_ms", np.nan):.0f} ms; {node["cores"]:.2f} cores, '
            f'{node["resident_mb"]:.0f} MB; first depth after {node["first_depth_s"]:.1f} s'
            + (f'; {node["idle_cores"]:.1%} of a core while nobody listens'
               if 'idle_cores' in node else ''))), flush=True)


def main(argv=None):
    # nothing of it leaves this machine or meets another ROS graph; before rclpy is loaded
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.randint(1, 100)))
    parser = argparse.ArgumentParser(prog='benchmark', description=__doc__)
    parser.add_argument('--weights', nargs='+', default=[], metavar='NAME_OR_FILE',
                        help='networks to measure; without, lite-nyu and an untrained ResNet-50')
    parser.add_argument('--data', metavar='FOLDER', help='NYU Depth v2 images: scores δ1')
    parser.add_argument('--seconds', type=float, default=180.0, help='for all of it, about')
    parser.add_argument('--out', type=Path, default=Path('bench_out'))
    parser.add_argument('--skip-nodes', action='store_true', help='nothing over DDS')
    parser.add_argument('--be-cameras', nargs='+', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        if args.be_cameras:
            from hybrid_depth_ros.running import run
            run('benchmark_cameras', lambda: create_cameras(args.be_cameras), [])
        elif args.seconds > 0:
            measure(args.weights, args.data, args.seconds, args.out, args.skip_nodes)
        else:
            raise ValueError(f'--seconds is {args.seconds:g}; it must be above 0')
    except (OSError, ValueError) as error:
        sys.exit(f'benchmark: {explain(error)}')
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main()
