"""A graph in OpenVINO."""

import contextlib
import sys
from functools import lru_cache

from hybrid_depth_ros.files import cache_folder
from hybrid_depth_ros.runtimes.graph_cache import GraphCache
from hybrid_depth_ros.runtimes.hardware import low_precision_is_faster


class OpenVinoRuntime(GraphCache):
    """A graph in OpenVINO, on the CPU.

    graph: called with a shape of pixels for the bytes of its XML and of its weights, or for an ONNX
    file and no bytes; with None where one graph is for all shapes. one_by_one: it is not, and
    takes one picture at a time. answer: which of its outputs is depth.
    """

    name, device = 'openvino', 'cpu'

    def __init__(self, graph, precision, one_by_one=False, answer=0):
        super().__init__()
        self.precision, self._answer, self._core = precision, answer, core()
        self._read, self._graph = graph, None if one_by_one else graph(None)
        arithmetic = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16'}
        if precision == 'int8':  # what isn't quantised
            precision = (*(openvino_precisions() if low_precision_is_faster() else ()), 'fp32')[0]
        self._options = {'INFERENCE_PRECISION_HINT': arithmetic[precision],
                         'PERFORMANCE_HINT': 'LATENCY'}
        with contextlib.suppress(OSError, UnicodeEncodeError):  # it takes names of UTF-8 alone
            folder = cache_folder() / 'openvino'
            str(folder).encode()
            folder.mkdir(parents=True, exist_ok=True)
            self._options['CACHE_DIR'] = str(folder)

    def _make(self, shape):
        model = self._core.read_model(*(self._graph or self._read(shape)))
        model.reshape(list(shape))  # a fifth faster than a graph of any shape
        return self._core.compile_model(model, 'CPU', self._options).create_infer_request()

    def __call__(self, pixels):
        request = self.prepare(pixels.shape)
        return request.infer([pixels], share_inputs=True, share_outputs=True)[self._answer].copy()


@lru_cache(maxsize=1)
def library():
    """The package openvino, which is not to telephone home.

    Where its openvino_telemetry can be imported, each import of it looks up an analytics host and
    leaves files in the home directory. Its own stand-in takes that one's place here, unless this
    program has imported it already.
    """
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
    import openvino
    return openvino


@lru_cache(maxsize=1)
def core():
    return library().Core()


@lru_cache(maxsize=1)
def openvino_precisions():
    """What OpenVINO computes fast on this processor, besides fp32."""
    able = core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    return tuple(p for p, name in (('bf16', 'BF16'), ('fp16', 'FP16')) if name in able)
