"""Which runtime and precision: the ones asked for, or the fastest here by a short trial."""

import contextlib
import hashlib
import json
import os
import platform
import time
from functools import partial

import numpy as np

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import cache_folder, write_bytes_atomically
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.runtimes.export import cached, export_onnx, export_openvino, read_graph
from hybrid_depth_ros.runtimes.hardware import (
    NEEDS,
    PRECISIONS,
    RUNTIMES,
    choose_device,
    cpu_flags,
    installed,
    low_precision_is_faster,
    versions,
)
from hybrid_depth_ros.runtimes.onnx import OnnxRuntime
from hybrid_depth_ros.runtimes.openvino import OpenVinoRuntime, openvino_precisions
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime

ROUNDS, TRIAL = 5, 0.2  # turns that each candidate gets, and seconds of each at least
HOPELESS = 4            # times as slow as the best: no more than two turns
SLOW = 1.0              # seconds for a picture, of which one turn says enough
NOISE = 1.3             # times that a candidate's turns differ by on a quiet machine


def precisions(runtime, model, device):
    """What a runtime can compute this Model in here, the fastest first."""
    if runtime == 'tensorrt':
        return 'fp16', 'fp32'
    if runtime == 'onnxruntime':
        return ('fp32',)
    if runtime == 'openvino':
        return (*(['int8'] if model.int8 else []), *openvino_precisions(), 'fp32')
    if device != 'cpu':
        return 'fp16', 'bf16', 'fp32'
    fast = {'amx_bf16', 'bf16'} & cpu_flags()
    return ('bf16', 'fp32', 'fp16') if fast else ('fp32', 'bf16', 'fp16')


def _make(runtime, precision, model, device):
    if runtime == 'torch':
        return TorchRuntime(model.module(), device, precision)
    if runtime == 'openvino':
        return OpenVinoRuntime(partial(_openvino_graph, model, precision), precision,
                               model.one_by_one, model.answer)
    return OnnxRuntime(partial(_onnx_graph, model), runtime, precision, model.one_by_one,
                       model.answer)


def _size(shape):
    return ''.join(f'-{side}' for side in shape or ())


def _openvino_graph(model, precision, shape):
    """XML and weights, or an ONNX file's content and nothing; shape: where it is of one alone."""
    if model.graph:
        return model.graph.read_bytes(), b''
    file = model.int8 if precision == 'int8' else cached(
        model.digest, f'{_size(shape)}.zip', partial(export_openvino, model, shape))
    return read_graph(file, model.digest)


def _onnx_graph(model, shape):
    """Where an ONNX file lies; shape: where it is of one alone."""
    return model.graph or cached(
        model.digest, f'{_size(shape)}.onnx', partial(export_onnx, model, shape))


def _turn(runtime, pixels, seconds):
    """Seconds that the network takes for one picture: the least of a few."""
    took, end = [], time.monotonic() + seconds
    while len(took) < 2 or time.monotonic() < end:  # the first wakes threads and fills caches
        start = time.perf_counter()
        runtime(pixels)
        took.append(time.perf_counter() - start)
        if took[0] > SLOW:
            break
    return min(took)


def _compare(made, pixels):
    """(seconds of each candidate by name, noise, whether it leaves no doubt which is the fastest).

    The candidates take turns, so that a busy moment meets them all, and of each the best turn
    counts; one that is far behind gets no more than two. Noise is what turns of one candidate
    differ by: the best must be ahead by more than that.
    """
    turns, took = {name: [] for name in made}, dict.fromkeys(made, 0.0)
    for number in range(ROUNDS):
        for name, runtime in made.items():
            if number < 2 or took[name] <= HOPELESS * min(took.values()):
                turns[name].append(_turn(runtime, pixels, TRIAL / ROUNDS))
        took = {name: min(seconds) for name, seconds in turns.items()}
        if number and min(took.values()) > SLOW:
            break
    noise = max(np.median(seconds) / min(seconds) for seconds in turns.values())
    best, *others = sorted(took.values())
    return took, noise, noise <= NOISE or all(seconds > noise * best for seconds in others)


