"""Launch files, and what their arguments say."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from awkward_names import VALUES
from launch_runs import RUN, needs_launch

ROOT = Path(__file__).resolve().parent.parent
FAST_DDS_CHOICES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
LAUNCHERS = ('depth.launch.py', 'multi_camera.launch.py')


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
def test_camera_and_node_come_up_and_end(workspace, known_runtime, tmp_path):
    launched = Launched(workspace, 'depth.launch.py', tmp_path / 'log', 'viewer:=none',
                        'log_level:=info')
    try:
        launched.wait_for('listening to /image_raw')
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
def test_four_cameras_on_one_node(workspace, known_runtime, tmp_path):
    launched = Launched(workspace, 'multi_camera.launch.py', tmp_path / 'log', 'viewer:=none')
    try:
        launched.wait_for('listening to /front/image_raw, /rear/image_raw, /left/image_raw, '
                          '/right/image_raw')
    finally:
        launched.end()
    assert 'Traceback' not in launched.log.read_text()


@needs_launch
@pytest.mark.parametrize('value', VALUES)
def test_each_value_arrives_as_it_was_given(value, start, tmp_path):
    """launch#508: launch reads texts as YAML, and so does ROS."""
    process = start('depth.launch.py', 'viewer:=none', 'camera_info:=no', *(
        f'{name}:={value}' for name in ('camera', 'weights', 'device', 'optical_frame')))
    try:
        camera, _ = start.values('camera_node')
    except AssertionError:
        assert process.poll() is not None
        assert f'{value} would not arrive as a text: write ./{value}' in start.log
        return
    assert (camera['source'], camera['frame_id']) == (value, value)
    depth, topics = start.values('depth_node')
    assert {depth[name] for name in ('weights', 'device', 'optical_frame')} == {value}
    assert topics == {'image': '/image_raw', 'camera_info': '/no'}


@needs_launch
@pytest.mark.parametrize(('name', 'given'), [
    ('depth.launch.py', 'image:=0123'), ('depth.launch.py', 'camera_info:=a//b'),
    ('depth.launch.py', 'scan:=a b'), ('depth.launch.py', 'namespace:=-x'),
    ('multi_camera.launch.py', 'cameras:=front,'), ('multi_camera.launch.py', 'image:=a#b')])
def test_what_is_no_name_is_told_before_anything_starts(name, given, start):
    """A node that can't start would be started again and again."""
    assert 'a name has letters, digits, _ and /' in start.refusal(
        name, 'camera:=none', 'sources:=none', given)


@needs_launch
@pytest.mark.parametrize(('name', 'given', 'arrives'), [
    ('anchors', 'scan, floor', ['scan', 'floor']), ('anchors', '[scan]', ['scan']),
    ('anchors', "['scan/rear']", ['scan/rear']), ('anchors', '[scan, range/left]',
                                                  ['scan', 'range/left']),
    ('anchor_poses', "['0 0 -0.1 0 0 0', '0.1 0 0 0 0 90']", ['0 0 -0.1 0 0 0', '0.1 0 0 0 0 90']),
    ('anchor_poses', '0 0 -0.1 0 0 0; 0.1 0 0 0 0 90', ['0 0 -0.1 0 0 0', '0.1 0 0 0 0 90'])])
def test_lists_in_brackets_or_without(name, given, arrives, start):
    start('depth.launch.py', 'viewer:=none', 'camera:=none', f'{name}:={given}')
    assert start.values('depth_node')[0][name] == arrives


@needs_launch
@pytest.mark.parametrize(('given', 'said'), [
    ('anchors:=lidar', "anchors has the source 'lidar'; it must be one of scan, points"),
    ('anchors:=[scan', "anchors is '[scan', which is no list in YAML"),
    ('anchor_poses:=0 0 1', "a pose is '0 0 1'; it must be six numbers"),
    ('image:=/cam/image/compressed', 'give image:=/cam/image image_transport:=compressed'),
    ('params_file:=mine.yaml', "params_file is 'mine.yaml': No such file or directory; name a "
     'file, or one of depth.yaml, nav2_obstacles.yaml'),
    ('params_file:=.', "params_file is '.': Is a directory"),
    ('params_file:=prefix/share/hybrid_depth_ros/config/depth.rviz', 'has no ros__parameters'),
    ('rviz_config:=mine.rviz', "rviz_config is 'mine.rviz': No such file or directory; name a "
     'file, or one of depth.rviz'),
    ('bag:=/nonexistent', "bag is '/nonexistent': there is no such file or folder"),
    ('bag:=prefix', "bag is 'prefix', a folder without metadata.yaml"),
    ('bag:=log', '`ros2 bag` is not installed')])
def test_what_will_not_do_is_told_before_anything_starts(given, said, start):
    assert said in start.refusal('depth.launch.py', 'viewer:=none', 'camera:=none', given)


@needs_launch
@pytest.mark.parametrize('given', [
    'viewer:=hologram', 'image_transport:=theora', 'use_sim_time:=maybe', 'log_level:=loud'])
def test_what_is_none_of_the_choices_is_told_before_anything_starts(given, start):
    name, value = given.split(':=')
    said = f'Argument "{name}" provided value "{value}" is not valid. Valid options are: ['
    assert said in start.refusal('depth.launch.py', 'viewer:=none', 'camera:=none', given)


def test_the_container_starts_what_there_is():
    """Its file copies what the package needs, and takes packages as setup.py does."""
    lines = (ROOT / 'Dockerfile').read_text()
    words = ast.literal_eval(re.search(r'^CMD (.*)$', lines, re.MULTILINE)[1])
    assert words[:2] == ['ros2', 'launch']
    given = dict(word.split(':=') for word in words[4:])
    assert set(given) <= {name for name, _ in (
        *arguments(f'launch/{words[3]}', 'ARGUMENTS'),
        *arguments('hybrid_depth_ros/nodes/shared/launch_arguments.py', 'COMMON_ARGUMENTS'))}
    assert given == {'viewer': 'web', 'viewer_host': '0.0.0.0'}
    extras = (ROOT / 'setup.py').read_text()
    assert all(package in extras for package in re.findall(r"'(\w+>=[\d.]+)'", lines))
    left_out = (ROOT / '.dockerignore').read_text().split('\n')
    for name in ('hybrid_depth_ros', 'launch', 'config', 'resource', 'setup.py', 'setup.cfg'):
        assert (ROOT / name).exists() and name not in left_out


@needs_launch
def test_the_page_is_served_where_it_is_asked_for(start):
    start('depth.launch.py', 'viewer:=web', 'viewer_host:=0.0.0.0', 'camera:=none')
    assert start.values('viewer_node')[0]['host'] == '0.0.0.0'


@needs_launch
@pytest.mark.parametrize('name', ['config/nav2_obstacles.yaml', 'nav2_obstacles.yaml'])
def test_parameters_of_the_package_are_found_from_anywhere(name, start):
    start('depth.launch.py', 'viewer:=none', 'camera:=none', f'params_file:={name}')
    assert start.values('depth_node')[0]['cloud_stride'] == 4


@needs_launch
def test_camera_info_is_looked_for_beside_the_image(start):
    start('depth.launch.py', 'viewer:=none', 'camera:=none', 'image:=/camera/color/image_raw')
    assert start.values('depth_node')[1] == {
        'image': '/camera/color/image_raw', 'camera_info': '/camera/color/camera_info'}
