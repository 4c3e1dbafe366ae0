"""RGB pictures to metric depth: what happens between a camera's frame and its depth."""

import gc
import sys
from collections import defaultdict

import cv2
import numpy as np

from hybrid_depth_ros.runtimes.fastest import load_runtime
from hybrid_depth_ros.runtimes.machine import PRECISIONS, choose_device
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime
from hybrid_depth_ros.upsampling import enlarge

# NYU Depth v2's colour camera (Silberman et al. 2012): focal length per image width.
NYU_FX_PER_WIDTH = 518.858 / 640
# The paper (section 4) shows the network NYU images at 352×264 and crops 320×256 of them.
NETWORK_WIDTH, NETWORK_HEIGHT = 352, 264
CROP_WIDTH, CROP_HEIGHT = 320, 256
# A very tall image is shrunk to this height, not to the network's width.
MAX_HEIGHT = 3 * NETWORK_HEIGHT
FITS = ('full', 'paper')


def free_memory():
    """Give back what networks that are gone have held, on the GPU too."""
    gc.collect()
    torch = sys.modules.get('torch')
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class DepthPredictor:
    """Metric depth of RGB images.

    weights: a registered name, a file (see :func:`hybrid_depth_ros.weights.load_network`),
        or a network that is already loaded.
    device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. runtime, precision: what runs the network
        and in which arithmetic, see :func:`hybrid_depth_ros.runtimes.fastest.load_runtime`; a
        network that is already loaded runs in torch, in fp32 where precision is ``auto``.
    fit: ``full`` shows the network the whole image, 352 pixels wide, aspect ratio kept,
        edges repeated up to multiples of 32. ``paper`` is the paper's scale to cover 352×264
        and centre crop 320×256 (section 4); outside the crop there is no depth (NaN).
    focal_correction: scale depth to the camera's focal length, see :meth:`__call__`.
    sharpen: let depth's outlines follow the picture's, see
        :func:`hybrid_depth_ros.upsampling.enlarge`.

    ``runtime`` is what runs the network, ``reason`` why. Raises ValueError for an unknown
    option, and what ``load_runtime`` raises.
    """

    def __init__(self, weights='lite-nyu', device='auto', precision='auto', fit='full',
                 runtime='auto', focal_correction=True, sharpen=True):
        if fit not in FITS:
            raise ValueError(f'fit {fit!r} is unknown; use one of {", ".join(FITS)}')
        self.fit, self.focal_correction, self.sharpen = fit, focal_correction, sharpen
        if isinstance(weights, str):
            self.runtime, self.reason = load_runtime(weights, runtime, precision, device)
            return
        if runtime not in ('auto', 'torch') or precision not in PRECISIONS[:4]:
            raise ValueError(f'a loaded network runs in torch, not in {runtime} {precision}')
        self.runtime = TorchRuntime(weights, choose_device(device),
                                    'fp32' if precision == 'auto' else precision)
        self.reason = f'torch {self.runtime.precision}: the network was given'

    @property
    def device(self):
        """The name of what the network runs on: ``cpu``, ``cuda`` or ``cuda:N``."""
        return self.runtime.device

    def __call__(self, rgb, fx=None):
        """Depth of one image or of a batch.

        rgb: uint8 H×W×3 of any size → float32 H×W, metres (z in the optical frame). A
        sequence of images (sizes may differ) → a list; an array N×H×W×3 → N×H×W.

        fx: focal length in pixels of `rgb`, or one for each image. The network learnt
        metric depth through NYU's camera; through a longer lens everything looks nearer, so
        depth is multiplied by (fx / width) / (518.858 / 640), fx and width as the network
        sees them. None: the camera is taken to be like NYU's.

        Raises ValueError for another shape or dtype, an empty image or a bad fx.
        """
        if isinstance(rgb, np.ndarray) and rgb.ndim == 3:
            return self._predict([rgb], [fx])[0]
        images = list(rgb)
        focals = [fx] * len(images) if fx is None or np.ndim(fx) == 0 else list(fx)
        if len(focals) != len(images):
            raise ValueError(f'{len(images)} images but {len(focals)} focal lengths')
        depths = self._predict(images, focals)
        return np.stack(depths) if isinstance(rgb, np.ndarray) and depths else depths

    def _predict(self, images, focals):
        views = [self.view(image, fx) for image, fx in zip(images, focals)]
        depths = [None] * len(views)
        by_size = defaultdict(list)
        for i, view in enumerate(views):
            by_size[view.pixels.shape].append(i)
        for indices in by_size.values():
            batch = np.stack([views[i].pixels for i in indices])
            for i, output in zip(indices, self.runtime(batch)):
                depths[i] = views[i].restore(output)
        return depths

    def view(self, image, fx=None):
        """What the network is shown of an image: ``pixels``, uint8, and ``restore(output)``."""
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8
                and image.ndim == 3 and image.shape[2] == 3 and image.size):
            got = (f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray)
                   else type(image).__name__)
            raise ValueError(f'an image must be a uint8 array H×W×3 and not empty, got {got}')
        if fx is not None and not (np.isfinite(fx) and fx > 0):
            raise ValueError(f'fx is {fx}; it must be a number of pixels above 0, or None')
        view = (_FullView if self.fit == 'full' else _PaperView)(image)
        view.guide = image if self.sharpen else None
        if fx is not None and self.focal_correction:
            view.correction = fx * view.scale / (NYU_FX_PER_WIDTH * NETWORK_WIDTH)
        return view


