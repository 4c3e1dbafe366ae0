"""Launch files, what their arguments say, and what RViz shows."""

import ast
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from awkward_names import VALUES

ROOT = Path(__file__).resolve().parent.parent
FAST_DDS_CHOICES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
LAUNCHERS = ('depth.launch.py', 'multi_camera.launch.py')
RUN = '''
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]),
    launch_arguments=[argument.split(':=', 1) for argument in sys.argv[2:]])]))
sys.exit(service.run())
'''
needs_launch = pytest.mark.skipif(importlib.util.find_spec('launch_ros') is None,
                                  reason='needs launch_ros')


def arguments(path, table):
    """Name and description of each argument in a table of a file, without running it."""
    tree = ast.parse((ROOT / path).read_text())
    *own, last = next(node.value for node in tree.body if isinstance(node, ast.Assign)
                      and node.targets[0].id == table).elts
    if table == 'COMMON_ARGUMENTS':
        own.append(last)
    else:  # each launch file has those that both have
        assert isinstance(last, ast.Starred) and last.value.id == 'COMMON_ARGUMENTS'
    return [(ast.literal_eval(row.args[0]), ast.literal_eval(row.args[2])) for row in own]


@pytest.mark.parametrize(('title', 'path', 'table'), [
    *((f'`{name}`', f'launch/{name}', 'ARGUMENTS') for name in LAUNCHERS),
    ('Both', 'hybrid_depth_ros/nodes/shared/launch_arguments.py', 'COMMON_ARGUMENTS')])
def test_the_page_lists_every_argument(title, path, table):
    section = (ROOT / 'docs' / 'launch.md').read_text().split(f'\n{title}:\n', 1)[1]
    listed = section.lstrip('\n').split('\n\n')[0]
    assert re.findall(r'^\| `(\w+)` \| (.*) \|$', listed, re.MULTILINE) == arguments(path, table)


def test_rviz_shows_what_the_node_publishes():
    from hybrid_depth_ros.nodes import camera
    from hybrid_depth_ros.nodes.depth import camera_stream
    config = yaml.safe_load((ROOT / 'config' / 'depth.rviz').read_text())['Visualization Manager']
    shown = {display['Topic']['Value']: display for display in config['Displays']
             if 'Topic' in display}
    published = {'/depth/image': 'Image', '/depth/points': 'PointCloud2', '/image_raw': 'Image'}
    assert {topic: display['Class'].removeprefix('rviz_default_plugins/')
            for topic, display in shown.items()} == published
    code = ''.join(Path(module.__file__).read_text() for module in (camera, camera_stream))
    for topic, display in shown.items():
        assert f"'{topic[1:]}'" in code
        # ours are reliable; another camera's pictures may come best effort, which hears both
        wanted = 'Best Effort' if topic == '/image_raw' else 'Reliable'
        assert display['Topic']['Reliability Policy'] == wanted
        assert display['Topic']['Durability Policy'] == 'Volatile'
        assert display['Enabled']
    assert config['Global Options']['Fixed Frame'] == next(
        setting.default for setting in camera.SETTINGS if setting.name == 'frame_id')
    assert shown['/depth/points']['Color Transformer'] == 'RGB8'
    assert any(display['Class'].endswith('/Axes') for display in config['Displays'])


class Launched:
    """A launch file run from an installed workspace, and what it prints."""

    def __init__(self, workspace, name, log, *given):
        site, = (workspace / 'lib').glob('python*/site-packages')
        paths = os.pathsep.join([str(site), *filter(None, [os.environ.get('PYTHONPATH')])])
        prefixes = os.pathsep.join([str(workspace), os.environ.get('AMENT_PREFIX_PATH', '')])
        self.log = log
        own = {name: value for name, value in os.environ.items() if name not in FAST_DDS_CHOICES}
        with log.open('w') as file:
            self.process = subprocess.Popen(
                [sys.executable, '-c', RUN, str(workspace / 'share/hybrid_depth_ros/launch' / name),
                 *given], stdout=file, stderr=file, cwd=log.parent, start_new_session=True,
                env={**own, 'PYTHONPATH': paths, 'AMENT_PREFIX_PATH': prefixes})

    def wait_for(self, text, seconds=90):
        deadline = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, \
                self.log.read_text()
            time.sleep(0.1)

    def nodes(self):
        found = subprocess.run(['ps', '-wwo', 'pid=,args=', '-g', str(self.process.pid)],
                               capture_output=True, text=True).stdout
        return {name: int(line.split()[0]) for line in found.split('\n')
                for name in re.findall(r'lib/hybrid_depth_ros/(\w+)', line)}

    def end(self):
        """Ctrl-C, as a terminal sends it; seconds until all has ended."""
        started = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(30)
        return time.monotonic() - started


