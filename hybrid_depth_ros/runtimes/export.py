"""Graphs that are exported from weights, and kept on disk."""

import contextlib
import io
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hybrid_depth_ros.files import cache_folder, write_bytes_atomically
from hybrid_depth_ros.runtimes.hardware import NEEDS, installed
from hybrid_depth_ros.runtimes.openvino import library

GRAPH_LIMIT = 1 << 30   # bytes that a graph may unpack to
LARGE = 1 << 28         # bytes of weights above which a graph is not compressed
EXPORT = 1              # counts the ways an export was made: other cached ones are not used


def pack_graph(xml, weights, digest):
    """An OpenVINO graph as the bytes of one zip file. digest: sha256 of the weights it is from."""
    file = io.BytesIO()
    # hundreds of megabytes of weights take minutes to compress, and get little smaller
    how = zipfile.ZIP_STORED if len(weights) > LARGE else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, 'w', how) as archive:
        for name, data in (('graph.xml', xml), ('graph.bin', weights),
                           ('weights.sha256', digest.encode())):
            archive.writestr(zipfile.ZipInfo(name), data, how)
    return file.getvalue()


def read_graph(path, digest):
    """XML and weights of a zip that pack_graph made; ValueError where it is not of `digest`.

    path: of the zip, or a file that is open.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if (any(entry.compress_type for entry in entries)
                    and sum(entry.file_size for entry in entries) > GRAPH_LIMIT):
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


def _exportable(model, fuse=None):
    """The network from pixels to depth as one module."""
    if not installed('torch'):
        raise ValueError(f'the first use of {model.path.name} in this runtime and precision '
                         f'exports it by torch, which is not installed: {NEEDS["torch"][1]}')
    import torch
    module = model.module() if fuse is None else model.module(fuse)
    return module.eval().to(memory_format=torch.contiguous_format)


def openvino_model(model, fuse=None, shape=None):
    """A Model → an OpenVINO model, float32, of any batch and size, or of one `shape`. Needs torch.

    fuse: run each up-projection's unpoolings as one convolution, whatever the encoder. int8 asks
    for it: their uneven padding is computed apart, and keeps them from being quantised.
    """
    openvino = library()
    module, example = _exportable(model, fuse), _example(model, shape)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch's about how openvino traces
        return openvino.convert_model(module, example_input=example,
                                      input=[('pixels', list(shape or model.layout), model.kind)])


def pack_model(model, digest, halved=False):
    """An OpenVINO model as the bytes of a graph file. halved: its float32 weights as float16."""
    import tempfile
    openvino = library()
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, f'{folder}/graph.xml', compress_to_fp16=halved)
        return pack_graph(*(Path(folder, f'graph.{end}').read_bytes() for end in ('xml', 'bin')),
                          digest)


def _example(model, shape):
    import torch
    return torch.from_numpy(np.zeros(shape, model.kind) if shape else model.example())


def export_openvino(model, shape=None):
    """A Model → the bytes of a graph file, float32, of any batch and size, or of one `shape`.

    Needs torch.
    """
    return pack_model(openvino_model(model, shape=shape), model.digest)


def export_onnx(model, shape=None):
    """A Model → the bytes of an ONNX file, float32, of any batch and size, or of one `shape`.

    Needs torch and onnx.
    """
    if not find_spec('onnx'):
        raise ValueError(f'the first use of {model.path.name} in ONNX Runtime exports it by onnx, '
                         'which is not installed: pip install onnx')
    module, example = _exportable(model), _example(model, shape)
    import tempfile

    import torch
    axes = {} if shape else {name: {0: 'n', 1: 'h', 2: 'w'} for name in ('pixels', 'depth')}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the exporter's about itself
        # dynamo=True has not come to an end with dynamic sizes within ten minutes
        torch.onnx.export(module, (example,), f'{folder}/graph.onnx', dynamo=False,
                          input_names=['pixels'], output_names=['depth'], dynamic_axes=axes)
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
            write_bytes_atomically(path, data)
            return path
    import tempfile
    with tempfile.NamedTemporaryFile(suffix=ending, delete=False) as file:
        file.write(data)
    return Path(file.name)
