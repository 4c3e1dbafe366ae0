"""A recording that a launch file plays: what is in it, what of it is played, and when."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from launch.actions import ExecuteProcess, LogInfo, RegisterEventHandler, Shutdown
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition

from hybrid_depth_ros.errors import list_briefly
from hybrid_depth_ros.nodes.shared.launch_arguments import installed

# What the depth node publishes itself; a test holds it against docs/parameters.md.
OUTPUT_TOPICS = (
    'depth/image', 'depth/image/compressedDepth', 'depth/image_color/compressed',
    'depth/camera_info', 'depth/points', 'depth/anchors', 'depth/measured', 'depth/uncertainty',
    'depth/relative', 'depth/obstacles', 'depth/scan')
IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
DELAY = '1'  # seconds in which subscribers find the player's topics


def absolute(namespace: str, topic: str) -> str:
    """Return a topic's name as a recording has it."""
    return topic if topic.startswith('/') else '/' + f'{namespace}/{topic}'.lstrip('/')


def recorded_topics(bag: str) -> dict[str, str]:
    """Return the types of the topics in a recording's metadata.yaml, by name.

    Empty where nothing says so, as for a single file.

    Raises:
        RuntimeError: Where there is no recording.
    """
    path = Path(bag)
    metadata = path / 'metadata.yaml'
    if not path.exists():
        raise RuntimeError(f'bag is {bag!r}: there is no such file or folder; check the path')
    if path.is_dir() and not metadata.is_file():
        raise RuntimeError(f'bag is {bag!r}, a folder without metadata.yaml: name the folder of a '
                           f'recording; `ros2 bag reindex {bag}` mends one that was cut short')
    try:
        information = yaml.safe_load(metadata.read_text())['rosbag2_bagfile_information']
        return {topic['topic_metadata']['name']: topic['topic_metadata']['type']
                for topic in information['topics_with_message_count'] if topic['message_count']}
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return {}  # the player says what is wrong with it


def find_images(given: Mapping[str, Any], image: str) -> str:
    """Return image_transport for the images of the recording, or what was given.

    Args:
        given: The arguments' values.
        image: The topic that the depth node listens to.

    Raises:
        RuntimeError: Where the recording has no such images: nothing would ever come.
    """
    topics, image = recorded_topics(given['bag']), absolute(given['namespace'], image)
    if not topics or image in topics:
        return str(given['image_transport'])
    if f'{image}/compressed' in topics:
        return 'compressed'
    ours = {absolute(given['namespace'], topic) for topic in OUTPUT_TOPICS}
    images = [name.removesuffix('/compressed') for name, kind in topics.items()
              if kind in IMAGES and name not in ours]
    raise RuntimeError(
        f'{given["bag"]} has no images on {image}; '
        + (f'those it has are on {list_briefly(images)}: image:={images[0]}' if images else
           'it has none at all'))


def play_bag(given: Mapping[str, Any], node: LifecycleNode) -> list[Any]:
    """Describe the player of a recording.

    It starts when the depth node listens: loading the network takes longer than many a recording.
    Depth of before is left out: the node publishes its own under the same names.

    Raises:
        RuntimeError: Where `ros2 bag` is not installed.
    """
    if not installed('ros2bag'):
        raise RuntimeError('`ros2 bag` is not installed, which plays recordings: apt install '
                           'ros-$ROS_DISTRO-rosbag2')

    def ended(event: Any, context: Any) -> list[Any]:
        if not event.returncode or context.is_shutdown:
            return []
        said = f'`ros2 bag play` ended with {event.returncode}, see above: nothing more will come'
        return [LogInfo(msg=said), Shutdown(reason=said)]
    player = ExecuteProcess(
        cmd=['ros2', 'bag', 'play', str(Path(given['bag']).absolute()), '--clock', '--delay', DELAY,
             '--exclude-topics',
             *(absolute(given['namespace'], topic) for topic in OUTPUT_TOPICS)],
        output='screen', on_exit=ended)
    return [RegisterEventHandler(OnStateTransition(
        target_lifecycle_node=node, goal_state='active', entities=[player], handle_once=True))]
