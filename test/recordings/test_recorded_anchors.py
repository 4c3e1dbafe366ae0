"""Recordings with anchors: evaluated offline as the live nodes do it, by their own /tf."""

import json

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
rosbags = pytest.importorskip('rosbags')

from graph import CAMERA, CHART, Graph
from lidar_scene import LIDAR, WRONG, scene_scan
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image, LaserScan
from stub_depth_node import HEIGHT, WIDTH, ScenePredictor, scene_depth
from transform_messages import header, transform

from hybrid_depth_ros.anchors.corrector import AnchorCorrector
from hybrid_depth_ros.evaluate_bag import main
from hybrid_depth_ros.nodes.evaluator import EvaluatorNode
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, depth_to_image, rgb_to_image
from hybrid_depth_ros.poses import pose_from_angles, read_pose

TYPES = get_typestore(Stores.ROS2_JAZZY)
START = 1_700_000_000_000_000_000


def messages(frames=8):
    """[(topic, kind, message, ns of recording)] of a camera and a slower lidar."""
    rng = np.random.default_rng(0)
    truth = scene_depth(WIDTH, HEIGHT)
    recorded = []
    for number in range(frames):
        ns = START + number * 100_000_000
        if number % 2 == 0:
            scan = scene_scan(header(ns - 30_000_000, 'lidar'))
            scan.ranges = (np.array(scan.ranges) + rng.normal(0, 0.01, 360)).tolist()
            recorded.append(('/scan', LaserScan, scan, ns - 20_000_000))
        head = header(ns, 'optical')
        recorded += [('/camera_info', CameraInfo, camera_info_message(CAMERA, head), ns),
                     ('/image', Image, rgb_to_image(CHART, head), ns),
                     ('/truth', Image, depth_to_image(truth, head, '32FC1'), ns + 1000)]
    return recorded


def record(path, recorded, transforms=()):
    with Writer(path, version=9) as bag:
        kinds, connections = TYPES.types, {}
        if transforms:
            def rebuilt(name, message):
                fields = {}
                for field, kind in message.get_fields_and_field_types().items():
                    value = getattr(message, field)
                    fields[field] = (rebuilt(kind.replace('/', '/msg/'), value) if '/' in kind
                                     else value)
                return kinds[name](**fields)
            kind = 'tf2_msgs/msg/TFMessage'
            data = TYPES.serialize_cdr(kinds[kind](transforms=[
                rebuilt('geometry_msgs/msg/TransformStamped', t) for t in transforms]), kind)
            bag.write(bag.add_connection('/tf_static', kind, typestore=TYPES), START, data)
        for topic, kind, message, ns in recorded:
            if topic not in connections:
                connections[topic] = bag.add_connection(
                    topic, f'sensor_msgs/msg/{kind.__name__}', typestore=TYPES)
            bag.write(connections[topic], ns, message if isinstance(message, bytes) else
                      serialize_message(message))
    return str(path)


ARGUMENTS = ['--image', '/image', '--depth', '/truth']


def evaluated(tmp_path, bag, *arguments):
    out = tmp_path / 'figures.json'
    assert main([bag, *ARGUMENTS, '--json', str(out), *arguments],
                predictor=lambda rgb, fx: ScenePredictor(0, WRONG)([rgb], [fx])[0]) == 0
    return json.loads(out.read_text())


def test_before_and_after_by_the_recordings_own_tf(tmp_path, capsys):
    base = pose_from_angles(0.1, 0, 0.3, 0, 0, 0.3)
    links = [transform('base', 'optical', base),
             transform('base', 'lidar', base @ read_pose(LIDAR))]
    bag = record(tmp_path / 'bag', messages(), links)
    figures = evaluated(tmp_path, bag, '--anchor-scan', '/scan', '--plots', str(tmp_path / 'plots'))
    printed = capsys.readouterr().out
    assert 'without anchors: 8 frames' in printed and 'with anchors: 8 frames' in printed
    assert figures['without_anchors']['metrics']['rel'] == pytest.approx(WRONG - 1, abs=0.01)
    assert figures['metrics']['rel'] < 0.05
    fixed = evaluated(tmp_path, bag, '--anchor-scan', '/scan', '--anchor-pose', LIDAR)
    assert fixed['metrics']['rel'] == pytest.approx(figures['metrics']['rel'], abs=1e-5)
    assert (tmp_path / 'plots' / 'median.png').is_file()


