"""A camera as a ROS 2 node: device, video, folder of images, or the virtual room."""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_node
    begin_node()

import sys

from rclpy.node import Node
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
from hybrid_depth_ros.nodes.shared.parameters import RefusalMessages, Setting, declare_parameters
from hybrid_depth_ros.nodes.shared.run_node import run_node
from hybrid_depth_ros.nodes.shared.subscription import publisher_qos_overrides
from hybrid_depth_ros.nodes.shared.transforms import publish_static_transform
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.sources import (
    LIDAR_ANGLES,
    LIDAR_POSE,
    LIDAR_RANGE,
    SOURCE_HELP,
    LiveSource,
    open_source,
    redact_password,
)

ROOM_FOV = 63.3  # degrees: NYU Depth v2's colour camera

SETTINGS = (
    Setting('source', 'room', SOURCE_HELP, any_type=True),
    Setting('rate', 0.0, "frames per second; 0: the source's own", range=(0.0, 1000.0),
            unit='Hz'),
    Setting('loop', True, 'start a video or folder again at its end'),
    Setting('frame_id', 'camera_optical_frame', 'optical frame in the headers (REP 103)'),
    Setting('calibration', '', "camera calibration file (YAML, or OpenCV's) or its file:// or "
            'package:// URL, of pixels as stored; empty: none'),
    Setting('width', 640, "width of the room's picture, asked of a device", range=(1, 8192),
            unit='pixels'),
    Setting('height', 480, "height of the room's picture, asked of a device", range=(1, 8192),
            unit='pixels'),
    Setting('horizontal_fov', 0.0, "the camera's field of view where there is no calibration; "
            f"0: unknown, and {ROOM_FOV} for the room", range=(0.0, 179.0), unit='degrees'),
    Setting('seed', 0, 'which room is furnished', range=(0, 2**31 - 1)),
)


class CameraNode(RefusalMessages, Node):
    """Publishes ``image_raw`` and ``camera_info``, and the room's ``depth_ground_truth`` and
    ``scan``, of a lidar whose static transform is sent where tf2_ros is installed.

    Raises ValueError or OSError for a parameter or a source that will not do.
    ``exit_status`` is None while frames come.
    """

    settings = SETTINGS

    def __init__(self, **options):
        super().__init__('camera_node', **options)
        self.exit_status = None
        values = declare_parameters(self, SETTINGS)
        self._frame_id, self._fov = values['frame_id'], values['horizontal_fov']
        if trouble := frame_id_warning(Header(frame_id=self._frame_id)):
            self.get_logger().warning(trouble.replace("in the camera's driver", 'by frame_id:=…'))
        self._calibration_file, self._fits = values['calibration'], {}
        self._calibration = (camera_info_from_yaml(values['calibration'])
                             if values['calibration'] else None)
        self._source = open_source(
            values['source'], width=values['width'], height=values['height'],
            horizontal_fov=self._fov or ROOM_FOV, seed=values['seed'], rate=values['rate'],
            loop=values['loop'], as_stored=self._calibration is not None)
        overrides = publisher_qos_overrides()
        self._outputs = (
            self._info_publisher, self._image_publisher, self._truth_publisher,
            self._scan_publisher) = tuple(
            self.create_publisher(kind, topic, QoSProfile(depth=2),
                                  qos_overriding_options=overrides)
            if not truth or values['source'] == 'room' else None
            for kind, topic, truth in (
                (CameraInfo, 'camera_info', False), (Image, 'image_raw', False),
                (Image, 'depth_ground_truth', True), (LaserScan, 'scan', True)))
        self._lidar_frame = self._frame_id.removesuffix('_optical_frame') + '_lidar'
        self._transform = self._scan_publisher and publish_static_transform(
            self, self._frame_id, self._lidar_frame, read_pose(LIDAR_POSE))
        self._name, self._asked_rate = redact_password(values['source']), values['rate']
        self._told = None  # troubles of a camera since its last frame; None: none came yet
        self._live = isinstance(self._source, LiveSource)
        self._timer = self.create_timer(1 / (self._asked_rate or self._source.rate), self._publish)
        if not self._live:
            self._say_source(f'at {self._asked_rate or self._source.rate:g} Hz')

    def _say_source(self, text):
        self.get_logger().info(f'{self._name} {text}')
        if self._source.warning:
            self.get_logger().warning(self._source.warning)

    def _say_trouble(self, error):
        """Once of each kind, until there are frames again."""
        self._told = self._told or set()
        if str(error) not in self._told:
            self._told.add(str(error))
            self.get_logger().error(explain(error))

    def _welcome(self):
        """A live camera's first frame, or its first again."""
        if self._told is None or self._told:
            self._say_source(f'gives frames{" again" if self._told else ""}')
            self._timer.timer_period_ns = int(1e9 / (self._asked_rate or self._source.rate))
        self._told = set()

    def _listeners(self):
        return sum(p.get_subscription_count() for p in self._outputs if p)

    def _publish(self):
        # A file waits for its first listener; a device's frames must not pile up.
        if self.exit_status is not None:
            return
        if not self._listeners() and not self._live:
            return
        try:
            frame = self._source.read()
        except OSError as error:
            if self._live:
                self._say_trouble(error)
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
            self._welcome()
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        height, width = frame.rgb.shape[:2]
        # first, so that both are known when the image comes
        if self._scan_publisher and self._scan_publisher.get_subscription_count():
            self._scan_publisher.publish(self._scan(header.stamp))
        self._info_publisher.publish(self._camera_info(width, height, header))
        self._image_publisher.publish(rgb_to_image(frame.rgb, header))
        if self._truth_publisher and self._truth_publisher.get_subscription_count():
            self._truth_publisher.publish(depth_to_image(frame.depth, header, '32FC1'))

    def _scan(self, stamp):
        nearest, farthest = LIDAR_RANGE
        return LaserScan(
            header=Header(stamp=stamp, frame_id=self._lidar_frame),
            angle_min=float(LIDAR_ANGLES[0]), angle_max=float(LIDAR_ANGLES[-1]),
            angle_increment=float(LIDAR_ANGLES[1] - LIDAR_ANGLES[0]),
            range_min=nearest, range_max=farthest, ranges=self._source.scan().tolist())

    def _camera_info(self, width, height, header):
        if self._calibration is not None and self._calibrated(width, height):
            self._calibration.header = header
            return self._calibration
        if self._source.intrinsics:
            return camera_info_message(self._source.intrinsics, header)
        if self._fov:
            return camera_info_message(
                Intrinsics.from_horizontal_fov(width, height, self._fov), header)
        # all-zero K: not calibrated (sensor_msgs/CameraInfo)
        return CameraInfo(header=header, width=width, height=height)

    def _calibrated(self, width, height):
        """Whether the calibration file is for images of this shape; says once where it isn't."""
        if (width, height) not in self._fits:
            try:
                model = camera_model_from_info(self._calibration, width, height, rectify=False)
                said, fits = model.note, True
            except ValueError as error:
                said, fits = f'{error}; until then the file is not used', False
            if said:
                self.get_logger().warning(f'calibration {self._calibration_file}: {said}')
            self._fits[width, height] = fits
        return self._fits[width, height]

    def destroy_node(self):
        self._source.close()
        super().destroy_node()


def main(args=None):
    """Run the node until its source ends; returns the exit status."""
    return run_node('camera_node', CameraNode, args)


if __name__ == '__main__':
    sys.exit(main())
