"""Which runtime is chosen, and what is refused."""

import numpy as np
import pytest

from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.runtimes import hardware, openvino, selection
from hybrid_depth_ros.runtimes.openvino import OpenVinoRuntime

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)


def load_runtime(weights='lite-nyu', *args, **options):
    return selection.load_runtime(open_model(weights), *args, **options)


class Clock:
    """Stands in for the module time: what sleeps takes no time, and a look at it nearly none."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds):
        self.now += seconds

    def monotonic(self):
        self.now += 1e-6
        return self.now

    perf_counter = monotonic


class Fake:
    """A runtime that takes a known time."""

    def __init__(self, name, seconds):
        self.name, self.seconds, self.calls = name, seconds, 0

    def __call__(self, pixels):
        self.calls += 1
        selection.time.sleep(self.seconds)


def fakes(monkeypatch, seconds):
    """Every runtime is installed and takes as long as `seconds` says; an Exception is raised."""
    made = []

    def make(name, precision, *_):
        made.append(name)
        if isinstance(seconds[name], Exception):
            raise seconds[name]
        return Fake(name, seconds[name])
    monkeypatch.setattr(selection, 'time', Clock())
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


class Restless:
    """A runtime whose turns take what a list says; then the last of them."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log = name, list(seconds), log

    def __call__(self, pixels):
        self.log.append(self.name)
        selection.time.sleep(self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0])


def restless(monkeypatch, **seconds):
    log = []
    monkeypatch.setattr(selection, 'time', Clock())
    monkeypatch.setattr(selection, 'make_runtime',
                        lambda name, *_: Restless(name, seconds[name], log))
    monkeypatch.setattr(selection, 'installed', lambda name: name in seconds)
    return log


def test_a_busy_moment_does_not_decide(cache, monkeypatch):
    """A choice made in a busy second was remembered for ever.

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


def test_too_few_addresses_are_named_before_a_library_ends_the_process(monkeypatch):
    """ulimit -v: OpenVINO ended by a segmentation fault at 600 MB."""
    monkeypatch.setattr(hardware.resource, 'getrlimit', lambda kind: (600_000_000, -1))
    with pytest.raises(OSError, match=r'leaves this process 600 MB .* ulimit -v unlimited'):
        load_runtime()
    monkeypatch.setattr(hardware.resource, 'getrlimit', lambda kind: (2_000_000_000, -1))
    hardware.check_addresses()
    assert 'torch 6000' in hardware.memory_limit()
    monkeypatch.setattr(hardware.resource, 'getrlimit', lambda kind: (-1, -1))
    assert not hardware.memory_limit()


def test_the_first_start_says_what_takes_long(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(selection, 'cache_folder', lambda: tmp_path)
    fakes(monkeypatch, {'torch': 0.001, 'openvino': 0.001})
    load_runtime()
    assert 'is measured, which can take a minute' in caplog.text
