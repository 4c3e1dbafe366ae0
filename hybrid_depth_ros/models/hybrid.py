"""This package's own networks: pictures 352 pixels wide, or the paper's crop of them."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.files import file_digest
from hybrid_depth_ros.models.base import NYU, Model, NetworkInput
from hybrid_depth_ros.upsampling import upsample
from hybrid_depth_ros.weights import load_network, weights_path

# NYU Depth v2's colour camera (Silberman et al. 2012): focal length per image width.
NYU_FX_PER_WIDTH = NYU.fx / NYU.width
# The paper (section 4) shows the network NYU images at 352×264 and crops 320×256 of them.
NETWORK_WIDTH, NETWORK_HEIGHT = 352, 264
CROP_WIDTH, CROP_HEIGHT = 320, 256
# A very tall image is shrunk to this height, not to the network's width.
MAX_HEIGHT = 3 * NETWORK_HEIGHT
FITS = ('full', 'paper')
MOST_LOG_SIGMA = 3.0    # an estimate above that is no number to compute with
INT8 = '-int8.zip'      # weights.safetensors has its quantised graph in weights-int8.zip


class HybridModel(Model):
    """weights: a registered name or a file, see :func:`hybrid_depth_ros.weights.load_network`.

    network: what is loaded already, in place of a file.
    """

    def __init__(self, weights, network=None):
        self._network = network
        super().__init__(weights, None if network is not None else weights_path(weights))

    def view(self, image, fit='full'):
        return (_FullView if fit == 'full' else _PaperView)(image)

    def module(self, fuse=None):
        """fuse: run each up-projection's unpoolings as one convolution; None: where it is faster.
        """
        from hybrid_depth_ros.network import FromPixels
        network = load_network(str(self.path)) if self._network is None else self._network
        if fuse is None:
            # One wide convolution beats eight narrow ones; with resnet50's 1024 channels its
            # 44 % more arithmetic costs more than that saves.
            fuse = getattr(network, 'encoder_name', 'resnet50') != 'resnet50'
        return FromPixels(network.fuse() if fuse else network).eval()

    @cached_property
    def digest(self):
        return file_digest(self.path) if self.path.is_file() else ''

    @property
    def int8(self):
        graph = self.path.with_name(self.path.stem + INT8)
        return graph if graph.is_file() else None

    def example(self):
        return np.zeros((2, 288, 352, 3), np.uint8)


def shrink(image, width, height):
    """Resize as cv2.INTER_AREA does, but for a fifth of a grey level, in a quarter of the time."""
    times = max(-(-image.shape[1] // width), -(-image.shape[0] // height))
    if times > 1 and (times * width, times * height) != image.shape[1::-1]:
        # OpenCV averages whole pixels fast, and parts of them slowly
        image = cv2.resize(image, (times * width, times * height))
    return cv2.resize(image, (width, height),
                      interpolation=cv2.INTER_AREA if times > 1 else cv2.INTER_LINEAR)


class _HybridInput(NetworkInput):
    """What the two fits share: depth is the output, or its first channel beside that of log σ."""

    focal = NYU_FX_PER_WIDTH * NETWORK_WIDTH

    def restore(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return self._enlarged(_depth(output) * np.float32(self.correction), sharpen=True)

    def restore_sigma(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        if output.ndim == 2:
            return None
        share = np.exp(np.minimum(output[1], np.float32(MOST_LOG_SIGMA)))
        return self._enlarged(output[0] * share * np.float32(self.correction), sharpen=False)

    def _enlarged(self, small: npt.NDArray[np.float32], sharpen: bool) -> npt.NDArray[np.float32]:
        """An array of the output's size in that of the image."""
        raise NotImplementedError


def _depth(output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 h×w of an output h×w, or 2×h×w of depth and log σ."""
    return output if output.ndim == 2 else output[0]


class _FullView(_HybridInput):
    """The whole image at the network's width: what goes in, and how depth comes back."""

    def __init__(self, image):
        self.height, self.width = image.shape[:2]
        self.scale = min(NETWORK_WIDTH / self.width, MAX_HEIGHT / self.height)
        # even, because the network's output has half the resolution
        self.seen_width, self.seen_height = (
            max(2, 2 * round(side * self.scale / 2)) for side in (self.width, self.height))
        small = shrink(image, self.seen_width, self.seen_height)
        self.pixels = cv2.copyMakeBorder(small, 0, -self.seen_height % 32, 0,
                                         -self.seen_width % 32, cv2.BORDER_REPLICATE)

    def _enlarged(self, small: npt.NDArray[np.float32], sharpen: bool) -> npt.NDArray[np.float32]:
        seen = small[:self.seen_height // 2, :self.seen_width // 2]
        return upsample(seen, self.width, self.height, self.guide if sharpen else None,
                        self.pixels[:self.seen_height, :self.seen_width])


class _PaperView(_HybridInput):
    """The paper's centre crop: what goes in, and how depth comes back."""

    def __init__(self, image):
        self.height, self.width = image.shape[:2]
        # the largest centred 4:3 window, so that 352×264 is covered
        self.seen_width = min(self.width, max(
            1, round(self.height * NETWORK_WIDTH / NETWORK_HEIGHT)))
        self.seen_height = min(self.height, max(
            1, round(self.width * NETWORK_HEIGHT / NETWORK_WIDTH)))
        self.scale = NETWORK_WIDTH / self.seen_width
        small = shrink(centre(image, self.seen_width, self.seen_height),
                       NETWORK_WIDTH, NETWORK_HEIGHT)
        self.pixels = centre(small, CROP_WIDTH, CROP_HEIGHT)

    def _enlarged(self, small: npt.NDArray[np.float32], sharpen: bool) -> npt.NDArray[np.float32]:
        # even, so that the crop's margins are the same on both sides: 582×466 of 640×480
        width = 2 * round(self.seen_width * CROP_WIDTH / NETWORK_WIDTH / 2)
        height = 2 * round(self.seen_height * CROP_HEIGHT / NETWORK_HEIGHT / 2)
        width, height = (min(max(1, size), limit) for size, limit in
                         ((width, self.seen_width), (height, self.seen_height)))
        enlarged = np.full((self.height, self.width), np.nan, np.float32)
        guide = (None if self.guide is None or not sharpen else
                 centre(self.guide, width, height))
        centre(enlarged, width, height)[:] = upsample(small, width, height, guide, self.pixels)
        return enlarged


def centre(image, width, height):
    """The middle height × width of an array, a view."""
    y, x = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[y:y + height, x:x + width]