@needs_launch
def test_camera_and_node_come_up_and_end(workspace, tmp_path):
    launched = Launched(workspace, 'depth.launch.py', tmp_path / 'log', 'body_frame:=',
                        'log_level:=info')
    try:
        launched.wait_for('listening to /image_raw')
        launched.wait_for('rviz2 is not installed')
        assert set(launched.nodes()) == {'camera_node', 'depth_node'}
        for pid in launched.nodes().values():  # others that launch starts need it as well
            assert b'data/fastdds.xml' in Path(f'/proc/{pid}/environ').read_bytes()
        os.kill(launched.nodes()['depth_node'], signal.SIGKILL)  # it comes back
        deadline = time.monotonic() + 90
        while launched.log.read_text().count('listening to') < 2:
            assert time.monotonic() < deadline, launched.log.read_text()
            time.sleep(0.1)
    finally:
        took = launched.end()
    assert took < 5
    assert not launched.nodes()
    assert 'Traceback' not in launched.log.read_text()


@needs_launch
def test_four_cameras_on_one_node(workspace, tmp_path):
    launched = Launched(workspace, 'multi_camera.launch.py', tmp_path / 'log')
    try:
        launched.wait_for('listening to /front/image_raw, /rear/image_raw, /left/image_raw, '
                          '/right/image_raw')
    finally:
        launched.end()
    assert 'Traceback' not in launched.log.read_text()


KEEP = """#!/bin/sh
# keeps what it was started with; launch removes files of parameters
place="$OUT/$(basename "$0")"
printf '%s\\0' "$@" > "$place.arguments"
for word; do
  if [ -f "$word" ]; then cp "$word" "$place.$(basename "$word").kept"; fi
done
exec sleep 60
"""


def values_of(place, name):
    """Parameters of a node and where `image` and `camera_info` are, by what launch started it with.
    """
    rclpy = pytest.importorskip('rclpy')
    words = (place / f'{name}.arguments').read_text().split('\0')[:-1]
    words = [str(next(iter(place.glob(f'{name}.{Path(word).name}.kept')), word))
             if before == '--params-file' else word for before, word in zip(['', *words], words)]
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        node = rclpy.create_node(name, context=context, cli_args=words,
                                 automatically_declare_parameters_from_overrides=True)
        found = {key: parameter.value for key, parameter in node._parameters.items()}
        topics = [node.resolve_topic_name(topic) for topic in ('image', 'camera_info')]
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    return found, topics


