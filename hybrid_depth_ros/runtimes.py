"""What runs the network: torch, OpenVINO or ONNX Runtime, from the same weights.

A runtime is a callable: uint8 N×H×W×3 RGB, H and W multiples of 32 → float32 N×H/2×W/2 metres,
in an array that is the caller's. Normalisation is a part of it. It has a ``name``, a
``precision`` and a ``device``. Only :class:`TorchRuntime` and a first export need torch.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import tempfile
import time
import warnings
import zipfile
from collections import OrderedDict
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.weights import cache_folder, load_network, weights_path

RUNTIMES = ('auto', 'torch', 'openvino', 'onnxruntime', 'tensorrt')
PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16', 'int8')
# What must be installed for each, and how to get it.
NEEDS = {
    'torch': (('torch', 'timm'), 'pip install torch torchvision timm'),
    'openvino': (('openvino',), 'pip install openvino'),
    'onnxruntime': (('onnxruntime',), 'pip install onnxruntime'),
    'tensorrt': (('onnxruntime',), 'pip install onnxruntime-gpu tensorrt'),
}
INT8 = '-int8.zip'      # weights.safetensors has its quantised graph in weights-int8.zip
KEPT_SHAPES = 8         # compiled graphs that are kept, one for each shape of a batch
TRIAL = 1.0             # seconds that the candidates share
GRAPH_LIMIT = 1 << 30   # bytes that a graph may unpack to
EXPORT = 1              # counts the ways an export was made: other cached ones are not used


def installed(runtime):
    """Whether what a runtime needs is there; nothing is imported."""
    return all(map(find_spec, NEEDS[runtime][0]))


def gpu_is_here():
    """Whether this machine has an NVIDIA GPU, by its device files: torch takes seconds to ask."""
    return any(any(Path('/dev').glob(name)) for name in ('nvidia[0-9]*', 'nvhost-gpu', 'nvgpu'))


@lru_cache(maxsize=1)
def cpu_flags():
    """What this processor can do, as Linux names it: ``avx512_bf16``, ``amx_bf16``, ``bf16`` …"""
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith(('flags', 'Features')):
                return frozenset(line.partition(':')[2].split())
    return frozenset()


def choose_device(device):
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` → its name; ValueError if it isn't there."""
    count = 0
    if device != 'cpu' and gpu_is_here() and installed('torch'):
        import torch
        count = torch.cuda.device_count()
    if device == 'auto':
        return 'cuda' if count else 'cpu'
    known = ['cpu', *(['cuda'] if count else []), *(f'cuda:{i}' for i in range(count))]
    if device not in known:
        raise ValueError(f'device {device!r} is not there; this machine has: auto, '
                         + ', '.join(known) + ('' if count or not gpu_is_here() else
                         f'; its GPU needs a torch that can use it: {NEEDS["torch"][1]}'))
    return device


class TorchRuntime:
    """The network in torch itself. network: a module; device: as choose_device gives it.

    Channels lie last, as the pixels do: a fifth to a third faster on a CPU, and what tensor cores
    read. On a GPU, pictures and depth go through pinned memory, and the forward pass of a shape
    is recorded once as a CUDA graph and replayed.
    """

    name = 'torch'

    def __init__(self, network, device='cpu', precision='fp32'):
        import torch

        from hybrid_depth_ros.network import IMAGENET_MEAN, IMAGENET_STD
        self.device, self.precision = device, precision
        self._torch, self._device = torch, torch.device(device)
        self._type = {'fp32': torch.float32, 'bf16': torch.bfloat16,
                      'fp16': torch.float16}[precision]
        if getattr(network, 'encoder_name', 'resnet50') != 'resnet50':
            # One wide convolution beats eight narrow ones; with resnet50's 1024 channels its
            # 44 % more arithmetic costs more than that saves.
            network.fuse()
        self.network = network.eval().to(self._device, memory_format=torch.channels_last)
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(3, 1, 1) * 255
            for values in (IMAGENET_MEAN, IMAGENET_STD))
        self._graphs = OrderedDict()

    def _forward(self, pixels):
        """uint8 N×H×W×3 tensor → float32 N×H/2×W/2 tensor, on the device."""
        torch = self._torch
        batch = (pixels.permute(0, 3, 1, 2) - self._mean) / self._std  # still lies as the pixels do
        with torch.autocast(self._device.type, self._type, enabled=self.precision != 'fp32'):
            return self.network(batch)[:, 0].float()

    def __call__(self, pixels):
        with self._torch.inference_mode():
            if self._device.type == 'cpu':
                return self._forward(self._torch.from_numpy(pixels)).numpy()
            return self._on_gpu(pixels)

    def _on_gpu(self, pixels):
        torch = self._torch
        replay, pinned, seen, output = _kept(self._graphs, pixels.shape,
                                             partial(self._record, pixels.shape))
        pinned.copy_(torch.from_numpy(pixels))
        seen.copy_(pinned, non_blocking=True)
        replay()
        result = torch.empty(output.shape, pin_memory=True)
        result.copy_(output, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return result.numpy()

    def _record(self, shape):
        """The forward pass of one shape as a CUDA graph, and the memory that it reads and fills."""
        torch = self._torch
        pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        seen = pinned.to(self._device)
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):  # libraries choose their kernels before it is recorded
                    self._forward(seen)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                output = self._forward(seen)
        return graph.replay, pinned, seen, output