def _shrink(image, width, height):
    """Resize as cv2.INTER_AREA does, but for a fifth of a grey level, in a quarter of the time."""
    times = max(-(-image.shape[1] // width), -(-image.shape[0] // height))
    if times > 1 and (times * width, times * height) != image.shape[1::-1]:
        # OpenCV averages whole pixels fast, and parts of them slowly
        image = cv2.resize(image, (times * width, times * height))
    return cv2.resize(image, (width, height),
                      interpolation=cv2.INTER_AREA if times > 1 else cv2.INTER_LINEAR)


class _FullView:
    """The whole image at the network's width: what goes in, and how depth comes back."""

    correction, guide = 1.0, None

    def __init__(self, image):
        self.height, self.width = image.shape[:2]
        self.scale = min(NETWORK_WIDTH / self.width, MAX_HEIGHT / self.height)
        # even, because the network's output has half the resolution
        self.seen_width, self.seen_height = (
            max(2, 2 * round(side * self.scale / 2)) for side in (self.width, self.height))
        small = _shrink(image, self.seen_width, self.seen_height)
        self.pixels = cv2.copyMakeBorder(small, 0, -self.seen_height % 32, 0,
                                         -self.seen_width % 32, cv2.BORDER_REPLICATE)

    def restore(self, output):
        seen = output[:self.seen_height // 2, :self.seen_width // 2]
        return enlarge(seen * np.float32(self.correction), self.width, self.height, self.guide,
                       self.pixels[:self.seen_height, :self.seen_width])


class _PaperView:
    """The paper's centre crop: what goes in, and how depth comes back."""

    correction, guide = 1.0, None

    def __init__(self, image):
        self.height, self.width = image.shape[:2]
        # the largest centred 4:3 window, so that 352×264 is covered
        self.seen_width = min(self.width, max(
            1, round(self.height * NETWORK_WIDTH / NETWORK_HEIGHT)))
        self.seen_height = min(self.height, max(
            1, round(self.width * NETWORK_HEIGHT / NETWORK_WIDTH)))
        self.scale = NETWORK_WIDTH / self.seen_width
        small = _shrink(_centre(image, self.seen_width, self.seen_height),
                        NETWORK_WIDTH, NETWORK_HEIGHT)
        self.pixels = _centre(small, CROP_WIDTH, CROP_HEIGHT)

    def restore(self, output):
        # even, so that the crop's margins are the same on both sides: 582×466 of 640×480
        width = 2 * round(self.seen_width * CROP_WIDTH / NETWORK_WIDTH / 2)
        height = 2 * round(self.seen_height * CROP_HEIGHT / NETWORK_HEIGHT / 2)
        width, height = (min(max(1, size), limit) for size, limit in
                         ((width, self.seen_width), (height, self.seen_height)))
        depth = np.full((self.height, self.width), np.nan, np.float32)
        guide = None if self.guide is None else _centre(self.guide, width, height)
        _centre(depth, width, height)[:] = enlarge(output * np.float32(self.correction),
                                                   width, height, guide, self.pixels)
        return depth


def _centre(image, width, height):
    y, x = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[y:y + height, x:x + width]
