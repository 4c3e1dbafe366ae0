"""What the libraries do beside the network: imports, recorded passes, telemetry."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from hybrid_depth_ros.network import FromPixels
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.runtimes import graph_cache
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)


def test_the_default_needs_no_torch(tmp_path):
    """And is quick to import."""
    code = '''
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name in ('torch', 'timm') else real(name, *rest))
from hybrid_depth_ros.predictor import DepthPredictor
import numpy as np
predictor = DepthPredictor(device='cpu')
assert predictor(np.zeros((480, 640, 3), np.uint8)).shape == (480, 640)
assert predictor.runtime.precision == 'int8'
assert not {'torch', 'timm', 'safetensors', 'tqdm'} & set(sys.modules)
try:
    DepthPredictor(device='cpu', runtime='openvino', precision='fp32')
except ValueError as error:
    assert 'pip install torch torchvision timm' in str(error)
else:
    raise AssertionError
'''
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60,
                   env={**os.environ, 'HYBRID_DEPTH_CACHE': str(tmp_path)})


def test_a_busy_core_does_not_hold_openvino_up(cache):
    """A thread that is tied to a core waits for what else runs there, and the network for it."""
    runtime = DepthPredictor(device='cpu', runtime='openvino', precision='int8').runtime
    graph = runtime.prepare((1, 288, 352, 3)).get_compiled_model()
    assert graph.get_property('ENABLE_CPU_PINNING') is False


def test_onnxruntime_leaves_a_core_that_it_waits_on(weights, cache):
    """Its threads wait in a loop by default: a fifth more of the processor, where that is full."""
    runtime = DepthPredictor(weights, device='cpu', runtime='onnxruntime').runtime
    options = runtime.prepare(None).get_session_options()
    assert options.get_session_config_entry('session.intra_op.allow_spinning') == '0'


class Graphics:
    """torch, whose cuda is this: the recorded pass runs when it is replayed."""

    def __init__(self):
        self.cuda = types.SimpleNamespace(
            current_stream=lambda *_: types.SimpleNamespace(synchronize=lambda: None))

    def __getattr__(self, name):
        return getattr(torch, name)

    def empty(self, *shape, pin_memory):
        assert pin_memory
        return torch.empty(*shape)


def test_on_a_gpu_each_shape_is_recorded_once(monkeypatch):
    """The logic alone: there need be no GPU."""
    class Mean(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.avg_pool2d(x[:, :1], 2)
    runtime = TorchRuntime(FromPixels(Mean()))
    wanted = [runtime(pixels) for pixels in (PIXELS, 255 - PIXELS, PIXELS[:, :32])]
    runtime._torch, runtime._device = Graphics(), types.SimpleNamespace(type='cuda')
    recorded = []

    def record(batch):
        shape, kind = batch
        recorded.append(shape)
        seen = torch.zeros(shape, dtype=kind)
        output = torch.zeros(shape[0], shape[1] // 2, shape[2] // 2)

        def replay():
            runtime._device = torch.device('cpu')
            output.copy_(TorchRuntime._forward(runtime, seen))
            runtime._device = types.SimpleNamespace(type='cuda')
        return replay, torch.zeros_like(seen), seen, output
    monkeypatch.setattr(runtime, '_compile', record)
    got = [runtime(pixels) for pixels in (PIXELS, 255 - PIXELS, PIXELS[:, :32])]
    for a, b in zip(wanted, got):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert recorded == [PIXELS.shape, PIXELS[:, :32].shape]
    for size in range(1, 10):
        runtime(np.zeros((size, 32, 32, 3), np.uint8))
    assert len(runtime._graphs) == graph_cache.MAX_GRAPHS


def test_openvino_does_not_telephone_home(tmp_path):
    """At each import it looked up an analytics host and wrote into the home.

    No look-up, no connection, no process and no file is allowed.
    """
    code = '''
import sys
def watch(event, arguments):
    if event in ('socket.getaddrinfo', 'socket.gethostbyname', 'socket.connect', 'os.fork',
                 'subprocess.Popen', 'os.posix_spawn'):
        print(event, arguments, flush=True)
sys.addaudithook(watch)
from hybrid_depth_ros.predictor import DepthPredictor
import numpy as np
predictor = DepthPredictor(device='cpu', runtime='openvino')
predictor(np.zeros((480, 640, 3), np.uint8))
'''
    home = tmp_path / 'home'
    home.mkdir()
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CI', 'TF_BUILD', 'JENKINS_URL')}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60,
                          env={**environment, 'HOME': str(home),
                               'HYBRID_DEPTH_CACHE': str(tmp_path / 'cache')})
    assert done.returncode == 0, done.stderr
    assert done.stdout == ''
    assert not list(home.iterdir())


def test_quantising_does_not_telephone_home(tmp_path):
    """NNCF looked up the same host at its import."""
    for name in ('nncf', 'openvino_telemetry'):
        pytest.importorskip(name)
    code = '''
import sys
def watch(event, arguments):
    if event.startswith('socket.'):
        print(event, arguments, flush=True)
sys.addaudithook(watch)
from train.quantise import quantise
try:
    quantise(None, [])  # before it looks at what it is given, it imports
except AttributeError:
    print('nncf' in sys.modules)
'''
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CI', 'TF_BUILD', 'JENKINS_URL')
                   and not name.startswith('NNCF')}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          timeout=100, env={**environment, 'HOME': str(tmp_path)})
    assert done.stdout == 'True\n', done.stderr
    assert not (tmp_path / 'intel').exists()


def test_onnx_runtime_does_not_telephone_home(tmp_path):
    """A number for this machine and a database of what is to be sent lay in
    the home at each import. No file is allowed."""
    pytest.importorskip('onnxruntime')
    code = 'from hybrid_depth_ros.runtimes.onnx import library; library()'
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CI', 'ORT_DISABLE_TELEMETRY', 'XDG_CACHE_HOME')}
    subprocess.run([sys.executable, '-c', code], timeout=60, check=True,
                   env={**environment, 'HOME': str(tmp_path)})
    assert not list(tmp_path.iterdir())
