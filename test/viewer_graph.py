"""A viewer and its page, and who publishes its topics and looks at it."""

import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
viser = pytest.importorskip('viser', reason='the viewer needs the extra `viewer` (viser)')
import msgspec
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from websockets.sync.client import connect

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.shared.messages import (
    cloud_message,
    depth_to_image,
    rgb_to_image,
)
from hybrid_depth_ros.nodes.viewer.node import (
    ViewerNode,
)
from hybrid_depth_ros.point_cloud import organised_cloud

WIDTH, HEIGHT = 64, 48

CAMERA = Intrinsics.from_horizontal_fov(WIDTH, HEIGHT, 60)

DEPTH = np.repeat(np.where(np.arange(WIDTH) < WIDTH // 2, 1.25, 3.0)[None],
                  HEIGHT, axis=0).astype(np.float32)


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


def look(page):
    """A browser's connection, as far as the server can tell."""
    browser = connect(page.url.replace('http', 'ws'), max_size=None,
                      subprotocols=[f'viser-v{viser.__version__}'])
    browser.send(msgspec.msgpack.encode({
        'type': 'ViewerCameraMessage', 'wxyz': (1, 0, 0, 0), 'position': (0, 0, 0), 'fov': 1,
        'near': 0.1, 'far': 100, 'image_height': 480, 'image_width': 640, 'look_at': (0, 0, 1),
        'up_direction': (0, -1, 0)}))
    assert wait_for(lambda: page.is_open)
    return browser


class Graph:
    """A viewer and a publisher of its topics, spun by a thread."""

    def __init__(self, image_qos, **parameters):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.viewer = ViewerNode(context=self.context, parameter_overrides=[
            Parameter(name, value=value)
            for name, value in {'port': 0, 'rate': 10.0, **parameters}.items()])
        self.page = self.viewer.page
        self.node = rclpy.create_node('depth_source', context=self.context)
        self.publishers = [
            self.node.create_publisher(kind, topic, qos) for kind, topic, qos in (
                (Image, 'image', image_qos), (Image, 'depth/image', QoSProfile(depth=1)),
                (PointCloud2, 'depth/points', QoSProfile(depth=1)))]
        self.colour = (255, 0, 0)
        self.node.create_timer(0.25, self._publish)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        for node in (self.viewer, self.node):
            self.executor.add_node(node)
        self.closing = False
        self.thread = threading.Thread(target=self._spin)
        self.thread.start()

    def _spin(self):
        while not self.closing:
            self.executor.spin_once(timeout_sec=0.1)

    def _publish(self):
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id='camera')
        rgb = np.full((HEIGHT, WIDTH, 3), self.colour, np.uint8)
        cloud = organised_cloud(DEPTH, rgb, CAMERA)
        for publisher, message in zip(self.publishers, (
                rgb_to_image(rgb, header), depth_to_image(DEPTH, header, '32FC1'),
                cloud_message(cloud, header))):
            if publisher.get_subscription_count():
                publisher.publish(message)

    def listeners(self):
        return [publisher.get_subscription_count() for publisher in self.publishers]

    def close(self):
        self.closing = True
        self.thread.join()
        self.viewer.destroy_node()
        self.node.destroy_node()
        self.context.try_shutdown()
