"""What people are told when something goes wrong: one line, no class names, and the mend."""

import errno
import json
import os
import subprocess
import sys

import pytest

from hybrid_depth_ros.errors import explain, reason


def test_an_error_of_the_system_names_its_file_and_the_mend(tmp_path):
    with pytest.raises(OSError, match='Errno') as raised:
        (tmp_path / 'none' / 'x').read_text()
    assert reason(raised.value) == f'{tmp_path}/none/x: No such file or directory'
    assert explain(raised.value) == f'{reason(raised.value)}; check the path'
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').write_text('')
    with pytest.raises(OSError, match='Errno') as raised:
        (tmp_path / 'b').replace(tmp_path / 'a')
    assert explain(raised.value) == f'{tmp_path}/a: Is a directory; name a file, not a folder'
    full = OSError(errno.ENOSPC, 'No space left on device')  # as write() raises it
    assert explain(full) == 'No space left on device; make room there'


def test_other_errors_say_what_they_say_on_one_line():
    assert explain(OSError('x is empty; copy it again')) == 'x is empty; copy it again'
    assert explain(ValueError('two\n  lines')) == 'two lines'
    assert explain(RuntimeError('no such instruction')) == 'no such instruction'
    assert reason(KeyError('names')) == "KeyError: 'names'"
    assert reason(MemoryError()) == 'MemoryError'
    assert reason(OSError()) == 'OSError'
    with pytest.raises(ValueError, match='Expecting') as raised:
        json.loads('{')
    assert reason(raised.value).startswith('Expecting property name')


@pytest.mark.parametrize(('arguments', 'security', 'text'), [
    (('-p', 'x'), None, "'-p x'"),
    (('--params-file', '/nowhere.yaml'), None, '/nowhere.yaml'),
    (('--enclave', '/camera_node'), '/nowhere', "'/nowhere/enclaves"),
])
def test_what_rclpy_refuses_at_the_start(arguments, security, text):
    pytest.importorskip('rclpy')
    environment = {**os.environ, **({} if security is None else {
        'ROS_SECURITY_ENABLE': 'true', 'ROS_SECURITY_STRATEGY': 'Enforce',
        'ROS_SECURITY_KEYSTORE': security})}
    ended = subprocess.run(
        [sys.executable, '-m', 'hybrid_depth_ros.nodes.camera', '--ros-args', *arguments],
        capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 1
    assert 'Traceback' not in ended.stderr
    said = ended.stderr.splitlines()[-1]
    assert said.startswith('camera_node: ')
    assert text in said
    assert 'check the environment' in said
    assert '.c:' not in said


def test_the_evaluator_names_the_topic_that_carries_no_depth(tmp_path, monkeypatch):
    rclpy = pytest.importorskip('rclpy')
    from sensor_msgs.msg import Image

    from hybrid_depth_ros.nodes.evaluator import EvaluatorNode
    context, said = rclpy.Context(), []
    rclpy.init(args=[], context=context)
    node = EvaluatorNode(context=context)
    try:
        for side, encoding in enumerate(('32FC1', 'rgb8')):
            image = Image(encoding=encoding, width=1, height=1, step=4, data=bytes(4))
            image.header.stamp.sec = 1
            node._take(side, image)
        node._score(node._pairing.finish())
        monkeypatch.setattr(node._diagnostics_publisher, 'publish', said.append)
        node._publish_diagnostics()
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert said[0].status[0].message.startswith(
        "pairs are left out: /depth_ground_truth: encoding 'rgb8' is not a depth image")
