"""A recording that a launch file plays: when, what of it, and what is said of one that won't do."""

import re
import sys
import time
from pathlib import Path

import pytest
import yaml
from launch_runs import KEEP, needs_launch

ROOT = Path(__file__).resolve().parents[3]
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
# a lifecycle node that is active after a second, as the depth node is when it has its network
NODE = f'''#!{sys.executable}
import os, sys, time
import rclpy
from rclpy.lifecycle import LifecycleNode
rclpy.init(args=sys.argv)
node = LifecycleNode('depth_node')
time.sleep(1)
node.trigger_configure()
time.sleep(1)
open(os.path.join(os.environ['OUT'], 'activated'), 'w').close()
node.trigger_activate()
rclpy.spin(node)
'''


@pytest.fixture
def recording(start, tmp_path):
    """A function that makes a recording of topics, and `ros2 bag`, which keeps its arguments."""
    start.install('ros2bag', 'bin/ros2', KEEP)

    def make(topics):
        folder = tmp_path / 'drive'
        folder.mkdir()
        (folder / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': {
            'topics_with_message_count': [
                {'topic_metadata': {'name': name, 'type': kind}, 'message_count': 9}
                for name, kind in topics.items()]}}))
        return str(folder)
    return make


@needs_launch
def test_it_plays_once_the_node_listens_and_without_its_depth(start, recording, tmp_path):
    start.install('hybrid_depth_ros', 'lib/hybrid_depth_ros/depth_node', NODE)
    bag = recording({'/cam/image_raw': IMAGE, '/robot/depth/image': IMAGE})
    start('depth.launch.py', 'viewer:=none', 'namespace:=robot', f'bag:={bag}',
          'image:=/cam/image_raw')
    words, = start.words('ros2')
    assert (tmp_path / 'activated').exists()
    assert words[:5] == ['bag', 'play', bag, '--clock', '--delay']
    left_out = words[words.index('--exclude-topics') + 1:]
    assert {f'/robot/depth/{name}' for name in ('image', 'points', 'camera_info')} < set(left_out)


@needs_launch
def test_what_is_left_out_is_what_the_node_publishes():
    """By the page, which a test holds against the node."""
    section = (ROOT / 'docs' / 'parameters.md').read_text().split('The camera node publishes')[0]
    published = set(re.findall(r'^\| `(depth/[\w/]+)` \|', section, re.MULTILINE))
    code = (ROOT / 'hybrid_depth_ros/nodes/shared/launch_bag.py').read_text()
    assert set(re.findall(r"'(depth/[\w/]+)'", code)) == published


@needs_launch
def test_nothing_is_played_before(start, recording):
    bag = recording({'/image': IMAGE})
    start('depth.launch.py', 'viewer:=none', f'bag:={bag}')
    start.words('depth_node')  # which never becomes active
    time.sleep(0.5)
    assert not list(start.folder.glob('ros2.*'))


@needs_launch
def test_images_that_are_compressed_are_heard(start, recording):
    bag = recording({'/cam/image_raw/compressed': COMPRESSED})
    start('depth.launch.py', 'viewer:=none', 'image:=/cam/image_raw', f'bag:={bag}')
    assert start.values('depth_node')[0]['image_transport'] == 'compressed'


@needs_launch
@pytest.mark.parametrize(('topics', 'said'), [
    ({'/cam/image_raw/compressed': COMPRESSED, '/depth/image': IMAGE}, 'drive has no images on '
     '/image; those it has are on /cam/image_raw: image:=/cam/image_raw'),
    ({'/scan': 'sensor_msgs/msg/LaserScan'}, 'drive has no images on /image; it has none at all')])
def test_a_recording_without_these_images(topics, said, start, recording):
    assert said in start.refusal('depth.launch.py', 'viewer:=none', f'bag:={recording(topics)}')


@needs_launch
def test_a_player_that_fails_ends_all(start, recording):
    start.install('hybrid_depth_ros', 'lib/hybrid_depth_ros/depth_node', NODE)
    start.install('ros2bag', 'bin/ros2', '#!/bin/sh\nexit 3\n')
    process = start('depth.launch.py', 'viewer:=none', f'bag:={recording({"/image": IMAGE})}')
    process.wait(60)
    assert '`ros2 bag play` ended with 3' in start.log
