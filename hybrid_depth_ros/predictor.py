"""RGB images to metric depth."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.border import NO_BORDER, Border, find_border
from hybrid_depth_ros.encodings import depth_to_millimetres
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.models.base import Model, NetworkInput
from hybrid_depth_ros.models.hybrid import FITS, NYU_FX_PER_WIDTH, HybridModel
from hybrid_depth_ros.runtimes.background_export import BackgroundExport
from hybrid_depth_ros.runtimes.base import Runtime
from hybrid_depth_ros.runtimes.hardware import PRECISIONS, choose_device
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime
from hybrid_depth_ros.runtimes.selection import load_runtime

__all__ = ['FITS', 'NYU_FX_PER_WIDTH', 'DepthEstimator', 'DepthPredictor', 'Prediction',
           'PredictionOptions', 'free_memory']


def free_memory() -> None:
    """Return the memory of deleted networks to the system and the GPU."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps it otherwise
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get('torch')
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Prediction:
    """Depth of one image.

    Attributes:
        depth: float32 H×W; metres along z of the optical frame where ``metric``, otherwise inverse
            depth with unknown scale and shift. NaN where it is unknown.
        metric: Whether ``depth`` is in metres.
        sigma: float32 H×W, one standard deviation of ``depth`` in metres; None where the network
            estimates none.
    """

    depth: npt.NDArray[np.float32]
    metric: bool
    sigma: npt.NDArray[np.float32] | None = None

    def encoded(self, encoding: str) -> npt.NDArray[Any]:
        """Depth as ``32FC1`` or ``16UC1`` has it, H×W: made once for all who send it."""
        return self._millimetres if encoding == '16UC1' else self.depth

    @cached_property
    def _millimetres(self) -> npt.NDArray[np.uint16]:
        return depth_to_millimetres(self.depth)

    @property
    def confidence(self) -> npt.NDArray[np.float32] | None:
        """float32 H×W, 1 − sigma / depth, 0…1; None without sigma."""
        if self.sigma is None:
            return None
        with np.errstate(invalid='ignore', divide='ignore'):
            return np.clip(1 - self.sigma / self.depth, 0, 1).astype(np.float32, copy=False)

    def multiply(self, factor: float) -> None:
        """Scale depth and sigma in place."""
        for metres in (self.depth, self.sigma):
            if metres is not None and factor != 1:
                metres *= np.float32(factor)

    def padded(self, border: Border) -> Prediction:
        """Of the whole image, where this one is of its scene: NaN in the border."""
        return replace(self, depth=border.pad(self.depth),
                       sigma=None if self.sigma is None else border.pad(self.sigma))


@dataclass(frozen=True)
class PredictionOptions:
    """How an image is shown to the network, and how its depth comes back.

    Attributes:
        fit: ``full`` shows the network the whole image, ours 352 pixels wide, aspect ratio kept,
            edges repeated up to multiples of 32. ``paper``, for our networks alone, is the paper's
            scale to cover 352×264 and centre crop 320×256 (section 4); outside the crop depth is
            NaN.
        focal_correction: Whether depth is scaled to the camera's focal length, see
            :meth:`DepthPredictor.predict`.
        sharpen: Whether depth's outlines follow the image's, see
            :func:`hybrid_depth_ros.upsampling.upsample`.
        sigma: Whether the standard deviation of depth is worked out where the network estimates it.
        ignore_border: Whether bars or a frame around the scene are left out, see
            :func:`hybrid_depth_ros.border.find_border`: the network is not shown them, and depth
            is NaN there. ``fit`` ``paper`` crops by itself.

    Raises:
        ValueError: `fit` is unknown.
    """

    fit: str = 'full'
    focal_correction: bool = True
    sharpen: bool = True
    sigma: bool = True
    ignore_border: bool = True

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f'fit {self.fit!r} is unknown; use one of {", ".join(FITS)}')


class DepthEstimator(Protocol):
    """What the depth node asks of a predictor: the part of :class:`DepthPredictor` that it uses."""

    @property
    def device(self) -> str:
        """Where it runs, for people to read."""

    @property
    def relative(self) -> bool:
        """Whether its depth is inverse depth with unknown scale and shift."""

    def predict(self, rgb: Sequence[npt.NDArray[np.uint8]], fx: Sequence[float | None],
                options: PredictionOptions) -> list[Prediction]:
        """Predict the depth of several images, as :meth:`DepthPredictor.predict`."""


