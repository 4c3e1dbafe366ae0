"""The rooms of the house: ROS only at the edge, training beside the package, no circle."""

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, TRAIN = 'hybrid_depth_ros', 'train'
# Where ROS may be imported: the nodes, and what starts them to watch them.
EDGE = (f'{PACKAGE}.nodes', f'{PACKAGE}.demo', f'{PACKAGE}.benchmark.node',
        f'{PACKAGE}.executables')
ROS = ('rclpy', 'launch', 'launch_ros', 'cv_bridge', 'sensor_msgs_py', 'tf2_ros', 'std_srvs',
       'ament_index_python')


def module_name(path):
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


MODULES = {module_name(path): path for folder in (PACKAGE, TRAIN)
           for path in sorted((ROOT / folder).rglob('*.py'))}


def named(node):
    """Full names of what an import names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, 'a relative import'
        for alias in node.names:
            whole = f'{node.module}.{alias.name}'
            yield whole if whole in MODULES else node.module


def imports(path):
    """Full names of all that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        yield from named(node)


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
        assert all(module.startswith(f'{PACKAGE}.nodes.shared.launch_')
                   for module in imports(path) if inside(module, PACKAGE))


def test_no_import_runs_in_a_circle():
    graph = {name: {module for module in imports(path) if module in MODULES}
             for name, path in MODULES.items()}
    assert not without_leaves(graph)


def without_leaves(graph):
    """What of a graph {name: names} runs in a circle, or into one."""
    while leaves := [name for name, needs in graph.items() if not needs]:
        for name in leaves:
            del graph[name]
        for needs in graph.values():
            needs.difference_update(leaves)
    return graph


@pytest.mark.parametrize('folder', sorted(
    name for name, path in MODULES.items() if path.name == '__init__.py'))
def test_no_folder_imports_in_a_circle(folder):
    """weights and models imported each other, and models and runtimes.

    In each folder its files and folders import each other in one direction; a ``__main__`` is a
    command, which may import whatever it starts.
    """
    def child(name):
        return name.removeprefix(f'{folder}.').split('.')[0]
    graph = {}
    for name, path in MODULES.items():
        if inside(name, folder) and name != folder:
            needs = graph.setdefault(child(name), set())
            if not name.endswith('.__main__'):
                needs.update(child(module) for module in imports(path)
                             if module in MODULES and module != folder and inside(module, folder))
            needs.discard(child(name))
    for needs in graph.values():
        needs.intersection_update(graph)
    assert not without_leaves(graph)


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


# By another name than it is imported by.
DISTRIBUTIONS = {'cv2': 'opencv-python-headless', 'yaml': 'pyyaml'}


def at_once(name):
    """What is imported together with a module: of ours, and of others."""
    ours, others, todo = set(), set(), [name]
    while todo:
        name = todo.pop()
        if name in MODULES and name not in ours:
            ours.add(name)
            todo += [name.rpartition('.')[0]] if '.' in name else []
            todo += [node_name for node in ast.parse(MODULES[name].read_text()).body
                     if isinstance(node, (ast.Import, ast.ImportFrom))
                     for node_name in named(node)]
        elif name not in MODULES:
            others.add(name.split('.')[0])
    return {name for name in others - set(sys.stdlib_module_names) if not is_ros(name)}


@pytest.mark.parametrize(('command', 'extras'), [
    *((f'{PACKAGE}.nodes.{node}', ()) for node in ('depth', 'camera', 'viewer', 'evaluator')),
    (f'{PACKAGE}.demo', ('demo',)), (f'{PACKAGE}.evaluate_bag', ('bag',)),
    (f'{PACKAGE}.benchmark.__main__', ()), (f'{PACKAGE}.weights.__main__', ()),
    *((f'{TRAIN}.{name}', ('train',)) for name in (
        'nyu', 'evaluate', 'prepare', 'average', 'throughput')),
    (f'{TRAIN}.quantise', ('quantise',)), (f'{TRAIN}.synthetic.__main__', ('synthetic',))])
def test_what_a_command_imports_is_declared(command, extras, monkeypatch):
    given = {}
    monkeypatch.setattr('setuptools.setup', given.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path('setup.py')
    required = [given['install_requires'], *map(given['extras_require'].get, extras)]
    declared = {re.split(r'[<>=\[]', requirement)[0]
                for part in required for requirement in part}
    assert command in MODULES
    assert {DISTRIBUTIONS.get(name, name) for name in at_once(command)} <= declared
