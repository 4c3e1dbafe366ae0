"""One camera of the depth node: its topics, its calibration, its newest frame, its figures."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from hybrid_depth_ros.border import NO_BORDER, Border, BorderTracker
from hybrid_depth_ros.calibration import CalibrationHistory, is_rectified_topic, other_camera
from hybrid_depth_ros.encodings import compressed_to_rgb
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.geometry import Intrinsics, Rectification
from hybrid_depth_ros.image_files import CameraSnapshot
from hybrid_depth_ros.nodes.depth.anchor_topics import AnchorTopics
from hybrid_depth_ros.nodes.depth.compressed_images import CompressedDepthImages
from hybrid_depth_ros.nodes.depth.obstacle_topics import ObstacleTopics
from hybrid_depth_ros.nodes.depth.scale_calibration import ScaleCalibration
from hybrid_depth_ros.nodes.depth.settings import DepthSettings
from hybrid_depth_ros.nodes.shared.header_checks import frame_id_warning, stamp_warning
from hybrid_depth_ros.nodes.shared.messages import (
    camera_info_message,
    cloud_message,
    depth_to_image,
    image_to_rgb,
    mono_to_image,
)
from hybrid_depth_ros.nodes.shared.subscription import (
    AdaptiveSubscription,
    publisher_qos_overrides,
    transport_topic,
)
from hybrid_depth_ros.nodes.shared.transforms import TransformLookup
from hybrid_depth_ros.outlines import snap_edges
from hybrid_depth_ros.point_cloud import organised_cloud, voxel_downsample
from hybrid_depth_ros.predictor import Prediction
from hybrid_depth_ros.stamps import stamp_of

WARNING_INTERVAL = 5.0  # seconds between two messages about the same trouble
WARNING_LENGTH = 500  # characters: what an encoding or a frame_id says may be a megabyte
CAMERA_INFO_WAIT = 0.02  # seconds that an image waits for the camera_info of its own stamp
IMAGE_TIMEOUT = 2.0  # seconds without an image that /diagnostics warns about,
SLOW = 3.0  # or so many times the interval between images
PLAYER = 'rosbag2_player'  # the node that plays a recording
CLOCK_JUMP = 3.0  # seconds in which stamps may be off a simulated clock: a recording starts anew


@dataclass(frozen=True)
class InputFrame:
    """An image that is ready for the network.

    Attributes:
        header: The image's.
        rgb: uint8 H×W×3, undistorted.
        intrinsics: Of `rgb`, where they are known.
        rectification: How it was undistorted; None: it wasn't.
        border: Of `rgb`, which shows no scene.
        other_camera: Why the intrinsics may be another camera's; empty where they are its own.
    """

    header: Header
    rgb: npt.NDArray[np.uint8]
    intrinsics: Intrinsics | None
    rectification: Rectification | None
    border: Border = NO_BORDER
    other_camera: str = ''

    @property
    def scene(self) -> npt.NDArray[np.uint8]:
        """What the network is shown of `rgb`."""
        return np.ascontiguousarray(self.border.crop(self.rgb))


class CameraStream:
    """Topics of one camera; ``image`` and the others stand in its namespace, if it has a name.

    Images are listened to only while the node is active and somebody listens to what is made of
    them. ``topic`` is the images' name.

    Args:
        node: The depth node.
        name: The camera's; empty: a single camera without a namespace.
        current_settings: Returns the node's of that moment.
        arrived: Guards the mailboxes, and wakes the network's thread.
        transforms: Poses of sensors, for anchors.
    """

    def __init__(self, node: Node, name: str, current_settings: Callable[[], DepthSettings],
                 arrived: threading.Condition, transforms: TransformLookup) -> None:
        self._node, self.name, self._arrived = node, name, arrived
        self._active = False
        settings = current_settings()
        prefix = f'{name}/' if name else ''
        self._depth_publisher = self._publisher(Image, prefix + 'depth/image')
        self._info_publisher = self._publisher(CameraInfo, prefix + 'depth/camera_info')
        self._cloud_publisher = self._publisher(PointCloud2, prefix + 'depth/points')
        self._anchors_publisher = self._publisher(PointCloud2, prefix + 'depth/anchors')
        self._uncertainty_publisher = self._publisher(Image, prefix + 'depth/uncertainty')
        self._measured_publisher = self._publisher(Image, prefix + 'depth/measured')
        self._relative_publisher = (self._publisher(Image, prefix + 'depth/relative')
                                    if settings.relative_depth else None)
        self._compressed = CompressedDepthImages(node, prefix, self._publisher)
        self._obstacles = ObstacleTopics(node, prefix, self._publisher, transforms, self.warn)
        self._raw = settings.image_transport == 'raw'
        self._images = (
            AdaptiveSubscription(node, Image, prefix + 'image', self._take_image) if self._raw else
            AdaptiveSubscription(
                node, CompressedImage, transport_topic(node, prefix + 'image', 'compressed'),
                self._take_image))
        self._camera_infos = AdaptiveSubscription(
            node, CameraInfo, prefix + 'camera_info', self._take_camera_info, depth=10)
        self.topic = self._images.topic
        self.scale = ScaleCalibration(
            node, name, self.topic, expand_user(settings.scale_file), current_settings,
            self._update_subscriptions)
        self._calibrations = CalibrationHistory(live=True)
        self._last_warnings: dict[str, float] = {}
        self._anchors = AnchorTopics(node, prefix, settings, transforms, self.warn)
        self._camera_infos.update()  # small, and may come only once
        self.reset()

    def reset(self) -> None:
        """Forget frames and figures, as a node does that starts anew.

        Calibration stays: it may have come once, and never comes again.
        """
        self._intrinsics: Intrinsics | None = None
        self._info_problem = self._info_doubt = self._other_camera = ''
        self._header_problem, self._skip_reason = '', ''
        self._info_in_step = False
        self._mailbox: Image | CompressedImage | None = None
        self._snapshot: Callable[[CameraSnapshot], None] | None = None
        self._received = self._published = self._dropped = 0
        self._last_status = (time.monotonic(), 0, 0)
        self._borders = BorderTracker()
        self._latencies: deque[float] = deque(maxlen=300)
        self._last_image = time.monotonic()
        self._intervals: deque[float] = deque(maxlen=5)  # seconds between images
        self._silence_logged: float | None = None  # since when it was silent
        self._clock_trouble: float | None = None  # since when stamps are off a simulated clock
        self._anchors.reset()
        self._obstacles.reset()

    # --- topics -----------------------------------------------------------------------

    def _publisher(self, kind: type[Any], topic: str) -> Publisher:
        # Reliable, as RViz asks for by default; best-effort subscriptions match it as well.
        # (A profile for each: rclpy writes a topic's overrides into it.) The executor looks at each
        # event at each message: no default ones. Who asks for what is not offered logs it itself.
        return self._node.create_publisher(
            kind, topic, QoSProfile(depth=2), qos_overriding_options=publisher_qos_overrides(),
            event_callbacks=PublisherEventCallbacks(
                matched=self._update_subscriptions, use_default_callbacks=False))

    @property
    def _depth_publishers(self) -> tuple[Publisher | None, ...]:
        """Those of what is made of depth."""
        return (self._depth_publisher, self._cloud_publisher, self._relative_publisher,
                self._uncertainty_publisher, self._measured_publisher,
                *self._compressed.publishers, *self._obstacles.publishers)

    @property
    def _must_see(self) -> bool:
        """Whether an image is wanted though nobody listens."""
        return self._snapshot is not None or self.scale.waiting

    @staticmethod
    def _has_subscribers(*publishers: Publisher | None) -> bool:
        return any(publisher and publisher.get_subscription_count() for publisher in publishers)

    def set_active(self, active: bool) -> None:
        """Listen to images from here on, while somebody wants what is made of them; or don't."""
        self._active = active
        self._update_subscriptions()

    def close(self) -> None:
        """Leave all topics."""
        self.set_active(False)
        self._camera_infos.update(False)

    def request_snapshot(self, take: Callable[[CameraSnapshot], None] | None) -> None:
        """Hand the next frame over, in the network's or the sender's thread; None: no more."""
        self._snapshot = take
        self._update_subscriptions()

    def _update_subscriptions(self, *_: Any) -> None:
        wanted = self._active and (self._must_see or self._has_subscribers(
            self._info_publisher, *self._depth_publishers))
        if wanted and not self._images.subscription:
            self._last_image = time.monotonic()
        self._images.update(wanted)
        self._anchors.update(wanted)

    def _take_camera_info(self, message: CameraInfo) -> None:
        with self._arrived:
            self._calibrations.add(message, stamp_of(message.header))
            self._arrived.notify()

    def _take_image(self, message: Image | CompressedImage) -> None:
        with self._arrived:
            now = time.monotonic()
            if self._received:
                self._intervals.append(now - self._last_image)
            self._last_image = now
            self._received += 1
            self._dropped += self._mailbox is not None
            self._mailbox = message
            self._arrived.notify()

    @property
    def has_image(self) -> bool:
        """Whether an image waits."""
        return self._mailbox is not None

    # --- from a message to a frame, from its depth to messages ------------------------

    def next_frame(self, settings: DepthSettings) -> InputFrame | None:
        """Take the newest image; None where there is none, or nobody wants its depth."""
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
        if intrinsics and self._has_subscribers(self._info_publisher):
            self._info_publisher.publish(camera_info_message(intrinsics, message.header))
        if not self._must_see and not self._has_subscribers(*self._depth_publishers):
            return None
        if rectification:
            rgb = rectification.apply(rgb)
        border = (self._borders.update(rgb)
                  if settings.ignore_border and settings.fit == 'full' else NO_BORDER)
        return InputFrame(message.header, rgb, intrinsics, rectification, border,
                          self._other_camera)

    def correct_by_anchors(self, frame: InputFrame, depth: npt.NDArray[np.float32],
                           settings: DepthSettings, relative: bool = False
                           ) -> npt.NDArray[np.float32] | None:
        """Correct the depth of one frame by its anchors.

        Args:
            frame: That the depth is of.
            depth: float32 H×W, metres; or inverse depth.
            settings: The node's.
            relative: `depth` is inverse depth, which anchors make metres of.

        Returns:
            Metres; as they were where that fails, None where they were none.
        """
        try:
            depth = self._anchors.correct(depth, frame, settings, relative)
            if self._has_subscribers(self._anchors_publisher):
                cloud = self._anchors.cloud(frame.intrinsics)
                if cloud is not None:
                    self._anchors_publisher.publish(cloud_message(cloud, frame.header))
            if self._has_subscribers(self._measured_publisher):
                self._measured_publisher.publish(
                    mono_to_image(self._anchors.measured(depth), frame.header))
            return depth
        except Exception as error:  # depth goes on, whatever a sensor says
            if relative:
                self.skip(error)
                return None
            self.warn('anchors', f'anchors are not used: {reason(error)}'[:WARNING_LENGTH])
            return depth

    def wants_sigma(self, settings: DepthSettings) -> bool:
        """Whether the standard deviation of depth is needed, for a topic, a field or a limit."""
        return (settings.max_uncertainty > 0 or self._has_subscribers(self._uncertainty_publisher)
                or (settings.cloud_confidence and self._has_subscribers(self._cloud_publisher)))

    def apply_sigma(self, frame: InputFrame, depth: npt.NDArray[np.float32],
                    before: npt.NDArray[np.float32], sigma: npt.NDArray[np.float32] | None,
                    settings: DepthSettings) -> npt.NDArray[np.float32] | None:
        """Send the standard deviation of a frame's depth, and take out depth that is too uncertain.

        Args:
            frame: What was seen.
            depth: float32 H×W, metres; it becomes NaN where sigma is above ``max_uncertainty``.
            before: The network's own depth, which `sigma` is of. What smoothing changed in it
                changes sigma by the same factor: the share of depth stays.
            sigma: float32 H×W, metres; None where the network estimates none. Where anchors were
                used, theirs takes its place.
            settings: The node's.

        Returns:
            float32 H×W, the standard deviation of `depth` in metres, or None.
        """
        # anchored depth is several times as sure as the network's own
        if (anchored := self._anchors.sigma(depth)) is not None:
            sigma, before = anchored, depth
        if sigma is None:
            if settings.max_uncertainty or settings.cloud_confidence:  # a listener may do without
                self.warn('uncertainty', 'the network estimates no uncertainty, and no anchor was '
                          'used: depth/uncertainty stays silent, max_uncertainty and '
                          'cloud_confidence do nothing; see '
                          'docs/training.md', every=3600)
            return None
        with np.errstate(invalid='ignore', divide='ignore'):
            share = sigma / before
        sigma = share * depth
        if self._has_subscribers(self._uncertainty_publisher):
            self._uncertainty_publisher.publish(depth_to_image(sigma, frame.header, '32FC1'))
        if settings.max_uncertainty > 0:
            depth[share > settings.max_uncertainty] = np.nan
        return sigma

    def publish_relative(self, frame: InputFrame, relative: npt.NDArray[np.float32]) -> None:
        """Send what a relative network gave of one frame, float32 H×W, if it is asked for."""
        if self._relative_publisher and self._has_subscribers(self._relative_publisher):
            self._relative_publisher.publish(depth_to_image(relative, frame.header, '32FC1'))

    def publish_depth(self, frame: InputFrame, metres: Prediction | None,
                      settings: DepthSettings) -> None:
        """Send the depth image of one frame, if it is asked for."""
        if metres and self._has_subscribers(self._depth_publisher):
            self._depth_publisher.publish(
                depth_to_image(metres.encoded(settings.depth_encoding), frame.header,
                               settings.depth_encoding))

    def publish_cloud(self, frame: InputFrame, metres: Prediction | None,
                      settings: DepthSettings) -> None:
        """Send what takes longer of one frame, where it is asked for; then the frame is done."""
        cloud, snapped, depth = None, None, metres.depth if metres else None
        wants_cloud = self._has_subscribers(self._cloud_publisher)
        if depth is not None and frame.intrinsics and (wants_cloud or self._snapshot):
            snapped = snap_edges(depth, settings.edge_filter) if settings.edge_filter else depth
            cloud = organised_cloud(
                snapped, frame.rgb, frame.intrinsics, settings.cloud_stride,
                settings.min_range, settings.max_range,
                confidence=metres.confidence if metres and settings.cloud_confidence else None)
            if settings.voxel_size:
                cloud = voxel_downsample(cloud, settings.voxel_size)
            if wants_cloud:
                self._cloud_publisher.publish(cloud_message(cloud, frame.header))
        if depth is not None and frame.intrinsics:
            same = settings.edge_filter == settings.obstacles.edge_filter
            self._obstacles.publish(frame.header, depth, frame.rgb, frame.intrinsics, settings,
                                    snapped if same else None)
        if metres:  # what takes longest, last
            self._compressed.publish(metres, frame.header, settings)
        self._published += 1
        self._skip_reason = ''
        self._check_header(frame.header, settings.optical_frame)
        if (take := self._snapshot) and depth is not None:
            self._snapshot = None
            take(CameraSnapshot(frame.rgb, depth, frame.intrinsics, cloud))

    def skip(self, error: BaseException) -> None:
        """Say why a frame had no depth."""
        self._skip_reason = f'frame skipped: {reason(error)}'[:WARNING_LENGTH]
        self.warn(type(error).__name__, self._skip_reason)

    def _camera_of(self, header: Header, rgb: npt.NDArray[np.uint8], settings: DepthSettings
                   ) -> tuple[Intrinsics | None, Rectification | None]:
        """Intrinsics and rectification of an image; None for what there is not."""
        stamp, (height, width) = stamp_of(header), rgb.shape[:2]
        with self._arrived:
            if self._info_in_step:  # drivers send the image first: its camera_info is on its way
                self._arrived.wait_for(
                    lambda: (self._calibrations.newest() or 0) >= stamp, CAMERA_INFO_WAIT)
            self._info_in_step = self._calibrations.newest() == stamp
        rectified = is_rectified_topic(self.topic)
        rectify = settings.rectify == 'always' or (
            settings.rectify == 'auto' and not rectified)
        camera, problem = None, f'nothing came on {self._camera_infos.topic}'
        try:
            camera = self._calibrations.at(stamp, width, height, rectify, rectified)
        except ValueError as error:
            problem = f'camera_info will not do: {error}'[:WARNING_LENGTH - 100]
        self._info_problem = '' if camera else problem
        self._info_doubt = self._other_camera = ''
        if camera:
            if camera.note:
                self.warn('camera_info is resized', f'camera_info: {camera.note}', every=3600)
            self._other_camera = other_camera(header.frame_id, self._calibrations.frame)
            self._info_doubt = self._other_camera or (
                f'camera_info contradicts itself: {camera.doubt}' if camera.doubt else '')
            if self._info_doubt:
                self.warn('camera_info in doubt', self._info_doubt, every=3600)
            self._intrinsics = camera.intrinsics
            return camera.intrinsics, camera.rectification
        self._intrinsics = Intrinsics.from_horizontal_fov(
            width, height, settings.horizontal_fov) if settings.horizontal_fov else None
        if self._intrinsics is None:
            self.warn('camera_info', f'{problem}. Depth is taken to be from a camera like '
                      "NYU's, and the cloud waits; set horizontal_fov to do without")
        elif self._calibrations:
            self.warn('camera_info', f'{problem}. horizontal_fov counts instead')
        return self._intrinsics, None

    def _check_header(self, header: Header, optical_frame: str) -> None:
        """Note what is wrong with a frame's header, or how long the frame took."""
        own = self._node.get_clock()
        now, simulated = own.now().nanoseconds, bool(getattr(own, 'ros_time_is_active', False))
        clock = stamp_warning(header, now, simulated)
        since = self._clock_trouble if clock else None
        self._clock_trouble = (since or time.monotonic()) if clock else None
        if simulated and self._clock_trouble and (
                time.monotonic() - self._clock_trouble < CLOCK_JUMP):
            return
        if not clock:
            self._latencies.append((now - stamp_of(header)) / 1e9)
        self._header_problem = clock or frame_id_warning(header, optical_frame)
        if self._header_problem:
            self.warn('clock' if clock else 'frame', self._header_problem, every=60)

    # --- what people see --------------------------------------------------------------

    def warn(self, about: str, text: str, every: float | None = None) -> None:
        """Log a warning, but not about the same again within so many seconds (WARNING_INTERVAL)."""
        every = WARNING_INTERVAL if every is None else every
        now = time.monotonic()
        if not self._node.context.ok():
            return  # told to end: calls to rclpy fail, and the log is closed
        if now - self._last_warnings.get(about, -every) >= every:
            self._last_warnings[about] = now
            self._node.get_logger().warning(f'{self.name}: {text}' if self.name else text)

    def _why_silent(self) -> str:
        """Say what may be the matter where no image comes."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        if not publishers:
            return 'nobody publishes it; start the camera, or remap image to its topic'
        if all(PLAYER in publisher.node_name for publisher in publishers):
            return 'the recording is paused, or at its end'
        return 'see whether its camera runs'

    def _camera_info_advice(self) -> str:
        beside = f"{self.topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
        if beside != self._camera_infos.topic and self._node.count_publishers(beside):
            return f'remap camera_info to {beside}, which is published'
        return 'publish it, or set horizontal_fov'

    def _health(self, latency_p95: float, settings: DepthSettings) -> tuple[bytes, str]:
        """Level and message of the status."""
        if not self._images.subscription:
            return DiagnosticStatus.OK, 'nobody listens'
        silent = time.monotonic() - self._last_image
        if silent > max(IMAGE_TIMEOUT, SLOW * float(np.median(self._intervals or 0))):
            text = f'no image on {self.topic} for {silent:.0f} s: {self._why_silent()}'
            if self._silence_logged != self._last_image:
                self._silence_logged = self._last_image
                self._node.get_logger().warning(text)
            return DiagnosticStatus.WARN, text
        if self._skip_reason and self._received:
            return DiagnosticStatus.ERROR, self._skip_reason
        if self._received and self._intrinsics is None:
            return DiagnosticStatus.WARN, (
                f'no camera_info that will do on {self._camera_infos.topic}: '
                + self._camera_info_advice()
                + (f' ({self._info_problem})' if self._calibrations else ''))
        if self._received and self._info_problem and self._calibrations:
            return DiagnosticStatus.WARN, f'{self._info_problem}; horizontal_fov counts instead'
        if problem := self._header_problem or self._info_doubt:
            return DiagnosticStatus.WARN, problem
        level, text = self._anchors.health()
        if text:
            return level, text
        if self._obstacles.problem:
            return DiagnosticStatus.WARN, self._obstacles.problem
        if self.scale.problem:
            return DiagnosticStatus.WARN, self.scale.problem
        if settings.latency_warning and latency_p95 > settings.latency_warning:
            return DiagnosticStatus.WARN, (f'latency p95 is {latency_p95:.3f} s, more than '
                                           f'latency_warning {settings.latency_warning:g} s')
        return DiagnosticStatus.OK, 'running'

    def status(self, settings: DepthSettings) -> DiagnosticStatus:
        """Return the diagnostic_msgs/DiagnosticStatus of the time since the last one."""
        now = time.monotonic()
        then, received, published = self._last_status
        self._last_status = (now, self._received, self._published)
        self._update_subscriptions()
        latencies = np.array(self._latencies) if self._latencies else np.array([np.nan])
        median, p95 = np.percentile(latencies, (50, 95))
        level, message = self._health(p95, settings)
        values = {
            'input rate (Hz)': f'{(self._received - received) / (now - then):.1f}',
            'output rate (Hz)': f'{(self._published - published) / (now - then):.1f}',
            'latency median (s)': f'{median:.3f}',
            'latency p95 (s)': f'{p95:.3f}',
            'received': str(self._received),
            'published': str(self._published),
            'dropped': str(self._dropped),
            **self._anchors.values(),
            **self.scale.values(),
        }
        return DiagnosticStatus(
            level=level, message=message,
            name=f'{self._node.get_fully_qualified_name()}: {self.name or "depth"}',
            values=[KeyValue(key=key, value=value) for key, value in values.items()])
