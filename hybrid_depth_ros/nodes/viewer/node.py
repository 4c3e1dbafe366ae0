"""The viewer: image, depth and point cloud of a running depth node in a browser."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_srvs.srv import Trigger

from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.nodes.shared.messages import image_to_rgb
from hybrid_depth_ros.nodes.shared.parameters import (
    RefusalMessages,
    declare_parameters,
    parameter,
    settings_of,
)
from hybrid_depth_ros.nodes.shared.run_node import run_node
from hybrid_depth_ros.nodes.shared.subscription import AdaptiveSubscription
from hybrid_depth_ros.nodes.shared.timers import create_steady_timer
from hybrid_depth_ros.nodes.viewer.page import Page, is_loopback
from hybrid_depth_ros.point_cloud import cloud_to_array, unpack_rgb
from hybrid_depth_ros.stamps import stamp_of
from hybrid_depth_ros.visualization import colour_depth, depth_range, draw_anchors


@dataclass(frozen=True)
class ViewerSettings:
    """The viewer node's parameters."""

    host: str = parameter(
        '127.0.0.1', 'address to serve the page at; 0.0.0.0: to every machine that reaches this '
        'one')
    port: int = parameter(8080, 'port of the page; 0: any free one', range=(0, 65535))
    rate: float = parameter(5.0, 'updates of the page at most', range=(0.5, 60.0), unit='Hz')
    max_points: int = parameter(40_000, 'points of a cloud shown at most', range=(100, 2_000_000))
    floor_map: bool = parameter(
        False, 'show depth/scan as a map from above; the depth node must know how high the camera '
        'is')
    depth_node: str = parameter(
        'depth_node', 'name of the depth node whose scale a click on depth calibrates')


SETTINGS = settings_of(ViewerSettings)
RATE_SPAN = 10.0  # seconds that rates are counted over
MAX_ANCHORS = 2000  # drawn on an image
SIGMA_AGE = 1_000_000_000  # ns that uncertainty may be older or younger than depth
ANCHOR_AGE = 1.0  # seconds after which they are drawn no longer
MAX_BEAMS, MAX_REACH = 1000, 10.0  # of a map from above; metres
MAX_WARNING_LENGTH = 500  # characters about one trouble: what an encoding says may be a megabyte


