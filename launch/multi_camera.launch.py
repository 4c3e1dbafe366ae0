"""Several cameras on one network: ``ros2 launch hybrid_depth_ros multi_camera.launch.py``."""

from typing import Any

from launch import LaunchDescription
from launch_ros.actions import Node

from hybrid_depth_ros.nodes.shared.launch_arguments import (
    COMMON_ARGUMENTS,
    Argument,
    check_name,
    depth_node,
    depth_topics,
    launch_description,
    package_node,
    parse_number,
)
from hybrid_depth_ros.nodes.shared.launch_rviz import (
    ALL_CAMERAS,
    APART,
    TO_OPTICAL,
    rviz,
    rviz_configuration,
    static_transform,
)

ARGUMENTS = (
    Argument('cameras', 'front,rear,left,right', 'names of the cameras, a namespace each'),
    Argument('sources', 'room,room,room,room', 'what each camera node reads (room, device, '
             'video, URL, image, folder), or none: other drivers publish'),
    Argument('image', 'image_raw', "image topic in each camera's namespace"),
    Argument('camera_info', '', "camera_info topic in each camera's namespace; empty: camera_info "
             'beside image'),
    Argument('rate', '0.0', "frames per second of each camera node; 0: the source's own"),
    Argument('fixed_frame', '', "RViz's fixed frame, as base_link; empty: base_link with "
             'sources:=none, else the clouds side by side'),
    *COMMON_ARGUMENTS,
)


def start(given: dict[str, Any]) -> list[Any]:
    """Describe one depth node, and a camera node for each source."""
    cameras = [name.strip() for name in given['cameras'].split(',')]
    for name in cameras:
        check_name('cameras', name)
    sources = [source.strip() for source in given['sources'].split(',')]
    sources = [] if sources == ['none'] else sources
    if sources and len(sources) != len(cameras):
        raise RuntimeError(f'sources names {len(sources)}, cameras {len(cameras)}: give one '
                           'source for each camera, or sources:=none')
    rate = parse_number(given, 'rate', 'a number of Hz')
    ours = depth_topics(given, given['image'])
    topics = [(f'{name}/{own}', theirs if theirs.startswith('/') else f'{name}/{theirs}')
              for name in cameras for own, theirs in ours]
    actions: list[Any] = [
        depth_node(given, {'cameras': cameras}, remappings=topics),
        *(package_node(given, 'camera_node', {'source': source, 'seed': place, 'rate': rate,
                                              'frame_id': f'{name}_optical_frame'},
                       namespace=name, remappings=[('image_raw', given['image']),
                                                   ('camera_info', dict(ours)['camera_info'])])
          for place, (name, source) in enumerate(zip(cameras, sources)))]
    if given['viewer'] == 'web':
        raise RuntimeError("viewer:=web shows one camera: give viewer:=none, and start for one of "
                           'them `ros2 run hybrid_depth_ros viewer_node --ros-args -r '
                           f'__ns:=/{cameras[0]} -r image:={given["image"]}`')
    if given['viewer'] == 'rviz':
        actions += start_rviz(given, cameras, own_cameras=bool(sources))
    return actions


def start_rviz(given: dict[str, Any], cameras: list[str], own_cameras: bool) -> list[Any]:
    """Describe RViz. Where nobody knows the cameras' poses, RViz alone hears of made-up ones."""
    topics = {f'/{name}/depth/{topic}': f'{name}/depth/{topic}'
              for name in cameras
              for topic in ('points', 'anchors', 'obstacles', 'scan')}
    anchors = bool(given['anchors'])
    if given['fixed_frame'] or not own_cameras:
        return rviz(given, given['fixed_frame'] or 'base_link', topics,
                    rviz_configuration(cameras, anchors))
    configuration = rviz_configuration(cameras, anchors, width=APART * (len(cameras) - 1))
    apart = [(f'/{topic}', f'rviz/{topic}') for topic in ('tf', 'tf_static')]
    actions = rviz(given, ALL_CAMERAS, topics, configuration, remappings=apart)
    if isinstance(actions[0], Node):
        actions += [static_transform(
            given, ALL_CAMERAS, f'{name}_optical_frame', {**TO_OPTICAL, 'y': -APART * place},
            remappings=apart) for place, name in enumerate(cameras)]
    return actions


def generate_launch_description() -> LaunchDescription:
    """Called by ``ros2 launch``."""
    return launch_description(ARGUMENTS, start)
