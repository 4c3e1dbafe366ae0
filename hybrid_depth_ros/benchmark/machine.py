"""The machine's own limit, and how busy other processes keep it."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_depth_ros.runtimes.hardware import versions


def best_gflops(ones: Callable[[int], Any], finish: Callable[[], object],
                seconds: float) -> float:
    """The most GFLOP/s of multiplying n×n matrices. ones(n) makes one, finish() waits for it."""
    size, best = 512, 0.0
    matrix = ones(size)
    matrix @ matrix  # the first product loads a GPU's library, for seconds
    finish()
    end = time.perf_counter() + seconds
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


def measure_peaks(device: str, seconds: float) -> dict[str, dict[str, float]]:
    """Matrix multiplication's GFLOP/s: ``{device: {precision: …}}``; without torch, NumPy's."""
    if not find_spec('torch'):
        return {'cpu': {'fp32': best_gflops(
            lambda n: np.ones((n, n), np.float32), lambda: None, seconds)}}
    import torch
    kinds: dict[str, dict[str, Any]] = {
        'cpu': {'fp32': torch.float32, 'bf16': torch.bfloat16}}
    if device != 'cpu':
        kinds[device] = {**kinds['cpu'], 'fp16': torch.float16}
    share = seconds / sum(map(len, kinds.values()))

    def peak(where: str, kind: Any) -> float:
        return best_gflops(lambda n: torch.ones(n, n, dtype=kind, device=where),
                           (lambda: None) if where == 'cpu' else torch.cuda.synchronize, share)
    return {where: {precision: peak(where, kind) for precision, kind in of.items()}
            for where, of in kinds.items()}


def describe_machine(device: str, seconds: float) -> dict[str, Any]:
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


def other_processes_seconds() -> float:
    """Processor seconds that all but this process have used since the start; NaN if unknown."""
    with contextlib.suppress(OSError):
        user, nice, system, _, _, *interrupts = map(
            int, Path('/proc/stat').read_text().split('\n')[0].split()[1:8])
        return (sum((user, nice, system, *interrupts)) / os.sysconf('SC_CLK_TCK')
                - time.process_time())
    return np.nan
