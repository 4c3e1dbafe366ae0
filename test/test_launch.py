"""Launch files, what their arguments say, and what RViz shows."""

import ast
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

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
    launch_arguments=[argument.split(':=') for argument in sys.argv[2:]])]))
sys.exit(service.run())
'''
needs_launch = pytest.mark.skipif(importlib.util.find_spec('launch_ros') is None,
                                  reason='needs launch_ros')


def arguments(path, table):
    """Name and description of each argument in a table of a file, without running it."""
    tree = ast.parse((ROOT / path).read_text())
    *own, last = next(node.value for node in tree.body if isinstance(node, ast.Assign)
                      and node.targets[0].id == table).elts
    if table == 'COMMON':
        own.append(last)
    else:  # each launch file has those that both have
        assert isinstance(last, ast.Starred) and last.value.id == 'COMMON'
    return [(ast.literal_eval(row.elts[0]), ast.literal_eval(row.elts[2])) for row in own]


@pytest.mark.parametrize(('title', 'path', 'table'), [
    *((f'`{name}`', f'launch/{name}', 'ARGUMENTS') for name in LAUNCHERS),
    ('Both', 'hybrid_depth_ros/nodes/launching.py', 'COMMON')])
def test_the_page_lists_every_argument(title, path, table):
    section = (ROOT / 'docs' / 'launch.md').read_text().split(f'\n{title}:\n', 1)[1]
    listed = section.lstrip('\n').split('\n\n')[0]
    assert re.findall(r'^\| `(\w+)` \| (.*) \|$', listed, re.MULTILINE) == arguments(path, table)


def test_rviz_shows_what_the_node_publishes():
    from hybrid_depth_ros.nodes import camera, depth_camera
    config = yaml.safe_load((ROOT / 'config' / 'depth.rviz').read_text())['Visualization Manager']
    shown = {display['Topic']['Value']: display for display in config['Displays']
             if 'Topic' in display}
    published = {'/depth/image': 'Image', '/depth/points': 'PointCloud2', '/image_raw': 'Image'}
    assert {topic: display['Class'].removeprefix('rviz_default_plugins/')
            for topic, display in shown.items()} == published
    code = ''.join(Path(module.__file__).read_text() for module in (camera, depth_camera))
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


@needs_launch
def test_a_viewer_that_is_not_known(workspace, tmp_path):
    launched = Launched(workspace, 'depth.launch.py', tmp_path / 'log', 'viewer:=hologram')
    assert launched.process.wait(60) != 0
    assert "viewer is 'hologram'; it must be rviz, web or none" in launched.log.read_text()