class OpenVinoRuntime:
    """A graph in OpenVINO, on the CPU. graph: bytes of its XML, and of its weights."""

    name, device = 'openvino', 'cpu'

    def __init__(self, graph, precision):
        self.precision = precision
        self._core, self._graph, self._requests = _openvino(), graph, OrderedDict()
        arithmetic = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16'}
        if precision == 'int8':  # what isn't quantised
            precision = next((p for p in ('bf16', 'fp16') if p in openvino_precisions()), 'fp32')
        self._options = {'INFERENCE_PRECISION_HINT': arithmetic[precision],
                         'PERFORMANCE_HINT': 'LATENCY'}
        with contextlib.suppress(OSError):
            folder = cache_folder() / 'openvino'
            folder.mkdir(parents=True, exist_ok=True)
            self._options['CACHE_DIR'] = str(folder)

    def _compile(self, shape):
        model = self._core.read_model(*self._graph)
        model.reshape(list(shape))  # a fifth faster than a graph of any shape
        return self._core.compile_model(model, 'CPU', self._options).create_infer_request()

    def __call__(self, pixels):
        request = _kept(self._requests, pixels.shape, partial(self._compile, pixels.shape))
        return request.infer([pixels], share_inputs=True, share_outputs=True)[0].copy()


class OnnxRuntime:
    """A graph in ONNX Runtime: on the CPU, or by TensorRT on a GPU. path: the .onnx file."""

    def __init__(self, path, name='onnxruntime', precision='fp32'):
        import onnxruntime
        self.name, self.precision = name, precision
        self.device = 'cuda' if name == 'tensorrt' else 'cpu'
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors, not its advice
        providers = ['CPUExecutionProvider']
        if name == 'tensorrt':
            here = onnxruntime.get_available_providers()
            if 'TensorrtExecutionProvider' not in here:
                raise ValueError(f'this ONNX Runtime has no TensorRT, only {", ".join(here)}; '
                                 + NEEDS[name][1])
            engines = cache_folder() / 'tensorrt'
            engines.mkdir(parents=True, exist_ok=True)
            providers = [('TensorrtExecutionProvider', {
                'trt_fp16_enable': precision == 'fp16', 'trt_engine_cache_enable': True,
                'trt_engine_cache_path': str(engines)}), 'CUDAExecutionProvider', *providers]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)

    def __call__(self, pixels):
        return self._session.run(None, {'pixels': pixels})[0]


def _kept(store, key, make):
    """store[key], made where it is not there yet; the longest unused give way."""
    if key in store:
        store.move_to_end(key)
    else:
        store[key] = make()
        while len(store) > KEPT_SHAPES:
            store.popitem(last=False)
    return store[key]


@lru_cache(maxsize=1)
def _openvino():
    import openvino
    return openvino.Core()


@lru_cache(maxsize=1)
def openvino_precisions():
    """What OpenVINO computes fast on this processor, besides fp32."""
    able = _openvino().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    return tuple(p for p, name in (('bf16', 'BF16'), ('fp16', 'FP16')) if name in able)


# --- graphs: exported from weights, kept on disk ------------------------------------------


def pack_graph(xml, weights, digest):
    """An OpenVINO graph as the bytes of one zip file. digest: sha256 of the weights it is from."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in (('graph.xml', xml), ('graph.bin', weights),
                           ('weights.sha256', digest.encode())):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def read_graph(path, digest):
    """XML and weights of a zip that pack_graph made; ValueError where it is not of `digest`.

    path: of the zip, or a file that is open.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > GRAPH_LIMIT:
                raise ValueError(f'{path} unpacks to more than {GRAPH_LIMIT >> 30} GB; delete it')
            of = archive.read('weights.sha256').decode()
            graph = archive.read('graph.xml'), archive.read('graph.bin')
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError,
            UnicodeDecodeError) as error:
        raise ValueError(f'{path} is not a whole graph ({error}); delete it, or make it again by '
                         'python -m train.quantise') from error
    if of != digest:
        raise ValueError(f'{path} was made from other weights; delete it, or make it again by '
                         'python -m train.quantise')
    return graph


