"""Ctrl-C while a process starts, and what an import leaves alone."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hybrid_depth_ros.interrupts import EXTRAS


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


# Packages that are hidden are not found, by imports and by importlib.util.find_spec.
HIDE = '''
import os, sys
from importlib.machinery import PathFinder
class Visible(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split('.')[0] in os.environ['HIDDEN'].split()
        return None if hidden else super().find_spec(name, path, target)
sys.meta_path[:] = [Visible if finder is PathFinder else finder for finder in sys.meta_path]
'''
ROS = 'rclpy sensor_msgs std_msgs diagnostic_msgs rcl_interfaces std_srvs lifecycle_msgs'
OTHERS = ' '.join(EXTRAS)
START = '-c "import sys; from hybrid_depth_ros import executables; sys.exit(executables.{}())"'


def run_without(hidden, command, folder):
    (folder / 'sitecustomize.py').write_text(HIDE)
    return subprocess.run(
        [sys.executable, *shlex.split(command)], capture_output=True, text=True, timeout=120,
        env={**os.environ, 'HIDDEN': hidden, 'PYTHONPATH': os.pathsep.join(
            [str(folder), str(Path(__file__).parents[1])])})


@pytest.mark.parametrize(('command', 'hidden', 'said'), [
    *((START.format(name), ROS,
       "a part of ROS 2, is not here: source /opt/ros/DISTRO/setup.bash, or pip install "
       "'hybrid_depth_ros[ros]'") for name in (
           'depth_node', 'camera_node', 'viewer_node', 'evaluator_node')),
    ('-m hybrid_depth_ros.nodes.depth', ROS, 'a part of ROS 2, is not here'),
    ('-m hybrid_depth_ros.demo', ROS, 'a part of ROS 2, is not here'),
    ('-m train.evaluate --weights lite-nyu --data x', 'timm',
     "timm is not installed: pip install 'hybrid_depth_ros[train]'"),
    ('-m hybrid_depth_ros.evaluate_bag x', 'tqdm',
     "tqdm is not installed: pip install 'hybrid_depth_ros[bag]'"),
    ('-m hybrid_depth_ros.weights --check lite-nyu', OTHERS,
     'nothing here can run a network: pip install openvino, or pip install torch'),
    (START.format('depth_node'), OTHERS,
     'nothing here can run a network: pip install openvino, or pip install torch'),
    (START.format('viewer_node'), OTHERS,
     'the viewer needs viser, which is not installed: pip install viser')])
def test_a_command_without_a_package_says_how_to_get_it(command, hidden, said, tmp_path):
    """After ``pip install .`` these commands ended in tracebacks of rclpy, timm and others."""
    ended = run_without(hidden, command, tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert 'Traceback' not in ended.stderr
    assert said in ended.stderr


@pytest.mark.parametrize(('command', 'hidden', 'said'), [
    ('-m hybrid_depth_ros.weights', f'{ROS} {OTHERS}', 'lite-nyu'),
    ('-m hybrid_depth_ros.weights --check lite-nyu', f'{ROS} {OTHERS}'.replace(' openvino', ''),
     'runs in openvino int8 and gives metres')])
def test_a_command_needs_no_more_than_it_uses(command, hidden, said, tmp_path):
    """With openvino alone, README's robot, the check ended in a traceback of timm."""
    ended = run_without(hidden, command, tmp_path)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    assert said in ended.stdout
