"""The depth node: camera topics in, depth images and point clouds out."""

import sys
import threading
import time
from collections import deque

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from hybrid_depth_ros.encodings import compressed_to_rgb
from hybrid_depth_ros.geometry import Intrinsics, organised_cloud
from hybrid_depth_ros.messages import (
    camera_info_message,
    cloud_message,
    cv_bridge_encodings,
    depth_to_image,
    image_to_rgb,
    intrinsics_from_camera_info,
    rectification_from_camera_info,
)
from hybrid_depth_ros.parameters import Setting, declare
from hybrid_depth_ros.predictor import FITS, PRECISIONS, RUNTIMES, DepthPredictor

SETTINGS = (
    Setting('weights', 'lite-nyu', 'registered name or file of the network weights'),
    Setting('device', 'auto', 'auto, cpu, cuda or cuda:N'),
    Setting('precision', 'fp32', "the network's arithmetic", choices=tuple(PRECISIONS)),
    Setting('runtime', 'auto', 'what runs the network', choices=RUNTIMES),
    Setting('fit', 'full', "full: the whole image; paper: the paper's centre crop, NaN outside",
            choices=FITS, changeable=True),
    Setting('focal_correction', True, "scale depth to the camera's focal length",
            changeable=True),
    Setting('image_transport', 'raw', 'listen to image (raw) or image/compressed (compressed)',
            choices=('raw', 'compressed')),
    Setting('depth_encoding', '32FC1', 'depth/image in metres (32FC1, NaN: unknown) or '
            'millimetres (16UC1, 0: unknown)', choices=('32FC1', '16UC1'), changeable=True),
    Setting('rectify', 'auto', 'undistort images first; auto: where camera_info has distortion '
            "and the image topic's name has no rect in it", choices=('auto', 'always', 'never'),
            changeable=True),
    Setting('horizontal_fov', 0.0, "the camera's field of view where no camera_info comes; "
            '0: unknown', range=(0.0, 179.0), unit='degrees', changeable=True),
)
_RELIABILITIES = {'auto': None, 'reliable': QoSReliabilityPolicy.RELIABLE,
                  'best_effort': QoSReliabilityPolicy.BEST_EFFORT}
COMPLAINT_INTERVAL = 5.0  # seconds between two messages about the same trouble


class _Input:
    """A subscription that comes and goes, as reliable as its publishers are.

    Best effort would match every camera but loses large images on the way; reliable does not
    hear a best-effort camera. The usual QoS override for reliability goes before this choice.
    """

    def __init__(self, node, topic, kind, callback):
        self._node, self._topic, self._kind, self._callback = node, topic, kind, callback
        self._override = node.declare_parameter(
            f'qos_overrides.{topic}.subscription.reliability', 'auto',
            ParameterDescriptor(read_only=True, description='auto, reliable or best_effort')).value
        if self._override not in _RELIABILITIES:
            raise ValueError(f'reliability of {topic} is {self._override!r}; it must be one of: '
                             + ', '.join(_RELIABILITIES))
        self.subscription = self._reliability = None

    def _offered(self):
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        reliable = publishers and all(
            p.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE for p in publishers)
        return (QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT)

    def follow(self, wanted):
        """Subscribe, subscribe anew because the publishers have changed, or leave."""
        reliability = (_RELIABILITIES[self._override] or self._offered()) if wanted else None
        if reliability == self._reliability:
            return
        if self.subscription:
            self._node.destroy_subscription(self.subscription)
        self._reliability = reliability
        self.subscription = reliability and self._node.create_subscription(
            self._kind, self._topic, self._callback,
            QoSProfile(depth=1, reliability=reliability),
            qos_overriding_options=QoSOverridingOptions(
                policy_kinds=(QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)))


