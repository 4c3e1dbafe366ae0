"""Which runtime is chosen, what is kept on disk, and what runs without torch."""

import os
import subprocess
import sys
import time
import types
import zipfile

import numpy as np
import pytest
import torch

from hybrid_depth_ros.files import file_digest, write_bytes_atomically
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.models.hybrid import INT8_SUFFIX
from hybrid_depth_ros.network import FromPixels, HybridDepthNet
from hybrid_depth_ros.runtimes import export, graph_cache, hardware, openvino, selection
from hybrid_depth_ros.runtimes.export import pack_graph, read_graph
from hybrid_depth_ros.runtimes.openvino import OpenVinoRuntime
from hybrid_depth_ros.runtimes.pytorch import TorchRuntime
from hybrid_depth_ros.weights import DATA, save_network

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)


def load_runtime(weights='lite-nyu', *args, **options):
    return selection.load_runtime(open_model(weights), *args, **options)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def weights(tmp_path):
    """The file of a small network."""
    torch.manual_seed(0)
    path = tmp_path / 'small.safetensors'
    save_network(HybridDepthNet('efficientnet_lite0'), path)
    return path


class Fake:
    """A runtime that takes a known time."""

    def __init__(self, name, seconds):
        self.name, self.seconds, self.calls = name, seconds, 0

    def __call__(self, pixels):
        self.calls += 1
        time.sleep(self.seconds)


def fakes(monkeypatch, seconds):
    """Every runtime is installed and takes as long as `seconds` says; an Exception is raised."""
    made = []

    def make(name, precision, *_):
        made.append(name)
        if isinstance(seconds[name], Exception):
            raise seconds[name]
        return Fake(name, seconds[name])
    monkeypatch.setattr(selection, 'make_runtime', make)
    monkeypatch.setattr(selection, 'installed', lambda name: name in seconds)
    return made


def test_the_fastest_is_chosen_and_remembered(cache, monkeypatch):
    made = fakes(monkeypatch, {'torch': 0.03, 'openvino': 0.01, 'onnxruntime': 0.02})
    runtime, reason = load_runtime(device='cpu')
    assert runtime.name == 'openvino'
    assert reason.startswith('openvino int8: torch ')
    assert 'onnxruntime fp32 2' in reason
    made.clear()
    runtime, again = load_runtime(device='cpu')
    assert made == ['openvino']
    assert runtime.calls == 0
    assert again == f'{reason}, by an earlier trial'
    made.clear()
    load_runtime(device='cpu', precision='fp32')  # another question
    assert sorted(made) == ['onnxruntime', 'openvino', 'torch']


@pytest.mark.parametrize(('flags', 'tried'), [
    ({'avx512f', 'avx512_bf16'}, ['bf16', 'fp32']),  # which one is faster differs: a trial tells
    ({'avx512f', 'avx512_bf16', 'amx_bf16'}, ['bf16'])])
def test_bf16_is_taken_for_granted_where_there_are_units_for_it(
        flags, tried, weights, cache, monkeypatch):
    made = []
    monkeypatch.setattr(hardware, 'cpu_flags', lambda: flags)
    monkeypatch.setattr(selection, 'cpu_flags', lambda: flags)
    monkeypatch.setattr(selection, 'openvino_precisions', lambda: ('bf16', 'fp16'))
    monkeypatch.setattr(selection, 'make_runtime', lambda name, precision, *_: (
        made.append(precision), Fake(precision, 0.01 if precision == 'fp32' else 0.02))[1])
    runtime, reason = load_runtime(str(weights), 'openvino')
    assert made == tried
    assert runtime.name == tried[-1]
    assert reason.startswith(f'openvino {tried[-1]}')
    made.clear()
    load_runtime(str(weights), 'torch', device='cpu')
    assert made == tried[-1:]


@pytest.mark.parametrize(('flags', 'rest'), [({'avx512f', 'avx512_bf16'}, 'f32'),
                                             ({'avx512f', 'amx_bf16'}, 'bf16')])