def test_damaged_messages_cost_no_frame(tmp_path, capsys):
    """Half of a scan and half of an image are there: both are left out, and no more."""
    recorded = messages()
    first = next(i for i, (topic, *_) in enumerate(recorded) if topic == '/image')
    for i in (0, first):  # of the first scan and the first picture half is there
        topic, kind, message, ns = recorded[i]
        recorded[i] = topic, kind, serialize_message(message)[:400], ns
    links = [transform('optical', 'lidar', read_pose(LIDAR))]
    figures = evaluated(tmp_path, record(tmp_path / 'bag', recorded, links),
                        '--anchor-scan', '/scan')
    assert figures['frames'] == 7
    assert figures['metrics']['rel'] < 0.08  # one frame is before the first scan that is whole
    assert '1 messages that anchors need are left out; the first: ' in capsys.readouterr().err


def test_each_sensor_of_a_recording_has_its_own_pose(tmp_path):
    rear = '-0.1 -0.1 0.15 4 8 6'
    recorded = messages()
    recorded += [('/rear', LaserScan, scene_scan(scan.header, rear), ns)
                 for topic, _, scan, ns in recorded if topic == '/scan']
    bag = record(tmp_path / 'bag', sorted(recorded, key=lambda message: message[3]))
    both, swapped = (evaluated(
        tmp_path, bag, '--anchor-scan', '/scan', '/rear', '--anchor-floor', '--anchor-pose', *poses)
        ['metrics']['rel'] for poses in ((LIDAR, rear), (rear, LIDAR)))
    assert both < 0.05 and swapped > 2 * both, (both, swapped)
    names = ['scan', 'floor', 'range/left']
    poses = [read_pose(LIDAR), read_pose(rear)]
    for given in (poses, [poses[0], None, poses[1]]):
        held = [source.pose for source in AnchorCorrector(names, given).sources.values()]
        assert held[0] is poses[0] and held[1] is None and held[2] is poses[1]
    with pytest.raises(ValueError, match='2 poses for 1 sensors'):
        AnchorCorrector(['scan'], poses)


def test_offline_and_live_agree_to_the_last_digit(tmp_path):
    recorded = messages()
    bag = record(tmp_path / 'bag', recorded)
    offline = evaluated(tmp_path, bag, '--anchor-scan', '/scan', '--anchor-pose', LIDAR)
    graph = Graph(tmp_path / 'log', '-p', 'anchors:=[scan]', '-p', f"anchor_poses:=['{LIDAR}']",
                  scale=WRONG)
    try:
        evaluator = EvaluatorNode(context=graph.context, cli_args=[
            '--ros-args', '-r', 'depth_ground_truth:=/truth'])
        graph.executor.add_node(evaluator)
        lidar = graph.node.create_publisher(LaserScan, 'anchors/scan', 10)
        truth = graph.node.create_publisher(Image, 'truth', 10)
        graph.listen(Image, 'depth/image')
        for publisher in (graph.image, lidar, truth):
            graph.ready(publisher)
        publishers = {'/scan': lidar, '/truth': truth, '/image': graph.image,
                      '/camera_info': graph.info}
        for topic, _, message, _ in recorded:
            count = len(graph.got['depth/image'])
            publishers[topic].publish(message)
            if topic == '/image':
                assert graph.spin(10, lambda n=count: len(graph.got['depth/image']) > n)
            else:
                graph.spin(0.2)
        graph.spin(0.5)
        live = evaluator.scores.report()
        evaluator.destroy_node()
    finally:
        graph.close()
    assert live['frames'] == 8
    assert live['metrics'] == offline['metrics'] and live['bands'] == offline['bands']


