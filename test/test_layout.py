"""The rooms of the house: ROS only at the edge, training beside the package, no circle."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, TRAIN = 'hybrid_depth_ros', 'train'
# Where ROS may be imported: the nodes, and what starts them to watch them.
EDGE = (f'{PACKAGE}.nodes', f'{PACKAGE}.demo', f'{PACKAGE}.benchmark.node')
ROS = ('rclpy', 'launch', 'launch_ros', 'cv_bridge', 'sensor_msgs_py', 'tf2_ros', 'std_srvs',
       'ament_index_python')


def module_name(path):
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


MODULES = {module_name(path): path for folder in (PACKAGE, TRAIN)
           for path in sorted((ROOT / folder).rglob('*.py'))}


def imports(path):
    """Full names of all that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: a relative import'
            for alias in node.names:
                whole = f'{node.module}.{alias.name}'
                yield whole if whole in MODULES else node.module


def inside(name, *rooms):
    return any(name == room or name.startswith(f'{room}.') for room in rooms)


def is_ros(name):
    top = name.split('.')[0]
    return top in ROS or top.endswith(('_msgs', '_interfaces'))


@pytest.mark.parametrize('name', [name for name in MODULES if not inside(name, *EDGE)])
def test_ros_stays_at_the_edge(name):
    found = set(imports(MODULES[name]))
    assert not list(filter(is_ros, found))
    if name != f'{PACKAGE}.benchmark.__main__':  # it measures the node where there is ROS
        assert not [module for module in found if inside(module, *EDGE)]


def test_the_package_does_without_training():
    assert not [name for name, path in MODULES.items() if inside(name, PACKAGE)
                and any(inside(module, TRAIN) for module in imports(path))]


def test_launch_files_take_what_they_share_from_one_place():
    for path in (ROOT / 'launch').glob('*.launch.py'):
        assert {module for module in imports(path) if inside(module, PACKAGE)} == {
            f'{PACKAGE}.nodes.launching'}


def test_no_import_runs_in_a_circle():
    graph = {name: {module for module in imports(path) if module in MODULES}
             for name, path in MODULES.items()}
    while leaves := [name for name, needs in graph.items() if not needs]:
        for name in leaves:
            del graph[name]
        for needs in graph.values():
            needs.difference_update(leaves)
    assert not graph, f'these import each other: {graph}'


def test_all_but_the_edge_is_imported_without_ros():
    inner = [name for name in MODULES if inside(name, PACKAGE) and not inside(name, *EDGE)]
    assert len(inner) > 30
    code = '''
import importlib, importlib.abc, sys

class NoRos(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in sys.argv[1].split():
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoRos())
for name in sys.argv[2:]:
    importlib.import_module(name)
'''
    absent = ' '.join((*ROS, 'sensor_msgs', 'std_msgs', 'diagnostic_msgs', 'rcl_interfaces'))
    done = subprocess.run([sys.executable, '-c', code, absent, *inner], capture_output=True,
                          text=True, timeout=120,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
