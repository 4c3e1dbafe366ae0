"""A depth network as an ONNX file, and a YAML file beside it that describes it.

What the graph itself says needs no line there; what can be guessed is logged, and what can't is
asked for. A file is checked before it runs: no operators but ONNX's own, no data from elsewhere, no
tensors of absurd size.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import cached_file, expand_user, file_digest
from hybrid_depth_ros.imagenet import IMAGENET_MEAN, IMAGENET_STD
from hybrid_depth_ros.models.base import MAX_SIDE, Model, NetworkInput, check_image
from hybrid_depth_ros.models.resizing import shrink
from hybrid_depth_ros.upsampling import upsample

MAX_BYTES = (1 << 31) - 1   # that an ONNX file, and all its data, may have
MAX_NUMBERS = 1 << 28       # in one tensor between two layers: a gigabyte
DOMAINS = ('', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft')
NEWER_FORM = re.compile(  # how the runtimes say it
    'IR.version|opset.*(not support|under development|guarantees)|unsupported.*opset',
    re.IGNORECASE)
# names of outputs that say what they give
METRIC_NAMES, RELATIVE_NAMES = ('metric_depth', 'depth_metric'), ('disparity', 'inverse_depth')


def _is_list_of(count: int) -> Callable[[Any], bool]:
    return lambda value: (isinstance(value, list) and len(value) == count
                          and all(isinstance(v, (int, float)) and math.isfinite(v) for v in value))


def _is_size(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) == {'shorter_side', 'multiple_of'} and all(
            type(v) is int and 0 < v <= MAX_SIDE for v in value.values())
    return _is_list_of(2)(value) and all(type(v) is int and 0 < v <= MAX_SIDE for v in value)


# key → (whether a value will do, what it must be)
KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    'output': (lambda v: v in ('metric', 'relative'),
               'metric, metres, or relative, inverse depth without a unit, larger is nearer'),
    'output_name': (lambda v: isinstance(v, str), 'the name of the graph\'s output'),
    'camera': (lambda v: _is_list_of(3)(v) and min(v) > 0,
               '[fx, width, height] of the camera that it learnt metres through, pixels'),
    'layout': (lambda v: v in ('NCHW', 'NHWC'), 'NCHW or NHWC'),
    'size': (_is_size, f'[height, width] of up to {MAX_SIDE} pixels, or {{shorter_side: 518, '
             'multiple_of: 14}'),
    'channels': (lambda v: v in ('RGB', 'BGR'), 'RGB or BGR'),
    'white': (lambda v: v in (1, 255), 'what a white pixel is before mean and std: 1 or 255'),
    'mean': (_is_list_of(3), 'three numbers'),
    'std': (lambda v: _is_list_of(3)(v) and min(v) > 0, 'three numbers above 0'),
}


class OnnxFileModel(Model):
    """A network in an ONNX file.

    Args:
        weights: The file.

    Raises:
        OSError: The file is not there.
        ValueError: It will not do, or the YAML file must say more of it.
    """

    runtimes = ('openvino', 'onnxruntime', 'tensorrt')
    static_shape = True

    def __init__(self, weights: str) -> None:
        path = expand_user(weights)
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such file')
        super().__init__(weights, path)
        self._settings_file = path.with_suffix('.yaml')
        model = _load_checked(path)
        self._external = sorted(set(_external_files(model, path)))
        self._read(model, _read_settings(self._settings_file))

    def _read(self, model: Any, settings: dict[str, Any]) -> None:
        from onnx import TensorProto
        graph = model.graph
        missing: list[tuple[str, str]] = []
        given = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in given]
        if len(inputs) != 1:
            raise ValueError(f'{self.path} takes {len(inputs)} inputs; a depth network takes one '
                             'image')
        tensor = inputs[0].type.tensor_type
        dims = [dim.dim_value if dim.HasField('dim_value') else -1 for dim in tensor.shape.dim]
        dtypes: dict[int, type[np.generic]] = {
            TensorProto.FLOAT: np.float32, TensorProto.UINT8: np.uint8}
        if len(dims) != 4 or tensor.elem_type not in dtypes:
            raise ValueError(f'{self.path} takes {dims} of '
                             f'{TensorProto.DataType.Name(tensor.elem_type)}; an image is four '
                             'axes of FLOAT or UINT8: export it anew')
        self.input_dtype = dtypes[tensor.elem_type]
        layout = settings.get('layout')
        self._channels_last = layout == 'NHWC' or (not layout and dims[1] != 3 and dims[3] == 3)
        if not layout and 3 not in (dims[1], dims[3]):
            missing.append(('layout', 'layout: NCHW'))
        rows, columns = dims[1:3] if self._channels_last else dims[2:]
        self._size: Any = settings.get('size') or (
            [rows, columns] if min(rows, columns) > 0 else None)
        if self._size is None:
            missing.append(('the size of the image',
                            'size: {shorter_side: 518, multiple_of: 14}'))
        elif not _is_size(self._size):
            raise ValueError(f'{self.path} takes images of {columns}×{rows}; no more than '
                             f'{MAX_SIDE} pixels a side are made')
        if dims[0] > 1:
            raise ValueError(f'{self.path} takes {dims[0]} images at once: export it for one')
        self.input_shape = (1, -1, -1, 3) if self._channels_last else (1, 3, -1, -1)
        self._guess_normalisation(settings)
        self._guess_output(graph, settings, missing)
        if missing:
            raise ValueError(
                f'{self.path} does not tell {" and ".join(what for what, _ in missing)}: write '
                f'{" and ".join(repr(line) for _, line in missing)}, or what is true of it, into '
                f'{self._settings_file} (docs/models.md)')
        self.assumed_focal_length: float | None = None
        if 'camera' in settings and not self.relative:
            fx, width, height = settings['camera']
            self.assumed_focal_length = fx * self.input_size(
                round(width), round(height))[0] / width

    def _guess_normalisation(self, settings: dict[str, Any]) -> None:
        self._bgr = settings.get('channels') == 'BGR'
        given = {'mean', 'std', 'white'} & set(settings)
        if self.input_dtype is np.uint8 and given:
            raise ValueError(f'{self._settings_file}: the graph takes whole numbers, so mean, std '
                             'and white have no place')
        if self.input_dtype is np.float32 and not given:
            self.notes.append(f'{self.name}: pixels are taken to be normalised as ImageNet\'s; if '
                              f'not, write white, mean and std into {self._settings_file}')
            settings = {**settings, 'mean': IMAGENET_MEAN, 'std': IMAGENET_STD}
        white = settings.get('white', 1)
        self._mean = np.float32(settings.get('mean', [0, 0, 0])) * np.float32(255 / white)
        self._std = np.float32(settings.get('std', [1, 1, 1])) * np.float32(255 / white)

    def _guess_output(self, graph: Any, settings: dict[str, Any],
                      missing: list[tuple[str, str]]) -> None:
        names = [value.name for value in graph.output]
        name = settings.get('output_name', names[0] if names else '')
        if name not in names:
            raise ValueError(f'{self._settings_file}: output_name is {name}; the graph has '
                             + ', '.join(names))
        if len(names) > 1 and 'output_name' not in settings:
            self.notes.append(f'{self.name}: depth is taken from its first output, {name}; if '
                              f'another is right, write output_name into {self._settings_file}')
        self.depth_output_index = names.index(name)
        low = name.lower()
        kind = settings.get('output') or ('metric' if low.endswith(METRIC_NAMES) else
                                      'relative' if low.endswith(RELATIVE_NAMES) else '')
        if not kind:
            missing.append(('whether it gives metres', 'output: metric'))
        elif 'output' not in settings:
            self.notes.append(f'{self.name}: its output {name} is taken to be {kind} depth; if '
                              f'not, write output into {self._settings_file}')
        self.relative = kind == 'relative'

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(' '.join(
            file_digest(path) for path in (self.path, *self._external)).encode()).hexdigest()

    @property
    def onnx_file(self) -> Path:
        if not self._external:
            return self.path
        return cached_file(f'graphs/{self.digest[:32]}-whole.onnx',
                           partial(_with_external_data, self.path))

    def module(self) -> NoReturn:
        raise ValueError(f'{self.path} is an ONNX file, which torch does not run: set runtime to '
                         'onnxruntime or openvino')

    def cannot_run(self, shape: tuple[int, ...], why: str) -> str:
        if NEWER_FORM.search(why):
            return (f'{self.name} is written in a newer form than the runtime here reads '
                    f'({why[:200]}): export it with an older opset_version, or pip install -U '
                    'onnxruntime openvino')
        height, width = shape[1:3] if self._channels_last else shape[2:]
        return (f'{self.name} cannot run at {width}×{height} pixels ({why[:200]}): it was exported '
                f'for one size alone; write that, for instance size: [518, 518], into '
                f'{self._settings_file}')

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height at which the network sees an image of width×height."""
        if isinstance(self._size, dict):
            side, multiple = self._size['shorter_side'], self._size['multiple_of']
            times = side / min(width, height)
            width, height = (max(multiple, round(n * times / multiple) * multiple)
                             for n in (width, height))
            return width, height
        return self._size[1], self._size[0]

    def implausible(self, unknown: npt.NDArray[np.bool_]) -> str:
        """Say that output was no distance, and what to look at."""
        part = 'only' if unknown.all() else 'also'
        what = 'NaN or infinity' if self.relative else '0, negative numbers, NaN or infinity'
        return (f'{self.name} gives {part} {what}, which are no distances: that depth is unknown; '
                f'check output, output_name, white, mean and std in {self._settings_file}')

    def preprocess(self, image: npt.NDArray[np.uint8], fit: str = 'full') -> NetworkInput:
        check_image(image, fit, self.name)
        return _OnnxInput(self, image)

    def pixels(self, image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[Any]:
        """Return the network's pixels of an image at width×height, without the batch axis."""
        small: npt.NDArray[Any] = shrink(image, width, height)
        if self._bgr:
            small = small[..., ::-1]
        if self.input_dtype is np.float32:
            small = (small - self._mean) / self._std
        return np.ascontiguousarray(small if self._channels_last else small.transpose(2, 0, 1))


class _OnnxInput(NetworkInput):
    """The whole image at the network's size; depth is enlarged as that of our own networks."""

    def __init__(self, model: OnnxFileModel, image: npt.NDArray[np.uint8]) -> None:
        self.height, self.width = image.shape[:2]
        width, height = model.input_size(self.width, self.height)
        self.scale, self.assumed_focal_length = width / self.width, model.assumed_focal_length
        self._model = model
        self.pixels = model.pixels(image, width, height)

    def restore(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        depth = np.squeeze(output).astype(np.float32, copy=False)
        if depth.ndim != 2:
            raise ValueError(f'its output has the shape {output.shape}; depth has rows and columns')
        unknown = ~np.isfinite(depth)
        if not self._model.relative:
            unknown |= depth <= 0
        if not unknown.any():
            return upsample(depth * np.float32(self.depth_scale), self.width, self.height,
                            self.guidance_image)
        return self._restore_partly(depth, unknown)

    def _restore_partly(self, depth: npt.NDArray[np.float32], unknown: npt.NDArray[np.bool_]
                        ) -> npt.NDArray[np.float32]:
        """Depth with NaN where the network's is no distance."""
        self.warning = self._model.implausible(unknown)
        if unknown.all():
            return np.full((self.height, self.width), np.nan, np.float32)
        restored = upsample(_fill_from_nearest(depth, unknown) * np.float32(self.depth_scale),
                            self.width, self.height, self.guidance_image)
        restored[cv2.resize(unknown.view(np.uint8), (self.width, self.height),
                            interpolation=cv2.INTER_NEAREST) > 0] = np.nan
        return restored


def _fill_from_nearest(depth: npt.NDArray[np.float32], unknown: npt.NDArray[np.bool_]
                       ) -> npt.NDArray[np.float32]:
    """Depth whose unknown pixels are those of the nearest known one."""
    _, labels = cv2.distanceTransformWithLabels(
        unknown.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    values = np.zeros(labels.max() + 1, np.float32)
    values[labels[~unknown]] = depth[~unknown]
    return values[labels]


def _read_settings(path: Path) -> dict[str, Any]:
    """The YAML file, {} where there is none; ValueError that names the key and what to do."""
    if not path.is_file():
        return {}
    if path.stat().st_size > 1 << 16:
        raise ValueError(f'{path} has {path.stat().st_size} bytes; a few lines are enough')
    try:
        settings = yaml.safe_load(path.read_text(encoding='utf-8')) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no YAML ({reason(error)[:200]})') from error
    if not isinstance(settings, dict):
        raise ValueError(f'{path} must hold lines as `output: metric`, not a '
                         f'{type(settings).__name__}')
    for key, value in settings.items():
        if key not in KEYS:
            raise ValueError(f'{path} has {key}; known are {", ".join(KEYS)}')
        fits, wanted = KEYS[key]
        try:
            good = fits(value)
        except TypeError:
            good = False
        if not good:
            raise ValueError(f'{path}: {key} is {str(value)[:100]}; it must be {wanted}')
    return settings


def _load_checked(path: Path) -> Any:
    """The ONNX model without its external data; ValueError where it is not to be run."""
    if not find_spec('onnx'):
        raise ValueError(f'{path} is looked through by onnx, which is not installed: pip install '
                         'onnx onnxruntime')
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f'{path} has {path.stat().st_size / 1e9:.1f} GB; an ONNX file has at most '
                         '2')
    import onnx
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # of protobuf's many classes
        raise ValueError(f'{path} is not a whole ONNX file; export or download it again') from error
    if not model.graph.node:
        raise ValueError(f'{path} is not a whole ONNX file: it holds no graph')
    own = {function.domain for function in model.functions}
    for node in _nodes(model):
        if node.domain not in DOMAINS and node.domain not in own:
            raise ValueError(f'{path} asks for the operator {node.domain}::{node.op_type}, which '
                             'only code from elsewhere can give; export it with ONNX\'s own')
    for tensor in _tensors(model):
        if math.prod(tensor.dims) > MAX_NUMBERS or min(tensor.dims, default=0) < 0:
            raise ValueError(f'{path}: {tensor.name} claims to have {list(tensor.dims)} numbers, '
                             'more than any depth network holds in one tensor')
    try:
        seen = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # what it can't follow, the runtime will judge
        return model
    for value in (*seen.graph.value_info, *seen.graph.output, *seen.graph.input):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim
                if dim.HasField('dim_value')]
        if math.prod(dims) > MAX_NUMBERS:
            raise ValueError(f'{path}: {value.name} would take {dims} numbers, more than any depth '
                             'network needs at once')
    return model


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, and all graphs inside its nodes."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField('g') else []
                waiting += attribute.graphs


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.initializer
        yield from (sparse.values for sparse in graph.sparse_initializer)
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.HasField('t'):
                yield attribute.t
            yield from attribute.tensors


def _external_files(model: Any, path: Path) -> Iterator[Path]:
    """Files of a graph's external data; ValueError where they lie outside of its folder."""
    from onnx import TensorProto
    folder = path.parent.resolve()
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        where = {entry.key: entry.value for entry in tensor.external_data}
        file = (folder / where.get('location', '')).resolve()
        if not file.is_relative_to(folder):
            raise ValueError(f'{path}: {tensor.name} is to be read from {where.get("location")}, '
                             'outside its folder, which is refused')
        if not file.is_file():
            raise ValueError(f'{path}: the data of {tensor.name} is missing: copy '
                             f'{where.get("location")} beside it')
        try:
            end = int(where.get('offset', 0)) + int(where.get('length', 0))
        except ValueError:
            end = MAX_BYTES + 1
        if not 0 <= end <= min(file.stat().st_size, MAX_BYTES):
            raise ValueError(f'{path}: {tensor.name} is to end at byte {end} of {file.name}, which '
                             f'has {file.stat().st_size}; copy or download both again')
        yield file


def _with_external_data(path: Path) -> bytes:
    """The bytes of an ONNX file with its external data inside."""
    import onnx
    return onnx.load(str(path)).SerializeToString()
