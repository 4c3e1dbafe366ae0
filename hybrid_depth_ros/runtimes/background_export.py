"""Graphs made by a thread, while torch runs the network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.models.base import Model
from hybrid_depth_ros.runtimes.base import ShapedRuntime
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime


class BackgroundExport:
    """A runtime with graphs of one shape each; torch runs the network until a graph is made.

    Where no graph can be made, torch goes on.

    Args:
        runtime: The runtime that was chosen.
        model: Its model, whose pixels are 1×3×h×w.
        log: Takes a sentence for the log.
    """

    def __init__(self, runtime: ShapedRuntime, model: Model, log: Callable[[str], None]) -> None:
        self.name, self.precision, self.device = runtime.name, runtime.precision, runtime.device
        self._runtime, self._model, self._log = runtime, model, log
        self._torch: TorchRuntime | None = None
        self._export: threading.Thread | None = None
        self._failed: set[tuple[int, ...]] = set()

    def __call__(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if self._runtime.ready(pixels.shape):
            if not self._export and not self._failed:
                self._torch = None  # its memory
            return self._runtime(pixels)
        if self._torch is None:
            self._torch = TorchRuntime(self._model.module(), self.device)
        if not self._export and pixels.shape not in self._failed:
            self._export = threading.Thread(
                target=self._prepare, args=(pixels.shape,), name='export', daemon=True)
            self._export.start()
        return self._torch(pixels)

    def _prepare(self, shape: tuple[int, ...]) -> None:
        size = f'{shape[3]}×{shape[2]}'
        self._log(f'a graph for images that the network sees as {size} is made for {self.name}; '
                  'torch goes on meanwhile')
        try:
            self._runtime.prepare(shape)
            self._log(f'{self.name} goes on with images of {size}')
        except Exception as error:  # of whichever class the library likes
            self._failed.add(shape)
            self._log(f'no graph for {self.name} ({reason(error)}); torch goes on')
        finally:
            self._export = None
