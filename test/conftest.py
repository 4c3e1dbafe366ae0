"""Fixtures: a ROS graph of its own, and where NYU data lies if it is here."""

import atexit
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# Before rclpy is imported: this run's graph stays on this machine and by itself; one for each of
# the processes that share its tests (pytest-xdist).
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
run, worker = (os.environ.get(f'PYTEST_XDIST_{name}') for name in ('TESTRUNUID', 'WORKER'))
os.environ['ROS_DOMAIN_ID'] = str(
    1 + (random.Random(run).randrange(100) + int((worker or 'gw0')[2:])) % 100)
# Before torch is: threads that wait don't keep the nodes beside them from running, and the
# processes that share the tests don't have more threads than there are cores.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
if worker:
    os.environ.setdefault('OMP_NUM_THREADS', str(max(
        1, len(os.sched_getaffinity(0)) // int(os.environ['PYTEST_XDIST_WORKER_COUNT']))))
# On the CPU, also where a GPU is: the tests compare arithmetic to the last bit, and have several
# processes train at once, which NCCL refuses on one GPU. CUDA_VISIBLE_DEVICES=0 runs them there.
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')
# What is exported from weights is made anew, and does not go into the user's cache.
os.environ['HYBRID_DEPTH_CACHE'] = tempfile.mkdtemp(prefix='hybrid_depth_cache')
atexit.register(shutil.rmtree, os.environ['HYBRID_DEPTH_CACHE'], ignore_errors=True)

ROOT = Path(__file__).resolve().parent.parent
# These take longest and come first, so that no process is left with one of them at the end; those
# that wait for a graph between those that compute.
LONG_FILES = ('train/test_interrupts.py', 'nodes/depth/test_node.py', 'train/test_nyu.py',
              'nodes/depth/test_node_lifecycle.py', 'models/test_transformers.py', 'test_demo.py',
              'nodes/depth/test_node_models.py', 'benchmark/test_main.py',
              'nodes/depth/test_node_faults.py', 'benchmark/test_peers.py',
              'nodes/depth/test_anchor_topics.py', 'test_api_reference.py', 'test_package.py')
# Node processes run from this source tree.
os.environ['PYTHONPATH'] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
DATA = Path(os.environ.get('HYBRID_DEPTH_DATA', ROOT.parent / 'shared'))


def pytest_collection_modifyitems(items):
    """Take LONG_FILES first."""
    places = {ROOT / 'test' / name: i for i, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def signals():
    """A node that ends ignores signals from then on; processes started later would inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope='session')
def nyu():
    """The 795 labelled NYU Depth v2 training images, in the sync layout."""
    path = DATA / 'nyu_labeled_train'
    if not path.is_dir():
        pytest.skip(f'needs NYU Depth v2 images in {path} (set HYBRID_DEPTH_DATA)')
    return path


@pytest.fixture(scope='session')
def parity():
    """Names, shapes and expected output of the published network."""
    path = DATA / 'parity'
    if not path.is_dir():
        pytest.skip(f'needs the parity folder in {DATA} (set HYBRID_DEPTH_DATA)')
    return path


@pytest.fixture
def tiny(monkeypatch):
    """``tiny`` is an encoder."""
    from tiny_encoder import TINY

    from hybrid_depth_ros.network import ENCODERS
    monkeypatch.setitem(ENCODERS, 'tiny', TINY)


@pytest.fixture(scope='session')
def frames():
    """Colour and exact depth of places in a virtual room."""
    from small_recordings import room_frames
    return room_frames()


@pytest.fixture(scope='session')
def known_runtime():
    """Processes run lite-nyu in OpenVINO at once, as where an earlier start measured it."""
    pytest.importorskip('openvino')
    from hybrid_depth_ros.models import open_model
    from hybrid_depth_ros.runtimes import selection
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, 'make_runtime', lambda *_: lambda pixels: pixels)
        patch.setattr(selection, '_benchmark_candidates', lambda made, pixels: (
            {name: float(name[0] != 'openvino') for name in made}, 1.0, True))
        selection.load_runtime(open_model('lite-nyu'))


@pytest.fixture
def graph(request, tmp_path):
    """A running depth node with a stand-in for the network, and a node that talks to it."""
    pytest.importorskip('rclpy')
    from graph import Graph
    options = dict(getattr(request, 'param', {}))
    graph = Graph(tmp_path / 'log', *options.pop('arguments', ()), **options)
    yield graph
    graph.close()


@pytest.fixture
def start(tmp_path):
    """A function that runs a launch file with stand-ins for the nodes."""
    from launch_runs import LaunchRuns
    runs = LaunchRuns(tmp_path)
    yield runs
    runs.close()


@pytest.fixture
def disk(request, tmp_path):
    """A file system of its own, of as many megabytes as the test's parameter says."""
    from small_disk import SmallDisk
    small = SmallDisk(tmp_path / 'disk', request.param)
    yield small
    subprocess.run(['umount', '--lazy', small.path], check=True)


@pytest.fixture(scope='session')
def workspace(tmp_path_factory):
    """The repository built by colcon in a workspace, which all of a run's processes share."""
    colcon = Path(sys.executable).with_name('colcon')
    if not colcon.exists():
        colcon = shutil.which('colcon') or pytest.skip('needs colcon')
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if worker else base) / 'workspace'
    with (path.parent / 'workspace.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / 'built').exists():
            build_workspace(path, colcon)
    return path / 'install' / 'hybrid_depth_ros'


def build_workspace(path, colcon):
    files = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split('\n')
    for name in filter(None, files):
        if (ROOT / name).exists():
            target = path / 'src' / 'hybrid_depth_ros' / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    built = subprocess.run([colcon, 'build'], cwd=path, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path / 'built').touch()
