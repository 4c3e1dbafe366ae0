"""Camera node and depth node: ``ros2 launch hybrid_depth_ros depth.launch.py``."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import UnlessCondition
from launch.substitutions import (
    EqualsSubstitution,
    IfElseSubstitution,
    LaunchConfiguration,
    PathJoinSubstitution,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    camera = LaunchConfiguration('camera')
    another_camera = EqualsSubstitution(camera, 'none')
    image = IfElseSubstitution(another_camera, LaunchConfiguration('image'), 'image_raw')
    return LaunchDescription([
        DeclareLaunchArgument(
            'camera', default_value='room',
            description='room (the virtual room), a device number, a video file, a folder of '
            'images, or none to listen to another camera'),
        DeclareLaunchArgument(
            'image', default_value='image',
            description='image topic to listen to with camera:=none'),
        DeclareLaunchArgument(
            'camera_info', default_value='camera_info',
            description='camera_info topic to listen to'),
        DeclareLaunchArgument(
            'namespace', default_value='', description='namespace of both nodes'),
        DeclareLaunchArgument(
            'weights', default_value='lite-nyu', description='registered name or file'),
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution(
                [FindPackageShare('hybrid_depth_ros'), 'config', 'depth.yaml']),
            description='parameters of both nodes'),
        Node(
            package='hybrid_depth_ros', executable='camera_node',
            namespace=LaunchConfiguration('namespace'), condition=UnlessCondition(another_camera),
            parameters=[LaunchConfiguration('params_file'),
                        {'source': ParameterValue(camera, value_type=str)}]),
        Node(
            package='hybrid_depth_ros', executable='depth_node',
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration('params_file'),
                        {'weights': LaunchConfiguration('weights')}],
            remappings=[('image', image),
                        ('camera_info', LaunchConfiguration('camera_info'))]),
    ])
