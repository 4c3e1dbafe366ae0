"""A depth network as an ONNX file, and the few lines of YAML beside it that say what it wants.

What the graph itself tells needs no line, what can be guessed is said, and what can't is asked for.
Nothing of a file runs before it is looked through: no operators but ONNX's own, no data from
elsewhere, no tensors of absurd size.
"""

import hashlib
import math
from functools import cached_property, partial
from importlib.util import find_spec

import numpy as np
import yaml

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import expand_user, file_digest
from hybrid_depth_ros.models.base import LARGEST_SIDE, Model, NetworkInput, check_view
from hybrid_depth_ros.models.hybrid import shrink
from hybrid_depth_ros.upsampling import upsample

LARGEST = (1 << 31) - 1   # bytes that an ONNX file, and all its data, may have
MOST_NUMBERS = 1 << 28    # in one tensor on the way: a gigabyte
DOMAINS = ('', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft')
IMAGENET = {'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225]}
# What an output's name tells
METRIC, RELATIVE = ('metric_depth', 'depth_metric'), ('disparity', 'inverse_depth')


def _numbers(count):
    return lambda value: (isinstance(value, list) and len(value) == count
                          and all(isinstance(v, (int, float)) and math.isfinite(v) for v in value))


def _size(value):
    if isinstance(value, dict):
        return set(value) == {'shorter_side', 'multiple_of'} and all(
            type(v) is int and 0 < v <= LARGEST_SIDE for v in value.values())
    return _numbers(2)(value) and all(type(v) is int and 0 < v <= LARGEST_SIDE for v in value)


# key → (whether a value will do, what it must be)
KEYS = {
    'output': (lambda v: v in ('metric', 'relative'),
               'metric, metres, or relative, inverse depth without a unit, larger is nearer'),
    'output_name': (lambda v: isinstance(v, str), 'the name of the graph\'s output'),
    'camera': (lambda v: _numbers(3)(v) and min(v) > 0,
               '[fx, width, height] of the camera that it learnt metres through, pixels'),
    'layout': (lambda v: v in ('NCHW', 'NHWC'), 'NCHW or NHWC'),
    'size': (_size, f'[height, width] of up to {LARGEST_SIDE} pixels, or {{shorter_side: 518, '
             'multiple_of: 14}'),
    'channels': (lambda v: v in ('RGB', 'BGR'), 'RGB or BGR'),
    'white': (lambda v: v in (1, 255), 'what a white pixel is before mean and std: 1 or 255'),
    'mean': (_numbers(3), 'three numbers'),
    'std': (lambda v: _numbers(3)(v) and min(v) > 0, 'three numbers above 0'),
}


class OnnxFileModel(Model):
    """weights: the file. Raises OSError where it is not there, ValueError, in a sentence that
    says what to write into the YAML file, where it will not do."""

    runtimes = ('openvino', 'onnxruntime', 'tensorrt')
    one_by_one = True

    def __init__(self, weights):
        path = expand_user(weights)
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such file')
        super().__init__(weights, path)
        self._told = path.with_suffix('.yaml')
        graph = _checked(path)
        self._external = sorted(set(_external(graph, path)))
        self._read(graph, _settings(self._told))

    def _read(self, model, told):
        from onnx import TensorProto
        graph, missing = model.graph, []
        given = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in given]
        if len(inputs) != 1:
            raise ValueError(f'{self.path} takes {len(inputs)} inputs; a depth network takes one '
                             'picture')
        kind = inputs[0].type.tensor_type
        dims = [dim.dim_value if dim.HasField('dim_value') else -1 for dim in kind.shape.dim]
        kinds = {TensorProto.FLOAT: np.float32, TensorProto.UINT8: np.uint8}
        if len(dims) != 4 or kind.elem_type not in kinds:
            raise ValueError(f'{self.path} takes {dims} of '
                             f'{TensorProto.DataType.Name(kind.elem_type)}; a picture is four '
                             'axes of FLOAT or UINT8: export it anew')
        self.kind = kinds[kind.elem_type]
        told_layout = told.get('layout')
        self._last = told_layout == 'NHWC' or (not told_layout and dims[1] != 3 and dims[3] == 3)
        if not told_layout and 3 not in (dims[1], dims[3]):
            missing.append(('layout', 'layout: NCHW'))
        rows, columns = dims[1:3] if self._last else dims[2:]
        self._fixed = told.get('size') or ([rows, columns] if min(rows, columns) > 0 else None)
        if self._fixed is None:
            missing.append(('the size of the picture',
                            'size: {shorter_side: 518, multiple_of: 14}'))
        elif not _size(self._fixed):
            raise ValueError(f'{self.path} takes pictures of {columns}×{rows}; no more than '
                             f'{LARGEST_SIDE} pixels a side are made')
        if dims[0] > 1:
            raise ValueError(f'{self.path} takes {dims[0]} pictures at once: export it for one')
        self.layout = (1, -1, -1, 3) if self._last else (1, 3, -1, -1)
        self._guess_pixels(told)
        self._guess_output(graph, told, missing)
        if missing:
            raise ValueError(
                f'{self.path} does not tell {" and ".join(what for what, _ in missing)}: write '
                f'{" and ".join(repr(line) for _, line in missing)}, or what is true of it, into '
                f'{self._told} (docs/models.md)')
        self.focal = None
        if 'camera' in told and not self.relative:
            fx, width, height = told['camera']
            self.focal = fx * self._shown(round(width), round(height))[0] / width

    def _guess_pixels(self, told):
        self._flip = told.get('channels') == 'BGR'
        plain = self.kind is np.uint8
        if plain and {'mean', 'std', 'white'} & set(told):
            raise ValueError(f'{self._told}: the graph takes whole numbers, so mean, std and white '
                             'have no place')
        if not plain and not {'mean', 'std', 'white'} & set(told):
            self.notes.append(f'{self.name}: pixels are taken to be normalised as ImageNet\'s; if '
                              f'not, write white, mean and std into {self._told}')
            told = {**told, **IMAGENET}
        white = told.get('white', 1)
        self._mean = np.float32(told.get('mean', [0, 0, 0])) * np.float32(255 / white)
        self._std = np.float32(told.get('std', [1, 1, 1])) * np.float32(255 / white)

    def _guess_output(self, graph, told, missing):
        names = [value.name for value in graph.output]
        name = told.get('output_name', names[0] if names else '')
        if name not in names:
            raise ValueError(f'{self._told}: output_name is {name}; the graph has '
                             + ', '.join(names))
        if len(names) > 1 and 'output_name' not in told:
            self.notes.append(f'{self.name}: depth is taken from its first output, {name}; if '
                              f'another is right, write output_name into {self._told}')
        self.answer = names.index(name)
        low = name.lower()
        kind = told.get('output') or ('metric' if low.endswith(METRIC) else
                                      'relative' if low.endswith(RELATIVE) else '')
        if not kind:
            missing.append(('whether it gives metres', 'output: metric'))
        elif 'output' not in told:
            self.notes.append(f'{self.name}: its output {name} is taken to be {kind} depth; if '
                              f'not, write output into {self._told}')
        self.relative = kind == 'relative'

    @cached_property
    def digest(self):
        return hashlib.sha256(' '.join(
            file_digest(path) for path in (self.path, *self._external)).encode()).hexdigest()

    @property
    def graph(self):
        if not self._external:
            return self.path
        from hybrid_depth_ros.runtimes.export import cached
        return cached(self.digest, '-whole.onnx', partial(_whole, self.path))

    def module(self):
        raise ValueError(f'{self.path} is an ONNX file, which torch does not run: set runtime to '
                         'onnxruntime or openvino')

    def _shown(self, width, height):
        """Width and height that a picture of width×height is shown at."""
        if isinstance(self._fixed, dict):
            side, multiple = self._fixed['shorter_side'], self._fixed['multiple_of']
            times = side / min(width, height)
            return tuple(max(multiple, round(n * times / multiple) * multiple)
                         for n in (width, height))
        return self._fixed[1], self._fixed[0]

    def view(self, image, fit='full'):
        check_view(image, fit, self.name)
        return _View(self, image)

    def pixels(self, image, width, height):
        """What the network is shown of a picture at width×height, without the batch's axis."""
        small = shrink(image, width, height)
        if self._flip:
            small = small[..., ::-1]
        if self.kind is np.float32:
            small = (small - self._mean) / self._std
        return np.ascontiguousarray(small if self._last else small.transpose(2, 0, 1))


class _View(NetworkInput):
    """The whole picture at the network's size; depth is enlarged as that of our own networks."""

    def __init__(self, model, image):
        self.height, self.width = image.shape[:2]
        width, height = model._shown(self.width, self.height)
        self.scale, self.focal = width / self.width, model.focal
        self.pixels = model.pixels(image, width, height)

    def restore(self, output):
        depth = np.squeeze(output).astype(np.float32, copy=False)
        if depth.ndim != 2:
            raise ValueError(f'its output has the shape {output.shape}; depth has rows and columns')
        return upsample(depth * np.float32(self.correction), self.width, self.height, self.guide)


def _settings(path):
    """What the YAML file says, {} where there is none; ValueError that names the key and the mend.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > 1 << 16:
        raise ValueError(f'{path} has {path.stat().st_size} bytes; a few lines are enough')
    try:
        told = yaml.safe_load(path.read_text(encoding='utf-8')) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no YAML ({reason(error)[:200]})') from error
    if not isinstance(told, dict):
        raise ValueError(f'{path} must hold lines as `output: metric`, not a {type(told).__name__}')
    for key, value in told.items():
        if key not in KEYS:
            raise ValueError(f'{path} has {key}; known are {", ".join(KEYS)}')
        fits, wanted = KEYS[key]
        try:
            good = fits(value)
        except TypeError:
            good = False
        if not good:
            raise ValueError(f'{path}: {key} is {str(value)[:100]}; it must be {wanted}')
    return told


def _checked(path):
    """The graph, without the data beside it; ValueError for what is not to be run."""
    if not find_spec('onnx'):
        raise ValueError(f'{path} is looked through by onnx, which is not installed: pip install '
                         'onnx onnxruntime')
    if path.stat().st_size > LARGEST:
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
        if math.prod(tensor.dims) > MOST_NUMBERS or min(tensor.dims, default=0) < 0:
            raise ValueError(f'{path}: {tensor.name} claims to have {list(tensor.dims)} numbers, '
                             'more than any depth network holds in one tensor')
    try:
        seen = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # what it can't follow, the runtime will judge
        return model
    for value in (*seen.graph.value_info, *seen.graph.output, *seen.graph.input):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim
                if dim.HasField('dim_value')]
        if math.prod(dims) > MOST_NUMBERS:
            raise ValueError(f'{path}: {value.name} would take {dims} numbers, more than any depth '
                             'network needs at once')
    return model


def _graphs(model):
    """The graph, and all that stand inside its nodes."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField('g') else []
                waiting += attribute.graphs


def _nodes(model):
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model):
    for graph in _graphs(model):
        yield from graph.initializer
        yield from (sparse.values for sparse in graph.sparse_initializer)
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.HasField('t'):
                yield attribute.t
            yield from attribute.tensors


def _external(model, path):
    """Files of the data that lies beside a graph; ValueError where it lies elsewhere."""
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
            end = LARGEST + 1
        if not 0 <= end <= min(file.stat().st_size, LARGEST):
            raise ValueError(f'{path}: {tensor.name} is to end at byte {end} of {file.name}, which '
                             f'has {file.stat().st_size}; copy or download both again')
        yield file


def _whole(path):
    """The bytes of a graph with the data beside it inside."""
    import onnx
    return onnx.load(str(path)).SerializeToString()
