"""A graph in ONNX Runtime, or by TensorRT through it."""

from hybrid_depth_ros.files import cache_folder
from hybrid_depth_ros.runtimes.machine import NEEDS


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
        # not by name, which must be UTF-8
        self._session = onnxruntime.InferenceSession(path.read_bytes(), options,
                                                     providers=providers)

    def __call__(self, pixels):
        return self._session.run(None, {'pixels': pixels})[0]
