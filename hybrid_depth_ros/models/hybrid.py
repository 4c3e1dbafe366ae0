"""This package's own networks: images 352 pixels wide, or the paper's crop of them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.files import file_digest
from hybrid_depth_ros.models.base import Model, NetworkInput
from hybrid_depth_ros.models.resizing import centre_crop, shrink
from hybrid_depth_ros.upsampling import upsample
from hybrid_depth_ros.weights import load_network, weights_path
from hybrid_depth_ros.weights.registry import NYU

if TYPE_CHECKING:
    import torch

# NYU Depth v2's colour camera (Silberman et al. 2012): focal length per image width.
NYU_FX_PER_WIDTH = NYU.fx / NYU.width
# The paper (section 4) shows the network NYU images at 352×264 and crops 320×256 of them.
NETWORK_WIDTH, NETWORK_HEIGHT = 352, 264
CROP_WIDTH, CROP_HEIGHT = 320, 256
# A very tall image is shrunk to this height, not to the network's width.
MAX_HEIGHT = 3 * NETWORK_HEIGHT
FITS = ('full', 'paper')
MAX_LOG_SIGMA = 3.0         # larger estimates mean nothing
INT8_SUFFIX = '-int8.zip'   # weights.safetensors has its quantised graph in weights-int8.zip


class HybridModel(Model):
    """A network of this package.

    Args:
        weights: A registered name or a file, see :func:`hybrid_depth_ros.weights.load_network`.
        network: A network that is loaded already, in place of `weights`.
    """

    def __init__(self, weights: str, network: torch.nn.Module | None = None) -> None:
        self._network = network
        super().__init__(weights, None if network is not None else weights_path(weights))

    def preprocess(self, image: npt.NDArray[np.uint8], fit: str = 'full') -> NetworkInput:
        return (_FullImageInput if fit == 'full' else _PaperCropInput)(image)

    def module(self, fuse: bool | None = None) -> torch.nn.Module:
        """Return the network from pixels to depth.

        Args:
            fuse: Whether to run each up-projection's unpoolings as one convolution; None: where
                it is faster.
        """
        from hybrid_depth_ros.network import FromPixels
        network: Any = load_network(self.path) if self._network is None else self._network
        if fuse is None:
            # One wide convolution beats eight narrow ones; with resnet50's 1024 channels its
            # 44 % more arithmetic costs more than that saves.
            fuse = getattr(network, 'encoder_name', 'resnet50') != 'resnet50'
        return FromPixels(network.fuse() if fuse else network).eval()

    @cached_property
    def digest(self) -> str:
        return file_digest(self.path) if self.path.is_file() else ''

    @property
    def int8_graph(self) -> Path | None:
        graph = self.path.with_name(self.path.stem + INT8_SUFFIX)
        return graph if graph.is_file() else None

    def export_example(self) -> npt.NDArray[np.uint8]:
        return np.zeros((2, 288, 352, 3), np.uint8)


class _HybridInput(NetworkInput):
    """What both fits share: the output is depth h×w, or 2×h×w of depth and log(sigma / depth)."""

    assumed_focal_length = NYU_FX_PER_WIDTH * NETWORK_WIDTH

    def restore(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        depth = output if output.ndim == 2 else output[0]
        return self._enlarge(depth * np.float32(self.depth_scale), self.guidance_image)

    def restore_sigma(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        if output.ndim == 2:
            return None
        relative_sigma = np.exp(np.minimum(output[1], np.float32(MAX_LOG_SIGMA)))
        return self._enlarge(output[0] * relative_sigma * np.float32(self.depth_scale), None)

    def _enlarge(self, small: npt.NDArray[np.float32],
                 guidance_image: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float32]:
        """An array of the output's size at the image's size."""
        raise NotImplementedError


class _FullImageInput(_HybridInput):
    """The whole image at the network's width, its edges repeated up to multiples of 32."""

    def __init__(self, image: npt.NDArray[np.uint8]) -> None:
        self.height, self.width = image.shape[:2]
        self.scale = min(NETWORK_WIDTH / self.width, MAX_HEIGHT / self.height)
        # even, because the network's output has half the resolution
        self.small_width, self.small_height = (
            max(2, 2 * round(side * self.scale / 2)) for side in (self.width, self.height))
        small = shrink(image, self.small_width, self.small_height)
        self.pixels = cv2.copyMakeBorder(small, 0, -self.small_height % 32, 0,
                                         -self.small_width % 32, cv2.BORDER_REPLICATE)

    def _enlarge(self, small: npt.NDArray[np.float32],
                 guidance_image: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float32]:
        return upsample(small[:self.small_height // 2, :self.small_width // 2], self.width,
                        self.height, guidance_image,
                        self.pixels[:self.small_height, :self.small_width])


class _PaperCropInput(_HybridInput):
    """The paper's centre crop; depth is NaN outside of it."""

    def __init__(self, image: npt.NDArray[np.uint8]) -> None:
        self.height, self.width = image.shape[:2]
        # the largest centred 4:3 window, so that 352×264 is covered
        self.window_width = min(self.width, max(
            1, round(self.height * NETWORK_WIDTH / NETWORK_HEIGHT)))
        self.window_height = min(self.height, max(
            1, round(self.width * NETWORK_HEIGHT / NETWORK_WIDTH)))
        self.scale = NETWORK_WIDTH / self.window_width
        small = shrink(centre_crop(image, self.window_width, self.window_height),
                       NETWORK_WIDTH, NETWORK_HEIGHT)
        self.pixels = centre_crop(small, CROP_WIDTH, CROP_HEIGHT)

    def _enlarge(self, small: npt.NDArray[np.float32],
                 guidance_image: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float32]:
        # even, so that the crop's margins are the same on both sides: 582×466 of 640×480
        width = 2 * round(self.window_width * CROP_WIDTH / NETWORK_WIDTH / 2)
        height = 2 * round(self.window_height * CROP_HEIGHT / NETWORK_HEIGHT / 2)
        width, height = (min(max(1, size), limit) for size, limit in
                         ((width, self.window_width), (height, self.window_height)))
        enlarged = np.full((self.height, self.width), np.nan, np.float32)
        if guidance_image is not None:
            guidance_image = centre_crop(guidance_image, width, height)
        centre_crop(enlarged, width, height)[:] = upsample(
            small, width, height, guidance_image, self.pixels)
        return enlarged