def write_whole(path, data):
    """Write bytes so that `path` is never half a file; OSError where they can't be kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
    try:
        with open(partial, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def weights_digest(path):
    """sha256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _exportable(path, fuse=False):
    """The network from uint8 pixels to metres as one module, and an example of its input."""
    if not installed('torch'):
        raise ValueError(f'the first use of {path.name} in this runtime and precision exports it '
                         f'by torch, which is not installed: {NEEDS["torch"][1]}')
    import torch
    network = load_network(str(path))
    runtime = TorchRuntime(network.fuse() if fuse else network)

    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = runtime.network.to(memory_format=torch.contiguous_format)

        def forward(self, pixels):
            return runtime._forward(pixels)
    # sizes that differ from each other: none may be taken for another, or for a constant
    return Graph().eval(), torch.zeros(2, 288, 352, 3, dtype=torch.uint8)


def openvino_model(path, fuse=False):
    """Weights file → an OpenVINO model, float32, any batch and size. Needs torch.

    fuse: run each up-projection's unpoolings as one convolution, whatever the encoder. int8 asks
    for it: their uneven padding is computed apart, and keeps them from being quantised.
    """
    import openvino
    module, example = _exportable(path, fuse)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch's about how openvino traces
        return openvino.convert_model(module, example_input=example,
                                      input=[('pixels', [-1, -1, -1, 3], np.uint8)])


def pack_model(model, digest, halved=False):
    """An OpenVINO model as the bytes of a graph file. halved: its float32 weights as float16."""
    import openvino
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, f'{folder}/graph.xml', compress_to_fp16=halved)
        return pack_graph(*(Path(folder, f'graph.{end}').read_bytes() for end in ('xml', 'bin')),
                          digest)


def export_openvino(path, digest):
    """Weights file → the bytes of a graph file, float32, any batch and size. Needs torch."""
    return pack_model(openvino_model(path), digest)


def export_onnx(path):
    """Weights file → the bytes of an ONNX file, float32, any batch and size.

    Needs torch and onnx.
    """
    if not find_spec('onnx'):
        raise ValueError(f'the first use of {path.name} in ONNX Runtime exports it by onnx, which '
                         'is not installed: pip install onnx')
    module, example = _exportable(path)
    import torch
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the exporter's about itself
        # dynamo=True has not come to an end with dynamic sizes within ten minutes
        torch.onnx.export(module, (example,), f'{folder}/graph.onnx', dynamo=False,
                          input_names=['pixels'], output_names=['depth'],
                          dynamic_axes={name: {0: 'n', 1: 'h', 2: 'w'}
                                        for name in ('pixels', 'depth')})
        return Path(folder, 'graph.onnx').read_bytes()


def _cached(digest, ending, export):
    """The file in the cache that `export` fills; where there is no room, one for this process."""
    path = None
    with contextlib.suppress(OSError):
        path = cache_folder() / 'graphs' / f'{digest[:32]}-{EXPORT}{ending}'
        if path.exists():
            return path
    data = export()
    with contextlib.suppress(OSError):
        if path:
            write_whole(path, data)
            return path
    with tempfile.NamedTemporaryFile(suffix=ending, delete=False) as file:
        file.write(data)
    return Path(file.name)


# --- choosing -----------------------------------------------------------------------------


def int8_graph(path):
    """Where the quantised graph of a weights file lies, if it has one."""
    graph = path.with_name(path.stem + INT8)
    return graph if graph.is_file() else None


def precisions(runtime, path, device):
    """What a runtime can compute these weights in here, the fastest first."""
    if runtime == 'tensorrt':
        return 'fp16', 'fp32'
    if runtime == 'onnxruntime':
        return ('fp32',)
    if runtime == 'openvino':
        return (*(['int8'] if int8_graph(path) else []), *openvino_precisions(), 'fp32')
    if device != 'cpu':
        return 'fp16', 'bf16', 'fp32'
    fast = {'avx512_bf16', 'amx_bf16', 'bf16'} & cpu_flags()
    return ('bf16', 'fp32', 'fp16') if fast else ('fp32', 'bf16', 'fp16')


def _make(runtime, precision, path, digest, device):
    if runtime == 'torch':
        return TorchRuntime(load_network(str(path)), device, precision)
    if runtime == 'openvino':
        file = (int8_graph(path) if precision == 'int8' else
                _cached(digest, '.zip', partial(export_openvino, path, digest)))
        return OpenVinoRuntime(read_graph(file, digest), precision)
    return OnnxRuntime(_cached(digest, '.onnx', partial(export_onnx, path)), runtime, precision)


