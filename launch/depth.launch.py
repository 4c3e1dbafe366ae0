"""Camera, depth node and viewer: ``ros2 launch hybrid_depth_ros depth.launch.py``."""

from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import ExecuteProcess, LogInfo
from launch_ros.actions import Node

from hybrid_depth_ros.nodes.shared.launch_arguments import (
    COMMON_ARGUMENTS,
    CONFIG,
    Argument,
    check_name,
    depth_node,
    depth_topics,
    launch_description,
    package_node,
)

ROLL = YAW = '-1.5707963'  # from a body frame, x forward, to an optical one, z forward (REP 103)

ARGUMENTS = (
    Argument('camera', 'room', 'room (the virtual room), a device (its number or file), a video, '
             "a stream's URL, an image or a folder of images, or none: another driver publishes"),
    Argument('image', 'image', 'image topic to listen to with camera:=none or a bag'),
    Argument('camera_info', 'camera_info', 'camera_info topic to listen to'),
    Argument('image_transport', '', 'raw or compressed; empty: as in params_file',
             choices=('', 'raw', 'compressed')),
    Argument('namespace', '', 'namespace of the nodes'),
    Argument('viewer', 'rviz', 'rviz, web (a page in the browser) or none',
             choices=('rviz', 'web', 'none')),
    Argument('rviz_config', str(CONFIG / 'depth.rviz'), 'what RViz shows'),
    Argument('optical_frame', 'camera_optical_frame', "the camera's frame_id, and RViz's fixed "
             'frame'),
    Argument('body_frame', '', 'publish the static transform from this frame (x forward, z up) '
             'to optical_frame; empty: none'),
    Argument('bag', '', 'recording to play with ros2 bag play --clock, instead of a camera'),
    *COMMON_ARGUMENTS,
)


def installed(package: str) -> bool:
    """Whether a ROS package is there."""
    try:
        return bool(get_package_share_directory(package))
    except PackageNotFoundError:
        return False


def start(given: dict[str, Any]) -> list[Any]:
    """Describe the processes that the arguments ask for."""
    if given['namespace']:
        check_name('namespace', given['namespace'])
    bag, own_camera = given['bag'], not given['bag'] and given['camera'] != 'none'
    given['use_sim_time'] |= bool(bag)
    image, namespace = 'image_raw' if own_camera else given['image'], given['namespace']
    actions = [depth_node(given, namespace=namespace, remappings=depth_topics(given, image))]
    if own_camera:
        actions.append(package_node(
            given, 'camera_node', {'source': given['camera'], 'frame_id': given['optical_frame']},
            namespace=namespace, remappings=[('camera_info', given['camera_info'])]))
    if bag:
        actions.append(ExecuteProcess(cmd=['ros2', 'bag', 'play', bag, '--clock'],
                                      output='screen'))
    if given['body_frame']:
        actions.append(package_node(
            given, 'static_transform_publisher', package='tf2_ros', namespace=namespace,
            arguments=['--frame-id', given['body_frame'], '--child-frame-id',
                       given['optical_frame'], '--roll', ROLL, '--yaw', YAW]))
    if given['viewer'] == 'web':
        actions.append(package_node(given, 'viewer_node', namespace=namespace, output='screen',
                            remappings=[('image', image)]))
    elif given['viewer'] == 'rviz' and not installed('rviz2'):
        actions.append(LogInfo(msg='rviz2 is not installed: nothing is shown. Install it '
                               '(apt install ros-$ROS_DISTRO-rviz2), or use viewer:=web'))
    elif given['viewer'] == 'rviz':
        actions.append(Node(
            package='rviz2', executable='rviz2', namespace=namespace,
            parameters=[{'use_sim_time': given['use_sim_time']}],
            arguments=['-d', given['rviz_config'], '-f', given['optical_frame']],
            remappings=[('/image_raw', image), ('/depth/image', 'depth/image'),
                        ('/depth/points', 'depth/points')]))
    return actions


def generate_launch_description() -> LaunchDescription:
    """Called by ``ros2 launch``."""
    return launch_description(ARGUMENTS, start)
