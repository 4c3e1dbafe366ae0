"""Names and values as people have them: not UTF-8, ~, empty, no number, no home folder."""

import io
import itertools
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from hybrid_depth_ros import evaluate_bag
from hybrid_depth_ros.arguments import number, user_path
from hybrid_depth_ros.errors import printable, reason
from hybrid_depth_ros.files import cache_folder, check_writable, expand_user, result_file
from hybrid_depth_ros.sources import open_source
from hybrid_depth_ros.weights import DATA, load_network, weights_path

PICTURE = np.full((48, 64, 3), 100, np.uint8)


def write_video(path, frames=5):
    """A Motion-JPEG film in an .avi at `path`, a str."""
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 12.0, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    writer.release()


# --- names that are not UTF-8 -------------------------------------------------------------

def test_names_that_are_not_utf8_are_read(tmp_path):
    """opencv#4292, opencv-python#700: OpenCV ended in a segmentation fault.

    In a process of its own, which may.
    """
    folder = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9')
    os.mkdir(folder)
    pictures = Path(folder) / os.fsdecode(b'\xff')
    pictures.mkdir()
    (pictures / os.fsdecode(b'\xe9.png')).write_bytes(cv2.imencode('.png', PICTURE)[1].tobytes())
    write_video(str(tmp_path / 'plain.avi'))
    (tmp_path / 'plain.avi').rename(Path(folder) / os.fsdecode(b'v\xe9.avi'))
    weights = Path(folder) / 'w.safetensors'
    weights.write_bytes((DATA / 'lite-nyu.safetensors').read_bytes())
    code = '''
import os, sys
from pathlib import Path
from hybrid_depth_ros.sources import open_source
from hybrid_depth_ros.image_files import read_pixels
folder = Path(sys.argv[1])
for name in (b'\\xff', b'\\xff/\\xe9.png', b'v\\xe9.avi'):
    source = open_source(str(folder / os.fsdecode(name)))
    assert all(source.read().rgb.shape == (48, 64, 3) for _ in range(12))
try:
    read_pixels(folder / os.fsdecode(b'v\\xe9.avi'))
except OSError as error:
    from hybrid_depth_ros.errors import explain
    explain(error).encode()
else:
    raise AssertionError
'''
    done = subprocess.run([sys.executable, '-c', code, folder], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode(errors='replace')
    assert load_network(str(weights)).encoder_name == load_network('lite-nyu').encoder_name


def test_what_is_said_of_a_name_can_be_logged():
    """opencv#4292: rclpy takes UTF-8 alone."""
    name = os.fsdecode(b'/a/caf\xe9.png')
    assert reason(FileNotFoundError(2, 'No such file', name)) == '/a/caf\\xe9.png: No such file'
    assert reason(OSError(f'{name} is no image')) == '/a/caf\\xe9.png is no image'
    assert printable('δ1 \ud83d') == 'δ1 \\ud83d'
    with pytest.raises(ValueError, match='surrogates') as raised:
        name.encode()
    assert reason(raised.value) == (
        '/a/caf\\xe9.png is not UTF-8; give the file and its folders other names')


def test_a_name_for_ros_that_is_not_utf8_is_named():
    """opencv#4292: said by rclpy as the codec's error at a place in a text."""
    done = subprocess.run(
        [sys.executable, '-m', 'hybrid_depth_ros.nodes.camera', '--ros-args', '-p',
         b'source:=v\xe9.avi'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith('camera_node: source:=v\\xe9.avi is not UTF-8')


# --- terminals without a sign ------------------------------------------------------------

def test_figures_are_kept_where_the_terminal_lacks_a_sign(tmp_path, monkeypatch):
    """meshtastic/python#535: under Latin-1 an hour's figures were lost at the δ."""
    from small_recordings import CAMERA, predict, recording, write

    from hybrid_depth_ros.virtual_room import Room
    room = Room(1)
    path = tmp_path / 'bag'
    write(path, recording([room.render(CAMERA, room.camera_pose(0.0))] * 2))
    terminal = io.TextIOWrapper(io.BytesIO(), 'latin-1')
    monkeypatch.setattr(sys, 'stdout', terminal)
    assert evaluate_bag.main([str(path), '--json', str(tmp_path / 'out.json'), '--csv',
                              str(tmp_path / 'out.csv')], predict) == 0
    terminal.flush()
    assert b'\\u03b41' in terminal.buffer.getvalue()
    assert json.loads((tmp_path / 'out.json').read_text())['frames'] == 2
    assert len((tmp_path / 'out.csv').read_text().splitlines()) == 3


def test_a_print_that_fails_leaves_whole_files(tmp_path, monkeypatch):
    """meshtastic/python#535: the JSON had 0 bytes. And what fails half-way keeps its start."""
    from small_recordings import CAMERA, predict, recording, write

    from hybrid_depth_ros.metrics import RecordingScores
    from hybrid_depth_ros.virtual_room import Room
    room = Room(1)
    path, out = tmp_path / 'bag', tmp_path / 'out.json'
    write(path, recording([room.render(CAMERA, room.camera_pose(0.0))] * 3))

    def fail(*_):
        raise OSError('the terminal is gone')
    monkeypatch.setattr(RecordingScores, 'table', fail)
    arguments = [str(path), '--json', str(out), '--csv', str(tmp_path / 'out.csv')]
    with pytest.raises(SystemExit, match='the terminal is gone'):
        evaluate_bag.main(arguments, predict)
    assert json.loads(out.read_text())['frames'] == 3
    monkeypatch.undo()
    seen = []

    def tire(rgb, fx=None):
        seen.append(fx)
        if len(seen) == 3:
            raise ValueError('no such instruction')
        return predict(rgb, fx)
    with pytest.raises(SystemExit, match='no such instruction'):
        evaluate_bag.main(arguments, tire)
    assert json.loads(out.read_text())['frames'] == 2
    assert len((tmp_path / 'out.csv').read_text().splitlines()) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ['bag', 'out.csv', 'out.json']


def test_results_are_written_whole_or_through(tmp_path):
    path, link = tmp_path / 'a.json', tmp_path / 'link.json'
    path.write_text('old')
    check_writable(path)
    assert path.read_text() == 'old'
    with pytest.raises(KeyError), result_file(path) as partial:
        partial.write_text('half')
        raise KeyError
    assert path.read_text() == 'old'
    link.symlink_to(path)
    with result_file(link) as through:
        through.write_text('new')
    assert link.is_symlink()
    assert path.read_text() == 'new'
    os.mkfifo(tmp_path / 'pipe')
    for wrong in (tmp_path, tmp_path / 'none' / 'a.json'):
        with pytest.raises(OSError, match='directory'):
            check_writable(wrong)


# --- values that a parser lets through ---------------------------------------------------

def test_digits_that_are_no_numbers_in_names(tmp_path):
    """rclpy#912's kind: int('²') ended the camera node."""
    for name in ('5²3.png', '5²10.png', '5²3½.png', '٣.png'):
        (tmp_path / name).write_bytes(cv2.imencode('.png', PICTURE)[1].tobytes())
    source = open_source(str(tmp_path), loop=False)
    assert [file.name for file in source._files][:2] == ['٣.png', '5²3.png']
    assert all(source.read() for _ in range(4))


@pytest.mark.parametrize('text', ['nan', 'inf', '-inf', '-1', '', 'x', '1e999', '²'])
@pytest.mark.parametrize('kind', [int, float])
def test_numbers_of_a_command_line_are_numbers(text, kind):
    """rclpy#912's kind: --slop nan."""
    with pytest.raises(Exception, match=r'is not a (whole )?number of at least 0'):
        number(0, kind=kind)(text)


def test_slop_is_a_number(capsys):
    for text in ('nan', '-1', 'inf'):
        with pytest.raises(SystemExit):
            evaluate_bag.main(['x', '--slop', text])
        assert f"--slop: '{text}' is not a number of at least 0" in capsys.readouterr().err
    for option in ('camera-height', 'camera-pitch', 'camera-roll', 'anchor-age',
                   'anchor-time-constant'):
        with pytest.raises(SystemExit):
            evaluate_bag.main(['x', f'--{option}', 'nan'])
        assert f"--{option}: 'nan' is not a number" in capsys.readouterr().err


def test_a_home_folder_that_is_not_known_is_named():
    """rclpy#912's kind: a traceback, 'Could not determine home directory'."""
    from hybrid_depth_ros.recordings.recording import Recording
    from train.datasets import open_dataset
    for opened in (expand_user, open_source, Recording, open_dataset, weights_path, user_path):
        with pytest.raises(Exception, match=r'~nobodyhere/x: no user nobodyhere is known here; '
                                            'write the path from / on'):
            opened('~nobodyhere/x')


@pytest.mark.parametrize(('name', 'said'), [
    ('', 'weights have no name'), ('.', 'is a folder'), ('/', 'is a folder')])
def test_weights_that_are_no_file(name, said):
    """rclpy#912's kind: PosixPath('.') has an empty name."""
    from hybrid_depth_ros.predictor import DepthPredictor
    with pytest.raises(OSError, match=said):
        DepthPredictor(name)


@pytest.mark.parametrize(('node', 'argument', 'said'), [
    ('depth', 'cameras:=[]', 'parameter cameras is empty; it must be a list of texts'),
    ('camera', 'source:=[]', 'parameter source is empty; it must be a text'),
    ('camera', 'source:=no', 'parameter source is False, bool to YAML; write it in quotes'),
    ('camera', 'source:=99999999999', 'no such device, file or folder'),
    ('camera', "source:=''", 'source is empty'),
    ('camera', 'calibration:=~nobodyhere/x', 'no user nobodyhere is known'),
    ('evaluator', 'json:=~nobodyhere/x', 'no user nobodyhere is known')])
def test_parameters_that_yaml_lets_through(node, argument, said):
    """rclpy#912: [] has no type, and ended in a traceback."""
    rclpy = pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.camera import CameraNode
    from hybrid_depth_ros.nodes.depth.node import DepthNode
    from hybrid_depth_ros.nodes.evaluator import EvaluatorNode
    create = {'depth': lambda **options: DepthNode(print, **options), 'camera': CameraNode,
              'evaluator': EvaluatorNode}[node]
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        with pytest.raises((ValueError, OSError), match=said):
            create(context=context, cli_args=['--ros-args', '-p', argument])
    finally:
        rclpy.shutdown(context=context)


# --- no home, no name --------------------------------------------------------------------

def test_without_a_home_it_goes_on(monkeypatch):
    """vllm#10185: containers with a user's number alone."""
    for name in ('HOME', 'XDG_CACHE_HOME', 'HYBRID_DEPTH_CACHE', 'ROS_HOME', 'ROS_LOG_DIR'):
        monkeypatch.delenv(name, raising=False)

    def unknown(_):
        raise KeyError('uid not found')
    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    with pytest.raises(OSError, match='set HYBRID_DEPTH_CACHE'):
        cache_folder()
    with pytest.raises(OSError, match='this user has no home folder; write the path from /'):
        expand_user('~/x')
    from hybrid_depth_ros.predictor import DepthPredictor
    assert DepthPredictor(device='cpu', runtime='openvino')(PICTURE).shape == (48, 64)


def test_log_files_are_done_without_where_there_is_no_place(tmp_path, monkeypatch):
    """vllm#10185's kind: rclpy gave up, 'Failed to get logging directory'."""
    pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared.run_node import log_arguments
    for name in ('HOME', 'ROS_HOME', 'ROS_LOG_DIR'):
        monkeypatch.delenv(name, raising=False)
    assert '--disable-external-lib-logs' in log_arguments()
    monkeypatch.setenv('HOME', '/proc/none')
    assert '--disable-external-lib-logs' in log_arguments()
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    assert log_arguments() == []
    done = subprocess.run(
        [sys.executable, '-m', 'hybrid_depth_ros.nodes.camera', '--ros-args', '-p', 'source:=x'],
        capture_output=True, text=True, timeout=60,
        env={**{name: value for name, value in os.environ.items() if name != 'ROS_HOME'},
             'HOME': '/proc/none'})
    assert 'x: no such device, file or folder' in done.stderr


# --- told to end in the first second -----------------------------------------------------

def begun(module, loaded, *arguments):
    """A command of ours as a process, when it has mapped what `loaded` names."""
    process = subprocess.Popen([sys.executable, '-m', module, *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 30
    while not any(name in Path(f'/proc/{process.pid}/maps').read_text()
                  for name in loaded.split('|')):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@pytest.mark.parametrize(('stop', 'loaded', 'handler'), [
    *((stop, loaded, signal.SIG_DFL) for stop in (signal.SIGINT, signal.SIGTERM)
      for loaded in ('_multiarray_umath', 'libfastrtps|libfastdds', 'cv2.abi')),
    (signal.SIGINT, '_multiarray_umath', signal.SIG_IGN)])
def test_a_node_that_is_told_to_end_while_it_starts(stop, loaded, handler):
    """rclcpp#1704, rclpy#253: FATAL 'context is invalid' and 1, or a traceback. It ends with 0.

    And a Ctrl-C was lost where a script had started the node with &, which ignores it, until
    rclpy listened.
    """
    signal.signal(stop, handler)
    process = begun('hybrid_depth_ros.nodes.camera', loaded)
    process.send_signal(stop)
    printed = process.communicate(timeout=15)[0]
    assert process.returncode == 0
    assert not printed


@pytest.mark.parametrize(('command', 'loaded'), [
    ('hybrid_depth_ros.evaluate_bag', '_multiarray_umath'), ('hybrid_depth_ros.demo', 'cv2.abi'),
    ('train.prepare', '_multiarray_umath')])
def test_a_command_that_is_told_to_end_while_it_starts(command, loaded):
    """rclpy#253's kind: Ctrl-C in an import showed a traceback, or an ImportError made of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = begun(command, loaded, *(('--data', 'x', '--out', 'x') if 'train' in command else ()))
    process.send_signal(signal.SIGINT)
    assert not process.communicate(timeout=15)[0]
    assert process.returncode == -signal.SIGINT


def test_an_import_leaves_signals_alone(tmp_path):
    """Importing the package took Ctrl-C from any program that is called `train`."""
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / '__init__.py').touch()
    (tmp_path / 'train' / '__main__.py').write_text(
        'import signal, hybrid_depth_ros, hybrid_depth_ros.nodes, hybrid_depth_ros.arguments\n'
        'assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n'
        'assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n'
        'print("unchanged")')
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    done = subprocess.run([sys.executable, '-m', 'train'], cwd=tmp_path, timeout=60,
                          capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])})
    assert done.stdout == 'unchanged\n', done.stderr


@pytest.mark.parametrize('where', ['start', 'callback'])
def test_what_goes_on_when_told_to_end_is_left_where_it_is(where):
    """rclpy#253's kind: a download of minutes."""
    pytest.importorskip('rclpy')
    code = '''
import sys, time
from hybrid_depth_ros.nodes.shared.run_node import run_node
import rclpy
def wait():
    print('started', flush=True)
    for _ in range(600):
        time.sleep(0.1)
def create():
    if sys.argv[1] == 'start':
        wait()
    node = rclpy.create_node('waiter')
    node.create_timer(0.01, wait)
    return node
sys.exit(run_node('camera_node', create))
'''
    process = subprocess.Popen([sys.executable, '-c', code, where], stdout=subprocess.PIPE,
                               text=True)
    assert process.stdout.readline() == 'started\n'
    process.terminate()
    assert process.wait(10) == 0


def test_the_end_of_a_node_is_its_end():
    """Python takes seconds to take apart what transformers has loaded; a Ctrl-C seemed lost."""
    pytest.importorskip('rclpy')
    code = """
import atexit, sys
from hybrid_depth_ros.nodes.shared import run_node
atexit.register(print, 'later')
run_node._exit_without_teardown(3)
print('said')
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, 'said\n')


# --- names on their way through make and YAML --------------------------------------------

FILMS = ('my film #2.avi', 'Teil: 1.avi', '[clip] 1.avi', '{a}.avi', '%d.avi', 'no', '1e5',
         '-x.avi', "it's.avi",
         'say "hi".avi', 'back\\slash.avi', 'tab\t.avi', 'line\nbreak.avi', '&a.avi',
         '*a.avi', '!a.avi', '`date`.avi', '$HOME.avi', 'film 🎬.avi', 'a:=b.avi', ' edge .avi')
# what YAML, make, a shell, ROS or argparse may take for something else
VALUES = (*FILMS, '0123', '0x10', '1e3', '+5', '.5', '1_000', '12:30', 'true', 'y', 'on', 'null',
          '~', '[', '{', '%', '#', ': ', '- a', '"', "'", '\\', '@a', '|', '>', '---', '...', '<<',
          '=', '!!int 5', 'nan', '.inf', '"a"', "'a'", '$(a)', '$$', ',', ' ', '?', 'é', '-p', '--')


def test_names_that_are_yaml_stay_names(tmp_path, monkeypatch):
    """launch#508: a value went to ROS unquoted, and came as a map, a comment, False or 100000."""
    rclpy = pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared.parameters import yaml_quoted
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        node = rclpy.create_node('taker', context=context, cli_args=[
            '--ros-args', *(word for i, name in enumerate(VALUES)
                            for word in ('-p', f'name{i}:={yaml_quoted(name)}'))],
            automatically_declare_parameters_from_overrides=True)
        assert [node.get_parameter(f'name{i}').value for i in range(len(VALUES))] == list(VALUES)
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    write_video(str(tmp_path / 'plain.avi'))
    monkeypatch.chdir(tmp_path)
    for name in FILMS:
        (tmp_path / 'plain.avi').rename(tmp_path / name)
        assert open_source(name, loop=False).read().rgb.shape == (48, 64, 3)
        (tmp_path / name).rename(tmp_path / 'plain.avi')


def test_make_hands_names_on_as_they_are(tmp_path):
    """launch#508's kind: make and the shell read what a name holds."""
    root = Path(__file__).resolve().parent.parent
    (tmp_path / 'bin').mkdir()
    python = tmp_path / 'bin' / 'python'
    python.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    python.chmod(0o755)
    for name in ('demo', 'torch', 'test', 'models'):
        (tmp_path / f'{name}.installed').touch()
    names = iter([name for name in VALUES if name == name.lstrip()])  # make strips it
    for values in itertools.zip_longest(*[names] * 6, fillvalue='say `date` $HOME $(x)'):
        given = dict(zip(('SOURCE', 'WEIGHTS', 'FOV', 'ANCHORS', 'DURATION', 'OUT'), values))
        done = subprocess.run(
            ['make', '-s', 'demo', f'VENV={tmp_path}',
             *(f'{name}={value}' for name, value in given.items())], cwd=root,
            capture_output=True, text=True, timeout=60, env={**os.environ, 'ROS_DISTRO': ''})
        options = ('--source', '--weights', '--horizontal-fov', '--anchors', '--seconds', '--out')
        assert done.stdout.split('\0')[2:-1] == [
            f'{option}={value}' for option, value in zip(options, values)], done.stderr


@pytest.mark.parametrize('value', VALUES)
def test_a_text_that_yaml_reads_as_another_is_told(value, monkeypatch, capfd):
    """launch#508's kind, typed by hand: it comes as it was typed, or one sentence says how to write
    it; ``0123`` came as 83, and ``film #2.avi`` as ``film``."""
    rclpy = pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared import run_node
    from hybrid_depth_ros.nodes.shared.parameters import Setting, declare_parameters
    got = []

    def create():
        node = rclpy.create_node('taker')
        got.append(declare_parameters(node, (Setting('source', 'room', '', any_type=True),
                                  Setting('weights', 'lite-nyu', '')), argv=arguments))
        raise ValueError('declared')
    arguments = ['x', '--ros-args', '-p', f'source:={value}', '-p', f'weights:={value}']
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert run_node.run_node('taker', create, arguments) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    said = capfd.readouterr().err
    if got and value in ('"a"', "'a'", '!!int 5'):  # YAML's own quotes are meant
        value = {'!!int 5': '5'}.get(value, 'a')
    assert got == [{'source': value, 'weights': value}] or (
        not got and 'in quotes for the shell and for YAML: ' in said), (got, said)


@pytest.mark.parametrize('topic', [
    'no', '/a/b', '~/x', '0123', '1e3', 'a b', 'a#b', '~', '{node}/x', '', '//x', 'x/', '[a]',
    "'x'", ' x', 'x ', '%d', 'é', 'a:=b', 'a/0b', 'a--b'])
def test_a_topic_comes_as_it_was_given(topic, capfd):
    """ros_comm#2175's kind: a remap rule holds a name, or one sentence says what a name is."""
    rclpy = pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared import run_node
    got = []

    def create():
        got.append(rclpy.create_node('taker').resolve_topic_name('image'))
        raise ValueError('resolved')
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run_node.run_node('taker', create, ['x', '--ros-args', '-r', f'image:={topic}'])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    good = {'no': '/no', '/a/b': '/a/b', '~/x': '/taker/x'}
    assert got == ([good[topic]] if topic in good else [])
    if topic not in good:
        assert f'taker: -r image:={topic} is no remapping: a name has' in capfd.readouterr().err


# --- names and values inside a running node -----------------------------------------------

@pytest.fixture
def make_node():
    """A function that makes a node of its own graph with arguments behind --ros-args."""
    rclpy = pytest.importorskip('rclpy')
    context, nodes = rclpy.Context(), []
    rclpy.init(args=[], context=context)

    def make(create, *arguments):
        nodes.append(create(context=context, cli_args=['--ros-args', *arguments]))
        return nodes[-1]
    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize(('transport', 'rules', 'topic'), [
    ('raw', ('image:=/depth/in', '/depth/in:=/wrong'), '/depth/in'),
    ('raw', ('image:=/depth/in', '/image:=/wrong'), '/depth/in'),
    ('compressed', ('image:=/depth/in', '/depth/in:=/wrong'), '/depth/in/compressed'),
    ('compressed', ('image/compressed:=/depth/in', '/depth/in:=/wrong'), '/depth/in'),
    ('raw', (), '/image'), ('compressed', (), '/image/compressed')])
def test_names_are_remapped_once(make_node, transport, rules, topic):
    """ros_comm#2175: what was remapped already was remapped again, and /wrong listened to."""
    from hybrid_depth_ros.nodes.depth.node import DepthNode
    node = make_node(
        lambda **options: DepthNode(print, **options), '-p', 'autostart:=false', '-p',
        f'image_transport:={transport}', *(word for rule in rules for word in ('-r', rule)),
        '-r', 'camera_info:=/info', '-r', '/info:=/wrong')
    camera, = node._cameras
    for listener in (camera._images, camera._camera_infos):
        listener.update()
    assert [listener.subscription.topic_name for listener in (
        camera._images, camera._camera_infos)] == [topic, '/info']
    assert camera.topic == topic


@pytest.mark.parametrize(('name', 'value', 'said'), [
    ('max_range', 5, 'parameter max_range is 5; it must be a number with a point from 0.0 to'),
    ('max_range', -1.0, 'parameter max_range is -1.0; it must be a number with a point from 0.0'),
    ('max_range', float('nan'), 'parameter max_range is nan; it must be a number with a point'),
    ('cloud_stride', 0, 'parameter cloud_stride is 0; it must be a whole number from 1 to 64'),
    ('cloud_stride', True, 'parameter cloud_stride is True; it must be a whole number'),
    ('cloud_stride', None, 'parameter cloud_stride is None; it must be a whole number'),
    ('weights', 5, 'parameter weights is 5; it must be a text'),
    ('cameras', ['a'], 'parameter cameras may not change while the node runs: set it at the start'),
    ('rectify', 'x', "parameter rectify is 'x'; it must be one of: auto, always, never")])
def test_a_value_refused_while_running_is_told_as_at_the_start(make_node, name, value, said):
    """rclpy#912's kind: in rclpy's words while running, in ours at the start."""
    from rclpy.parameter import Parameter

    from hybrid_depth_ros.nodes.depth.node import DepthNode
    node = make_node(lambda **options: DepthNode(print, **options), '-p', 'autostart:=false')
    answer = node.set_parameters_atomically([Parameter(name, value=value)])  # as the service does
    assert not answer.successful
    assert answer.reason.startswith(said)
    assert node.set_parameters_atomically([Parameter('max_range', value=4.0)]).successful
