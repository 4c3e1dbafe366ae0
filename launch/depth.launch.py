"""Camera, depth node and viewer: ``ros2 launch hybrid_depth_ros depth.launch.py``."""

from typing import Any

from launch import LaunchDescription
from launch_ros.actions import LifecycleNode, Node

from hybrid_depth_ros.nodes.shared.launch_arguments import (
    COMMON_ARGUMENTS,
    Argument,
    check_name,
    depth_node,
    depth_topics,
    launch_description,
    package_node,
)
from hybrid_depth_ros.nodes.shared.launch_bag import find_images, play_bag
from hybrid_depth_ros.nodes.shared.launch_rviz import (
    ROOM_HEIGHT,
    TO_OPTICAL,
    body_frame_of,
    body_transform,
    rviz,
    rviz_configuration,
    static_transform,
)

ARGUMENTS = (
    Argument('camera', 'room', 'room (the virtual room), a device (its number or file), a video, '
             "a stream's URL, an image or a folder of images, or none: another driver publishes"),
    Argument('image', 'image', 'image topic to listen to with camera:=none or a bag'),
    Argument('camera_info', '', 'camera_info topic to listen to; empty: camera_info beside image'),
    Argument('image_transport', '', 'raw or compressed; empty: as in params_file, or in the bag',
             choices=('', 'raw', 'compressed')),
    Argument('namespace', '', 'namespace of the nodes'),
    Argument('optical_frame', 'camera_optical_frame', "the camera's frame_id"),
    Argument('body_frame', '', 'publish the static transform from this frame (x forward, z up) '
             'to optical_frame; empty: none'),
    Argument('fixed_frame', '', "RViz's fixed frame, as odom; empty: body_frame, or one like it at "
             'optical_frame'),
    Argument('viewer_host', '', 'address of the page with viewer:=web; 0.0.0.0: for every machine '
             'that reaches this one; empty: as in params_file, or this machine alone'),
    Argument('bag', '', 'recording to play with ros2 bag play --clock, instead of a camera; its '
             'depth is left out'),
    *COMMON_ARGUMENTS,
)


def start(given: dict[str, Any]) -> list[Any]:
    """Describe the processes that the arguments ask for."""
    if given['namespace']:
        check_name('namespace', given['namespace'])
    bag, own_camera = given['bag'], not given['bag'] and given['camera'] != 'none'
    given['use_sim_time'] |= bool(bag)
    image, namespace = 'image_raw' if own_camera else given['image'], given['namespace']
    topics = depth_topics(given, image)
    if bag:
        given['image_transport'] = find_images(given, image)
    managed: dict[str, Any] = {'action': LifecycleNode, 'name': 'depth_node'} if bag else {}
    node = depth_node(given, {'optical_frame': given['optical_frame']}, namespace=namespace,
                      remappings=topics, **managed)
    actions: list[Any] = [*(play_bag(given, node) if bag else ()), node]
    if own_camera:
        actions.append(package_node(
            given, 'camera_node', {'source': given['camera'], 'frame_id': given['optical_frame']},
            namespace=namespace, remappings=[('camera_info', dict(topics)['camera_info'])]))
    if given['body_frame']:
        actions.append(static_transform(given, given['body_frame'], given['optical_frame'],
                                        TO_OPTICAL, namespace=namespace))
    if given['viewer'] == 'web':
        host = {'host': given['viewer_host']} if given['viewer_host'] else {}
        actions.append(package_node(given, 'viewer_node', host, namespace=namespace,
                                    output='screen', remappings=[('image', image)]))
    elif given['viewer'] == 'rviz':
        actions += start_rviz(given, image, own_camera)
    return actions


def start_rviz(given: dict[str, Any], image: str, own_camera: bool) -> list[Any]:
    """Describe RViz and, where nobody else has a frame with z up, the one that it shows all in."""
    fixed_frame = given['fixed_frame'] or given['body_frame']
    floor = 0.0
    if not fixed_frame:  # at the camera, so the floor is below
        in_room = own_camera and given['camera'] == 'room'
        floor = -float(given['camera_height'] or (ROOM_HEIGHT if in_room else 0))
    topics = {'/image_raw': image, '/image_raw/compressed': f'{image}/compressed', **{
        f'/depth/{name}': f'depth/{name}' for name in (
            'image', 'points', 'anchors', 'obstacles', 'scan', 'uncertainty')}}
    actions = rviz(given, fixed_frame or body_frame_of(given['optical_frame']), topics,
                   rviz_configuration(anchors=bool(given['anchors']), floor=floor,
                                      compressed=given['image_transport'] == 'compressed'),
                   namespace=given['namespace'])
    if not fixed_frame and isinstance(actions[0], Node):
        actions.append(body_transform(given, given['optical_frame'], namespace=given['namespace']))
    return actions


def generate_launch_description() -> LaunchDescription:
    """Called by ``ros2 launch``."""
    return launch_description(ARGUMENTS, start)
