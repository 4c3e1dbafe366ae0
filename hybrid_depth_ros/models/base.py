"""What the predictor and the runtimes need of a network of any family."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.border import NO_BORDER, Border
from hybrid_depth_ros.files import file_digest

if TYPE_CHECKING:
    import torch

MAX_ASPECT_RATIO = 8    # longer images would be enlarged out of all bounds
MAX_SIDE = 2048         # pixels of an image that another's network is shown


class NetworkInput:
    """One image as the network sees it, and the way back from its output to depth.

    Attributes:
        pixels: As the model's module takes them, without the batch axis.
        scale: Pixels of the network for one pixel of the image, along a row.
        assumed_focal_length: The focal length that the network takes every camera to have, in
            pixels of the network; None: it takes no correction.
        depth_scale: Factor of depth for the camera's focal length.
        warning: A sentence, where :meth:`restore` met output that is no depth.
        border: Around the image, left out of it.
        guidance_image: The image itself, uint8 H×W×3, where depth's outlines are to follow it.
    """

    pixels: npt.NDArray[Any]
    scale: float = 1.0
    assumed_focal_length: float | None = None
    depth_scale: float = 1.0
    warning: str = ''
    border: Border = NO_BORDER
    guidance_image: npt.NDArray[np.uint8] | None = None

    def correct_focal_length(self, fx: float) -> None:
        """Scale depth to a camera's focal length, in pixels of the image."""
        if self.assumed_focal_length:
            self.depth_scale = fx * self.scale / self.assumed_focal_length

    def restore(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn the runtime's output for this image into float32 H×W of the image's size."""
        raise NotImplementedError

    def restore_sigma(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return the standard deviation of :meth:`restore`'s depth in metres, float32 H×W.

        None where the network estimates none.
        """
        return None


class Model:
    """The weights of a network, and how its family takes an image.

    Attributes:
        name: As the user gave it.
        path: Of the file or folder.
        notes: Sentences for the log.
        relative: Whether it gives inverse depth with unknown scale and shift instead of metres.
        static_shape: Whether an exported graph has one fixed shape, of one image.
        onnx_file: The ONNX file that the model is itself, or None.
        depth_output_index: Which of a graph's outputs is depth.
        runtimes: Names of the runtimes that can run it.
        input_shape: Shape of a batch of pixels; -1 where it may vary.
        input_dtype: Type of the pixels.
    """

    relative: bool = False
    static_shape: bool = False
    depth_output_index: int = 0
    runtimes: tuple[str, ...] = ('torch', 'openvino', 'onnxruntime', 'tensorrt')
    input_shape: tuple[int, ...] = (-1, -1, -1, 3)
    input_dtype: type[np.generic] = np.uint8

    def __init__(self, name: str, path: Path | None) -> None:
        self.name, self.notes = name, list[str]()
        self._path = path

    @property
    def path(self) -> Path:
        if self._path is None:
            raise ValueError('the network was given as it is, without a file')
        return self._path

    def preprocess(self, image: npt.NDArray[np.uint8], fit: str = 'full') -> NetworkInput:
        """Make the network's input of an image.

        Args:
            image: uint8 H×W×3, RGB.
            fit: One of :data:`hybrid_depth_ros.models.hybrid.FITS`.

        Raises:
            ValueError: The network has no such fit, or can't take such an image.
        """
        raise NotImplementedError

    def module(self) -> torch.nn.Module:
        """Return a torch module, float32 and in eval mode: a batch of pixels → float32 N×h×w."""
        raise NotImplementedError

    @property
    def onnx_file(self) -> Path | None:
        return None

    def cannot_run(self, shape: tuple[int, ...], why: str) -> str:
        """Say that the network failed on a batch of this shape, and what to do."""
        return f'{self.name} cannot run on pixels of shape {shape} ({why})'

    @cached_property
    def digest(self) -> str:
        """sha256 of all that decides what the network computes."""
        return file_digest(self.path)

    @property
    def int8_graph(self) -> Path | None:
        """The file of its quantised graph, or None."""
        return None

    def example_batch(self) -> npt.NDArray[Any]:
        """Return the pixels of one black 640×480 image as a batch."""
        return self.preprocess(np.zeros((480, 640, 3), np.uint8)).pixels[None]

    def export_example(self) -> npt.NDArray[Any]:
        """Return a batch for an export: all sides differ, so that none is taken for another."""
        return np.concatenate([self.example_batch()] * 2)


def check_image(image: npt.NDArray[np.uint8], fit: str, network: str) -> None:
    """Raise ValueError where a network that is not ours can't take this fit or this image."""
    if fit != 'full':
        raise ValueError(f"fit {fit} is for this package's own networks: set fit to full for "
                         f'{network}')
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise ValueError(f'the image is {width}×{height}; {network} takes none that is more than '
                         f'{MAX_ASPECT_RATIO} times as long as it is wide')
