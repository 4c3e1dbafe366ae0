"""A graph in ONNX Runtime, or by TensorRT through it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.files import cache_folder
from hybrid_depth_ros.runtimes.graph_cache import GraphCache
from hybrid_depth_ros.runtimes.hardware import NEEDS


@lru_cache(maxsize=1)
def library() -> Any:
    """Return the package onnxruntime, without its telemetry.

    From 1.32 on it otherwise gives this machine a number at its import, and keeps what it would
    send in ~/.cache/Microsoft.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
    import onnxruntime
    return onnxruntime


class OnnxRuntime(GraphCache):
    """A graph in ONNX Runtime: on the CPU, or by TensorRT on a GPU.

    Args:
        find_graph: Called with the batch's shape, or with None where one graph is for all shapes;
            returns the ONNX file.
        name: ``onnxruntime`` or ``tensorrt``.
        precision: ``fp32``, or ``fp16`` with TensorRT.
        static_shape: Whether a graph is of one shape, of one image.
        depth_output_index: Which of its outputs is depth.

    Raises:
        ValueError: This ONNX Runtime has no TensorRT.
    """

    def __init__(self, find_graph: Callable[[tuple[int, ...] | None], Path],
                 name: str = 'onnxruntime', precision: str = 'fp32', static_shape: bool = False,
                 depth_output_index: int = 0) -> None:
        super().__init__()
        onnxruntime = library()
        self.name, self.precision = name, precision
        self._depth_output_index = depth_output_index
        self.device = 'cuda' if name == 'tensorrt' else 'cpu'
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors, not its advice
        # threads that wait for work in a loop take the cores from what else runs
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        providers: list[Any] = ['CPUExecutionProvider']
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
        self._providers, self._options = providers, options
        self._find_graph, self._static_shape = find_graph, static_shape
        if not static_shape:
            self.prepare(None)

    def _compile(self, shape: tuple[int, ...] | None) -> Any:
        # not by name, which must be UTF-8
        return library().InferenceSession(self._find_graph(shape).read_bytes(), self._options,
                                          providers=self._providers)

    def __call__(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        session = self.prepare(pixels.shape if self._static_shape else None)
        return session.run(None, {session.get_inputs()[0].name: pixels})[self._depth_output_index]