def _time(runtime, seconds):
    """Seconds that the network takes for one 640×480 picture: the least of a short trial."""
    pixels = np.zeros((1, 288, 352, 3), np.uint8)
    runtime(pixels)
    took, end = [], time.monotonic() + seconds
    while not took or time.monotonic() < end:
        start = time.perf_counter()
        runtime(pixels)
        took.append(time.perf_counter() - start)
    return min(took)


def versions(names):
    """{name: version} of those packages that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def load_runtime(weights='lite-nyu', runtime='auto', precision='auto', device='auto'):
    """The runtime for a registered name or weights file, and in one sentence why it is this one.

    runtime ``auto``: each that is installed gets a short trial in its fastest precision, and
    the fastest wins; the winner is remembered for this machine, weights and versions. precision
    ``auto``: int8 where the weights have a quantised graph and OpenVINO runs it, else bf16 or
    fp16 where the processor computes it fast, else fp32.
    Raises ValueError for what is unknown, not installed or not possible, and what
    :func:`load_network` raises.
    """
    for name, value, known in (('runtime', runtime, RUNTIMES),
                               ('precision', precision, PRECISIONS)):
        if value not in known:
            raise ValueError(f'{name} {value!r} is unknown; use one of {", ".join(known)}')
    path, device = weights_path(weights), choose_device(device)
    digest = weights_digest(path) if path.is_file() else ''
    suitable = ('torch', 'openvino', 'onnxruntime') if device == 'cpu' else ('torch', 'tensorrt')
    candidates = {}
    for name in suitable if runtime == 'auto' else (runtime,):
        if not installed(name):
            if runtime == name:
                raise ValueError(f'runtime {name} is not installed: {NEEDS[name][1]}')
            continue
        if name in ('openvino', 'onnxruntime') and device != 'cpu':
            raise ValueError(f'runtime {name} runs on the CPU: set device to cpu, or runtime to '
                             'torch or tensorrt')
        able = precisions(name, path, device)
        if precision == 'auto':
            candidates[name] = able[0]
        elif precision in able:
            candidates[name] = precision
    if not candidates:
        if precision == 'int8' and not int8_graph(path):
            raise ValueError(f'{path} has no int8 graph beside it: make one by python -m '
                             'train.quantise, or set precision to auto')
        if not any(map(installed, RUNTIMES[1:])):
            raise ValueError('nothing here can run a network: pip install openvino, or '
                             + NEEDS['torch'][1])
        raise ValueError(f'precision {precision} is not possible here with runtime {runtime}: set '
                         'precision to auto')
    try:
        return _best(candidates, path, digest, device)
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # of whichever class the library likes
        raise ValueError(f'{path} cannot run here by {" or ".join(candidates)} ({reason(error)}); '
                         'set another runtime, precision or device') from error


def _best(candidates, path, digest, device):
    if len(candidates) == 1:
        (name, precision), = candidates.items()
        return _make(name, precision, path, digest, device), f'{name} {precision}'
    key = hashlib.sha256(json.dumps([
        digest, candidates, device, platform.machine(), os.cpu_count(), sorted(cpu_flags()),
        versions(('torch', 'openvino', 'onnxruntime', 'onnxruntime-gpu'))]).encode()).hexdigest()
    remembered = None
    with contextlib.suppress(OSError, ValueError):
        remembered = cache_folder() / 'choices' / key[:32]
        chosen, why = json.loads(remembered.read_text())
        if chosen in candidates:
            return (_make(chosen, candidates[chosen], path, digest, device),
                    f'{why}, by an earlier trial')
    made, took, failed = {}, {}, {}
    for name, precision in candidates.items():
        try:
            made[name] = _make(name, precision, path, digest, device)
            took[name] = _time(made[name], TRIAL / len(candidates))
        except OSError:
            raise
        except Exception as error:  # one that doesn't work here must not stop the others
            failed[name] = error
    if not took:
        raise next(iter(failed.values()))
    chosen = min(took, key=took.__getitem__)
    why = f'{chosen} {candidates[chosen]}: ' + ', '.join(
        [f'{name} {candidates[name]} {1000 * took[name]:.0f} ms' for name in took]
        + [f'{name} not possible ({reason(error)})' for name, error in failed.items()])
    if remembered:
        with contextlib.suppress(OSError):
            write_whole(remembered, json.dumps([chosen, why]).encode())
    return made[chosen], why