@pytest.fixture
def start(tmp_path):
    """A function that runs a launch file; instead of nodes, what keeps what they are started with.
    """
    prefix, started = tmp_path / 'prefix', []
    for folder in ('config', 'launch'):
        shutil.copytree(ROOT / folder, prefix / 'share/hybrid_depth_ros' / folder)
    index = prefix / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / 'hybrid_depth_ros').touch()
    (prefix / 'lib/hybrid_depth_ros').mkdir(parents=True)
    for name in ('camera_node', 'depth_node', 'viewer_node'):
        (prefix / 'lib/hybrid_depth_ros' / name).write_text(KEEP)
        (prefix / 'lib/hybrid_depth_ros' / name).chmod(0o755)

    def run(name, *given):
        with (tmp_path / 'log').open('w') as log:
            started.append(subprocess.Popen(
                [sys.executable, '-c', RUN, str(prefix / 'share/hybrid_depth_ros/launch' / name),
                 *given], cwd=tmp_path, stdout=log, stderr=log, env={
                     **os.environ, 'OUT': str(tmp_path),
                     'AMENT_PREFIX_PATH': f'{prefix}:{os.environ.get("AMENT_PREFIX_PATH", "")}',
                     'PYTHONPATH': f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'}))
        return started[-1]
    yield run
    for process in started:
        process.terminate()
        process.wait(20)


@needs_launch
@pytest.mark.parametrize('value', VALUES)
def test_each_value_arrives_as_it_was_given(value, start, tmp_path):
    """launch#508: launch reads texts as YAML, and so does ROS."""
    start('depth.launch.py', 'viewer:=none', 'camera_info:=no', *(
        f'{name}:={value}' for name in ('camera', 'weights', 'device', 'optical_frame')))
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob('*.arguments'))) < 2 and time.monotonic() < deadline:
        if 'Caught exception' in (said := (tmp_path / 'log').read_text()):
            assert f'{value} would not arrive as a text: write ./{value}' in said
            return
        time.sleep(0.1)
    time.sleep(0.3)
    camera, _ = values_of(tmp_path, 'camera_node')
    assert (camera['source'], camera['frame_id']) == (value, value)
    depth, topics = values_of(tmp_path, 'depth_node')
    assert (depth['weights'], depth['device']) == (value, value)
    assert topics == ['/image_raw', '/no']


@needs_launch
@pytest.mark.parametrize(('name', 'given'), [
    ('depth.launch.py', 'image:=0123'), ('depth.launch.py', 'camera_info:='),
    ('depth.launch.py', 'scan:=a b'), ('depth.launch.py', 'namespace:=-x'),
    ('multi_camera.launch.py', 'cameras:=front,'), ('multi_camera.launch.py', 'image:=a#b')])
def test_what_is_no_name_is_told_before_anything_starts(name, given, start, tmp_path):
    """A node that can't start would be started again and again."""
    process = start(name, 'camera:=none', 'sources:=none', given)
    assert process.wait(60) != 0
    assert 'a name has letters, digits, _ and /' in (tmp_path / 'log').read_text()
    assert not list(tmp_path.glob('*.arguments'))


@needs_launch
@pytest.mark.parametrize(('name', 'given', 'arrives'), [
    ('anchors', 'scan, floor', ['scan', 'floor']), ('anchors', '[scan]', ['scan']),
    ('anchors', "['scan/rear']", ['scan/rear']), ('anchors', '[scan, range/left]',
                                                  ['scan', 'range/left']),
    ('anchor_poses', "['0 0 -0.1 0 0 0', '0.1 0 0 0 0 90']", ['0 0 -0.1 0 0 0', '0.1 0 0 0 0 90']),
    ('anchor_poses', '0 0 -0.1 0 0 0; 0.1 0 0 0 0 90', ['0 0 -0.1 0 0 0', '0.1 0 0 0 0 90'])])
def test_lists_in_brackets_or_without(name, given, arrives, start, tmp_path):
    start('depth.launch.py', 'viewer:=none', 'camera:=none', f'{name}:={given}')
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob('*.arguments')) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.3)
    assert values_of(tmp_path, 'depth_node')[0][name] == arrives


@needs_launch
@pytest.mark.parametrize(('given', 'said'), [
    ('anchors:=lidar', "anchors has the source 'lidar'; it must be one of scan, points"),
    ('anchors:=[scan', "anchors is '[scan', which is no list in YAML"),
    ('anchor_poses:=0 0 1', "a pose is '0 0 1'; it must be six numbers")])
def test_what_are_no_anchors_is_told_before_anything_starts(given, said, start, tmp_path):
    process = start('depth.launch.py', 'viewer:=none', 'camera:=none', given)
    assert process.wait(60) != 0
    assert said in (tmp_path / 'log').read_text()
    assert not list(tmp_path.glob('*.arguments'))


@needs_launch
@pytest.mark.parametrize('given', [
    'viewer:=hologram', 'image_transport:=theora', 'use_sim_time:=maybe', 'log_level:=loud'])
def test_what_is_none_of_the_choices_is_told_before_anything_starts(given, start, tmp_path):
    process = start('depth.launch.py', 'viewer:=none', 'camera:=none', given)
    assert process.wait(60) != 0
    name, value = given.split(':=')
    said = f'Argument "{name}" provided value "{value}" is not valid. Valid options are: ['
    assert said in (tmp_path / 'log').read_text()
    assert not list(tmp_path.glob('*.arguments'))