def test_a_part_of_the_measured_depth_is_hidden_filled_and_scored(tmp_path, capsys):
    recorded = messages(4)
    for topic, _, message, _ns in recorded:
        if topic == '/truth':  # it has holes of its own
            truth = scene_depth(WIDTH, HEIGHT)
            truth[40:60, 40:60] = np.nan
            message.data = truth.tobytes()
    bag = record(tmp_path / 'bag', recorded)
    figures = evaluated(tmp_path, bag, '--anchor-depth', '--plots', str(tmp_path / 'plots'))
    measured = HEIGHT * WIDTH - 400
    assert figures['hidden'] == 0.3 and 0.25 < figures['pixels'] / (4 * measured) < 0.4
    before = figures['without_anchors']
    assert before['pixels'] == figures['pixels']
    assert before['metrics']['rel'] == pytest.approx(WRONG - 1, abs=0.01)
    assert figures['metrics']['rel'] < 0.02 and figures['metrics']['delta1'] > 0.99
    assert '30% of the measured pixels are hidden; these are scored' in capsys.readouterr().out
    again = evaluated(tmp_path, bag, '--anchor-depth', '--anchor-scan', '/scan', '--anchor-pose',
                      LIDAR)
    assert again['pixels'] == figures['pixels'] and again['metrics']['rel'] < 0.02
    none = evaluated(tmp_path, bag, '--anchor-depth', '--anchor-max-range', '0.2')
    assert none['metrics'] == none['without_anchors']['metrics']
    assert '4 frames without anchors of depth: not one of its pixels' in capsys.readouterr().err


@pytest.mark.parametrize(('arguments', 'named'), [
    (('--anchor-scan', '/nowhere'), 'there is no such topic; with LaserScan in it: /scan'),
    (('--anchor-points', '/scan'), 'holds LaserScan, not PointCloud2'),
    (('--anchor-scan', '/scan', '--anchor-pose', '1 2'), 'six numbers')])
def test_what_is_not_in_the_recording_is_named(tmp_path, arguments, named):
    bag = record(tmp_path / 'bag', messages(2))
    with pytest.raises(SystemExit, match=named):
        evaluated(tmp_path, bag, *arguments)


def test_a_recording_without_transforms_goes_on_without(tmp_path, capsys):
    bag = record(tmp_path / 'bag', messages(3))
    figures = evaluated(tmp_path, bag, '--anchor-scan', '/scan')
    assert figures['metrics'] == figures['without_anchors']['metrics']
    assert 'no transform leads from lidar to optical' in capsys.readouterr().err


def test_a_camera_info_of_another_camera_places_no_anchors(tmp_path, capsys):
    recorded = messages(3)
    for topic, _, message, ns in recorded:
        if topic == '/camera_info':
            message.header = header(ns, 'right_camera')
    figures = evaluated(tmp_path, record(tmp_path / 'bag', recorded), '--anchor-scan', '/scan',
                        '--anchor-pose', LIDAR)
    assert figures['metrics'] == figures['without_anchors']['metrics']
    said = capsys.readouterr().err
    assert "3 frames without anchors of scan: camera_info is of the frame 'right_camera'" in said


def test_a_lidar_that_numbers_its_beams_the_other_way_round_is_withheld(tmp_path, capsys):
    recorded = messages()
    for topic, _, message, _ in recorded:
        if topic == '/scan':
            message.ranges = message.ranges[::-1]
    figures = evaluated(tmp_path, record(tmp_path / 'bag', recorded), '--anchor-scan', '/scan',
                        '--anchor-pose', LIDAR)
    assert figures['metrics']['rel'] < 1.05 * figures['without_anchors']['metrics']['rel']
    assert 'is the sensor turned or mirrored?' in capsys.readouterr().err
