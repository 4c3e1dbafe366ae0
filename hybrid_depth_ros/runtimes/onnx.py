"""A graph in ONNX Runtime, or by TensorRT through it."""

import os
from functools import lru_cache

from hybrid_depth_ros.files import cache_folder
from hybrid_depth_ros.runtimes.graph_cache import GraphCache
from hybrid_depth_ros.runtimes.hardware import NEEDS


@lru_cache(maxsize=1)
def library():
    """The package onnxruntime, which is not to telephone home.

    From 1.32 on it gives this machine a number at its import, and keeps what it would send in
    ~/.cache/Microsoft, unless it is told not to.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
    import onnxruntime
    return onnxruntime


class OnnxRuntime(GraphCache):
    """A graph in ONNX Runtime: on the CPU, or by TensorRT on a GPU.

    graph: called with a shape of pixels for the .onnx file, or with None where one is for all
    shapes. one_by_one: it is not, and takes one picture at a time. answer: which of its outputs
    is depth.
    """

    def __init__(self, graph, name='onnxruntime', precision='fp32', one_by_one=False, answer=0):
        super().__init__()
        onnxruntime = library()
        self.name, self.precision, self._answer = name, precision, answer
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
        self._providers, self._options = providers, options
        self._graph, self._one_by_one = graph, one_by_one
        if not one_by_one:
            self.prepare(None)

    def _make(self, shape):
        # not by name, which must be UTF-8
        return library().InferenceSession(self._graph(shape).read_bytes(), self._options,
                                          providers=self._providers)

    def __call__(self, pixels):
        session = self.prepare(pixels.shape if self._one_by_one else None)
        return session.run(None, {session.get_inputs()[0].name: pixels})[self._answer]
