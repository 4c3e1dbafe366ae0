"""One camera of the depth node: its topics, its calibration, its newest frame, its figures."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from hybrid_depth_ros.calibration import CalibrationHistory, is_rectified_topic
from hybrid_depth_ros.encodings import compressed_to_rgb
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.geometry import Intrinsics, Rectification
from hybrid_depth_ros.nodes.depth.anchor_topics import AnchorTopics
from hybrid_depth_ros.nodes.shared.header_checks import frame_id_warning, stamp_warning
from hybrid_depth_ros.nodes.shared.messages import (
    camera_info_message,
    cloud_message,
    depth_to_image,
    image_to_rgb,
)
from hybrid_depth_ros.nodes.shared.subscription import (
    AdaptiveSubscription,
    publisher_qos_overrides,
    transport_topic,
)
from hybrid_depth_ros.point_cloud import organised_cloud, voxel_downsample
from hybrid_depth_ros.stamps import stamp_of

WARNING_INTERVAL = 5.0  # seconds between two messages about the same trouble
WARNING_LENGTH = 500  # characters: what an encoding or a frame_id says may be a megabyte
CAMERA_INFO_WAIT = 0.02  # seconds that an image waits for the camera_info of its own stamp
IMAGE_TIMEOUT = 2.0  # seconds without an image that /diagnostics warns about


class InputFrame(NamedTuple):
    """An image that is ready for the network. rgb: uint8 H×W×3, undistorted."""

    header: object
    rgb: np.ndarray
    intrinsics: Intrinsics | None
    rectification: Rectification | None


class CameraStream:
    """Topics of one camera; ``image`` and the others stand in the namespace `name`, if any.

    ``snapshot`` is None, or called with a frame, its depth and its cloud as soon as there is one.
    settings: the node's, by name. arrived: the condition that guards the mailboxes and wakes the
    network's thread. transforms: Transforms, for anchors.
    """

    def __init__(self, node, name, settings, arrived, transforms):
        self._node, self.name, self._arrived = node, name, arrived
        prefix = f'{name}/' if name else ''
        # Reliable, as RViz asks for by default; best-effort listeners match it as well.
        # (A profile for each: rclpy writes a topic's overrides into it.)
        overrides = publisher_qos_overrides()
        (self._depth_publisher, self._info_publisher, self._cloud_publisher,
         self._anchors_publisher, self._uncertainty_publisher) = (
            node.create_publisher(kind, prefix + topic, QoSProfile(depth=2),
                                  qos_overriding_options=overrides)
            for kind, topic in ((Image, 'depth/image'), (CameraInfo, 'depth/camera_info'),
                                (PointCloud2, 'depth/points'), (PointCloud2, 'depth/anchors'),
                                (Image, 'depth/uncertainty')))
        self._relative_publisher = node.create_publisher(
            Image, prefix + 'depth/relative', QoSProfile(depth=2),
            qos_overriding_options=overrides) if settings['relative_depth'] else None
        self.image_topic = node.resolve_topic_name(prefix + 'image')
        self._info_topic = node.resolve_topic_name(prefix + 'camera_info')
        self._raw = settings['image_transport'] == 'raw'
        self._inputs = [
            AdaptiveSubscription(node, Image, prefix + 'image', self._take_image) if self._raw else
            AdaptiveSubscription(
                node, CompressedImage, transport_topic(node, prefix + 'image', 'compressed'),
                self._take_image),
            AdaptiveSubscription(
                node, CameraInfo, prefix + 'camera_info', self._take_camera_info, depth=10)]
        self.topic = self._inputs[0].topic  # of the images that are listened to
        self._calibrations = CalibrationHistory(live=True)
        self._complaints = {}
        self._anchors = AnchorTopics(node, prefix, settings, transforms, self._complain)
        self._inputs += self._anchors.listeners.values()
        self.reset()

    def reset(self):
        """Forget frames and figures, as a node does that starts anew.

        Calibration stays: it may have come once, and never comes again.
        """
        self._intrinsics, self._info_trouble, self._in_step = None, '', False
        self._header_trouble = ''
        self._mailbox = self.snapshot = None
        self._received = self._published = self._dropped = 0
        self._counted = (time.monotonic(), 0, 0)
        self._latencies = deque(maxlen=300)
        self._heard, self._failure = time.monotonic(), ''
        self._told = None  # of which silence a warning was logged
        self._anchors.reset()

    # --- subscriptions ----------------------------------------------------------------

    def _wanted(self, *publishers):
        """Whether somebody listens to one of the publishers, of which some may be None."""
        return any(publisher and publisher.get_subscription_count() for publisher in publishers)

    def follow(self, active, alive=True):
        """Listen to the images only while the node is active and somebody listens to us.

        camera_info is small, and may come only once: it is listened to while the node is alive.
        """
        wanted = active and (self.snapshot is not None or self._wanted(
            self._depth_publisher, self._info_publisher, self._cloud_publisher,
            self._relative_publisher, self._uncertainty_publisher))
        if wanted and not self._inputs[0].subscription:
            self._heard = time.monotonic()
        images, camera_infos, *anchors = self._inputs
        camera_infos.follow(alive)
        for topic in (images, *anchors):
            topic.follow(wanted)

    def _take_camera_info(self, message):
        with self._arrived:
            self._calibrations.add(message, stamp_of(message.header))
            self._arrived.notify()

    def _take_image(self, message):
        with self._arrived:
            self._heard = time.monotonic()
            self._received += 1
            self._dropped += self._mailbox is not None
            self._mailbox = message
            self._arrived.notify()

    @property
    def fresh(self):
        """Whether an image waits."""
        return self._mailbox is not None

    # --- from a message to a frame, from its depth to messages ------------------------

    def next_frame(self, settings):
        """The newest image as a Frame, if its depth is asked for; None otherwise."""
        with self._arrived:
            message, self._mailbox = self._mailbox, None
        if message is None:
            return None
        try:
            rgb = image_to_rgb(message) if self._raw else compressed_to_rgb(message)
        except ValueError as error:
            self.skip(error)
            return None
        intrinsics, rectification = self._camera_of(message.header, rgb, settings)
        if intrinsics and self._wanted(self._info_publisher):
            self._info_publisher.publish(camera_info_message(intrinsics, message.header))
        if self.snapshot is None and not self._wanted(
                self._depth_publisher, self._cloud_publisher, self._relative_publisher,
                self._uncertainty_publisher):
            return None
        if rectification:
            rgb = rectification.apply(rgb)
        return InputFrame(message.header, rgb, intrinsics, rectification)

    def anchor(self, frame, depth, settings, relative=False):
        """Depth of one frame, corrected by its anchors; as it was where that fails.

        relative: it is inverse depth, which anchors make metres of; where that fails it is None.
        """
        try:
            depth = self._anchors.correct(depth, frame, settings, relative)
            if self._wanted(self._anchors_publisher):
                cloud = self._anchors.cloud(frame.intrinsics)
                if cloud is not None:
                    self._anchors_publisher.publish(cloud_message(cloud, frame.header))
            return depth
        except Exception as error:  # depth goes on, whatever a sensor says
            if relative:
                self.skip(error)
                return None
            self._complain('anchors', f'anchors are not used: {reason(error)}'[:WARNING_LENGTH])
            return depth

    def publish_relative(self, frame, relative):
        """Send what the network gave of one frame, if it is asked for; float32 H×W."""
        if self._wanted(self._relative_publisher):
            self._relative_publisher.publish(depth_to_image(relative, frame.header, '32FC1'))

    def wants_sigma(self, settings: Mapping[str, Any]) -> bool:
        """Whether the standard deviation of depth is needed, for a topic or a limit."""
        return settings['max_uncertainty'] > 0 or self._wanted(self._uncertainty_publisher)

    def apply_sigma(self, frame: InputFrame, depth: npt.NDArray[np.float32],
                    before: npt.NDArray[np.float32], sigma: npt.NDArray[np.float32] | None,
                    settings: Mapping[str, Any]) -> None:
        """Send the standard deviation of a frame's depth, and take out depth that is too uncertain.

        Args:
            frame: What was seen.
            depth: float32 H×W, metres; it becomes NaN where sigma is above ``max_uncertainty``.
            before: The network's own depth, which `sigma` is of. What anchors changed in it
                changes sigma by the same factor: the share of depth stays.
            sigma: float32 H×W, metres; None where the network estimates none.
            settings: The node's, by name.
        """
        if sigma is None:
            self._complain('uncertainty', 'the network estimates no uncertainty: depth/uncertainty '
                           'stays silent and max_uncertainty does nothing; see docs/accuracy.md',
                           every=3600)
            return
        with np.errstate(invalid='ignore', divide='ignore'):
            share = sigma / before
        if self._wanted(self._uncertainty_publisher):
            self._uncertainty_publisher.publish(
                depth_to_image(share * depth, frame.header, '32FC1'))
        if settings['max_uncertainty'] > 0:
            depth[share > settings['max_uncertainty']] = np.nan

    def publish_depth(self, frame, depth, settings):
        """Send the depth image of one frame, if it is asked for; depth: float32 H×W, metres, or
        None: there is none."""
        if depth is not None and self._wanted(self._depth_publisher):
            self._depth_publisher.publish(
                depth_to_image(depth, frame.header, settings['depth_encoding']))

    def publish_cloud(self, frame, depth, settings):
        """Send the cloud of one frame, if it is asked for; with it the frame counts as done."""
        cloud = None
        wants_cloud = self._wanted(self._cloud_publisher)
        if depth is not None and frame.intrinsics and (wants_cloud or self.snapshot):
            cloud = organised_cloud(
                depth, frame.rgb, frame.intrinsics, settings['cloud_stride'],
                settings['min_range'], settings['max_range'], settings['edge_filter'])
            if settings['voxel_size']:
                cloud = voxel_downsample(cloud, settings['voxel_size'])
            if wants_cloud:
                self._cloud_publisher.publish(cloud_message(cloud, frame.header))
        self._published += 1
        self._failure = ''
        self._look_at(frame.header)
        if self.snapshot and depth is not None:
            take, self.snapshot = self.snapshot, None
            take(frame, depth, cloud)

    def skip(self, error):
        """Say why a frame had no depth."""
        self._failure = f'frame skipped: {reason(error)}'[:WARNING_LENGTH]
        self._complain(type(error).__name__, self._failure)

    def _camera_of(self, header, rgb, settings):
        """Intrinsics and Rectification of an image; None for what there is not."""
        stamp, (height, width) = stamp_of(header), rgb.shape[:2]
        with self._arrived:
            if self._in_step:  # drivers send the image first: its camera_info is on its way
                self._arrived.wait_for(
                    lambda: self._calibrations.newest() >= stamp, CAMERA_INFO_WAIT)
            self._in_step = self._calibrations.newest() == stamp
        rectified = is_rectified_topic(self.topic)
        rectify = settings['rectify'] == 'always' or (
            settings['rectify'] == 'auto' and not rectified)
        camera, trouble = None, f'nothing came on {self._info_topic}'
        try:
            camera = self._calibrations.at(stamp, width, height, rectify, rectified)
        except ValueError as error:
            trouble = f'camera_info will not do: {error}'[:WARNING_LENGTH - 100]
        self._info_trouble = '' if camera else trouble
        if camera:
            if camera.note:
                self._complain('camera_info is resized', f'camera_info: {camera.note}', every=3600)
            self._intrinsics = camera.intrinsics
            return camera.intrinsics, camera.rectification
        self._intrinsics = Intrinsics.from_horizontal_fov(
            width, height, settings['horizontal_fov']) if settings['horizontal_fov'] else None
        if self._intrinsics is None:
            self._complain('camera_info', f'{trouble}. Depth is taken to be from a camera like '
                           "NYU's, and the cloud waits; set horizontal_fov to do without")
        elif self._calibrations:
            self._complain('camera_info', f'{trouble}. horizontal_fov counts instead')
        return self._intrinsics, None

    def _look_at(self, header):
        """Note what is wrong with a frame's header, or how long the frame took."""
        now = self._node.get_clock().now().nanoseconds
        clock = stamp_warning(header, now)
        if not clock:
            self._latencies.append((now - stamp_of(header)) / 1e9)
        self._header_trouble = clock or frame_id_warning(header)
        if self._header_trouble:
            self._complain('clock' if clock else 'frame', self._header_trouble, every=60)

    # --- what people see --------------------------------------------------------------

    def _complain(self, about, text, every=WARNING_INTERVAL):
        """Log a warning, but not about the same trouble again within so many seconds."""
        now = time.monotonic()
        if not self._node.context.ok():
            return  # told to end: calls to rclpy fail, and the log is closed
        if now - self._complaints.get(about, -every) >= every:
            self._complaints[about] = now
            self._node.get_logger().warning(f'{self.name}: {text}' if self.name else text)

    def _judge(self, latency_p95, received, settings):
        """Level and message of the status."""
        if not self._inputs[0].subscription:
            return DiagnosticStatus.OK, 'nobody listens'
        silent = time.monotonic() - self._heard
        if silent > IMAGE_TIMEOUT:
            text = f'no image on {self.topic} for {silent:.0f} s: ' + (
                'see whether its camera runs' if self._node.count_publishers(self.topic) else
                'nobody publishes it; start the camera, or remap image to its topic')
            if self._told != self._heard:
                self._told = self._heard
                self._node.get_logger().warning(text)
            return DiagnosticStatus.WARN, text
        if self._failure and received:
            return DiagnosticStatus.ERROR, self._failure
        if received and self._intrinsics is None:
            return DiagnosticStatus.WARN, (
                f'no camera_info that will do on {self._info_topic}: publish it, or set '
                'horizontal_fov' + (f' ({self._info_trouble})' if self._calibrations else ''))
        if received and self._info_trouble and self._calibrations:
            return DiagnosticStatus.WARN, f'{self._info_trouble}; horizontal_fov counts instead'
        if self._header_trouble:
            return DiagnosticStatus.WARN, self._header_trouble
        level, text = self._anchors.judge()
        if text:
            return level, text
        if settings['latency_warning'] and latency_p95 > settings['latency_warning']:
            return DiagnosticStatus.WARN, (f'latency p95 is {latency_p95:.3f} s, more than '
                                           f'latency_warning {settings["latency_warning"]:g} s')
        return DiagnosticStatus.OK, 'running'

    def status(self, settings):
        """The diagnostic_msgs/DiagnosticStatus since the last one."""
        now = time.monotonic()
        then, received, published = self._counted
        self._counted = (now, self._received, self._published)
        latencies = np.array(self._latencies) if self._latencies else np.array([np.nan])
        median, p95 = np.percentile(latencies, (50, 95))
        level, message = self._judge(p95, self._received, settings)
        values = {
            'input rate (Hz)': f'{(self._received - received) / (now - then):.1f}',
            'output rate (Hz)': f'{(self._published - published) / (now - then):.1f}',
            'latency median (s)': f'{median:.3f}',
            'latency p95 (s)': f'{p95:.3f}',
            'received': str(self._received),
            'published': str(self._published),
            'dropped': str(self._dropped),
            **self._anchors.values(),
        }
        return DiagnosticStatus(
            level=level, message=message,
            name=f'{self._node.get_fully_qualified_name()}: {self.name or "depth"}',
            values=[KeyValue(key=key, value=value) for key, value in values.items()])
