"""What a camera's status says of silence, and of clocks that jump."""

import time
from types import SimpleNamespace

import pytest

rclpy = pytest.importorskip('rclpy')

from transform_messages import header

from hybrid_depth_ros.nodes.depth import camera_stream
from hybrid_depth_ros.nodes.depth.camera_stream import CameraStream


@pytest.mark.parametrize(('names', 'said'), [
    ([], 'nobody publishes it'), (['camera'], 'see whether its camera runs'),
    (['rosbag2_player'], 'the recording is paused, or at its end'),
    (['rosbag2_player', 'camera'], 'see whether its camera runs')])
def test_who_is_silent_is_told(names, said):
    publishers = [SimpleNamespace(node_name=name) for name in names]
    stream = SimpleNamespace(topic='/image', _node=SimpleNamespace(
        get_publishers_info_by_topic=lambda topic: publishers))
    assert said in CameraStream._why_silent(stream)


def test_a_recording_that_starts_anew_is_no_trouble_for_some_seconds(monkeypatch):
    warned = []
    clock = SimpleNamespace(ros_time_is_active=True,
                            now=lambda: SimpleNamespace(nanoseconds=1 * 10**9))
    stream = SimpleNamespace(_node=SimpleNamespace(get_clock=lambda: clock), _clock_trouble=None,
                             _header_problem='', _latencies=[],
                             warn=lambda about, text, every: warned.append(text))
    CameraStream._check_header(stream, header(13 * 10**9, 'camera'), '')
    assert not warned and not stream._header_problem
    start = time.monotonic()
    monkeypatch.setattr(camera_stream.time, 'monotonic', lambda: start + 4)
    CameraStream._check_header(stream, header(13 * 10**9, 'camera'), '')
    assert 'ahead of /clock' in stream._header_problem and len(warned) == 1
    clock.ros_time_is_active = False
    CameraStream._check_header(stream, header(10**9, 'camera'), '')
    assert not stream._header_problem
