"""Graphs exported from a network, and the files that hold them."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from hybrid_depth_ros.files import cached_file
from hybrid_depth_ros.models.base import Model
from hybrid_depth_ros.runtimes.hardware import NEEDS, installed
from hybrid_depth_ros.runtimes.openvino import library

if TYPE_CHECKING:
    import torch

MAX_UNPACKED_BYTES = 1 << 30
MAX_COMPRESSED_BYTES = 1 << 28  # above, weights are stored as they are
EXPORT_VERSION = 2              # cached exports of another version are not used


def pack_graph(xml: bytes, weights: bytes, digest: str) -> bytes:
    """Pack an OpenVINO graph into the bytes of one zip file.

    Args:
        xml: The graph.
        weights: Its weights.
        digest: sha256 of the weights file that it was exported from.
    """
    file = io.BytesIO()
    # hundreds of megabytes of weights take minutes to compress, and get little smaller
    how = zipfile.ZIP_STORED if len(weights) > MAX_COMPRESSED_BYTES else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, 'w', how) as archive:
        for name, data in (('graph.xml', xml), ('graph.bin', weights),
                           ('weights.sha256', digest.encode())):
            archive.writestr(zipfile.ZipInfo(name), data, how)
    return file.getvalue()


def read_graph(path: Path | IO[bytes], digest: str) -> tuple[bytes, bytes]:
    """Read a zip file that :func:`pack_graph` made.

    Args:
        path: The zip file, or one that is open.
        digest: sha256 of the weights file that the graph must be from.

    Returns:
        The graph's XML and its weights.

    Raises:
        OSError: The file can't be read.
        ValueError: It is damaged, too large, or made from other weights.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if (any(entry.compress_type for entry in entries)
                    and sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES):
                raise ValueError(f'{path} unpacks to more than {MAX_UNPACKED_BYTES >> 30} GB; '
                                 'delete it')
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


def _exportable(model: Model, fuse: bool | None = None) -> torch.nn.Module:
    """The network from pixels to depth as one module."""
    if not installed('torch'):
        raise ValueError(f'the first use of {model.path.name} in this runtime and precision '
                         f'exports it by torch, which is not installed: {NEEDS["torch"][1]}')
    import torch
    module = model.module() if fuse is None else model.module(fuse)  # type: ignore[call-arg]
    return module.eval().to(memory_format=torch.contiguous_format)


def openvino_model(model: Model, fuse: bool | None = None,
                   shape: tuple[int, ...] | None = None) -> Any:
    """Convert a network into an OpenVINO model, float32. Needs torch.

    Args:
        model: The network.
        fuse: Whether to run each up-projection's unpoolings as one convolution; None: where it is
            faster. int8 needs it: their uneven padding is computed apart, and keeps them from
            being quantised.
        shape: The batch's shape; None: any batch and size.
    """
    openvino = library()
    module, example = _exportable(model, fuse), _example(model, shape)
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch's about how openvino traces
        # torch would trace a second time and warn about differences: a third of the time
        traced = TorchScriptPythonDecoder(
            module, example_input=example, trace_kwargs={'check_trace': False})
        return openvino.convert_model(
            traced, example_input=example,
            input=[('pixels', list(shape or model.input_shape), model.input_dtype)])


def pack_model(model: Any, digest: str, half_precision: bool = False) -> bytes:
    """Pack an OpenVINO model into the bytes of a graph file, see :func:`pack_graph`.

    Args:
        model: The OpenVINO model.
        digest: sha256 of the weights file that it is from.
        half_precision: Whether to store its float32 weights as float16.
    """
    import tempfile
    openvino = library()
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, f'{folder}/graph.xml', compress_to_fp16=half_precision)
        return pack_graph(Path(folder, 'graph.xml').read_bytes(),
                          Path(folder, 'graph.bin').read_bytes(), digest)


def _example(model: Model, shape: tuple[int, ...] | None) -> torch.Tensor:
    import torch
    return torch.from_numpy(np.zeros(shape, model.input_dtype) if shape else
                            model.export_example())


def export_openvino(model: Model, shape: tuple[int, ...] | None = None) -> bytes:
    """Export a network as the bytes of a graph file, float32. Needs torch.

    Args:
        model: The network.
        shape: The batch's shape; None: any batch and size.
    """
    return pack_model(openvino_model(model, shape=shape), model.digest)


def export_onnx(model: Model, shape: tuple[int, ...] | None = None) -> bytes:
    """Export a network as the bytes of an ONNX file, float32. Needs torch and onnx.

    Args:
        model: The network.
        shape: The batch's shape; None: any batch and size.
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


def load_openvino_graph(model: Model, precision: str, shape: tuple[int, ...] | None) -> tuple[
        bytes, bytes]:
    """Return a network's graph for OpenVINO, exported where it is not cached.

    Args:
        model: The network.
        precision: ``int8`` for the quantised graph.
        shape: The batch's shape where the model has a static one, else None.

    Returns:
        XML and weights, or an ONNX file's content and nothing.
    """
    if model.onnx_file:
        return model.onnx_file.read_bytes(), b''
    file = model.int8_graph if precision == 'int8' else _cached_export(
        model, shape, '.zip', export_openvino)
    assert file
    return read_graph(file, model.digest)


def load_onnx_graph(model: Model, shape: tuple[int, ...] | None) -> Path:
    """Return a network's ONNX file, exported where it is not cached.

    Args:
        model: The network.
        shape: The batch's shape where the model has a static one, else None.
    """
    return model.onnx_file or _cached_export(model, shape, '.onnx', export_onnx)


def _cached_export(model: Model, shape: tuple[int, ...] | None, suffix: str,
                   export: Callable[[Model, tuple[int, ...] | None], bytes]) -> Path:
    size = ''.join(f'-{side}' for side in shape or ())
    return cached_file(f'graphs/{model.digest[:32]}-{EXPORT_VERSION}{size}{suffix}',
                       partial(export, model, shape))