class DepthNode(Node):
    """Subscribes ``image`` (or ``image/compressed``) and ``camera_info``; publishes
    ``depth/image``, ``depth/camera_info``, ``depth/points`` and ``/diagnostics``.

    Stamp and frame_id are the image's. The newest frame wins: it waits in a mailbox of one
    for the thread that runs the network. predictor: stands in for the one that the
    parameters name; a callable as :class:`DepthPredictor`.
    Raises ValueError or OSError for a parameter or weights that will not do.
    """

    def __init__(self, predictor=None, **options):
        super().__init__('depth_node', **options)
        self._settings = declare(self, SETTINGS)
        if predictor is None:
            predictor = DepthPredictor(**{name: self._settings[name] for name in (
                'weights', 'device', 'precision', 'fit', 'runtime', 'focal_correction')})
            predictor(np.zeros((480, 640, 3), np.uint8))  # the first run is the slow one
        self._predictor = predictor
        cv_bridge_encodings()  # so is the first look at cv_bridge
        self.add_on_set_parameters_callback(self._change_settings)

        # Reliable, as RViz asks for by default; best-effort listeners match it as well.
        # (A profile for each: rclpy writes a topic's overrides into it.)
        overrides = QoSOverridingOptions.with_default_policies()
        self._depth_publisher, self._info_publisher, self._cloud_publisher = (
            self.create_publisher(kind, topic, QoSProfile(depth=2),
                                  qos_overriding_options=overrides)
            for kind, topic in ((Image, 'depth/image'), (CameraInfo, 'depth/camera_info'),
                                (PointCloud2, 'depth/points')))
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._image_topic = self.resolve_topic_name('image')
        self._inputs = [_Input(self, self._image_topic, Image, self._take_image)
                        if self._settings['image_transport'] == 'raw' else
                        _Input(self, self._image_topic + '/compressed', CompressedImage,
                               self._take_image),
                        _Input(self, self.resolve_topic_name('camera_info'), CameraInfo,
                               self._take_camera_info)]
        self._camera_info = None
        self._camera = (None, None, None)  # what it was made from, intrinsics, rectification
        self._complaints = {}

        self._received = self._published = self._dropped = 0
        self._counted = (time.monotonic(), 0, 0)
        self._latencies = deque(maxlen=300)
        self._mailbox, self._closing = None, False
        self._arrived = threading.Condition()
        self._worker = threading.Thread(target=self._work, name='depth', daemon=True)
        self._worker.start()
        self.create_timer(0.2, self._follow_demand)
        self.create_timer(1.0, self._report)
        self.get_logger().info(
            f'weights {self._settings["weights"]}, listening to {self._image_topic}')

    # --- parameters -------------------------------------------------------------------

    def _change_settings(self, parameters):
        known = {setting.name: setting for setting in SETTINGS}
        for parameter in parameters:
            reason = parameter.name in known and known[parameter.name].refusal(parameter.value)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        self._settings = {**self._settings,
                          **{p.name: p.value for p in parameters if p.name in known}}
        return SetParametersResult(successful=True)

    # --- subscriptions ----------------------------------------------------------------

    def _wanted(self, *publishers):
        return any(publisher.get_subscription_count() for publisher in publishers)

    def _follow_demand(self):
        """Listen to the camera only while somebody listens to us."""
        wanted = self._wanted(self._depth_publisher, self._info_publisher, self._cloud_publisher)
        for camera_topic in self._inputs:
            camera_topic.follow(wanted)

    def _take_camera_info(self, message):
        self._camera_info = message

    def _take_image(self, message):
        with self._arrived:
            self._received += 1
            self._dropped += self._mailbox is not None
            self._mailbox = message
            self._arrived.notify()

    # --- the network's thread ---------------------------------------------------------

    def _work(self):
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._closing or self._mailbox is not None)
                if self._closing:
                    return
                message, self._mailbox = self._mailbox, None
            try:
                self._process(message)
            except ValueError as error:
                self._complain('image', f'frame skipped: {error}')
            except Exception as error:  # the node outlives whatever one frame does
                if not self._closing and self.context.ok():
                    self._complain('frame', f'frame skipped: {type(error).__name__}: {error}')

    def _process(self, message):
        settings = self._settings
        wants_cloud = self._wanted(self._cloud_publisher)
        wants_depth = self._wanted(self._depth_publisher)
        raw = settings['image_transport'] == 'raw'
        rgb = image_to_rgb(message) if raw else compressed_to_rgb(message)
        height, width = rgb.shape[:2]
        intrinsics, rectification = self._camera_of(width, height, settings)
        if intrinsics and self._wanted(self._info_publisher):
            self._info_publisher.publish(camera_info_message(intrinsics, message.header))
        if not wants_cloud and not wants_depth:
            return
        if rectification:
            rgb = rectification.apply(rgb)
        self._predictor.fit = settings['fit']
        self._predictor.focal_correction = settings['focal_correction']
        depth = self._predictor(rgb, fx=intrinsics.fx if intrinsics else None)
        if rectification:
            depth[rectification.unseen] = np.nan
        if wants_depth:
            self._depth_publisher.publish(
                depth_to_image(depth, message.header, settings['depth_encoding']))
        if wants_cloud and intrinsics:
            self._cloud_publisher.publish(
                cloud_message(organised_cloud(depth, rgb, intrinsics), message.header))
        self._published += 1
        now = self.get_clock().now()
        self._latencies.append(
            (now - Time.from_msg(message.header.stamp, now.clock_type)).nanoseconds / 1e9)

    def _camera_of(self, width, height, settings):
        """Intrinsics and Rectification for images of this size; None for what there is not."""
        info = self._camera_info
        made_from = (width, height, settings['rectify'], settings['horizontal_fov'],
                     info and (info.width, info.height, info.distortion_model, info.k.tobytes(),
                               info.p.tobytes(), info.r.tobytes(), tuple(info.d),
                               info.binning_x, info.binning_y, str(info.roi)))
        if made_from == self._camera[0] and self._camera[1]:
            return self._camera[1:]
        named_rectified = 'rect' in self._image_topic.rsplit('/', 1)[-1]
        intrinsics = rectification = None
        reason = f'nothing came on {self.resolve_topic_name("camera_info")}'
        if info is not None:
            try:
                if settings['rectify'] == 'always' or (
                        settings['rectify'] == 'auto' and not named_rectified):
                    rectification = rectification_from_camera_info(info, width, height)
                intrinsics = rectification.rectified if rectification else (
                    intrinsics_from_camera_info(info, width, height, rectified=named_rectified))
            except ValueError as error:
                reason = f'camera_info will not do: {error}'
        if intrinsics is None and settings['horizontal_fov']:
            intrinsics = Intrinsics.from_horizontal_fov(
                width, height, settings['horizontal_fov'])
        if intrinsics is None:
            self._complain('camera_info', f'{reason}. Depth is taken to be from a camera like '
                           "NYU's, and the cloud waits; set horizontal_fov to do without")
        self._camera = (made_from, intrinsics, rectification)
        return intrinsics, rectification

    # --- what people see --------------------------------------------------------------

    def _complain(self, about, text):
        """Log a warning, but not the same trouble again within COMPLAINT_INTERVAL."""
        now = time.monotonic()
        if now - self._complaints.get(about, -COMPLAINT_INTERVAL) >= COMPLAINT_INTERVAL:
            self._complaints[about] = now
            self.get_logger().warning(text)

    def _report(self):
        now = time.monotonic()
        then, received, published = self._counted
        self._counted = (now, self._received, self._published)
        latencies = np.array(self._latencies) if self._latencies else np.array([np.nan])
        values = {
            'input rate (Hz)': f'{(self._received - received) / (now - then):.1f}',
            'output rate (Hz)': f'{(self._published - published) / (now - then):.1f}',
            'latency median (s)': f'{np.median(latencies):.3f}',
            'latency p95 (s)': f'{np.percentile(latencies, 95):.3f}',
            'received': str(self._received),
            'published': str(self._published),
            'dropped': str(self._dropped),
            'weights': self._settings['weights'],
            'device': str(getattr(self._predictor, 'device', 'none')),
        }
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK, name=f'{self.get_fully_qualified_name()}: depth',
            message='running' if self._inputs[0].subscription else 'nobody listens',
            values=[KeyValue(key=key, value=value) for key, value in values.items()])
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)

    def destroy_node(self):
        with self._arrived:
            self._closing = True
            self._arrived.notify()
        self._worker.join()
        super().destroy_node()


def main(args=None, predictor=None):
    """Run the node until it is told to stop; returns the exit status."""
    rclpy.init(args=args)
    node = None
    try:
        node = DepthNode(predictor)
        rclpy.spin(node)
        return 0
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except (OSError, ValueError) as error:
        rclpy.logging.get_logger('depth_node').fatal(str(error))
        return 1
    except Exception:
        if rclpy.ok():
            raise
        return 0  # shut down in the middle of a call to rclpy
    finally:
        if node:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    sys.exit(main())
