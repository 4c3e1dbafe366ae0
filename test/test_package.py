"""The package as a ROS 2 workspace builds it, its nodes as a user runs them, their parameters."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hybrid_depth_ros.nodes import camera, evaluator
from hybrid_depth_ros.nodes.depth import (
    anchor_topics,
    camera_stream,
    compressed_images,
    obstacle_topics,
)
from hybrid_depth_ros.nodes.depth import node as depth
from hybrid_depth_ros.nodes.viewer import node as viewer

ROOT = Path(__file__).resolve().parent.parent


def test_colcon_installs_an_ament_python_package(workspace):
    assert (workspace / 'share/ament_index/resource_index/packages/hybrid_depth_ros').exists()
    for name in ('package.xml', 'launch/depth.launch.py', 'launch/multi_camera.launch.py',
                 'config/depth.yaml', 'config/depth.rviz', 'config/nav2_obstacles.yaml'):
        assert (workspace / 'share/hybrid_depth_ros' / name).exists()
    for name in ('depth_node', 'camera_node', 'viewer_node', 'evaluator_node', 'evaluate_bag',
                 'weights'):
        assert os.access(workspace / 'lib/hybrid_depth_ros' / name, os.X_OK)


def test_the_installed_nodes_run_outside_the_source_tree(workspace, known_runtime, tmp_path):
    site, = (workspace / 'lib').glob('python*/site-packages')
    environment = {**os.environ, 'PYTHONPATH': str(site)}
    log = (tmp_path / 'log').open('w')
    node = subprocess.Popen([workspace / 'lib/hybrid_depth_ros/depth_node'], cwd=tmp_path,
                            env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while 'listening to' not in (tmp_path / 'log').read_text():
            assert node.poll() is None, (tmp_path / 'log').read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        node.send_signal(signal.SIGINT)
        assert node.wait(10) == 0
    assert 'Traceback' not in (tmp_path / 'log').read_text()


def run_node(module, *arguments, timeout=60):
    return subprocess.run([sys.executable, '-m', f'hybrid_depth_ros.nodes.{module}', '--ros-args',
                           *arguments], cwd=ROOT, capture_output=True, text=True,
                          timeout=timeout)


@pytest.mark.parametrize(('module', 'argument', 'said'), [
    ('camera', 'source:=nowhere.mp4', 'nowhere.mp4'),
    ('camera', 'calibration:=nowhere.yaml', 'nowhere.yaml'),
    ('camera', 'rate:=-3.0', 'rate'),
    ('depth', 'weights:=nowhere.safetensors', 'nowhere.safetensors'),
    ('depth', 'device:=cuda:77', 'cuda:77'),
    ('depth', 'precision:=int3', 'int3'),
    ('depth', 'horizontal_fov:=wide', 'horizontal_fov')])
def test_a_bad_start_is_named_and_ends_in_failure(module, argument, said):
    ended = run_node(module, '-p', argument)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert 'Traceback' not in ended.stderr


def table_row(setting):
    """A parameter's row in docs/parameters.md."""
    allowed = ', '.join(f'`{choice}`' for choice in setting.choices)
    if setting.range:
        allowed = f'{setting.range[0]:.10g} … {setting.range[1]:.10g}'
    default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    default = f'`{default}`' if default != '' else 'empty'
    if isinstance(setting.default, bool):
        default = default.lower()
    unit = f' [{setting.unit}]' if setting.unit else ''
    return (f'| `{setting.name}` | {default} | {setting.description}{unit} | {allowed} | '
            f'{"yes" if setting.changeable else "no"} |')


def test_the_page_lists_every_parameter():
    page = (ROOT / 'docs' / 'parameters.md').read_text()
    rows = re.findall(r'^\| `\w+` \| (?:`.*|empty) \|.*\| (?:yes|no) \|$', page, re.MULTILINE)
    assert rows == [table_row(setting) for setting in (
        *depth.SETTINGS, *camera.SETTINGS, *viewer.SETTINGS, *evaluator.SETTINGS)]


@pytest.mark.parametrize('name', ['depth.yaml', 'nav2_obstacles.yaml'])
def test_configurations_set_what_the_nodes_have(name):
    sections = yaml.safe_load((ROOT / 'config' / name).read_text())
    for node in (depth, camera):
        known = {setting.name: setting for setting in node.SETTINGS}
        section = sections.get(f'/**/{Path(node.__file__).stem}_node', {'ros__parameters': {}})
        for key, value in section['ros__parameters'].items():
            assert key in known
            assert type(value) is type(known[key].default)
            assert known[key].value_error(value) is None
    assert '/**/depth_node' in sections


def test_the_page_lists_every_topic():
    page = (ROOT / 'docs' / 'parameters.md').read_text()
    listed = dict(re.findall(r'^\| `([a-zD_/]+)` \| ([A-Z]\w+) \|', page, re.MULTILINE))
    assert listed == {
        'image': 'Image', 'image/compressed': 'CompressedImage', 'camera_info': 'CameraInfo',
        'depth/image': 'Image', 'depth/relative': 'Image', 'depth/camera_info': 'CameraInfo',
        'depth/points': 'PointCloud2', 'depth/image/compressedDepth': 'CompressedImage',
        'depth/image_color/compressed': 'CompressedImage',
        'depth/obstacles': 'PointCloud2', 'depth/scan': 'LaserScan',
        'anchors/scan': 'LaserScan', 'anchors/points': 'PointCloud2', 'anchors/range': 'Range',
        'depth/anchors': 'PointCloud2', 'depth/uncertainty': 'Image',
        '/diagnostics': 'DiagnosticArray', 'image_raw': 'Image', 'depth_ground_truth': 'Image',
        'anchors/depth': 'Image', 'anchors/depth/compressedDepth': 'CompressedImage',
        'depth/measured': 'Image', 'depth_registered': 'Image', 'scan': 'LaserScan',
        'anchors/motion': 'Odometry', 'odom': 'Odometry'}
    code = ''.join(Path(module.__file__).read_text()
                   for module in (depth, camera_stream, anchor_topics, obstacle_topics,
                                  compressed_images, camera))
    for topic, kind in listed.items():
        assert kind in code
        names = (topic, topic.removeprefix('image/'),
                 topic.removeprefix('anchors/').removesuffix('/compressedDepth'),
                 topic.rpartition('/')[0])
        assert any(f"'{name}'" in code for name in names)
