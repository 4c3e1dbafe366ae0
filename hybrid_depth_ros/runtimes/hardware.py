"""What this machine has to run a network: packages, a GPU, a processor's instructions."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

RUNTIMES = ('auto', 'torch', 'openvino', 'onnxruntime', 'tensorrt')
PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16', 'int8')
# Bytes of addresses that a process of openvino takes at least (measured: 0.8e9), and one of torch.
LEAST_ADDRESSES, ENOUGH_ADDRESSES = int(1.1e9), int(6e9)
# What must be installed for each, and how to get it.
NEEDS = {
    'torch': (('torch', 'timm'), 'pip install torch torchvision timm'),
    'openvino': (('openvino',), 'pip install openvino'),
    'onnxruntime': (('onnxruntime',), 'pip install onnxruntime'),
    'tensorrt': (('onnxruntime',), 'pip install onnxruntime-gpu tensorrt'),
}


def installed(runtime: str) -> bool:
    """Whether the packages that a runtime needs are installed; nothing is imported."""
    return all(map(find_spec, NEEDS[runtime][0]))


def memory_limit() -> str:
    """A sentence on a limit of addresses (``ulimit -v``) under which networks can't be loaded.

    Empty where there is none. Below LEAST_ADDRESSES libraries end the process instead of raising.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit >= ENOUGH_ADDRESSES:
        return ''
    return (f'ulimit -v leaves this process {limit / 1e6:.0f} MB of addresses, openvino takes '
            f'{LEAST_ADDRESSES / 1e6:.0f} and torch {ENOUGH_ADDRESSES / 1e6:.0f}: run ulimit -v '
            'unlimited first, and limit memory by a cgroup (systemd-run -p MemoryMax=, docker '
            '--memory)')


def check_addresses() -> None:
    """Raise OSError where no library could load a network."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESSES:
        raise OSError(memory_limit())


def gpu_is_here() -> bool:
    """Whether this machine has an NVIDIA GPU, by its device files: torch takes seconds to ask."""
    return any(any(Path('/dev').glob(name)) for name in ('nvidia[0-9]*', 'nvhost-gpu', 'nvgpu'))


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Return the processor's instruction sets as Linux names them, for instance ``amx_bf16``."""
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith(('flags', 'Features')):
                return frozenset(line.partition(':')[2].split())
    return frozenset()


def low_precision_is_faster() -> bool:
    """Whether 16-bit floating point, where this processor has it, is surely faster than float32.

    With AVX-512 alone it need not be: a Xeon whose AMX is hidden from it took 1.6 times as long.
    """
    return 'avx512f' not in cpu_flags() or 'amx_bf16' in cpu_flags()


def choose_device(device: str) -> str:
    """Return the name of a device: ``cpu``, ``cuda`` or ``cuda:N``.

    Args:
        device: Such a name, or ``auto``.

    Raises:
        ValueError: This machine has no such device.
    """
    count = 0
    if device != 'cpu' and gpu_is_here() and installed('torch'):
        import torch
        count = torch.cuda.device_count()
    if device == 'auto':
        return 'cuda' if count else 'cpu'
    known = ['cpu', *(['cuda'] if count else []), *(f'cuda:{i}' for i in range(count))]
    if device not in known:
        raise ValueError(f'device {device!r} is not there; this machine has: auto, '
                         + ', '.join(known) + ('' if count or not gpu_is_here() else
                         f'; its GPU needs a torch that can use it: {NEEDS["torch"][1]}'))
    return device


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    import importlib.metadata  # takes a while
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
