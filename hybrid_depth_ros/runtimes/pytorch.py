"""A network in torch itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.runtimes.graph_cache import GraphCache

if TYPE_CHECKING:
    import torch


class TorchRuntime(GraphCache):
    """A network in torch itself.

    Channels lie last, as the pixels do: a fifth to a third faster on a CPU, and what tensor cores
    read. On a GPU, images and depth go through pinned memory, and the forward pass of a shape is
    recorded once as a CUDA graph and replayed; a module whose ``replayable`` is False needs the CPU
    during the forward pass, and runs anew each time.

    Args:
        network: A module from pixels to depth, as a model gives it.
        device: As :func:`hybrid_depth_ros.runtimes.hardware.choose_device` gives it.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    name = 'torch'

    def __init__(self, network: torch.nn.Module, device: str = 'cpu',
                 precision: str = 'fp32') -> None:
        super().__init__()
        import torch
        self.device, self.precision = device, precision
        self._torch, self._device = torch, torch.device(device)
        self._type = {'fp32': torch.float32, 'bf16': torch.bfloat16,
                      'fp16': torch.float16}[precision]
        self.network = network.eval().to(self._device).to(memory_format=torch.channels_last)

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Tensor of pixels → float32 tensor N×h×w, on the device."""
        with self._torch.autocast(self._device.type, self._type,
                                  enabled=self.precision != 'fp32'):
            return self.network(pixels)

    def __call__(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with self._torch.inference_mode():
            if self._device.type == 'cpu':
                return self._forward(self._torch.from_numpy(pixels)).numpy()
            return self._on_gpu(pixels)

    def _on_gpu(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        torch = self._torch
        frames = torch.from_numpy(pixels)
        replay, pinned, seen, output = self.prepare((pixels.shape, frames.dtype))
        pinned.copy_(frames)
        seen.copy_(pinned, non_blocking=True)
        replay()
        result = torch.empty(output.shape, pin_memory=True)
        result.copy_(output, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return result.numpy()

    def _compile(self, batch: tuple[tuple[int, ...], torch.dtype]) -> tuple[
            Callable[[], None], torch.Tensor, torch.Tensor, torch.Tensor]:
        """The forward pass of one shape as a CUDA graph, and the memory that it reads and fills.

        Args:
            batch: The shape and type of the pixels.
        """
        torch, (shape, kind) = self._torch, batch
        pinned = torch.zeros(shape, dtype=kind, pin_memory=True)
        seen = pinned.to(self._device)
        if not getattr(self.network, 'replayable', True):
            output = self._forward(seen)

            def run() -> None:
                output.copy_(self._forward(seen))
            return run, pinned, seen, output
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):  # libraries choose their kernels before it is recorded
                    self._forward(seen)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                output = self._forward(seen)
        return graph.replay, pinned, seen, output
