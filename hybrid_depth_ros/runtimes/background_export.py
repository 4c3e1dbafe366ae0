"""Depth goes on while a graph is made."""

import threading

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime


class BackgroundExport:
    """A runtime whose graphs are of one size each; while a thread makes one, torch does the work.

    runtime: the chosen one, with ``ready(shape)`` and ``prepare(shape)``. model: its Model, whose
    pixels are 1×3×h×w. tell: takes a sentence for the log. Where no graph can be made, torch stays.
    """

    def __init__(self, runtime, model, tell):
        self.name, self.precision, self.device = runtime.name, runtime.precision, runtime.device
        self._runtime, self._model, self._tell = runtime, model, tell
        self._torch, self._at_work, self._failed = None, None, set()

    def __call__(self, pixels):
        if self._runtime.ready(pixels.shape):
            if not self._at_work and not self._failed:
                self._torch = None  # its memory
            return self._runtime(pixels)
        if self._torch is None:
            self._torch = TorchRuntime(self._model.module(), self.device)
        if not self._at_work and pixels.shape not in self._failed:
            self._at_work = threading.Thread(
                target=self._prepare, args=(pixels.shape,), name='export', daemon=True)
            self._at_work.start()
        return self._torch(pixels)

    def _prepare(self, shape):
        size = f'{shape[3]}×{shape[2]}'
        self._tell(f'a graph for pictures that the network sees as {size} is made for {self.name}; '
                   'torch goes on meanwhile')
        try:
            self._runtime.prepare(shape)
            self._tell(f'{self.name} goes on with pictures of {size}')
        except Exception as error:  # of whichever class the library likes
            self._failed.add(shape)
            self._tell(f'no graph for {self.name} ({reason(error)}); torch goes on')
        finally:
            self._at_work = None
