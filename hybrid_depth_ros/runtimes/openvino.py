"""A graph in OpenVINO."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.files import cache_folder
from hybrid_depth_ros.runtimes.graph_cache import GraphCache
from hybrid_depth_ros.runtimes.hardware import low_precision_is_faster


class OpenVinoRuntime(GraphCache):
    """A graph in OpenVINO, on the CPU.

    Args:
        load_graph: Called with the batch's shape, or with None where one graph is for all shapes;
            returns the bytes of the graph's XML and weights, or an ONNX file's and no bytes.
        precision: One of :data:`~hybrid_depth_ros.runtimes.hardware.PRECISIONS`.
        static_shape: Whether a graph is of one shape, of one image.
        depth_output_index: Which of its outputs is depth.
    """

    name, device = 'openvino', 'cpu'

    def __init__(self, load_graph: Callable[[tuple[int, ...] | None], tuple[bytes, bytes]],
                 precision: str, static_shape: bool = False, depth_output_index: int = 0) -> None:
        super().__init__()
        self.precision, self._core = precision, core()
        self._depth_output_index, self._load_graph = depth_output_index, load_graph
        self._graph = None if static_shape else load_graph(None)
        arithmetic = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16'}
        if precision == 'int8':  # what isn't quantised
            precision = (*(openvino_precisions() if low_precision_is_faster() else ()), 'fp32')[0]
        # a thread that is tied to a core waits for whatever else runs there; the other core is idle
        self._options = {'INFERENCE_PRECISION_HINT': arithmetic[precision],
                         'PERFORMANCE_HINT': 'LATENCY', 'ENABLE_CPU_PINNING': 'NO'}
        with contextlib.suppress(OSError, UnicodeEncodeError):  # it takes names of UTF-8 alone
            folder = cache_folder() / 'openvino'
            str(folder).encode()
            folder.mkdir(parents=True, exist_ok=True)
            self._options['CACHE_DIR'] = str(folder)

    def _compile(self, shape: tuple[int, ...]) -> Any:
        model = self._core.read_model(*(self._graph or self._load_graph(shape)))
        model.reshape(list(shape))  # a fifth faster than a graph of any shape
        return self._core.compile_model(model, 'CPU', self._options).create_infer_request()

    def __call__(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        request = self.prepare(pixels.shape)
        outputs = request.infer([pixels], share_inputs=True, share_outputs=True)
        return outputs[self._depth_output_index].copy()


@lru_cache(maxsize=1)
def library() -> Any:
    """Return the package openvino, without its telemetry.

    Where openvino_telemetry can be imported, each import of openvino looks up an analytics host and
    leaves files in the home directory. Here it finds none, unless this program has imported it
    already.
    """
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
    import openvino
    return openvino


@lru_cache(maxsize=1)
def core() -> Any:
    """Return OpenVINO's core, one for the process."""
    return library().Core()


@lru_cache(maxsize=1)
def openvino_precisions() -> tuple[str, ...]:
    """Return the precisions that OpenVINO computes fast on this processor, besides fp32."""
    able = core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    return tuple(p for p, name in (('bf16', 'BF16'), ('fp16', 'FP16')) if name in able)
