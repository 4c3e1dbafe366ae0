"""A camera as a ROS 2 node: device, video, folder of images, or the virtual room."""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_node
    begin_node()

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, LaserScan
from std_msgs.msg import Header

from hybrid_depth_ros.calibration import camera_model_from_info
from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.shared.calibration_files import camera_info_from_yaml
from hybrid_depth_ros.nodes.shared.header_checks import frame_id_warning
from hybrid_depth_ros.nodes.shared.messages import (
    camera_info_message,
    depth_to_image,
    rgb_to_image,
)
from hybrid_depth_ros.nodes.shared.parameters import (
    RefusalMessages,
    declare_parameters,
    parameter,
    settings_of,
)
from hybrid_depth_ros.nodes.shared.run_node import run_node
from hybrid_depth_ros.nodes.shared.subscription import publisher_qos_overrides
from hybrid_depth_ros.nodes.shared.transforms import publish_static_transform
from hybrid_depth_ros.poses import Pose, quaternion_from_pose, read_pose
from hybrid_depth_ros.sources import (
    LIDAR_ANGLES,
    LIDAR_POSE,
    LIDAR_RANGE,
    SOURCE_HELP,
    LiveSource,
    RoomSource,
    open_source,
    redact_password,
)

try:  # only the virtual room needs it
    from nav_msgs.msg import Odometry
except ImportError:
    Odometry = None

ROOM_FOV = 63.3  # degrees: NYU Depth v2's colour camera

@dataclass(frozen=True)
class CameraSettings:
    """The camera node's parameters."""

    source: str = parameter('room', SOURCE_HELP, any_type=True)
    rate: float = parameter(
        0.0, "frames per second; 0: the source's own", range=(0.0, 1000.0), unit='Hz')
    loop: bool = parameter(True, 'start a video or folder again at its end')
    frame_id: str = parameter('camera_optical_frame', 'optical frame in the headers (REP 103)')
    calibration: str = parameter(
        '', "camera calibration file (YAML, or OpenCV's) or its file:// or package:// URL, of "
        'pixels as stored; empty: none')
    width: int = parameter(
        640, "width of the room's image, asked of a device", range=(1, 8192), unit='pixels')
    height: int = parameter(
        480, "height of the room's image, asked of a device", range=(1, 8192), unit='pixels')
    horizontal_fov: float = parameter(
        0.0, "the camera's field of view where there is no calibration; 0: unknown, and "
        f'{ROOM_FOV} for the room', range=(0.0, 179.0), unit='degrees')
    seed: int = parameter(0, 'which room is furnished', range=(0, 2**31 - 1))


SETTINGS = settings_of(CameraSettings)


