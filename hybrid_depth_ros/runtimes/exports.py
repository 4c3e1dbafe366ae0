"""Graphs that are exported from weights, and kept on disk."""

import contextlib
import hashlib
import io
import tempfile
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hybrid_depth_ros.files import cache_folder, write_whole
from hybrid_depth_ros.runtimes.machine import NEEDS, installed
from hybrid_depth_ros.runtimes.openvino import library
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime
from hybrid_depth_ros.weights import load_network

INT8 = '-int8.zip'      # weights.safetensors has its quantised graph in weights-int8.zip
GRAPH_LIMIT = 1 << 30   # bytes that a graph may unpack to
EXPORT = 1              # counts the ways an export was made: other cached ones are not used


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
    openvino = library()
    module, example = _exportable(path, fuse)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch's about how openvino traces
        return openvino.convert_model(module, example_input=example,
                                      input=[('pixels', [-1, -1, -1, 3], np.uint8)])


def pack_model(model, digest, halved=False):
    """An OpenVINO model as the bytes of a graph file. halved: its float32 weights as float16."""
    openvino = library()
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


def cached(digest, ending, export):
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


def int8_graph(path):
    """Where the quantised graph of a weights file lies, if it has one."""
    graph = path.with_name(path.stem + INT8)
    return graph if graph.is_file() else None
