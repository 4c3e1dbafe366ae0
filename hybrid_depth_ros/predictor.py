"""RGB pictures to metric depth: what happens between a camera's frame and its depth."""

import contextlib
import ctypes
import gc
import sys
from collections import defaultdict

import numpy as np

from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.models.hybrid import FITS, NYU_FX_PER_WIDTH, HybridModel
from hybrid_depth_ros.runtimes.background_export import BackgroundExport
from hybrid_depth_ros.runtimes.hardware import PRECISIONS, choose_device
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime
from hybrid_depth_ros.runtimes.selection import load_runtime

__all__ = ['FITS', 'NYU_FX_PER_WIDTH', 'DepthPredictor', 'free_memory']


def free_memory():
    """Give back what networks that are gone have held, to the system, on the GPU too."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps it otherwise
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get('torch')
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class DepthPredictor:
    """Metric depth of RGB images.

    ``runtime`` is what runs the network, ``reason`` why, ``model`` the
    :class:`~hybrid_depth_ros.models.base.Model`.

    Args:
        weights: a registered name, ``hf:ORG/NAME``, a file or a folder (see
            :func:`hybrid_depth_ros.models.open_model`), or a network of ours that is already
            loaded.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: the arithmetic, see
            :func:`hybrid_depth_ros.runtimes.selection.load_runtime`.
        fit: ``full`` shows the network the whole image, ours 352 pixels wide, aspect ratio kept,
            edges repeated up to multiples of 32. ``paper``, for ours alone, is the paper's scale
            to cover 352×264 and centre crop 320×256 (section 4); outside the crop there is no
            depth (NaN).
        runtime: what runs the network, see the same function. A network that is already loaded
            runs in torch, in fp32 where precision is ``auto``.
        focal_correction: scale depth to the camera's focal length, see :meth:`__call__`.
        sharpen: let depth's outlines follow the image's, where the network draws them softly, see
            :func:`hybrid_depth_ros.upsampling.upsample`.
        relative: take a network that gives no metres, and return what it gives: inverse depth of
            unknown scale and shift; see :func:`hybrid_depth_ros.anchors.fit_scale_shift`.
        tell: takes sentences for a log. An image of a size for which the runtime has no graph yet
            is then seen by torch while one is made; None: it waits.

    Raises:
        ValueError: an option is unknown, or the network gives no metres and `relative` is not
            asked for; also what ``open_model`` and ``load_runtime`` raise.
    """

    def __init__(self, weights='lite-nyu', device='auto', precision='auto', fit='full',
                 runtime='auto', focal_correction=True, sharpen=True, relative=False, tell=None):
        if fit not in FITS:
            raise ValueError(f'fit {fit!r} is unknown; use one of {", ".join(FITS)}')
        self.fit, self.focal_correction, self.sharpen = fit, focal_correction, sharpen
        if isinstance(weights, str):
            self.model = open_model(weights)
            if self.model.relative and not relative:
                raise ValueError(
                    f'{weights} gives no metres, only what is nearer and farther: give it anchors '
                    '(anchors:=[scan], docs/anchors.md), take it as it is (relative_depth:=true; '
                    'in Python relative=True), or choose weights that give metres')
            self.runtime, self.reason = load_runtime(self.model, runtime, precision, device)
            if (tell and self.model.one_by_one and not self.model.graph
                    and self.runtime.name != 'torch'):
                self.runtime = BackgroundExport(self.runtime, self.model, tell)
            return
        if runtime not in ('auto', 'torch') or precision not in PRECISIONS[:4]:
            raise ValueError(f'a loaded network runs in torch, not in {runtime} {precision}')
        self.model = HybridModel('', weights)
        self.runtime = TorchRuntime(self.model.module(), choose_device(device),
                                    'fp32' if precision == 'auto' else precision)
        self.reason = f'torch {self.runtime.precision}: the network was given'

    @property
    def relative(self):
        """Whether it gives inverse depth without scale and shift, no metres."""
        return self.model.relative

    @property
    def device(self):
        """The name of what the network runs on: ``cpu``, ``cuda`` or ``cuda:N``."""
        return self.runtime.device

    def __call__(self, rgb, fx=None):
        """Depth of one image or of a batch.

        rgb: uint8 H×W×3 of any size → float32 H×W, metres (z in the optical frame). A
        sequence of images (sizes may differ) → a list; an array N×H×W×3 → N×H×W.

        fx: focal length in pixels of `rgb`, or one for each image. A network learnt metric depth
        through one camera, ours through NYU's; through a longer lens everything looks nearer, so
        depth is multiplied by (fx / width) / (518.858 / 640), fx and width as the network
        sees them, and likewise for other networks' cameras. None: the camera is taken to be like
        that one. Networks that have no such camera, or give no metres, take no correction.

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
            by_size[view.pixels.shape, i if self.model.one_by_one else None].append(i)
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
        view = self.model.view(image, self.fit)
        view.guide = image if self.sharpen else None
        if fx is not None and self.focal_correction:
            view.see_through(fx)
        return view
