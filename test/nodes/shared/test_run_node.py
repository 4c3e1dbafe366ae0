"""A node as a process: command line, log files, its end."""

import os
import signal
import subprocess
import sys

import pytest


def test_a_name_for_ros_that_is_not_utf8_is_named():
    """Said by rclpy as the codec's error at a place in a text."""
    done = subprocess.run(
        [sys.executable, '-m', 'hybrid_depth_ros.nodes.camera', '--ros-args', '-p',
         b'source:=v\xe9.avi'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith('camera_node: source:=v\\xe9.avi is not UTF-8')


def test_log_files_are_done_without_where_there_is_no_place(tmp_path, monkeypatch):
    """Rclpy gave up, 'Failed to get logging directory'."""
    pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared.run_node import log_arguments
    for name in ('HOME', 'ROS_HOME', 'ROS_LOG_DIR'):
        monkeypatch.delenv(name, raising=False)
    assert '--disable-external-lib-logs' in log_arguments()
    monkeypatch.setenv('HOME', '/proc/none')
    assert '--disable-external-lib-logs' in log_arguments()
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    assert log_arguments() == []
    done = subprocess.run(
        [sys.executable, '-m', 'hybrid_depth_ros.nodes.camera', '--ros-args', '-p', 'source:=x'],
        capture_output=True, text=True, timeout=60,
        env={**{name: value for name, value in os.environ.items() if name != 'ROS_HOME'},
             'HOME': '/proc/none'})
    assert 'x: no such device, file or folder' in done.stderr


@pytest.mark.parametrize('where', ['start', 'callback'])
def test_what_goes_on_when_told_to_end_is_left_where_it_is(where):
    """A download of minutes."""
    pytest.importorskip('rclpy')
    code = '''
import sys, time
from hybrid_depth_ros.nodes.shared.run_node import run_node
import rclpy
def wait():
    print('started', flush=True)
    for _ in range(600):
        time.sleep(0.1)
def create():
    if sys.argv[1] == 'start':
        wait()
    node = rclpy.create_node('waiter')
    node.create_timer(0.01, wait)
    return node
sys.exit(run_node('camera_node', create))
'''
    process = subprocess.Popen([sys.executable, '-c', code, where], stdout=subprocess.PIPE,
                               text=True)
    assert 'started\n' in process.stdout  # Fast DDS may have its say first
    process.terminate()
    assert process.wait(10) == 0


def test_ctrl_c_before_the_executor_is_made_leaves_no_traceback():
    """rclpy's destructor of an executor that was not made whole printed an AttributeError."""
    pytest.importorskip('rclpy')
    code = """
import sys
from hybrid_depth_ros.nodes.shared.run_node import run_node
import rclpy
def create():
    node = rclpy.create_node('early')
    rclpy.shutdown()
    return node
sys.exit(run_node('camera_node', create))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, 'Traceback' in done.stderr) == (0, False), done.stderr


def test_the_end_of_a_node_is_its_end():
    """Python takes seconds to take apart what transformers has loaded; a Ctrl-C seemed lost."""
    pytest.importorskip('rclpy')
    code = """
import atexit, sys
from hybrid_depth_ros.nodes.shared import run_node
atexit.register(print, 'later')
run_node._exit_without_teardown(3)
print('said')
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, 'said\n')


@pytest.mark.parametrize('topic', [
    'no', '/a/b', '~/x', '0123', '1e3', 'a b', 'a#b', '~', '{node}/x', '', '//x', 'x/', '[a]',
    "'x'", ' x', 'x ', '%d', 'é', 'a:=b', 'a/0b', 'a--b'])
def test_a_topic_comes_as_it_was_given(topic, capfd):
    """A remap rule holds a name, or one sentence says what a name is."""
    rclpy = pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared import run_node
    got = []

    def create():
        got.append(rclpy.create_node('taker').resolve_topic_name('image'))
        raise ValueError('resolved')
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run_node.run_node('taker', create, ['x', '--ros-args', '-r', f'image:={topic}'])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    good = {'no': '/no', '/a/b': '/a/b', '~/x': '/taker/x'}
    assert got == ([good[topic]] if topic in good else [])
    if topic not in good:
        assert f'taker: -r image:={topic} is no remapping: a name has' in capfd.readouterr().err
