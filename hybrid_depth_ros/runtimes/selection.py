"""Which runtime and precision: the ones asked for, or the fastest here by a short benchmark."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import cache_folder, write_bytes_atomically
from hybrid_depth_ros.models.base import Model
from hybrid_depth_ros.runtimes.base import ShapedRuntime
from hybrid_depth_ros.runtimes.export import load_onnx_graph, load_openvino_graph
from hybrid_depth_ros.runtimes.hardware import (
    NEEDS,
    PRECISIONS,
    RUNTIMES,
    check_addresses,
    choose_device,
    cpu_flags,
    installed,
    low_precision_is_faster,
    memory_limit,
    versions,
)
from hybrid_depth_ros.runtimes.onnx import OnnxRuntime
from hybrid_depth_ros.runtimes.openvino import OpenVinoRuntime, openvino_precisions
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime

ROUNDS = 5              # measurements of each candidate
SECONDS = 0.2           # of all measurements of a candidate, at least
MAX_SLOWDOWN = 4        # times as slow as the fastest: measured no more than twice
SLOW = 1.0              # seconds for one image: measured once
QUIET_NOISE = 1.3       # ratio of a candidate's measurements on a quiet machine

Candidate = tuple[str, str]  # runtime and precision


def available_precisions(runtime: str, model: Model, device: str) -> tuple[str, ...]:
    """Return the precisions in which a runtime can run a network here, the fastest first."""
    if runtime == 'tensorrt':
        return 'fp16', 'fp32'
    if runtime == 'onnxruntime':
        return ('fp32',)
    if runtime == 'openvino':
        return (*(['int8'] if model.int8_graph else []), *openvino_precisions(), 'fp32')
    if device != 'cpu':
        return 'fp16', 'bf16', 'fp32'
    fast = {'amx_bf16', 'bf16'} & cpu_flags()
    return ('bf16', 'fp32', 'fp16') if fast else ('fp32', 'bf16', 'fp16')


def make_runtime(runtime: str, precision: str, model: Model, device: str) -> ShapedRuntime:
    """Load a network into a runtime."""
    if runtime == 'torch':
        return TorchRuntime(model.module(), device, precision)
    if runtime == 'openvino':
        return OpenVinoRuntime(partial(load_openvino_graph, model, precision), precision,
                               model.static_shape, model.depth_output_index)
    return OnnxRuntime(partial(load_onnx_graph, model), runtime, precision, model.static_shape,
                       model.depth_output_index)


def _time_forward_pass(runtime: ShapedRuntime, pixels: npt.NDArray[Any], seconds: float) -> float:
    """Seconds of one forward pass: the least of those that fit into `seconds`."""
    took: list[float] = []
    end = time.monotonic() + seconds
    while len(took) < 2 or time.monotonic() < end:  # the first wakes threads and fills caches
        start = time.perf_counter()
        runtime(pixels)
        took.append(time.perf_counter() - start)
        if took[0] > SLOW:
            break
    return min(took)


def _benchmark_candidates(made: Mapping[Candidate, ShapedRuntime], pixels: npt.NDArray[Any]
                          ) -> tuple[dict[Candidate, float], float, bool]:
    """Measure candidates in turns, so that a busy moment meets them all.

    Of each the least time counts; one that is far behind is measured no more than twice.

    Returns:
        Seconds of each candidate; by what ratio measurements of one candidate differ; whether the
        fastest is ahead by more than that.
    """
    turns: dict[Candidate, list[float]] = {name: [] for name in made}
    took = dict.fromkeys(made, 0.0)
    for number in range(ROUNDS):
        for name, runtime in made.items():
            if number < 2 or took[name] <= MAX_SLOWDOWN * min(took.values()):
                turns[name].append(_time_forward_pass(runtime, pixels, SECONDS / ROUNDS))
        took = {name: min(seconds) for name, seconds in turns.items()}
        if number and min(took.values()) > SLOW:
            break
    noise = max(float(np.median(seconds)) / min(seconds) for seconds in turns.values())
    best, *others = sorted(took.values())
    return took, noise, noise <= QUIET_NOISE or all(seconds > noise * best for seconds in others)


def load_runtime(model: Model, runtime: str = 'auto', precision: str = 'auto',
                 device: str = 'auto', log: Callable[[str], None] | None = None
                 ) -> tuple[ShapedRuntime, str]:
    """Load a network into the runtime that was asked for, or into the fastest.

    Args:
        model: The network.
        runtime: One of :data:`~hybrid_depth_ros.runtimes.hardware.RUNTIMES`. ``auto`` measures each
            that is installed in its fastest precision. The fastest is remembered for this machine,
            weights and versions, unless other programs kept the machine busy: then the next start
            measures again.
        precision: One of :data:`~hybrid_depth_ros.runtimes.hardware.PRECISIONS`. ``auto``: int8
            where the weights have a quantised graph and OpenVINO runs it, else bf16 or fp16 where
            the processor computes it fast, else fp32; where that is not sure, both are measured.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        log: Takes a sentence before what takes long: measurements. None: Python's logging does,
            which shows it on stderr.

    Returns:
        The runtime, and a sentence that says why it is this one.

    Raises:
        OSError: A file of the network can't be read, or ulimit -v leaves too little.
        ValueError: An option is unknown, not installed or not possible.
    """
    for name, value, known in (('runtime', runtime, RUNTIMES),
                               ('precision', precision, PRECISIONS)):
        if value not in known:
            raise ValueError(f'{name} {value!r} is unknown; use one of {", ".join(known)}')
    check_addresses()
    device = choose_device(device)
    suitable = ('torch', 'openvino', 'onnxruntime') if device == 'cpu' else ('torch', 'tensorrt')
    if runtime != 'auto' and runtime not in model.runtimes:
        raise ValueError(f'{model.name} does not run in {runtime}: set runtime to auto, or to '
                         + ' or '.join(model.runtimes))
    candidates: list[Candidate] = []
    for name in filter(model.runtimes.__contains__, suitable) if runtime == 'auto' else (runtime,):
        if not installed(name):
            if runtime == name:
                raise ValueError(f'runtime {name} is not installed: {NEEDS[name][1]}')
            continue
        if name in ('openvino', 'onnxruntime') and device != 'cpu':
            raise ValueError(f'runtime {name} runs on the CPU: set device to cpu, or runtime to '
                             'torch or tensorrt')
        able = available_precisions(name, model, device)
        if precision == 'auto':
            sure = able[0] == 'int8' or device != 'cpu' or low_precision_is_faster()
            wanted = able[:1] if sure else tuple(dict.fromkeys((able[0], 'fp32')))
        else:
            wanted = (precision,) if precision in able else ()
        candidates += [(name, one) for one in wanted]
    if not candidates:
        if precision == 'int8' and not model.int8_graph:
            raise ValueError(f'{model.path} has no int8 graph beside it: make one by python -m '
                             'train.quantise, or set precision to auto')
        if not any(installed(name) for name in model.runtimes if name in suitable):
            raise ValueError('nothing here can run a network: '
                             + ', or '.join(NEEDS[name][1] for name in ('openvino', 'torch')
                                            if name in model.runtimes))
        raise ValueError(f'precision {precision} is not possible here with runtime {runtime}: set '
                         'precision to auto')
    try:
        return _load_fastest(candidates, model, device, log)
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # of whichever class the library likes
        names = dict.fromkeys(name for name, _ in candidates)
        if limit := memory_limit():
            raise OSError(f'{" or ".join(names)} cannot run here: {limit}') from error
        if model.onnx_file:
            shape = model.example_batch().shape
            raise ValueError(model.cannot_run(shape, reason(error))) from error
        raise ValueError(f'{model.path} cannot run here by {" or ".join(names)} '
                         f'({reason(error)}); set another runtime, precision or device') from error


def _load_fastest(candidates: list[Candidate], model: Model, device: str,
                  log: Callable[[str], None] | None) -> tuple[ShapedRuntime, str]:
    if len(candidates) == 1:
        return make_runtime(*candidates[0], model, device), ' '.join(candidates[0])
    key = hashlib.sha256(json.dumps([
        model.digest, candidates, device, platform.machine(), os.cpu_count(), sorted(cpu_flags()),
        versions(('torch', 'openvino', 'onnxruntime', 'onnxruntime-gpu'))]).encode()).hexdigest()
    remembered = None
    with contextlib.suppress(OSError, ValueError):
        remembered = cache_folder() / 'choices' / key[:32]
        (name, precision), why = json.loads(remembered.read_text())
        if (name, precision) in candidates:
            return make_runtime(name, precision, model, device), f'{why}, by an earlier trial'
    (log or logging.getLogger('hybrid_depth_ros').warning)(
        f'the fastest of {", ".join(map(" ".join, candidates))} is measured, which can take a '
        'minute; the next start takes the same one at once')
    made: dict[Candidate, ShapedRuntime] = {}
    failed: dict[Candidate, Exception] = {}
    pixels = model.example_batch()
    for candidate in candidates:
        try:
            made[candidate] = make_runtime(*candidate, model, device)
            _time_forward_pass(made[candidate], pixels, 0)  # the first run compiles
        except OSError:
            raise
        except Exception as error:  # one that doesn't work here must not stop the others
            made.pop(candidate, None)
            failed[candidate] = error
    if not made:
        raise next(iter(failed.values()))
    took, noise, sure = _benchmark_candidates(made, pixels)
    if not sure:
        again, noise, sure = _benchmark_candidates(made, pixels)
        took = {candidate: min(took[candidate], again[candidate]) for candidate in took}
    chosen = min(took, key=took.__getitem__)
    why = f'{" ".join(chosen)}: ' + ', '.join(
        [f'{" ".join(candidate)} {1000 * took[candidate]:.0f} ms' for candidate in took]
        + [f'{name} not possible ({reason(error)})' for (name, _), error in failed.items()])
    if not sure:
        why += '; other programs kept this machine busy meanwhile, so the next start tries again'
    elif noise > QUIET_NOISE:
        why += '; other programs ran meanwhile, and left no doubt which is the fastest'
    if remembered and sure:
        with contextlib.suppress(OSError):
            write_bytes_atomically(remembered, json.dumps([chosen, why]).encode())
    return made[chosen], why
