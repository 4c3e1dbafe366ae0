"""The depth node with other people's networks, over DDS."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('transformers')

import small_networks
from diagnostic_msgs.msg import DiagnosticStatus
from graph import CHART, Graph, OneProcess, value
from lidar_scene import LIDAR, off, scene_scan
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, LaserScan

from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.nodes.depth.node import DepthNode
from hybrid_depth_ros.nodes.shared.messages import rgb_to_image

LONG = 240.0  # seconds: a busy machine imports transformers for a while


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')
    return {name: small_networks.make(name, folder / name)
            for name in ('depth_anything', 'depth_anything_metric', 'wide')}


def parameters(folder, *more):
    return ('-p', f'weights:={folder}', '-p', 'device:=cpu', '-p', 'runtime:=torch', '-p',
            'precision:=fp32', *more)


def load(graph, weights):
    done = graph.set_parameter('weights', str(weights), LONG)
    assert done.successful, done.reason
    graph.diagnosis(lambda status: value(status, 'weights') == str(weights), LONG)


def memory(graph):
    graph.spin(0.5)  # a report that was made after what was done
    return float(value(graph.diagnosis()['depth'], 'memory (MB)'))


def complaint(graph):
    """What /diagnostics says of frames that are skipped, while they come."""
    for _ in range(20):
        graph.image.publish(rgb_to_image(CHART, graph.header()))
        status = graph.diagnosis()['depth']
        if status.level == DiagnosticStatus.ERROR:
            return status.message
    raise AssertionError(status.message)


@pytest.mark.slow
def test_a_small_depth_anything_at_30_hz_its_lifecycle_and_lite_while_it_runs(folders, tmp_path):
    graph = Graph(tmp_path / 'log', *parameters(folders['depth_anything_metric']), seconds=-1)
    try:
        assert graph.spin(LONG, lambda: 'listening to' in graph.log.read_text()), (
            graph.log.read_text())
        graph.listen(Image, 'depth/image')
        graph.ready()
        stamps, end = [], time.monotonic() + 2
        while time.monotonic() < end:  # 30 Hz
            message = rgb_to_image(CHART, graph.header())
            graph.image.publish(message)
            stamps.append((message.header.stamp.sec, message.header.stamp.nanosec))
            graph.spin(1 / 30)
        assert graph.spin(10, lambda: graph.got['depth/image'] and (
            graph.got['depth/image'][-1].header.stamp.sec,
            graph.got['depth/image'][-1].header.stamp.nanosec) == stamps[-1])  # the newest wins
        got = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in graph.got['depth/image']]
        assert got == sorted(set(got)) and set(got) <= set(stamps) and len(got) > 5
        status = graph.diagnosis(lambda s: s.level == DiagnosticStatus.OK or True)['depth']
        received, published, dropped = (int(value(status, key)) for key in (
            'received', 'published', 'dropped'))
        assert published == len(got) and received - published - dropped <= 1

        depths = []
        for name in ('lite-nyu', 'depth_anything_metric', 'lite-nyu'):
            load(graph, folders.get(name, name))
            answer = graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=60)
            depths.append(image_to_depth(answer))
        assert np.array_equal(depths[0], depths[2]) and not np.allclose(depths[0], depths[1])
        before = memory(graph)
        load(graph, folders['wide'])
        assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=60)
        assert memory(graph) > before + 100
        load(graph, 'lite-nyu')
        assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=60)
        assert memory(graph) < before + 50
        assert graph.set_parameter('weights', str(folders['depth_anything']), LONG).successful
        said = graph.diagnosis(lambda s: 'could not be loaded' in s.message, LONG)['depth'].message
        assert 'give it anchors' in said and said.endswith('lite-nyu goes on')
        assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=60)
        for transition in ('deactivate', 'cleanup', 'configure', 'activate'):
            assert graph.change_state(transition, LONG)
        graph.ready()
        assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=60)
    finally:
        graph.close(LONG)


def test_without_metres_and_anchors_it_says_what_to_do(folders):
    context, sent = rclpy.Context(), []
    rclpy.init(context=context)
    node = DepthNode(context=context, cli_args=['--ros-args', *parameters(
        folders['depth_anything'], '-p', 'autostart:=false')])
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        node._diagnostics_publisher = SimpleNamespace(publish=sent.append)
        node._publish_diagnostics()
        status, = sent[0].status
        assert status.level == DiagnosticStatus.ERROR
        assert 'gives no metres' in status.message and 'give it anchors' in status.message
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_relative_depth_goes_out_under_its_own_name(folders):
    graph = OneProcess(None, *parameters(folders['depth_anything'], '-p', 'relative_depth:=true'))
    try:
        graph.listen(Image, 'depth/relative')
        assert graph.spin(lambda: graph.node.count_subscribers('depth/relative')
                          and graph.depth_node._cameras[0]._relative_publisher
                          .get_subscription_count())
        for _ in range(2):  # depth of the first would be there before that of the second
            graph.got['depth/relative'].clear()
            graph.send()
            assert graph.spin(lambda: graph.got['depth/relative'])
        message, = graph.got['depth/relative']
        assert message.encoding == '32FC1' and image_to_depth(message).std() > 0
        assert not graph.got['depth/image']
    finally:
        graph.close()


@pytest.mark.parametrize('graph', [{'scale': 'relative', 'arguments': (
    '-p', 'anchors:=[scan]', '-p', f"anchor_poses:=['{LIDAR}']", '-p', 'latency_warning:=0.0',
    '-p', 'relative_depth:=true')}], indirect=True)
def test_a_scan_makes_metres_of_it_until_it_dies(graph):
    graph.listen(Image, 'depth/image')
    graph.listen(Image, 'depth/relative')
    lidar = graph.node.create_publisher(LaserScan, 'anchors/scan', qos_profile_sensor_data)
    graph.ready()
    graph.ready(lidar)
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=2) is None
    said = complaint(graph)
    assert 'no metres' in said and 'nothing came on /anchors/scan' in said
    for _ in range(3):
        header = graph.header()
        lidar.publish(scene_scan(header))
        graph.spin(0.3)
        assert graph.answer('depth/image', rgb_to_image(CHART, header))
    median, most = off(image_to_depth(graph.got['depth/image'][-1]))
    assert median < 0.02 and most < 0.1
    assert len(graph.got['depth/relative']) >= 3
    graph.spin(1.0)  # the lidar is dead: what it last gave is carried on
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()))
    graph.spin(5.5)
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=2) is None
    assert 'no metres' in complaint(graph)