def test_what_is_not_quantised_is_computed_in_what_is_fast(flags, rest, cache, monkeypatch):
    monkeypatch.setattr(hardware, 'cpu_flags', lambda: flags)
    monkeypatch.setattr(openvino, 'openvino_precisions', lambda: ('bf16', 'fp16'))
    runtime = OpenVinoRuntime(lambda _: (b'', b''), 'int8')
    assert runtime._options['INFERENCE_PRECISION_HINT'] == rest


def test_one_that_does_not_work_is_named_and_passed_over(cache, monkeypatch):
    fakes(monkeypatch, {'torch': 0.01, 'openvino': RuntimeError('no such instruction')})
    runtime, reason = load_runtime(device='cpu')
    assert runtime.name == 'torch'
    assert 'openvino not possible (no such instruction)' in reason


def test_without_a_cache_folder_there_is_a_choice_all_the_same(monkeypatch):
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', '/dev/null/cache')
    fakes(monkeypatch, {'torch': 0.01, 'openvino': 0.0})
    assert load_runtime(device='cpu')[0].name == 'openvino'


@pytest.mark.parametrize(('options', 'named'), [
    ({'runtime': 'openvino'}, 'pip install openvino'),
    ({'runtime': 'tensorrt', 'device': 'cpu'}, 'onnxruntime-gpu'),
    ({}, 'nothing here can run a network: pip install openvino')])
def test_what_is_not_installed_is_named(options, named, cache, monkeypatch):
    monkeypatch.setattr(selection, 'installed', lambda name: False)
    with pytest.raises(ValueError, match=named):
        load_runtime(**options)


@pytest.mark.parametrize(('options', 'named'), [
    ({'precision': 'int8'}, 'no int8 graph beside it'),
    ({'runtime': 'onnxruntime', 'precision': 'bf16'}, 'set precision to auto'),
    ({'runtime': 'torch', 'precision': 'int8'}, 'no int8 graph')])
def test_what_is_not_possible_is_named(options, named, weights, cache):
    with pytest.raises(ValueError, match=named):
        load_runtime(str(weights), device='cpu', **options)


def test_an_export_is_made_once(weights, cache, monkeypatch):
    first, _ = load_runtime(str(weights), 'openvino', 'fp32')
    kept = list((cache / 'graphs').iterdir())
    assert [file.suffix for file in kept] == ['.zip']
    monkeypatch.setattr(export, 'export_openvino', lambda *_: pytest.fail('exported again'))
    second, _ = load_runtime(str(weights), 'openvino', 'fp32')
    a, b = first(PIXELS), second(PIXELS)
    np.testing.assert_array_equal(a, b)
    assert a.shape == (1, 32, 48)
    assert a.dtype == np.float32
    first(255 - PIXELS)
    np.testing.assert_array_equal(a, b)  # what was returned is the caller's


def test_a_damaged_export_is_named(weights, cache):
    load_runtime(str(weights), 'openvino', 'fp32')
    file, = (cache / 'graphs').iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf'{file}.*not a whole graph.*delete it'):
        load_runtime(str(weights), 'openvino', 'fp32')


def test_a_graph_of_other_weights_is_refused(weights, cache):
    graph = weights.with_name(weights.stem + INT8_SUFFIX)
    graph.write_bytes((DATA / 'lite-nyu-int8.zip').read_bytes())
    with pytest.raises(ValueError, match='made from other weights'):
        load_runtime(str(weights), 'openvino', 'int8')


def test_a_graph_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(export, 'MAX_UNPACKED_BYTES', 1 << 20)
    path = tmp_path / 'bomb.zip'
    path.write_bytes(pack_graph(b'', bytes(2 << 20), 'digest'))
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match='unpacks to more'):
        read_graph(path, 'digest')


def test_the_shipped_graph_is_of_the_shipped_weights():
    path = DATA / 'lite-nyu-int8.zip'
    assert path.stat().st_size < 10e6
    with zipfile.ZipFile(path) as archive:
        assert archive.read('weights.sha256').decode() == file_digest(
            DATA / 'lite-nyu.safetensors')


