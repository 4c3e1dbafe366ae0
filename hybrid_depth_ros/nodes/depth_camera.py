"""One camera of the depth node: its topics, its calibration, its newest frame, its figures."""

import time
from collections import deque
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from hybrid_depth_ros.encodings import (
    compressed_to_rgb,
    intrinsics_from_camera_info,
    rectification_from_camera_info,
)
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.geometry import Intrinsics, Rectification, organised_cloud, voxel_cloud
from hybrid_depth_ros.nodes.anchor_topics import AnchorTopics
from hybrid_depth_ros.nodes.listening import Listener
from hybrid_depth_ros.nodes.messages import (
    camera_info_message,
    cloud_message,
    depth_to_image,
    image_to_rgb,
)

COMPLAINT_INTERVAL = 5.0  # seconds between two messages about the same trouble
COMPLAINT_LENGTH = 500  # characters: what an encoding or a frame_id says may be a megabyte
SILENCE = 2.0  # seconds without an image that /diagnostics warns about


class Frame(NamedTuple):
    """An image that is ready for the network. rgb: uint8 H×W×3, undistorted."""

    header: object
    rgb: np.ndarray
    intrinsics: Intrinsics | None
    rectification: Rectification | None


class DepthCamera:
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
        overrides = QoSOverridingOptions.with_default_policies()
        (self._depth_publisher, self._info_publisher, self._cloud_publisher,
         self._anchors_publisher) = (
            node.create_publisher(kind, prefix + topic, QoSProfile(depth=2),
                                  qos_overriding_options=overrides)
            for kind, topic in ((Image, 'depth/image'), (CameraInfo, 'depth/camera_info'),
                                (PointCloud2, 'depth/points'), (PointCloud2, 'depth/anchors')))
        self.image_topic = node.resolve_topic_name(prefix + 'image')
        self._info_topic = node.resolve_topic_name(prefix + 'camera_info')
        self._raw = settings['image_transport'] == 'raw'
        self._inputs = [
            Listener(node, Image, self.image_topic, self._take_image) if self._raw else
            Listener(node, CompressedImage, self.image_topic + '/compressed', self._take_image),
            Listener(node, CameraInfo, self._info_topic, self._take_camera_info)]
        self.topic = self._inputs[0].topic  # of the images that are listened to
        self._complaints = {}
        self._anchors = AnchorTopics(node, prefix, settings, transforms, self._complain)
        self._inputs += self._anchors.listeners.values()
        self.reset()

    def reset(self):
        """Forget frames, calibration and figures, as a node does that starts anew."""
        self._camera_info = None
        self._camera = (None, None, None)  # what it was made from, intrinsics, rectification
        self._mailbox = self.snapshot = None
        self._received = self._published = self._dropped = 0
        self._counted = (time.monotonic(), 0, 0)
        self._latencies = deque(maxlen=300)
        self._heard, self._failure = time.monotonic(), ''
        self._told = None  # of which silence a warning was logged
        self._anchors.reset()

    # --- subscriptions ----------------------------------------------------------------

    def _wanted(self, *publishers):
        return any(publisher.get_subscription_count() for publisher in publishers)

    def follow(self, active):
        """Listen to the camera only while the node is active and somebody listens to us."""
        wanted = active and (self.snapshot is not None or self._wanted(
            self._depth_publisher, self._info_publisher, self._cloud_publisher))
        if wanted and not self._inputs[0].subscription:
            self._heard = time.monotonic()
        for camera_topic in self._inputs:
            camera_topic.follow(wanted)

    def _take_camera_info(self, message):
        self._camera_info = message

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
        height, width = rgb.shape[:2]
        intrinsics, rectification = self._camera_of(width, height, settings)
        if intrinsics and self._wanted(self._info_publisher):
            self._info_publisher.publish(camera_info_message(intrinsics, message.header))
        if self.snapshot is None and not self._wanted(self._depth_publisher,
                                                      self._cloud_publisher):
            return None
        if rectification:
            rgb = rectification.apply(rgb)
        return Frame(message.header, rgb, intrinsics, rectification)

    def anchor(self, frame, depth, settings):
        """Depth of one frame, corrected by its anchors; as it was where that fails."""
        try:
            depth = self._anchors.correct(depth, frame, settings)
            if self._wanted(self._anchors_publisher):
                cloud = self._anchors.cloud(frame.intrinsics)
                if cloud is not None:
                    self._anchors_publisher.publish(cloud_message(cloud, frame.header))
            return depth
        except Exception as error:  # depth goes on, whatever a sensor says
            self._complain('anchors', f'anchors are not used: {reason(error)}'[:COMPLAINT_LENGTH])
            return depth

    def publish_depth(self, frame, depth, settings):
        """Send the depth image of one frame, if it is asked for; depth: float32 H×W, metres."""
        if self._wanted(self._depth_publisher):
            self._depth_publisher.publish(
                depth_to_image(depth, frame.header, settings['depth_encoding']))

    def publish_cloud(self, frame, depth, settings):
        """Send the cloud of one frame, if it is asked for; with it the frame counts as done."""
        cloud = None
        wants_cloud = self._wanted(self._cloud_publisher)
        if frame.intrinsics and (wants_cloud or self.snapshot):
            cloud = organised_cloud(
                depth, frame.rgb, frame.intrinsics, settings['cloud_stride'],
                settings['min_range'], settings['max_range'], settings['edge_filter'])
            if settings['voxel_size']:
                cloud = voxel_cloud(cloud, settings['voxel_size'])
            if wants_cloud:
                self._cloud_publisher.publish(cloud_message(cloud, frame.header))
        self._published += 1
        self._failure = ''
        # rclpy's Time refuses stamps below 0
        stamp, now = frame.header.stamp, self._node.get_clock().now().nanoseconds
        self._latencies.append((now - stamp.nanosec) / 1e9 - stamp.sec)
        if self.snapshot:
            take, self.snapshot = self.snapshot, None
            take(frame, depth, cloud)

    def skip(self, error):
        """Say why a frame had no depth."""
        self._failure = f'frame skipped: {reason(error)}'[:COMPLAINT_LENGTH]
        self._complain(type(error).__name__, self._failure)

    def _camera_of(self, width, height, settings):
        """Intrinsics and Rectification for images of this size; None for what there is not."""
        info = self._camera_info
        made_from = (width, height, settings['rectify'], settings['horizontal_fov'],
                     info and (info.width, info.height, info.distortion_model, info.k.tobytes(),
                               info.p.tobytes(), info.r.tobytes(), tuple(info.d),
                               info.binning_x, info.binning_y, str(info.roi)))
        if made_from == self._camera[0] and self._camera[1]:
            return self._camera[1:]
        named_rectified = 'rect' in self.image_topic.rsplit('/', 1)[-1]
        intrinsics = rectification = None
        trouble = f'nothing came on {self._info_topic}'
        if info is not None:
            try:
                if settings['rectify'] == 'always' or (
                        settings['rectify'] == 'auto' and not named_rectified):
                    rectification = rectification_from_camera_info(info, width, height)
                intrinsics = rectification.rectified if rectification else (
                    intrinsics_from_camera_info(info, width, height, rectified=named_rectified))
            except ValueError as error:
                trouble = f'camera_info will not do: {error}'[:COMPLAINT_LENGTH - 100]
        if intrinsics is None and settings['horizontal_fov']:
            intrinsics = Intrinsics.from_horizontal_fov(
                width, height, settings['horizontal_fov'])
        if intrinsics is None:
            self._complain('camera_info', f'{trouble}. Depth is taken to be from a camera like '
                           "NYU's, and the cloud waits; set horizontal_fov to do without")
        self._camera = (made_from, intrinsics, rectification)
        return intrinsics, rectification

    # --- what people see --------------------------------------------------------------

    def _complain(self, about, text):
        """Log a warning, but not the same trouble again within COMPLAINT_INTERVAL."""
        now = time.monotonic()
        if now - self._complaints.get(about, -COMPLAINT_INTERVAL) >= COMPLAINT_INTERVAL:
            self._complaints[about] = now
            self._node.get_logger().warning(f'{self.name}: {text}' if self.name else text)

    def _judge(self, latency_p95, received, settings):
        """Level and message of the status."""
        if not self._inputs[0].subscription:
            return DiagnosticStatus.OK, 'nobody listens'
        silent = time.monotonic() - self._heard
        if silent > SILENCE:
            text = f'no image on {self.topic} for {silent:.0f} s: ' + (
                'see whether its camera runs' if self._node.count_publishers(self.topic) else
                'nobody publishes it; start the camera, or remap image to its topic')
            if self._told != self._heard:
                self._told = self._heard
                self._node.get_logger().warning(text)
            return DiagnosticStatus.WARN, text
        if self._failure and received:
            return DiagnosticStatus.ERROR, self._failure
        if received and self._camera[1] is None:
            return DiagnosticStatus.WARN, (f'no camera_info that will do on {self._info_topic}: '
                                           'publish it, or set horizontal_fov')
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
