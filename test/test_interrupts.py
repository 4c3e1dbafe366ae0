"""Ctrl-C while a process starts, and what an import leaves alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def begun(module, loaded, *arguments):
    """A command of ours as a process, when it has mapped what `loaded` names."""
    process = subprocess.Popen([sys.executable, '-m', module, *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 30
    while not any(name in Path(f'/proc/{process.pid}/maps').read_text()
                  for name in loaded.split('|')):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@pytest.mark.parametrize(('stop', 'loaded', 'handler'), [
    *((stop, loaded, signal.SIG_DFL) for stop in (signal.SIGINT, signal.SIGTERM)
      for loaded in ('_multiarray_umath', 'libfastrtps|libfastdds', 'cv2.abi')),
    (signal.SIGINT, '_multiarray_umath', signal.SIG_IGN)])
def test_a_node_that_is_told_to_end_while_it_starts(stop, loaded, handler):
    """FATAL 'context is invalid' and 1, or a traceback. It ends with 0.

    And a Ctrl-C was lost where a script had started the node with &, which ignores it, until
    rclpy listened.
    """
    signal.signal(stop, handler)
    process = begun('hybrid_depth_ros.nodes.camera', loaded)
    process.send_signal(stop)
    printed = process.communicate(timeout=15)[0]
    assert process.returncode == 0
    assert not printed


@pytest.mark.parametrize(('command', 'loaded'), [
    ('hybrid_depth_ros.evaluate_bag', '_multiarray_umath'), ('hybrid_depth_ros.demo', 'cv2.abi'),
    ('train.prepare', '_multiarray_umath')])
def test_a_command_that_is_told_to_end_while_it_starts(command, loaded):
    """Ctrl-C in an import showed a traceback, or an ImportError made of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = begun(command, loaded, *(('--data', 'x', '--out', 'x') if 'train' in command else ()))
    process.send_signal(signal.SIGINT)
    assert not process.communicate(timeout=15)[0]
    assert process.returncode == -signal.SIGINT


def test_an_import_leaves_signals_alone(tmp_path):
    """Importing the package took Ctrl-C from any program that is called `train`."""
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / '__init__.py').touch()
    (tmp_path / 'train' / '__main__.py').write_text(
        'import signal, hybrid_depth_ros, hybrid_depth_ros.nodes, hybrid_depth_ros.arguments\n'
        'assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n'
        'assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n'
        'print("unchanged")')
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    done = subprocess.run([sys.executable, '-m', 'train'], cwd=tmp_path, timeout=60,
                          capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])})
    assert done.stdout == 'unchanged\n', done.stderr
