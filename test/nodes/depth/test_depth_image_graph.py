"""A depth image with holes as anchors, over DDS."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus
from graph import CHART, value
from lidar_scene import TRUTH, WRONG, off
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from hybrid_depth_ros.compressed_depth import encode_compressed_depth
from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.nodes.depth.anchor_topics import AnchorTopics
from hybrid_depth_ros.nodes.depth.settings import DepthSettings
from hybrid_depth_ros.nodes.shared.messages import (
    compressed_message,
    depth_to_image,
    rgb_to_image,
)

HOLES = TRUTH.copy()
HOLES[30:70, 20:60] = np.nan
HOLES[90:, 100:] = 0


@pytest.mark.parametrize('graph', [{'arguments': (
    '-p', 'anchors:=[depth]', '-p', 'latency_warning:=0.0', '-p', 'anchor_max_range:=9.0'),
    'scale': WRONG}], indirect=True)
def test_measured_pixels_stay_holes_are_filled_and_a_mask_tells_them_apart(graph):
    for topic in ('depth/image', 'depth/measured', 'depth/uncertainty'):
        graph.listen(Image, topic)
    sensor = graph.node.create_publisher(Image, 'anchors/depth', 10)
    graph.ready()
    graph.ready(sensor)

    def answer(depth, encoding='16UC1', frame=None, size=1):
        header = graph.header()
        message = depth_to_image(depth[::size, ::size], header, encoding)
        if frame:
            message.header = Header(stamp=header.stamp, frame_id=frame)
        sensor.publish(message)
        graph.spin(0.2)
        assert graph.answer('depth/image', rgb_to_image(CHART, header))
        graph.spin(1, lambda: graph.got['depth/measured']
                   and graph.got['depth/measured'][-1].header.stamp == header.stamp)
        mask = graph.got['depth/measured'][-1]
        assert mask.encoding == 'mono8' and mask.header.stamp == header.stamp
        return (image_to_depth(graph.got['depth/image'][-1]),
                np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width))

    for encoding, size in (('16UC1', 1), ('32FC1', 1), ('32FC1', 2)):
        depth, mask = answer(HOLES, encoding, size=size)
        measured = mask == 255
        assert set(np.unique(mask)) == {0, 255} and not measured[35:65, 25:55].any()
        assert measured.mean() > 0.75
        assert off(depth, measured)[0] < 0.001 * size and off(depth, ~measured)[0] < 0.02
    graph.spin(1, lambda: len(graph.got['depth/uncertainty']) > 2)
    share = image_to_depth(graph.got['depth/uncertainty'][-1]) / depth
    assert np.median(share[measured]) < 0.006 < np.median(share[~measured])
    status = graph.diagnosis(lambda status: value(status, 'anchors/depth'))['depth']
    assert int(value(status, 'anchors/depth').split()[0]) > 1000
    assert status.level == DiagnosticStatus.OK, status.message

    for depth, encoding, frame, said in (
            (HOLES, '32FC1', 'other_depth_optical_frame', 'registered to the images'),
            (HOLES[:, :100], '32FC1', None, 'it is 100×120, the image is 160×120'),
            (HOLES * 0.001, '16UC1', None, 'is their unit right?'),
            (HOLES * 1000, '32FC1', None, 'not one of its pixels is a distance')):
        found, mask = answer(depth, encoding, frame)
        assert not mask.any() and np.isfinite(found).all(), said
        told = graph.diagnosis(lambda status, said=said: said in status.message)['depth']
        assert told.level == DiagnosticStatus.WARN and 'goes on without' in told.message
    assert 'anchors/depth: ' in graph.log.read_text()


class OneTopicNode:
    """Enough of a node for AnchorTopics: one topic has a publisher, names are mapped otherwise."""

    def __init__(self, published, remappings):
        self.published, self.remappings, self.callbacks = published, remappings, {}

    def resolve_topic_name(self, name, only_expand=False):
        name = f"/{name.lstrip('/')}"
        return name if only_expand else self.remappings.get(name, name)

    def count_publishers(self, topic):
        return int(topic == self.published)

    def get_publishers_info_by_topic(self, topic):
        return []

    def declare_parameter(self, *_):
        return SimpleNamespace(value='auto')

    def create_subscription(self, kind, topic, callback, *_, **__):
        self.callbacks[self.resolve_topic_name(topic)] = partial(
            callback, info={'source_timestamp': 0})
        return topic

    def destroy_subscription(self, _):
        pass


RAW, RECT = '/anchors/depth', '/depth_camera/image_rect'


@pytest.mark.parametrize(('remappings', 'published', 'rectified'), [
    ({}, RAW, False), ({RAW: RECT}, RECT, True),
    ({}, f'{RAW}/compressedDepth', False), ({RAW: RECT}, f'{RECT}/compressedDepth', True),
    ({f'{RAW}/compressedDepth': f'{RECT}/compressedDepth'}, f'{RECT}/compressedDepth', True),
    ({f'{RAW}/compressedDepth': f'{RECT}/compressedDepth'}, RAW, False),
    ({RAW: RECT, f'{RAW}/compressedDepth': '/raw/compressedDepth'}, '/raw/compressedDepth', False)])
def test_depth_is_rectified_unless_the_topic_that_it_comes_on_says_it_is(
        remappings, published, rectified):
    """The raw topic's name counted for compressed depth too, which was rectified twice; where
    nothing came on the compressed one, the other was named."""
    node, warned, undistorted = OneTopicNode(published, remappings), [], []
    settings = DepthSettings(anchors=('depth',))
    topics = AnchorTopics(node, '', settings, SimpleNamespace(pose_over_time=None),
                          lambda _, text: warned.append(text))
    topics.update(True)
    header = Header(frame_id='camera')
    frame = SimpleNamespace(header=header, rgb=CHART, intrinsics=None, other_camera='',
                            rectification=SimpleNamespace(
                                apply_depth=lambda depth: undistorted.append(depth) or depth))
    topics.correct(TRUTH * np.float32(WRONG), frame, settings)
    assert f'nothing came on {published}.' in warned[0]
    node.callbacks[published](
        compressed_message(header, *encode_compressed_depth(HOLES, '16UC1'))
        if published.endswith('compressedDepth') else depth_to_image(HOLES, header, '32FC1'))
    topics.correct(TRUTH * np.float32(WRONG), frame, settings)
    assert int(topics.values()['anchors/depth'].split()[0]) > 1000, warned
    assert len(undistorted) == (not rectified)


@pytest.mark.parametrize('graph', [{'arguments': (
    '-p', 'anchors:=[depth]', '-p', 'latency_warning:=0.0',
    '-r', 'anchors/depth:=depth_camera/image_rect'), 'scale': WRONG}], indirect=True)
def test_a_depth_image_that_comes_compressed_only_is_heard(graph):
    graph.listen(Image, 'depth/image')
    sensor = graph.node.create_publisher(
        CompressedImage, 'depth_camera/image_rect/compressedDepth', 10)
    graph.ready()
    graph.ready(sensor)
    header = graph.header()
    sensor.publish(compressed_message(header, *encode_compressed_depth(HOLES, '16UC1')))
    graph.spin(0.2)
    assert graph.answer('depth/image', rgb_to_image(CHART, header))
    depth = image_to_depth(graph.got['depth/image'][-1])
    assert off(depth, HOLES > 0)[0] < 0.001
    status = graph.diagnosis(lambda status: value(status, 'anchors/depth'))['depth']
    assert int(value(status, 'anchors/depth').split()[0]) > 1000
