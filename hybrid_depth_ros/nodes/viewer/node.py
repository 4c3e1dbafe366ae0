"""The viewer: picture, depth and point cloud of a running depth node in a browser."""

import time
from collections import deque

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.nodes.shared.messages import image_to_rgb
from hybrid_depth_ros.nodes.shared.parameters import RefusalMessages, Setting, declare_parameters
from hybrid_depth_ros.nodes.shared.run_node import run_node
from hybrid_depth_ros.nodes.shared.subscription import AdaptiveSubscription
from hybrid_depth_ros.nodes.viewer.page import Page, is_loopback
from hybrid_depth_ros.point_cloud import cloud_to_array, unpack_rgb
from hybrid_depth_ros.stamps import stamp_of
from hybrid_depth_ros.visualization import colour_depth, depth_range, draw_anchors

SETTINGS = (
    Setting('host', '127.0.0.1', 'address to serve the page at; 0.0.0.0: to every machine that '
            'reaches this one'),
    Setting('port', 8080, 'port of the page; 0: any free one', range=(0, 65535)),
    Setting('rate', 5.0, 'updates of the page at most', range=(0.5, 60.0), unit='Hz'),
    Setting('max_points', 40_000, 'points of a cloud shown at most', range=(100, 2_000_000)),
)
RATE_SPAN = 10.0  # seconds that rates are counted over
MOST_ANCHORS = 2000  # drawn on a picture
ANCHOR_AGE = 1.0  # seconds after which they are drawn no longer
MOST_SAID = 500  # characters about one trouble: what an encoding says may be a megabyte


def cloud_points(message, most):
    """sensor_msgs/PointCloud2 → points float32 N×3, metres, and colours uint8 N×3.

    Every n-th row and column, so that N is not above `most`; points that are not finite are left
    out. Without rgb the depth gives the colour. Raises what :func:`cloud_to_array` raises.
    """
    cloud = cloud_to_array(message)
    height, width = cloud.shape
    step = 1
    while len(range(0, width, step)) * len(range(0, height, step)) > most:
        step += 1
    cloud = cloud[::step, ::step]
    with np.errstate(over='ignore', invalid='ignore'):
        points = np.stack([cloud[axis].astype(np.float32) for axis in 'xyz'], axis=-1)
    points = points.reshape(-1, 3)
    seen = np.isfinite(points).all(axis=1)
    points = points[seen]
    if 'rgb' in cloud.dtype.names:
        return points, unpack_rgb(cloud['rgb'].reshape(-1)[seen])
    z = points[None, :, 2]
    return points, colour_depth(z, *depth_range(z))[0] if len(points) else np.zeros_like(
        points, np.uint8)


class _Topic:
    """A topic, listened to while the page is open; keeps the newest message, still packed."""

    def __init__(self, node, kind, name):
        self._kind = kind
        self._listener = AdaptiveSubscription(node, kind, name, self._take, raw=True)
        self.name = self._listener.topic
        self._newest, self._arrivals = None, deque(maxlen=1000)

    def follow(self, wanted):
        """Listen, or leave."""
        before = self._listener.subscription
        self._listener.follow(wanted)
        if self._listener.subscription is not before:
            self._newest, self._since = None, time.monotonic()
            self._arrivals.clear()

    def _take(self, data):
        self._newest = data
        self._arrivals.append(time.monotonic())

    def newest(self):
        """What came since the last call, or None."""
        data, self._newest = self._newest, None
        return data and deserialize_message(data, self._kind)

    def rate(self):
        """Messages per second, lately."""
        now = time.monotonic()
        span = min(RATE_SPAN, max(1.0, now - self._since))
        return sum(arrival > now - span for arrival in self._arrivals) / span


class ViewerNode(RefusalMessages, Node):
    """Shows ``image``, ``depth/image`` and ``depth/points`` at one URL, with ``depth/anchors``.

    Listens only while the page is open somewhere. Raises ValueError or OSError for a parameter
    or an address that will not do.
    """

    settings = SETTINGS

    def __init__(self, **options):
        super().__init__('viewer_node', **options)
        settings = declare_parameters(self, SETTINGS)
        self._max_points = settings['max_points']
        self.page = Page(settings['host'], settings['port'])
        self._topics = self._image, self._depth, self._cloud = [
            _Topic(self, kind, name) for kind, name in (
                (Image, 'image'), (Image, 'depth/image'), (PointCloud2, 'depth/points'))]
        # shown where there are any
        self._anchors, self._info = (_Topic(self, kind, name) for kind, name in (
            (PointCloud2, 'depth/anchors'), (CameraInfo, 'depth/camera_info')))
        self._drawn, self._matrix = (0.0, ()), np.eye(3)
        self._watched = False
        self._latencies, self._trouble = deque(maxlen=15), ''
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # runs on whatever /clock does
        self.create_timer(0.2, self._follow_page, clock=steady)
        self.create_timer(1 / settings['rate'], self._refresh, clock=steady)
        self.get_logger().info(f'open {self.page.url} in a browser')
        if not is_loopback(settings['host']):
            self.get_logger().warning(f'host is {settings["host"]}: anybody who reaches port '
                                      f'{self.page.port} of this machine sees the camera')

    def destroy_node(self):
        self.page.close()
        super().destroy_node()

    def _follow_page(self):
        self._watched = self.page.open
        for topic in (*self._topics, self._anchors, self._info):
            topic.follow(self._watched)

    def _refresh(self):
        if not self._watched:
            return
        self._trouble = ''
        for topic, show in (
                (self._anchors, self._keep_anchors), (self._image, self._show_image),
                (self._depth, self._show_depth), (self._cloud, self._show_cloud)):
            try:
                if message := topic.newest():
                    show(message)
            except Exception as error:  # the page outlives whatever one message does
                self._trouble = f'{topic.name} is not shown: {reason(error)}'[:MOST_SAID]
                self.get_logger().warning(self._trouble, throttle_duration_sec=5.0)
        self._show_rates()

    def _keep_anchors(self, anchors):
        points, colours = cloud_points(anchors, MOST_ANCHORS)
        info = self._info.newest()
        if info:
            self._matrix = info.k.reshape(3, 3)
        x, y, z = points[points[:, 2] > 0].T
        u, v, _ = self._matrix @ np.stack((x / z, y / z, np.ones_like(z)))
        self._drawn = time.monotonic(), (u, v, colours[points[:, 2] > 0])

    def _show_image(self, image):
        rgb = image_to_rgb(image)
        since, anchors = self._drawn
        if anchors and time.monotonic() - since < ANCHOR_AGE:
            rgb = draw_anchors(rgb, *anchors)
        self.page.show_picture(rgb)

    def _show_depth(self, depth):
        self.page.show_depth(image_to_depth(depth))
        self._latencies.append(
            (self.get_clock().now().nanoseconds - stamp_of(depth.header)) / 1e9)

    def _show_cloud(self, cloud):
        self.page.show_cloud(*cloud_points(cloud, self._max_points))

    def _show_rates(self):
        shown = []
        for topic in self._topics:
            rate = topic.rate()
            shown.append(f'{topic.name}: {rate:.1f} Hz' if rate else f'nothing on {topic.name}')
        if self._latencies:
            latency = np.median(self._latencies)
            shown.append(f'latency: {1000 * latency:.0f} ms' if 0 <= latency < 60 else
                         "latency unknown: the stamps are of another clock than this node's")
        self.page.show_text('\n'.join([*shown, self._trouble]))


def main(args=None):
    """Run the node until it is told to stop; returns the exit status."""
    return run_node('viewer_node', ViewerNode, args)
