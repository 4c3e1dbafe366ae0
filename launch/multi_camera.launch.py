"""Several cameras on one network: ``ros2 launch hybrid_depth_ros multi_camera.launch.py``."""

from typing import Any

from launch import LaunchDescription

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

ARGUMENTS = (
    Argument('cameras', 'front,rear,left,right', 'names of the cameras, a namespace each'),
    Argument('sources', 'room,room,room,room', 'what each camera node reads (room, device, '
             'video, URL, image, folder), or none: other drivers publish'),
    Argument('image', 'image_raw', "image topic in each camera's namespace"),
    Argument('camera_info', 'camera_info', "camera_info topic in each camera's namespace"),
    Argument('rate', '0.0', "frames per second of each camera node; 0: the source's own"),
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
    topics = [(f'{name}/{ours}', theirs if theirs.startswith('/') else f'{name}/{theirs}')
              for name in cameras for ours, theirs in depth_topics(given, given['image'])]
    return [
        depth_node(given, {'cameras': cameras}, remappings=topics),
        *(package_node(given, 'camera_node', {'source': source, 'seed': place, 'rate': rate,
                                      'frame_id': f'{name}_optical_frame'},
               namespace=name, remappings=[('image_raw', given['image']),
                                           ('camera_info', given['camera_info'])])
          for place, (name, source) in enumerate(zip(cameras, sources)))]


def generate_launch_description() -> LaunchDescription:
    """Called by ``ros2 launch``."""
    return launch_description(ARGUMENTS, start)