def cloud_points(message: PointCloud2, max_points: int
                 ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Convert a sensor_msgs/PointCloud2 to points and colours.

    Args:
        message: With x, y and z. Without rgb the depth gives the colour.
        max_points: Every n-th row and column is taken, so that there are no more.

    Returns:
        float32 N×3, metres, and uint8 N×3, without points that are not finite.

    Raises:
        ValueError: As :func:`hybrid_depth_ros.point_cloud.cloud_to_array`.
    """
    cloud = cloud_to_array(message)
    height, width = cloud.shape
    step = 1
    while len(range(0, width, step)) * len(range(0, height, step)) > max_points:
        step += 1
    cloud = cloud[::step, ::step]
    with np.errstate(over='ignore', invalid='ignore'):
        points = np.stack([cloud[axis].astype(np.float32) for axis in 'xyz'], axis=-1)
    points = points.reshape(-1, 3)
    seen = np.isfinite(points).all(axis=1)
    points = points[seen]
    if 'rgb' in (cloud.dtype.names or ()):
        return points, unpack_rgb(cloud['rgb'].reshape(-1)[seen])
    z = points[None, :, 2]
    return points, colour_depth(z, *depth_range(z))[0] if len(points) else np.zeros_like(
        points, np.uint8)


def scan_beams(message: LaserScan) -> tuple[
        npt.NDArray[np.float64], npt.NDArray[np.float32], float]:
    """A sensor_msgs/LaserScan as radians, metres (inf: free, NaN: unknown), and its reach.

    Raises:
        ValueError: Its angles or its reach are no numbers.
    """
    step = -(-len(message.ranges) // MAX_BEAMS) or 1
    ranges = np.asarray(message.ranges, np.float32)[::step]
    angles = message.angle_min + message.angle_increment * step * np.arange(ranges.size)
    if not np.isfinite(angles).all() or not message.range_max > 0:
        raise ValueError(f'its angles start at {message.angle_min:g}, with range_max '
                         f'{message.range_max:g}: it is no scan')
    return angles, ranges, min(float(message.range_max), MAX_REACH)


class _ViewedTopic:
    """A topic, listened to while the page is open; keeps the newest message, still packed."""

    def __init__(self, node: Node, kind: type[Any], name: str) -> None:
        self._kind = kind
        self._subscription = AdaptiveSubscription(node, kind, name, self._take, raw=True)
        self.name = self._subscription.topic
        self._newest: bytes | None = None
        self._arrivals: deque[float] = deque(maxlen=1000)
        self._since = time.monotonic()

    def set_wanted(self, wanted: bool) -> None:
        """Listen, or leave."""
        before = self._subscription.subscription
        if wanted != bool(before):
            self._subscription.update(wanted)
            self._newest, self._since = None, time.monotonic()
            self._arrivals.clear()

    def _take(self, data: bytes) -> None:
        self._newest = data
        self._arrivals.append(time.monotonic())

    def newest(self) -> Any:
        """Return the message that came since the last call, or None."""
        data, self._newest = self._newest, None
        return data and deserialize_message(data, self._kind)

    def rate(self) -> float:
        """Return messages per second, lately."""
        now = time.monotonic()
        span = min(RATE_SPAN, max(1.0, now - self._since))
        return sum(arrival > now - span for arrival in self._arrivals) / span


class ViewerNode(RefusalMessages, Node):
    """Shows ``image``, ``depth/image`` and ``depth/points`` at one URL, with ``depth/anchors`` and
    ``depth/uncertainty`` where there are any, and ``depth/scan`` with ``floor_map``. A click on
    depth calibrates its scale.

    Listens only while the page is open somewhere.

    Args:
        options: Of rclpy's node.

    Raises:
        OSError: For an address that will not do.
        ValueError: For a parameter that will not do.
    """

    settings = SETTINGS

    def __init__(self, **options: Any) -> None:
        super().__init__('viewer_node', **options)
        settings = declare_parameters(self, ViewerSettings)
        self._max_points = settings.max_points
        self._set_parameters = self.create_client(
            SetParameters, f'{settings.depth_node}/set_parameters')
        self._calibrate_scale = self.create_client(
            Trigger, f'{settings.depth_node}/calibrate_scale')
        self._depth_size = 0, 0  # columns, rows
        self.page = Page(settings.host, settings.port, self._calibrate)
        self._topics = self._image, self._depth, self._cloud = [
            _ViewedTopic(self, kind, name) for kind, name in (
                (Image, 'image'), (Image, 'depth/image'), (PointCloud2, 'depth/points'))]
        # shown where there are any
        self._anchors, self._info = (_ViewedTopic(self, kind, name) for kind, name in (
            (PointCloud2, 'depth/anchors'), (CameraInfo, 'depth/camera_info')))
        self._sigma = _ViewedTopic(self, Image, 'depth/uncertainty')
        self._scan = [_ViewedTopic(self, LaserScan, 'depth/scan')] if settings.floor_map else []
        self._sigma_stamp, self._sigma_values = 0, np.zeros((0, 0), np.float32)
        self._anchors_since, self._matrix = 0.0, np.eye(3)
        self._anchor_pixels: tuple[Any, Any, Any] | None = None  # u, v, colours
        self._latencies: deque[float] = deque(maxlen=15)
        self._problem = ''
        create_steady_timer(self, 1 / settings.rate, self._refresh)
        self.get_logger().info(f'open {self.page.url} in a browser')
        if not is_loopback(settings.host):
            self.get_logger().warning(f'host is {settings.host}: anybody who reaches port '
                                      f'{self.page.port} of this machine sees the camera and can '
                                      'calibrate its scale')

    def destroy_node(self) -> None:
        """Close the page."""
        self.page.close()
        super().destroy_node()

    def _refresh(self) -> None:
        watched = self.page.is_open
        for topic in (*self._topics, self._anchors, self._info, self._sigma, *self._scan):
            topic.set_wanted(watched)
        if watched:
            self._show_newest()

    def _show_newest(self) -> None:
        self._problem = ''
        shows: tuple[tuple[_ViewedTopic, Callable[[Any], None]], ...] = (
            (self._anchors, self._keep_anchors), (self._image, self._show_image),
            (self._sigma, self._keep_sigma), (self._depth, self._show_depth),
            (self._cloud, self._show_cloud), *((scan, self._show_scan) for scan in self._scan))
        for topic, show in shows:
            try:
                if message := topic.newest():
                    show(message)
            except Exception as error:  # the page outlives whatever one message does
                self._problem = f'{topic.name} is not shown: {reason(error)}'[:MAX_WARNING_LENGTH]
                self.get_logger().warning(self._problem, throttle_duration_sec=5.0)
        self._show_rates()

    def _keep_anchors(self, anchors: PointCloud2) -> None:
        points, colours = cloud_points(anchors, MAX_ANCHORS)
        info = self._info.newest()
        if info:
            self._matrix = info.k.reshape(3, 3)
        x, y, z = points[points[:, 2] > 0].T
        u, v, _ = self._matrix @ np.stack((x / z, y / z, np.ones_like(z)))
        self._anchors_since = time.monotonic()
        self._anchor_pixels = u, v, colours[points[:, 2] > 0]

    def _show_image(self, image: Image) -> None:
        rgb = image_to_rgb(image)
        if self._anchor_pixels and time.monotonic() - self._anchors_since < ANCHOR_AGE:
            rgb = draw_anchors(rgb, *self._anchor_pixels)
        self.page.show_image(rgb)

    def _keep_sigma(self, sigma: Image) -> None:
        self._sigma_stamp, self._sigma_values = stamp_of(sigma.header), image_to_depth(sigma)

    def _show_depth(self, depth: Image) -> None:
        metres, sigma = image_to_depth(depth), self._sigma_values
        self._depth_size = metres.shape[1], metres.shape[0]
        # of the same frame or one beside it: what is shown is the newest that has come
        matches = sigma.shape == metres.shape and abs(
            stamp_of(depth.header) - self._sigma_stamp) < SIGMA_AGE
        self.page.show_depth(metres, sigma if matches else None)
        self._latencies.append(
            (self.get_clock().now().nanoseconds - stamp_of(depth.header)) / 1e9)

    def _calibrate(self, u: float, v: float, metres: float) -> 'Future[str]':
        """Have the depth node calibrate its scale; the future's text says what came of it."""
        answer: Future[str] = Future()
        columns, rows = self._depth_size
        if not columns or not self._calibrate_scale.service_is_ready():
            answer.set_result(f'no depth node is at {self._calibrate_scale.srv_name}: set the '
                              "viewer's parameter depth_node to its name")
            return answer
        pixel = f'{u * (columns - 1):.0f} {v * (rows - 1):.0f}'

        def measure(done: Any) -> None:
            refused = [result.reason for result in done.result().results if not result.successful]
            if refused:
                answer.set_result(refused[0])
                return
            self._calibrate_scale.call_async(Trigger.Request()).add_done_callback(
                lambda done: answer.set_result(done.result().message))
        self._set_parameters.call_async(SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in (
                ('measured_distance', metres), ('measured_pixel', pixel))])
        ).add_done_callback(measure)
        return answer

    def _show_cloud(self, cloud: PointCloud2) -> None:
        self.page.show_cloud(*cloud_points(cloud, self._max_points))

    def _show_scan(self, scan: LaserScan) -> None:
        self.page.show_floor_map(*scan_beams(scan))

    def _show_rates(self) -> None:
        shown = []
        for topic in self._topics:
            rate = topic.rate()
            shown.append(f'{topic.name}: {rate:.1f} Hz' if rate else f'nothing on {topic.name}')
        if self._latencies:
            latency = np.median(self._latencies)
            shown.append(f'latency: {1000 * latency:.0f} ms' if 0 <= latency < 60 else
                         "latency unknown: the stamps are of another clock than this node's")
        self.page.show_text('\n'.join([*shown, self._problem]))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit status."""
    return run_node('viewer_node', ViewerNode, args)
