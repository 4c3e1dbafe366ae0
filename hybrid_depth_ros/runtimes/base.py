"""What a runtime is to the predictor."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Runtime(Protocol):
    """A network that is ready to run. Only torch's own and a first export need torch.

    Attributes:
        name: One of :data:`hybrid_depth_ros.runtimes.hardware.RUNTIMES`.
        precision: One of :data:`hybrid_depth_ros.runtimes.hardware.PRECISIONS`.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """

    name: str
    precision: str
    device: str

    def __call__(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run the network; normalisation is a part of it.

        Args:
            pixels: A batch of :attr:`~hybrid_depth_ros.models.base.NetworkInput.pixels`; of one
                image where the model has a static shape. This package's own networks take uint8
                N×h×w×3, h and w multiples of 32.

        Returns:
            float32 N×…, in an array that is the caller's; this package's own networks give
            N×h/2×w/2, metres.
        """
        ...


class ShapedRuntime(Runtime, Protocol):
    """A runtime that compiles a graph for each shape of a batch."""

    def ready(self, shape: tuple[int, ...]) -> bool: ...

    def prepare(self, shape: tuple[int, ...]) -> Any: ...
