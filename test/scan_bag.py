"""A recording of a virtual robot: colour images, a lidar's scans, an ultrasound's ranges."""

import numpy as np
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from hybrid_depth_ros.poses import quaternion_from_pose
from hybrid_depth_ros.sources import LIDAR_ANGLES, LIDAR_RANGE, RoomSource

STORE = get_typestore(Stores.ROS2_JAZZY)
START = 1_700_000_000_000_000_000  # ns
CONE = 0.4  # rad, of the ultrasound at the camera's place


def nearest_in_cone(depth, camera):
    """Metres to what an ultrasound hears at the camera's place, looking along its axis."""
    v, u = np.mgrid[:depth.shape[0], :depth.shape[1]]
    rays = np.dstack(((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy,
                      np.ones(depth.shape)))
    length = np.linalg.norm(rays, axis=2)
    return np.percentile((depth * length)[1 / length > np.cos(CONE / 2)], 5)


def odometry_message(header, pose):
    """The pose of the camera, 4×4, as of its own frame."""
    types = {name: STORE.types[f'geometry_msgs/msg/{name}'] for name in (
        'Pose', 'PoseWithCovariance', 'Point', 'Quaternion', 'Twist', 'TwistWithCovariance',
        'Vector3')}
    still = types['Vector3'](0.0, 0.0, 0.0)
    return STORE.types['nav_msgs/msg/Odometry'](
        header, 'camera', types['PoseWithCovariance'](types['Pose'](
            types['Point'](*pose[:3, 3].tolist()),
            types['Quaternion'](*quaternion_from_pose(pose))), np.zeros(36)),
        types['TwistWithCovariance'](types['Twist'](still, still), np.zeros(36)))


def write_scan_bag(path, seeds, frames, size=(320, 240), fps=2.0, calibrated=True, scale=1.0,
                   odometry=False):
    """A robot's walk through rooms, one after the other.

    Args:
        path: The recording, a new folder.
        seeds: Of the rooms.
        frames: In each room.
        size: Of the images.
        fps: Frames a second.
        calibrated: Whether camera_info is recorded.
        scale: Of the rooms, the robot and its steps: 1.5 are halls.
        odometry: Whether the camera's pose is recorded.

    Returns:
        (rgb, true depth) of each frame, and the Intrinsics.
    """
    types, seen = STORE.types, []
    Header, Time = types['std_msgs/msg/Header'], types['builtin_interfaces/msg/Time']
    Image, Info = types['sensor_msgs/msg/Image'], types['sensor_msgs/msg/CameraInfo']
    Range = types['sensor_msgs/msg/Range']
    Scan, Roi = types['sensor_msgs/msg/LaserScan'], types['sensor_msgs/msg/RegionOfInterest']
    with Writer(path, version=9) as bag:
        topics = {topic: bag.add_connection(topic, kind.__msgtype__, typestore=STORE)
                  for topic, kind in (('/image', Image), ('/camera_info', Info), ('/scan', Scan),
                                      ('/range', Range),
                                      *[('/odom', types['nav_msgs/msg/Odometry'])] * odometry)}

        def put(topic, stamp, message):
            bag.write(topics[topic], stamp, STORE.serialize_cdr(message, message.__msgtype__))
        for walk, seed in enumerate(seeds):
            source = RoomSource(*size, rate=fps, seed=seed)
            camera = source.intrinsics
            for number in range(frames):
                stamp = START + round((walk * (frames + 20) + number) * 1e9 / fps)
                rgb, depth = source.read()
                depth = scale * depth
                seen.append((rgb, depth))

                def header(frame, stamp=stamp):
                    return Header(Time(stamp // 10**9, stamp % 10**9), frame)
                put('/scan', stamp, Scan(
                    header('lidar'), float(LIDAR_ANGLES[0]), float(LIDAR_ANGLES[-1]),
                    float(LIDAR_ANGLES[1] - LIDAR_ANGLES[0]), 0.0, 0.0,
                    *(scale * limit for limit in LIDAR_RANGE), scale * source.scan(),
                    np.zeros(0, np.float32)))
                put('/range', stamp, Range(header('sonar'), 0, CONE, 0.02, 8.0,
                                           float(nearest_in_cone(depth, camera)), 0.0))
                if odometry:
                    put('/odom', stamp, odometry_message(header('odom'), source.pose()))
                if calibrated:
                    put('/camera_info', stamp + 1, Info(
                        header('camera'), camera.height, camera.width, 'plumb_bob', np.zeros(5),
                        camera.matrix.ravel(), np.eye(3).ravel(),
                        np.hstack((camera.matrix, np.zeros((3, 1)))).ravel(), 0, 0,
                        Roi(0, 0, 0, 0, False)))
                put('/image', stamp + 2, Image(header('camera'), camera.height, camera.width,
                                               'rgb8', 0, 3 * camera.width, rgb.ravel()))
    return seen, camera
