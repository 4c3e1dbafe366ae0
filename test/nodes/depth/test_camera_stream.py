"""One camera's status: silence, clocks that jump; its publishers and how sure its depth is."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from transform_messages import header

from hybrid_depth_ros.nodes.depth import camera_stream
from hybrid_depth_ros.nodes.depth.anchor_topics import AnchorTopics
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


def test_the_executor_looks_at_one_event_of_each_publisher():
    """It looks at all of them at each message of the camera: a third of its time."""
    node = SimpleNamespace(create_publisher=lambda *_, **options: options['event_callbacks'])
    events = CameraStream._publisher(
        SimpleNamespace(_node=node, _update_subscriptions=print), None, 'depth/image')
    assert events.matched is print and not events.use_default_callbacks


@pytest.mark.parametrize(('by_anchors', 'by_network'),
                         [(True, None), (True, np.ones((4, 6), np.float32)), (False, None)])
def test_anchors_say_how_sure_depth_is_where_they_were_used(by_anchors, by_network):
    depth, warned = np.full((4, 6), 2, np.float32), []
    depth[:, 3:] = 4
    stream = SimpleNamespace(
        _anchors=SimpleNamespace(sigma=lambda of: np.full_like(of, 0.5) if by_anchors else None),
        _has_subscribers=lambda publisher: False, _uncertainty_publisher=None,
        warn=lambda *what, every: warned.append(what))
    settings = SimpleNamespace(max_uncertainty=0.2, cloud_confidence=False)
    sigma = CameraStream.apply_sigma(stream, None, depth, depth / 2, by_network, settings)
    if by_anchors:
        np.testing.assert_allclose(sigma, 0.5)
        assert np.isnan(depth[:, :3]).all() and (depth[:, 3:] == 4).all() and not warned
    else:
        assert sigma is None and 'no anchor was used' in warned[0][1]


def test_sigma_is_of_the_depth_that_was_corrected_last():
    topics, depth = AnchorTopics.__new__(AnchorTopics), np.ones((4, 6), np.float32)
    topics._corrector = SimpleNamespace(last=None)
    assert topics.sigma(depth) is None
    topics._corrector.last = SimpleNamespace(depth=depth, completion=SimpleNamespace(sigma=depth))
    assert topics.sigma(depth) is depth and topics.sigma(depth.copy()) is None
