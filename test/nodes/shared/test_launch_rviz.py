"""What RViz shows, in which frame, and what is said where it can't be."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from launch_runs import needs_launch

from hybrid_depth_ros.poses import BODY_IN_OPTICAL, pose_from_angles, pose_from_quaternion

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'config' / 'depth.rviz'
COMMON = {'Class', 'Name', 'Enabled', 'Value'}
TOPIC = {'Value', 'Depth', 'Durability Policy', 'History Policy', 'Reliability Policy'}
# Names of properties, from the sources of rviz_default_plugins 14.1 (BSD); another is ignored
# by RViz in silence.
PROPERTIES = {
    'Grid': {'Alpha', 'Cell Size', 'Color', 'Line Style', 'Normal Cell Count', 'Offset', 'Plane',
             'Plane Cell Count', 'Reference Frame'},
    'TF': {'Show Names', 'Show Axes', 'Show Arrows', 'Marker Scale', 'Update Interval',
           'Frame Timeout', 'Filter (whitelist)', 'Filter (blacklist)', 'Frames', 'Tree'},
    'Axes': {'Reference Frame', 'Length', 'Radius', 'Show Trail', 'Alpha'},
    'PointCloud2': {'Topic', 'Filter size', 'Selectable', 'Style', 'Size (m)', 'Size (Pixels)',
                    'Alpha', 'Decay Time', 'Position Transformer', 'Color Transformer', 'Color'},
    'LaserScan': {'Topic', 'Filter size', 'Selectable', 'Style', 'Size (m)', 'Size (Pixels)',
                  'Alpha', 'Decay Time', 'Position Transformer', 'Color Transformer', 'Color'},
    'Image': {'Topic', 'Normalize Range', 'Min Value', 'Max Value', 'Median window'},
}


def configuration():
    return yaml.safe_load(CONFIG.read_text())


def displays(whole):
    return {display['Name']: display for display in whole['Visualization Manager']['Displays']}


def test_names_are_those_that_rviz_knows():
    for display in configuration()['Visualization Manager']['Displays']:
        plugins, _, kind = display['Class'].partition('/')
        assert plugins == 'rviz_default_plugins'
        assert set(display) <= PROPERTIES[kind] | COMMON
        assert set(display.get('Topic', {})) <= TOPIC
        assert display['Value'] == display['Enabled']


def test_it_shows_what_the_nodes_publish():
    pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes import camera
    from hybrid_depth_ros.nodes.depth import camera_stream, obstacle_topics
    code = ''.join(Path(module.__file__).read_text()
                   for module in (camera, camera_stream, obstacle_topics))
    topics = {display['Topic']['Value']: display for display in displays(configuration()).values()
              if 'Topic' in display}
    assert set(topics) == {'/image_raw', *(
        f'/depth/{name}' for name in ('image', 'points', 'anchors', 'obstacles', 'scan',
                                      'uncertainty'))}
    for topic, display in topics.items():
        assert f"'{topic[1:]}'" in code
        # ours are reliable; another camera's images may come best effort, which hears both
        wanted = 'Best Effort' if topic == '/image_raw' else 'Reliable'
        assert display['Topic']['Reliability Policy'] == wanted
        assert display['Topic']['Durability Policy'] == 'Volatile'
    assert topics['/depth/points']['Color Transformer'] == 'RGB8'


def test_the_first_look():
    whole = configuration()
    shown, manager = displays(whole), whole['Visualization Manager']
    assert shown['Grid']['Enabled'] and shown['TF']['Enabled']
    assert shown['Depth cloud']['Size (Pixels)'] == 3
    assert shown['Fixed frame']['Length'] == 0.1
    depth = shown['Depth']
    assert (depth['Normalize Range'], depth['Min Value'], depth['Max Value']) == (False, 0, 5)
    assert not any(shown[name]['Enabled'] for name in (
        'Anchors', 'Obstacles', 'Scan', 'Uncertainty'))
    assert [panel['Class'] for panel in whole['Panels']] == ['rviz_common/Displays']
    # an orbit that the mouse turns about the vertical, from behind and above, around what is ahead
    view = manager['Views']['Current']
    assert view['Class'] == 'rviz_default_plugins/Orbit'
    assert view['Focal Point']['X'] > 1 and view['Focal Point']['Z'] == 0
    eye = np.cos(view['Pitch']) * np.cos(view['Yaw']), np.sin(view['Pitch'])
    assert eye[0] < -0.8 and eye[1] > 0.1
    assert manager['Global Options']['Fixed Frame'] == 'camera_body'


def test_docks_have_an_order():
    """RViz makes its docks in the order of their addresses: what is stored alone orders them."""
    whole = configuration()
    state = bytes.fromhex(whole['Window Geometry']['QMainWindow State'])
    # of each dock: its name, then whether it is shown (QDockAreaLayoutInfo::saveState)
    stored = [(name.decode('utf-16-be'), bool(shown[0])) for name, shown in re.findall(
        rb'\xfb\x00\x00\x00.((?:\x00[ -~])+)(.)', state, re.DOTALL)]
    assert stored == [('Displays', True), ('Colour', True), ('Depth', True),
                      ('Uncertainty', False)]
    # RViz turns off the image of a dock that is hidden, and on that of one that is shown
    shown = displays(whole)
    assert all(shown[name]['Enabled'] == visible for name, visible in stored[1:])


def option(words, name):
    return words[words.index(name) + 1]


@needs_launch
def test_a_driver_of_ones_own(start):
    start('depth.launch.py', 'camera:=none', 'image:=/cam/color/image_raw', 'anchors:=scan',
          'camera_height:=1.1', 'optical_frame:=cam_color_optical_frame', 'namespace:=robot',
          'image_transport:=compressed')
    words, = start.words('rviz2')
    assert option(words, '-f') == 'cam_color_body'
    for rule in ('/image_raw/compressed:=/cam/color/image_raw/compressed',
                 '/depth/points:=depth/points', '/depth/anchors:=depth/anchors'):
        assert rule in words
    whole = yaml.safe_load(Path(option(words, '-d')).read_text())
    shown = displays(whole)
    assert shown['Anchors']['Enabled'] and shown['Anchors']['Value']
    assert shown['Colour']['Topic']['Value'] == '/image_raw/compressed'
    assert shown['Grid']['Offset']['Z'] == -1.1
    assert whole['Window Geometry'] == configuration()['Window Geometry']
    # its own tree stays whole: the frame with z up is a child
    words, = start.words('static_transform_publisher')
    assert option(words, '--frame-id') == 'cam_color_optical_frame'
    assert option(words, '--child-frame-id') == 'cam_color_body'
    pose = pose_from_quaternion((0, 0, 0), [float(option(words, f'--q{axis}')) for axis in 'xyzw'])
    assert np.allclose(pose, BODY_IN_OPTICAL, atol=1e-6)


@needs_launch
@pytest.mark.parametrize(('given', 'frame', 'transforms'), [
    (('fixed_frame:=odom',), 'odom', 0), (('body_frame:=camera_link',), 'camera_link', 1),
    (('fixed_frame:=odom', 'body_frame:=camera_link'), 'odom', 1)])
def test_a_frame_with_z_up_that_is_there_already(given, frame, transforms, start):
    start('depth.launch.py', *given, 'rviz_config:=prefix/share/hybrid_depth_ros/config/depth.rviz')
    words, = start.words('rviz2')
    assert option(words, '-f') == frame
    assert option(words, '-d').endswith('hybrid_depth_ros/config/depth.rviz')
    published = start.words('static_transform_publisher', transforms) if transforms else []
    for words in published:
        assert option(words, '--child-frame-id') == 'camera_optical_frame'
        pose = pose_from_angles(0, 0, 0, float(option(words, '--roll')), 0,
                                float(option(words, '--yaw')))
        assert np.allclose(pose @ BODY_IN_OPTICAL, np.eye(4), atol=1e-6)


@needs_launch
@pytest.mark.parametrize(('given', 'frame', 'names'), [
    ((), 'cameras', ('front', 'rear', 'left', 'right')),
    (('fixed_frame:=base_link', 'cameras:=a,b', 'sources:=0,2'), 'base_link', ('a', 'b')),
    (('sources:=none', 'cameras:=a,b'), 'base_link', ('a', 'b'))])
def test_clouds_of_all_cameras(given, frame, names, start):
    start('multi_camera.launch.py', *given)
    words, = start.words('rviz2')
    assert option(words, '-f') == frame
    whole = yaml.safe_load(Path(option(words, '-d')).read_text())
    shown, view = displays(whole), whole['Visualization Manager']['Views']['Current']
    clouds = {display['Topic']['Value'] for display in shown.values()
              if display['Enabled'] and 'Topic' in display}
    assert clouds == {f'/{name}/depth/points' for name in names}
    assert {f'{cloud}:={cloud[1:]}' for cloud in clouds} <= set(words)
    # poses that are made up are RViz's alone
    assert ('/tf_static:=rviz/tf_static' in words) == (frame == 'cameras')
    if frame == 'cameras':
        published = start.words('static_transform_publisher', len(names))
        assert {option(words, '--child-frame-id') for words in published} == {
            f'{name}_optical_frame' for name in names}
        assert all('/tf_static:=rviz/tf_static' in words for words in published)
        beside = [float(option(words, '--y')) for words in published]
        assert sorted(beside) == [-18, -12, -6, 0]
        assert view['Focal Point']['Y'] == -9 and view['Distance'] > 18
    else:
        assert view['Focal Point']['Y'] == 0


@needs_launch
@pytest.mark.parametrize(('variables', 'code', 'said'), [
    ({'DISPLAY': ''}, None, 'there is no screen here'),
    ({'DISPLAY': ':99'}, 'exit 134', 'RViz ended with 134'),
    ({}, '', 'rviz2 is not installed')])
def test_no_rviz_no_screen(variables, code, said, start):
    start.variables = variables
    if code:
        start.install('rviz2', 'lib/rviz2/rviz2', f'#!/bin/sh\n{code}\n')
    elif code == '':
        (start.prefix / 'share/ament_index/resource_index/packages/rviz2').unlink()
    start('depth.launch.py', 'camera:=none')
    start.words('depth_node')
    start.wait_for(said)
    assert 'viewer:=web shows the same in a browser' in start.log


@needs_launch
def test_the_page_shows_one_camera(start):
    said = start.refusal('multi_camera.launch.py', 'cameras:=a,b', 'sources:=none', 'viewer:=web')
    assert 'viewer:=web shows one camera' in said and '__ns:=/a -r image:=image_raw' in said
