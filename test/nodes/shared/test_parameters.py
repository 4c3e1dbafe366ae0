"""Parameters and names on their way through YAML, remapping and a running node."""

from dataclasses import asdict, dataclass

import cv2
import numpy as np
import pytest
from awkward_names import FILMS, VALUES
from stub_depth_node import ScenePredictor

from hybrid_depth_ros.sources import open_source


def write_video(path, frames=5):
    """A Motion-JPEG film in an .avi at `path`, a str."""
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 12.0, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    writer.release()


@pytest.mark.parametrize(('node', 'argument', 'said'), [
    ('depth', 'cameras:=[]', 'parameter cameras is empty; it must be a list of texts'),
    ('camera', 'source:=[]', 'parameter source is empty; it must be a text'),
    ('camera', 'source:=no', 'parameter source is False, bool to YAML; write it in quotes'),
    ('camera', 'source:=99999999999', 'no such device, file or folder'),
    ('camera', "source:=''", 'source is empty'),
    ('camera', 'calibration:=~nobodyhere/x', 'no user nobodyhere is known'),
    ('evaluator', 'json:=~nobodyhere/x', 'no user nobodyhere is known')])
def test_parameters_that_yaml_lets_through(node, argument, said):
    """[] has no type, and ended in a traceback."""
    rclpy = pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.camera import CameraNode
    from hybrid_depth_ros.nodes.depth.node import DepthNode
    from hybrid_depth_ros.nodes.evaluator import EvaluatorNode
    create = {'depth': lambda **options: DepthNode(ScenePredictor(0.0), **options),
              'camera': CameraNode, 'evaluator': EvaluatorNode}[node]
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        with pytest.raises((ValueError, OSError), match=said):
            create(context=context, cli_args=['--ros-args', '-p', argument])
    finally:
        rclpy.shutdown(context=context)


def test_names_that_are_yaml_stay_names(tmp_path, monkeypatch):
    """A value went to ROS unquoted, and came as a map, a comment, False or 100000."""
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


# Of these YAML makes something else, or nothing.
REFUSED = {
    'my film #2.avi', 'Teil: 1.avi', '[clip] 1.avi', '{a}.avi', '%d.avi', 'no', '1e5',
    'line\nbreak.avi', '&a.avi', '*a.avi', '!a.avi', '`date`.avi', ' edge .avi', '0123', '0x10',
    '1e3', '+5', '.5', 'true', 'y', 'on', '[', '{', '%', '#', ': ', '- a', '"', "'", '@a', '|', '>',
    '---', '...', '!!int 5', 'nan', '.inf', ',', ' ', '?'}
QUOTED = {'"a"': 'a', "'a'": 'a'}  # YAML's own quotes are meant


def declared(value):
    """(status of the process, what a node gets) of a value that is typed after -p."""
    import rclpy

    from hybrid_depth_ros.nodes.shared import run_node
    from hybrid_depth_ros.nodes.shared.parameters import declare_parameters, parameter
    got = []

    @dataclass
    class Settings:
        source: str = parameter('room', '', any_type=True)
        weights: str = parameter('lite-nyu', '')

    def create():
        node = rclpy.create_node('taker')
        got.append(asdict(declare_parameters(node, Settings, argv=arguments)))
        raise ValueError('declared')
    arguments = ['x', '--ros-args', '-p', f'source:={value}', '-p', f'weights:={value}']
    return run_node.run_node('taker', create, arguments), got


@pytest.mark.parametrize('value', [value for value in VALUES if value not in REFUSED])
def test_a_text_that_yaml_leaves_alone_comes_as_it_was_typed(value):
    pytest.importorskip('rclpy')
    text = QUOTED.get(value, value)
    assert declared(value) == (1, [{'source': text, 'weights': text}])


@pytest.mark.parametrize('value', sorted(REFUSED))
def test_a_text_that_yaml_reads_as_another_is_refused_with_the_way_to_write_it(value, capfd):
    """``0123`` came as 83, and ``film #2.avi`` as ``film``."""
    pytest.importorskip('rclpy')
    assert declared(value) == (1, [])
    assert 'in quotes for the shell and for YAML: ' in capfd.readouterr().err


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
    """What was remapped already was remapped again, and /wrong listened to."""
    from hybrid_depth_ros.nodes.depth.node import DepthNode
    node = make_node(
        lambda **options: DepthNode(ScenePredictor(0.0), **options), '-p', 'autostart:=false', '-p',
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
    """In rclpy's words while running, in ours at the start."""
    from rclpy.parameter import Parameter

    from hybrid_depth_ros.nodes.depth.node import DepthNode
    node = make_node(lambda **options: DepthNode(ScenePredictor(0.0), **options), '-p',
                     'autostart:=false')
    answer = node.set_parameters_atomically([Parameter(name, value=value)])  # as the service does
    assert not answer.successful
    assert answer.reason.startswith(said)
    assert node.set_parameters_atomically([Parameter('max_range', value=4.0)]).successful
