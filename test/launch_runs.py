"""Launch files run with stand-ins for the nodes, which keep what they are started with."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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
KEEP = """#!/bin/sh
# keeps what it was started with; launch removes files of parameters
place="$OUT/$(basename "$0").$$"
for word; do
  if [ -f "$word" ]; then cp "$word" "$OUT/$(basename "$0").$(basename "$word").kept"; fi
done
printf '%s\\0' "$@" > "$place.partial"
mv "$place.partial" "$place.arguments"
exec sleep 60
"""
EXECUTABLES = (*(('hybrid_depth_ros', name) for name in ('camera_node', 'depth_node',
                                                        'viewer_node')),
               ('rviz2', 'rviz2'), ('tf2_ros', 'static_transform_publisher'))
needs_launch = pytest.mark.skipif(importlib.util.find_spec('launch_ros') is None,
                                  reason='needs launch_ros')


class LaunchRuns:
    """Launch files in a prefix of their own, whose executables are stand-ins.

    ``variables`` are set for the processes; ``log`` is what the last one printed.
    """

    def __init__(self, folder):
        self.folder, self.prefix, self._started = folder, folder / 'prefix', []
        self.variables = {'DISPLAY': ':0'}
        for name in ('config', 'launch'):
            shutil.copytree(ROOT / name, self.prefix / 'share/hybrid_depth_ros' / name)
        for package, name in EXECUTABLES:
            self.install(package, f'lib/{package}/{name}', KEEP)

    def install(self, package, path, text):
        """Put an executable of a package into the prefix."""
        index = self.prefix / 'share/ament_index/resource_index/packages'
        index.mkdir(parents=True, exist_ok=True)
        (index / package).touch()
        (self.prefix / 'share' / package).mkdir(exist_ok=True)
        (self.prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (self.prefix / path).write_text(text)
        (self.prefix / path).chmod(0o755)

    def __call__(self, name, *given):
        own = {name: value for name, value in os.environ.items()
               if name not in ('DISPLAY', 'WAYLAND_DISPLAY', 'QT_QPA_PLATFORM')}
        paths = {variable: os.pathsep.join([str(path), os.environ.get(variable, '')])
                 for variable, path in (('PATH', self.prefix / 'bin'), ('PYTHONPATH', ROOT))}
        with (self.folder / 'log').open('w') as log:
            self._started.append(subprocess.Popen(
                [sys.executable, '-c', RUN,
                 str(self.prefix / 'share/hybrid_depth_ros/launch' / name), *given],
                cwd=self.folder, stdout=log, stderr=log,
                env={**own, **paths, 'AMENT_PREFIX_PATH': str(self.prefix),
                     'OUT': str(self.folder), **self.variables}))
        return self._started[-1]

    @property
    def log(self):
        return (self.folder / 'log').read_text()

    def words(self, name, count=1):
        """Arguments of each of the processes of a name, once that many are started."""
        deadline = time.monotonic() + 60
        while len(found := sorted(self.folder.glob(f'{name}.*.arguments'))) < count:
            assert self._started[-1].poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return [path.read_text().split('\0')[:-1] for path in found]

    def wait_for(self, text):
        """Wait until it is printed."""
        deadline = time.monotonic() + 60
        while text not in self.log:
            assert self._started[-1].poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def refusal(self, name, *given):
        """What it says that ends before anything is started."""
        assert self(name, *given).wait(60) != 0
        assert not list(self.folder.glob('*.arguments'))
        return self.log

    def values(self, name):
        """Parameters of a node, and its topics by its own names, as it was started with them."""
        rclpy = pytest.importorskip('rclpy')
        words, = self.words(name)
        words = [str(next(iter(self.folder.glob(f'{name}.{Path(word).name}.kept')), word))
                 if before == '--params-file' else word
                 for before, word in zip(['', *words], words)]
        context = rclpy.Context()
        rclpy.init(args=[], context=context)
        try:
            node = rclpy.create_node(name, context=context, cli_args=words,
                                     automatically_declare_parameters_from_overrides=True)
            found = {key: parameter.value for key, parameter in node._parameters.items()}
            topics = {topic: node.resolve_topic_name(topic) for topic in ('image', 'camera_info')}
            node.destroy_node()
        finally:
            rclpy.shutdown(context=context)
        return found, topics

    def close(self):
        for process in self._started:
            process.terminate()
            process.wait(20)