def test_no_half_file_is_left(tmp_path):
    path = tmp_path / 'file'
    write_bytes_atomically(path, b'old')
    with pytest.raises(TypeError):
        write_bytes_atomically(path, 'not bytes')
    assert [p.name for p in tmp_path.iterdir()] == ['file']
    assert path.read_bytes() == b'old'


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
    """openvino#34588: at each import it looked up an analytics host and wrote into the home.

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


def test_each_of_two_things_that_meet_has_its_own_scale_in_int8():
    """What is concatenated shares one. The decoder's numbers were 0 to 5 where the encoder's beside
    them were -43 to 38, so that they had fifteen levels."""
    graph = openvino.core().read_model(*read_graph(
        DATA / 'lite-nyu-int8.zip', file_digest(DATA / 'lite-nyu.safetensors')))
    after_relu = 0
    for operation in graph.get_ordered_ops():
        if operation.get_type_name() != 'FakeQuantize':
            continue
        source, low = (operation.input_value(i).get_node() for i in (0, 1))
        if source.get_type_name() in ('Relu', 'Clamp'):
            while low.get_type_name() != 'Constant':
                low = low.input_value(0).get_node()
            after_relu += 1
            assert low.get_data().min() > -0.01, operation.get_friendly_name()
    assert after_relu > 30


def test_quantising_does_not_telephone_home(tmp_path):
    """openvino#34588's kind: NNCF looked up the same host at its import."""
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
    """openvino#34588's kind: a number for this machine and a database of what is to be sent lay in
    the home at each import. No file is allowed."""
    pytest.importorskip('onnxruntime')
    code = 'from hybrid_depth_ros.runtimes.onnx import library; library()'
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CI', 'ORT_DISABLE_TELEMETRY', 'XDG_CACHE_HOME')}
    subprocess.run([sys.executable, '-c', code], timeout=60, check=True,
                   env={**environment, 'HOME': str(tmp_path)})
    assert not list(tmp_path.iterdir())


class Restless:
    """A runtime whose turns take what a list says; then the last of them."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log = name, list(seconds), log

    def __call__(self, pixels):
        self.log.append(self.name)
        time.sleep(self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0])


def restless(monkeypatch, **seconds):
    log = []
    monkeypatch.setattr(selection, 'make_runtime',
                        lambda name, *_: Restless(name, seconds[name], log))
    monkeypatch.setattr(selection, 'installed', lambda name: name in seconds)
    return log


def test_a_busy_moment_does_not_decide(cache, monkeypatch):
    """vllm#10185's neighbour: a choice made in a busy second was remembered for ever.

    Candidates take turns, of each the best counts; a trial that saw its own noise says so, and
    is not remembered.
    """
    # openvino is twice as fast, but most of its turns fall into somebody else's seconds
    log = restless(monkeypatch, torch=[0.04],
                   openvino=[0.12] * 8 + [0.02] * 4 + [0.12] * 6 + [0.02])
    runtime, reason = load_runtime(device='cpu')
    assert runtime.name == 'openvino'
    assert reason.startswith('openvino int8: torch ')
    assert 'busy' in reason
    assert not list(cache.glob('choices/*'))
    turns = [name for i, name in enumerate(log) if not i or log[i - 1] != name]
    assert len(turns) >= 2 * selection.ROUNDS  # not one after the other
    log = restless(monkeypatch, torch=[0.05], openvino=[0.02])
    _, reason = load_runtime(device='cpu')  # the next start, on a quiet machine
    assert set(log) == {'torch', 'openvino'}
    assert 'busy' not in reason
    assert len(list(cache.glob('choices/*'))) == 1
    log = restless(monkeypatch, torch=[0.05], openvino=[0.02])
    assert load_runtime(device='cpu')[1] == f'{reason}, by an earlier trial'
    assert not log
    # busy, but what is ten times as slow as another is not the faster one
    next(cache.glob('choices/*')).unlink()
    restless(monkeypatch, torch=[0.4], openvino=[0.02] * 5 + [0.06] * 90)
    _, reason = load_runtime(device='cpu')
    assert reason.startswith('openvino int8: ')
    assert reason.endswith('ran meanwhile, and left no doubt which is the fastest')
    assert len(list(cache.glob('choices/*'))) == 1