def load_runtime(weights='lite-nyu', runtime='auto', precision='auto', device='auto'):
    """The runtime for a Model or what ``open_model`` takes, and in one sentence why it is this one.

    runtime ``auto``: each that is installed gets a short trial in its fastest precision, in turns,
    and the fastest wins; the winner is remembered for this machine, weights and versions, unless
    other programs kept the machine busy: then the next start tries again. precision
    ``auto``: int8 where the weights have a quantised graph and OpenVINO runs it, else bf16 or
    fp16 where the processor computes it fast, else fp32; where that is not sure, both are tried.
    Raises ValueError for what is unknown, not installed or not possible, and what
    :func:`hybrid_depth_ros.models.open_model` raises.
    """
    for name, value, known in (('runtime', runtime, RUNTIMES),
                               ('precision', precision, PRECISIONS)):
        if value not in known:
            raise ValueError(f'{name} {value!r} is unknown; use one of {", ".join(known)}')
    model = open_model(weights) if isinstance(weights, str) else weights
    device = choose_device(device)
    suitable = ('torch', 'openvino', 'onnxruntime') if device == 'cpu' else ('torch', 'tensorrt')
    if runtime != 'auto' and runtime not in model.runtimes:
        raise ValueError(f'{model.name} does not run in {runtime}: set runtime to auto, or to '
                         + ' or '.join(model.runtimes))
    candidates = []
    for name in filter(model.runtimes.__contains__, suitable) if runtime == 'auto' else (runtime,):
        if not installed(name):
            if runtime == name:
                raise ValueError(f'runtime {name} is not installed: {NEEDS[name][1]}')
            continue
        if name in ('openvino', 'onnxruntime') and device != 'cpu':
            raise ValueError(f'runtime {name} runs on the CPU: set device to cpu, or runtime to '
                             'torch or tensorrt')
        able = precisions(name, model, device)
        if precision == 'auto':
            sure = able[0] == 'int8' or device != 'cpu' or low_precision_is_faster()
            wanted = able[:1] if sure else dict.fromkeys((able[0], 'fp32'))
        else:
            wanted = {precision} & {*able}
        candidates += [(name, one) for one in wanted]
    if not candidates:
        if precision == 'int8' and not model.int8:
            raise ValueError(f'{model.path} has no int8 graph beside it: make one by python -m '
                             'train.quantise, or set precision to auto')
        if not any(installed(name) for name in model.runtimes if name in suitable):
            raise ValueError('nothing here can run a network: '
                             + ', or '.join(NEEDS[name][1] for name in ('openvino', 'torch')
                                            if name in model.runtimes))
        raise ValueError(f'precision {precision} is not possible here with runtime {runtime}: set '
                         'precision to auto')
    try:
        return _best(candidates, model, device)
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # of whichever class the library likes
        names = dict.fromkeys(name for name, _ in candidates)
        raise ValueError(f'{model.path} cannot run here by {" or ".join(names)} '
                         f'({reason(error)}); set another runtime, precision or device') from error


def _best(candidates, model, device):
    if len(candidates) == 1:
        return _make(*candidates[0], model, device), ' '.join(candidates[0])
    key = hashlib.sha256(json.dumps([
        model.digest, candidates, device, platform.machine(), os.cpu_count(), sorted(cpu_flags()),
        versions(('torch', 'openvino', 'onnxruntime', 'onnxruntime-gpu'))]).encode()).hexdigest()
    remembered = None
    with contextlib.suppress(OSError, ValueError):
        remembered = cache_folder() / 'choices' / key[:32]
        chosen, why = json.loads(remembered.read_text())
        if tuple(chosen) in candidates:
            return _make(*chosen, model, device), f'{why}, by an earlier trial'
    made, failed, pixels = {}, {}, model.trial()
    for candidate in candidates:
        try:
            made[candidate] = _make(*candidate, model, device)
            _turn(made[candidate], pixels, 0)  # the first run compiles
        except OSError:
            raise
        except Exception as error:  # one that doesn't work here must not stop the others
            made.pop(candidate, None)
            failed[candidate] = error
    if not made:
        raise next(iter(failed.values()))
    took, noise, sure = _compare(made, pixels)
    if not sure:
        again, noise, sure = _compare(made, pixels)
        took = {candidate: min(took[candidate], again[candidate]) for candidate in took}
    chosen = min(took, key=took.__getitem__)
    why = f'{" ".join(chosen)}: ' + ', '.join(
        [f'{" ".join(candidate)} {1000 * took[candidate]:.0f} ms' for candidate in took]
        + [f'{name} not possible ({reason(error)})' for (name, _), error in failed.items()])
    if not sure:
        why += '; other programs kept this machine busy meanwhile, so the next start tries again'
    elif noise > NOISE:
        why += '; other programs ran meanwhile, and left no doubt which is the fastest'
    if remembered and sure:
        with contextlib.suppress(OSError):
            write_bytes_atomically(remembered, json.dumps([chosen, why]).encode())
    return made[chosen], why