class DepthPredictor:
    """Metric depth of RGB images.

    Args:
        weights: A registered name, ``hf:ORG/NAME``, a file or a folder (see
            :func:`hybrid_depth_ros.models.open_model`), or a network of ours that is already
            loaded; that one runs in torch, in fp32 where `precision` is ``auto``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: The arithmetic, see :func:`hybrid_depth_ros.runtimes.selection.load_runtime`.
        fit: As in :class:`PredictionOptions`.
        runtime: What runs the network, see
            :func:`hybrid_depth_ros.runtimes.selection.load_runtime`.
        focal_correction: As in :class:`PredictionOptions`.
        sharpen: As in :class:`PredictionOptions`.
        relative: Whether to take a network that gives no metres, and return inverse depth with
            unknown scale and shift; see :func:`hybrid_depth_ros.anchors.fit_scale_shift`.
        log: Takes sentences for a log. With it, torch predicts images of a new size while their
            graph is made; without it, they wait for the graph.
        warn: Takes sentences about depth that makes no sense, each once; None: warnings.warn.
        ignore_border: As in :class:`PredictionOptions`; for each image by itself.

    Attributes:
        model: The :class:`~hybrid_depth_ros.models.base.Model`.
        runtime: What runs it.
        reason: Why it is this runtime, in a sentence.
        options: The :class:`PredictionOptions`.

    Raises:
        OSError: The weights are not there or cannot be downloaded.
        ValueError: An option is unknown or not possible, the weights will not do, or the network
            gives no metres and `relative` is False.
    """

    model: Model
    runtime: Runtime

    def __init__(self, weights: Any = 'lite-nyu', device: str = 'auto', precision: str = 'auto',
                 fit: str = 'full', runtime: str = 'auto', focal_correction: bool = True,
                 sharpen: bool = True, relative: bool = False,
                 log: Callable[[str], None] | None = None,
                 warn: Callable[[str], None] | None = None, ignore_border: bool = True) -> None:
        self.options = PredictionOptions(fit, focal_correction, sharpen,
                                         ignore_border=ignore_border)
        self._warn, self._warned = warn or _warn, set[str]()
        self._lock = threading.Lock()  # a runtime runs one batch at a time
        if isinstance(weights, os.PathLike):
            weights = os.fspath(weights)
        if not isinstance(weights, str) and not callable(weights):
            raise ValueError(f'weights is {weights!r:.100}; it must be a registered name such as '
                             "'lite-nyu', the path of a file or folder, hf:ORG/NAME, or a network")
        if isinstance(weights, str):
            self.model = open_model(weights)
            if self.model.relative and not relative:
                raise ValueError(
                    f'{weights} gives no metres, only what is nearer and farther: give it anchors '
                    '(anchors:=[scan], docs/anchors.md), take it as it is (relative_depth:=true; '
                    'in Python relative=True), or choose weights that give metres')
            shaped, self.reason = load_runtime(self.model, runtime, precision, device, log)
            self.runtime = shaped
            if (log and self.model.static_shape and not self.model.onnx_file
                    and shaped.name != 'torch'):
                self.runtime = BackgroundExport(shaped, self.model, log)
            return
        if runtime not in ('auto', 'torch') or precision not in PRECISIONS[:4]:
            raise ValueError(f'a loaded network runs in torch, not in {runtime} {precision}')
        self.model = HybridModel('', weights)
        self.runtime = TorchRuntime(self.model.module(), choose_device(device),
                                    'fp32' if precision == 'auto' else precision)
        self.reason = f'torch {self.runtime.precision}: the network was given'

    @property
    def relative(self) -> bool:
        """Whether it gives inverse depth with unknown scale and shift instead of metres."""
        return self.model.relative

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu``, ``cuda`` or ``cuda:N``."""
        return self.runtime.device

    @overload
    def predict(self, rgb: npt.NDArray[np.uint8], fx: float | None = None,
                options: PredictionOptions | None = None) -> Prediction: ...

    @overload
    def predict(self, rgb: Sequence[npt.NDArray[np.uint8]],
                fx: float | Sequence[float | None] | None = None,
                options: PredictionOptions | None = None) -> list[Prediction]: ...

    def predict(self, rgb: Any, fx: Any = None, options: PredictionOptions | None = None) -> Any:
        """Predict the depth of one image or of several.

        A network learned metric depth through one camera, ours through NYU's; through a longer lens
        everything looks nearer. So depth is multiplied by (fx / width) / (518.858 / 640), with fx
        and width as the network sees them, and likewise for other networks' cameras.

        Args:
            rgb: uint8 H×W×3 of any size, uint8 H×W where it is grey, or a PIL image. A sequence of
                images, whose sizes may differ, or an array N×H×W×3 gives a list.
            fx: Focal length in pixels of `rgb`, or one for each image. None: the camera is taken to
                be like the one that the network learned with. Networks that have no such camera,
                or give no metres, take no correction.
            options: For this call; None: the predictor's own.

        Returns:
            A :class:`Prediction`, or a list of them.

        Raises:
            ValueError: Another shape or dtype, an empty image or a bad `fx`.
        """
        if _is_image(rgb):
            return self._predictions([rgb], [fx], options or self.options)[0]
        return self._predictions(*_paired(rgb, fx), options or self.options)

    def _predictions(self, images: Sequence[Any], focals: Sequence[Any],
                     options: PredictionOptions) -> list[Prediction]:
        return [Prediction(
            self._restore(seen, output), not self.relative,
            seen.restore_sigma(output) if options.sigma else None).padded(seen.border)
            for seen, output in self._outputs(images, focals, options)]

    def __call__(self, rgb: Any, fx: Any = None) -> Any:
        """Predict depth alone: :meth:`predict` without the standard deviation.

        Args:
            rgb: As for :meth:`predict`.
            fx: As for :meth:`predict`.

        Returns:
            float32 H×W of one image, a list of them for a sequence, N×H×W for an array N×H×W×3.

        Raises:
            ValueError: As for :meth:`predict`.
        """
        options = replace(self.options, sigma=False)
        if _is_image(rgb):
            return self._predictions([rgb], [fx], options)[0].depth
        depths = [prediction.depth for prediction in self._predictions(
            *_paired(rgb, fx), options)]
        return np.stack(depths) if isinstance(rgb, np.ndarray) and depths else depths

    def _restore(self, seen: NetworkInput, output: npt.NDArray[np.float32]) -> npt.NDArray[
            np.float32]:
        depth = seen.restore(output)
        if seen.warning and seen.warning not in self._warned:
            self._warned.add(seen.warning)
            self._warn(seen.warning)
        return depth

    def _outputs(self, images: Sequence[Any], focals: Sequence[Any], options: PredictionOptions
                 ) -> list[tuple[NetworkInput, npt.NDArray[np.float32]]]:
        """What the network sees of each image, and what the runtime gives for it."""
        inputs = [self.preprocess(image, fx, options) for image, fx in zip(images, focals)]
        outputs: dict[int, npt.NDArray[np.float32]] = {}
        by_shape = defaultdict(list)
        for i, seen in enumerate(inputs):
            by_shape[seen.pixels.shape, i if self.model.static_shape else None].append(i)
        for indices in by_shape.values():
            batch = np.stack([inputs[i].pixels for i in indices])
            outputs.update(zip(indices, self._run(batch)))
        return [(seen, outputs[i]) for i, seen in enumerate(inputs)]

    def _run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        try:
            with self._lock:
                return self.runtime(batch)
        except (OSError, ValueError, MemoryError):
            raise
        except Exception as error:
            if not self.model.onnx_file:
                raise
            raise ValueError(self.model.cannot_run(batch.shape, reason(error))) from error

    def preprocess(self, image: npt.NDArray[np.uint8], fx: float | None = None,
                   options: PredictionOptions | None = None) -> NetworkInput:
        """Prepare one image for the network, by `options` or the predictor's own.

        Raises:
            ValueError: As for :meth:`predict`.
        """
        image = _as_rgb(image)
        if fx is not None and not _is_focal_length(fx):
            raise ValueError(f'fx is {fx!r}; it must be a number of pixels above 0, or None')
        options = options or self.options
        border = NO_BORDER
        if options.ignore_border and options.fit == 'full' and any(border := find_border(image)):
            image = np.ascontiguousarray(border.crop(image))
        seen = self.model.preprocess(image, options.fit)
        seen.border = border
        seen.guidance_image = image if options.sharpen else None
        if fx is not None and options.focal_correction:
            seen.correct_focal_length(fx)
        return seen


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=5)


def _is_focal_length(fx: Any) -> bool:
    try:
        return not isinstance(fx, (str, bytes)) and bool(np.isfinite(fx) and fx > 0)
    except (TypeError, ValueError):
        return False


def _is_pil(image: Any) -> bool:
    return hasattr(image, 'convert') and hasattr(image, 'getbands')


def _is_image(rgb: Any) -> bool:
    """Whether it is one image, not several."""
    return (isinstance(rgb, np.ndarray) and rgb.ndim in (2, 3)) or _is_pil(rgb)


def _as_rgb(image: Any) -> npt.NDArray[np.uint8]:
    """An image as uint8 H×W×3; ValueError where it is none."""
    if _is_pil(image):
        image = np.asarray(image.convert('RGB'))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size:
        if image.ndim == 2 or image.shape[2:] == (1,):  # grey
            return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        if image.ndim == 3 and image.shape[2] == 3:
            return image
    got = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
    advice = ''
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.size:
        if image.shape[2] == 4:
            advice = '; leave the fourth channel out: image[..., :3]'
        elif image.shape[0] == 3:
            advice = '; channels come last: image.transpose(1, 2, 0)'
        elif image.dtype.kind == 'f':
            advice = '; of values 0…1 make (255 * image).round().astype(np.uint8)'
    raise ValueError(f'an image must be a uint8 array H×W×3 and not empty, got {got}{advice}')


def _paired(rgb: Any, fx: Any) -> tuple[list[Any], list[Any]]:
    """Images and focal lengths as two lists of one length."""
    try:
        images = list(rgb)
    except TypeError:
        images = [_as_rgb(rgb)]
    focals = [fx] * len(images) if fx is None or np.ndim(fx) == 0 else list(fx)
    if len(focals) != len(images):
        raise ValueError(f'{len(images)} images but {len(focals)} focal lengths')
    return images, focals