class CameraNode(RefusalMessages, Node):
    """Publishes ``image_raw`` and ``camera_info``, and the room's ``depth_ground_truth``,
    ``depth_registered``, what a depth camera with its holes measures of that, ``scan``, of a lidar
    whose static transform is sent where tf2_ros is installed, and ``odom``, the camera's pose,
    where nav_msgs is.

    ``exit_status`` is None while frames come.

    Args:
        options: Of rclpy's node.

    Raises:
        OSError: For a source that will not do.
        ValueError: For a parameter or a source that will not do.
    """

    settings = SETTINGS

    def __init__(self, **options: Any) -> None:
        super().__init__('camera_node', **options)
        self.exit_status: int | None = None
        settings = declare_parameters(self, CameraSettings)
        self._frame_id, self._fov = settings.frame_id, settings.horizontal_fov
        if trouble := frame_id_warning(Header(frame_id=self._frame_id)):
            self.get_logger().warning(trouble.replace("in the camera's driver", 'by frame_id:=…'))
        self._calibration_file = settings.calibration
        self._calibration_fits: dict[tuple[int, int], bool] = {}  # by width and height
        self._calibration = (camera_info_from_yaml(settings.calibration)
                             if settings.calibration else None)
        self._source = open_source(
            settings.source, width=settings.width, height=settings.height,
            horizontal_fov=self._fov or ROOM_FOV, seed=settings.seed, rate=settings.rate,
            loop=settings.loop, as_stored=self._calibration is not None)
        self._info_publisher = self._publisher(CameraInfo, 'camera_info')
        self._image_publisher = self._publisher(Image, 'image_raw')
        self._truth_publisher = self._scan_publisher = self._odometry_publisher = None
        self._depth_publisher = None
        self._lidar_frame = self._frame_id.removesuffix('_optical_frame') + '_lidar'
        lidar_pose = read_pose(LIDAR_POSE)
        if isinstance(self._source, RoomSource) and lidar_pose is not None:
            self._truth_publisher = self._publisher(Image, 'depth_ground_truth')
            self._depth_publisher = self._publisher(Image, 'depth_registered')
            self._scan_publisher = self._publisher(LaserScan, 'scan')
            if Odometry is not None:
                self._odometry_publisher = self._publisher(Odometry, 'odom')
            self._transform = publish_static_transform(
                self, self._frame_id, self._lidar_frame, lidar_pose)
        self._name, self._asked_rate = redact_password(settings.source), settings.rate
        self._errors: set[str] | None = None  # since the last frame; None: none came yet
        self._live = isinstance(self._source, LiveSource)
        self._timer = self.create_timer(1 / (self._asked_rate or self._source.rate), self._publish)
        if not self._live:
            self._log_source(f'at {self._asked_rate or self._source.rate:g} Hz')

    def _publisher(self, kind: type[Any], topic: str) -> Publisher:
        return self.create_publisher(kind, topic, QoSProfile(depth=2),
                                     qos_overriding_options=publisher_qos_overrides())

    def _log_source(self, text: str) -> None:
        self.get_logger().info(f'{self._name} {text}')
        if self._source.warning:
            self.get_logger().warning(self._source.warning)

    def _log_error(self, error: OSError) -> None:
        """Log each error once, until there are frames again."""
        self._errors = self._errors or set()
        if str(error) not in self._errors:
            self._errors.add(str(error))
            self.get_logger().error(explain(error))

    def _log_recovery(self) -> None:
        """Log a live camera's first frame, or its first again."""
        if self._errors is None or self._errors:
            self._log_source(f'gives frames{" again" if self._errors else ""}')
            self._timer.timer_period_ns = int(1e9 / (self._asked_rate or self._source.rate))
        self._errors = set()

    def _has_subscribers(self) -> bool:
        return any(publisher and publisher.get_subscription_count() for publisher in (
            self._info_publisher, self._image_publisher, self._truth_publisher,
            self._depth_publisher, self._scan_publisher))

    def _publish(self) -> None:
        # A file waits for its first listener; a device's frames must not pile up.
        if self.exit_status is not None:
            return
        if not self._has_subscribers() and not self._live:
            return
        try:
            frame = self._source.read()
        except OSError as error:
            if self._live:
                self._log_error(error)
            elif self._source.recoverable:
                self.get_logger().error(explain(error))
            else:
                self.get_logger().fatal(explain(error))
                self.exit_status = 1
            return
        if frame is None:
            if self._source.ended:
                self.get_logger().info('the source is at its end')
                self.exit_status = 0
            return
        if self._live:
            self._log_recovery()
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        height, width = frame.rgb.shape[:2]
        # first, so that both are known when the image comes
        if (self._scan_publisher and isinstance(self._source, RoomSource)
                and self._scan_publisher.get_subscription_count()):
            self._scan_publisher.publish(self._scan(self._source.scan(), header.stamp))
        if (self._odometry_publisher and isinstance(self._source, RoomSource)
                and self._odometry_publisher.get_subscription_count()):
            self._odometry_publisher.publish(self._odometry(self._source.pose(), header.stamp))
        if (self._depth_publisher and isinstance(self._source, RoomSource)
                and self._depth_publisher.get_subscription_count()):
            self._depth_publisher.publish(depth_to_image(
                self._source.registered_depth(frame), header, '32FC1'))
        self._info_publisher.publish(self._camera_info(width, height, header))
        self._image_publisher.publish(rgb_to_image(frame.rgb, header))
        if (self._truth_publisher and frame.depth is not None
                and self._truth_publisher.get_subscription_count()):
            self._truth_publisher.publish(depth_to_image(frame.depth, header, '32FC1'))

    def _scan(self, ranges: npt.NDArray[np.floating], stamp: Time) -> LaserScan:
        nearest, farthest = LIDAR_RANGE
        return LaserScan(
            header=Header(stamp=stamp, frame_id=self._lidar_frame),
            angle_min=float(LIDAR_ANGLES[0]), angle_max=float(LIDAR_ANGLES[-1]),
            angle_increment=float(LIDAR_ANGLES[1] - LIDAR_ANGLES[0]),
            range_min=nearest, range_max=farthest, ranges=ranges.tolist())

    def _odometry(self, pose: Pose, stamp: Time) -> Any:
        message = Odometry(header=Header(stamp=stamp, frame_id='odom'),
                           child_frame_id=self._frame_id)
        position, orientation = message.pose.pose.position, message.pose.pose.orientation
        position.x, position.y, position.z = pose[:3, 3].tolist()
        orientation.x, orientation.y, orientation.z, orientation.w = quaternion_from_pose(pose)
        return message

    def _camera_info(self, width: int, height: int, header: Header) -> CameraInfo:
        calibration = self._calibration
        if calibration is not None and self._is_calibrated(calibration, width, height):
            calibration.header = header
            return calibration
        if self._source.intrinsics:
            return camera_info_message(self._source.intrinsics, header)
        if self._fov:
            return camera_info_message(
                Intrinsics.from_horizontal_fov(width, height, self._fov), header)
        # all-zero K: not calibrated (sensor_msgs/CameraInfo)
        return CameraInfo(header=header, width=width, height=height)

    def _is_calibrated(self, calibration: CameraInfo, width: int, height: int) -> bool:
        """Whether the calibration file is for images of this shape; logs once where it isn't."""
        if (width, height) not in self._calibration_fits:
            try:
                model = camera_model_from_info(calibration, width, height, rectify=False)
                note, fits = model.note, True
            except ValueError as error:
                note, fits = f'{error}; until then the file is not used', False
            if note:
                self.get_logger().warning(f'calibration {self._calibration_file}: {note}')
            self._calibration_fits[width, height] = fits
        return self._calibration_fits[width, height]

    def destroy_node(self) -> None:
        """Close the source."""
        self._source.close()
        super().destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until its source ends; returns the exit status."""
    return run_node('camera_node', CameraNode, args)


if __name__ == '__main__':
    sys.exit(main())
