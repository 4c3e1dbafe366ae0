"""Subscriptions are what their publishers offer: what was said once is heard, and nothing twice."""

import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from graph import CAMERA, CHART
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from stub_depth_node import ScenePredictor

from hybrid_depth_ros.nodes.depth.node import DepthNode
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, rgb_to_image
from hybrid_depth_ros.nodes.shared.subscription import AdaptiveSubscription

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
SENSOR = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)


class LocalNodes:
    """Nodes of one process that hear each other over DDS."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []
        self.talker = self.add(rclpy.create_node('talker', context=self.context))

    def add(self, node):
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def spin(self, until=lambda: False, seconds=20.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self.executor.spin_once(timeout_sec=0.02)
        return until()

    def close(self):
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def nodes():
    nodes = LocalNodes()
    yield nodes
    nodes.close()


def numbered(number):
    return CameraInfo(width=number)


def test_what_was_said_once_is_heard_by_who_comes_later(nodes):
    """geometry2#183, nav2#4198, spot_ros2#313; and beside publishers that keep nothing."""
    latched = nodes.talker.create_publisher(CameraInfo, 'info', LATCHED)
    latched.publish(numbered(1))
    got = []
    listener = AdaptiveSubscription(
        nodes.talker, CameraInfo, 'info', lambda m: got.append(m.width), depth=5)
    listener.update()
    assert nodes.spin(lambda: got == [1])
    volatile = nodes.talker.create_publisher(CameraInfo, 'info', 5)
    sensor = nodes.talker.create_publisher(CameraInfo, 'info', SENSOR)
    assert nodes.spin(lambda: len(listener._subscriptions) == 2
                     and volatile.get_subscription_count() and sensor.get_subscription_count())
    for number, publisher in enumerate((volatile, sensor, latched, volatile, latched), 2):
        publisher.publish(numbered(number))
        assert nodes.spin(lambda number=number: number in got)
    nodes.spin(seconds=0.3)
    assert got == [1, 2, 3, 4, 5, 6]  # each once, though two subscriptions hear them
    listener.update(False)
    assert listener.subscription is None
    listener.update()
    assert nodes.spin(lambda: got[6:] == [6])  # who comes again hears it again


@pytest.mark.parametrize(('choice', 'heard'), [('transient_local', True), ('volatile', False)])
def test_durability_can_be_overridden(nodes, choice, heard):
    """The usual QoS override, which had no effect on durability."""
    latched = nodes.talker.create_publisher(CameraInfo, '/info', LATCHED)
    latched.publish(numbered(1))
    node = nodes.add(rclpy.create_node('listener', context=nodes.context, parameter_overrides=[
        Parameter('qos_overrides./info.subscription.durability', value=choice)]))
    got = []
    listener = AdaptiveSubscription(node, CameraInfo, '/info', got.append)
    assert nodes.spin(lambda: node.count_publishers('/info'))
    listener.update()
    assert listener.subscription.qos_profile.durability.name == choice.upper()
    nodes.spin(lambda: got, 5.0 if heard else 0.5)
    assert bool(got) == heard
    with pytest.raises(ValueError, match=r"durability of /other is 'always'; it must be one of"):
        AdaptiveSubscription(rclpy.create_node(
            'wrong', context=nodes.context, parameter_overrides=[Parameter(
                'qos_overrides./other.subscription.durability', value='always')]), CameraInfo,
            '/other', got.append)


@pytest.mark.parametrize('latched', [True, False])
def test_a_calibration_that_comes_once_while_nobody_listens_to_the_node(nodes, latched):
    """geometry2#183: 15 depths, 0 clouds. Also after the node was deactivated and activated."""
    infos = nodes.talker.create_publisher(CameraInfo, 'camera_info', LATCHED if latched else 5)
    images = nodes.talker.create_publisher(Image, 'image', 5)
    info = camera_info_message(CAMERA, Header(stamp=nodes.talker.get_clock().now().to_msg()))
    if latched:
        infos.publish(info)
    node = nodes.add(DepthNode(ScenePredictor(0.0), context=nodes.context))
    assert nodes.spin(infos.get_subscription_count)
    if not latched:
        infos.publish(info)
    assert nodes.spin(lambda: node._cameras[0]._calibrations)
    assert not images.get_subscription_count()
    clouds = []
    nodes.talker.create_subscription(PointCloud2, 'depth/points', clouds.append, 5)
    for _ in range(2):
        assert nodes.spin(images.get_subscription_count)
        images.publish(rgb_to_image(np.ascontiguousarray(CHART), Header(
            stamp=nodes.talker.get_clock().now().to_msg(), frame_id='camera')))
        assert nodes.spin(lambda: clouds)
        clouds.clear()
        node.trigger_deactivate()
        node.trigger_activate()


def test_a_best_effort_publisher_is_never_asked_for_more(nodes):
    """It would log that no messages will be sent, and then they are."""
    got, refused = [], []
    listener = AdaptiveSubscription(
        nodes.talker, CameraInfo, 'info', lambda m: got.append(m.width), depth=5)
    listener.update()
    assert listener.subscription.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
    sensor = nodes.talker.create_publisher(
        CameraInfo, 'info', SENSOR, event_callbacks=PublisherEventCallbacks(
            incompatible_qos=refused.append))
    assert nodes.spin(lambda: sensor.get_subscription_count() == 1)
    sensor.publish(numbered(1))
    assert nodes.spin(lambda: got == [1]) and not refused
    nodes.talker.destroy_publisher(sensor)
    reliable = nodes.talker.create_publisher(CameraInfo, 'info', 5)
    assert nodes.spin(reliable.get_subscription_count)
    reliable.publish(numbered(2))  # at once, as `ros2 topic pub --once -w 1` does
    assert nodes.spin(lambda: got == [1, 2])
    assert nodes.spin(lambda: listener.subscription.qos_profile.reliability
                      == QoSReliabilityPolicy.RELIABLE and reliable.get_subscription_count() == 2)
    reliable.publish(numbered(3))
    assert nodes.spin(lambda: got == [1, 2, 3] and reliable.get_subscription_count() == 1)
