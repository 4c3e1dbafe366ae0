"""The depth node as a managed node, its diagnostics and snapshots, and several cameras on it."""

import re
import threading
import time
from collections import Counter

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus
from graph import CAMERA, CHART, OneProcess, value
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from stub_depth_node import HEIGHT, WIDTH, ScenePredictor, scene_depth

from hybrid_depth_ros import calibration
from hybrid_depth_ros.calibration import intrinsics_from_camera_info
from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.depth import camera_stream
from hybrid_depth_ros.nodes.depth.node import DepthNode, check_cameras
from hybrid_depth_ros.nodes.shared.calibration_files import camera_info_from_yaml
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, rgb_to_image
from hybrid_depth_ros.predictor import Prediction

MANAGED = {'arguments': ('-p', 'autostart:=false')}


@pytest.mark.parametrize('graph', [MANAGED], indirect=True)
def test_every_transition(graph):
    assert graph.state() == 'unconfigured'
    graph.listen(Image, 'depth/image')
    assert graph.diagnosis()['depth'].level == DiagnosticStatus.STALE
    assert not graph.image.get_subscription_count()
    assert graph.change_state('configure')
    assert graph.state() == 'inactive'
    for _ in range(2):
        assert graph.change_state('activate')
        graph.ready()
        assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()))
        assert graph.diagnosis()['depth'].level == DiagnosticStatus.OK
        assert graph.change_state('deactivate')
        assert graph.spin(5, lambda: not graph.image.get_subscription_count())
    assert graph.change_state('cleanup')
    assert graph.state() == 'unconfigured'
    assert not graph.change_state('activate')
    assert graph.change_state('configure') and graph.change_state('activate')
    graph.ready()
    assert graph.set_parameter('optical_frame', 'lens').successful
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()))
    graph.diagnosis(lambda status: status.level == DiagnosticStatus.WARN
                    and "not 'lens'" in status.message)
    assert graph.change_state('shutdown')
    assert graph.state() == 'finalized'


@pytest.mark.parametrize('graph', [{'arguments': (
    *MANAGED['arguments'], '-p', 'weights:=nowhere.safetensors', '-p', 'runtime:=openvino'),
    'seconds': -1}], indirect=True)
def test_a_failed_configure_says_why_and_can_be_retried(graph):
    assert not graph.change_state('configure')
    assert graph.state() == 'unconfigured'
    assert 'nowhere.safetensors' in graph.log.read_text()
    status = graph.diagnosis()['depth']
    assert status.level == DiagnosticStatus.ERROR
    assert 'nowhere.safetensors' in status.message
    assert graph.set_parameter('weights', 'lite-nyu').successful
    assert graph.change_state('configure', 60.0)
    assert graph.state() == 'inactive'
    refused = graph.set_parameter('weights', 'elsewhere.safetensors')  # the old ones stay
    assert not refused.successful
    assert 'elsewhere.safetensors' in refused.reason
    assert graph.change_state('activate')
    graph.listen(Image, 'depth/image')
    graph.ready()
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=20.0)
    assert graph.change_state('deactivate')
    memory = float(value(graph.diagnosis()['depth'], 'memory (MB)'))
    assert 50 < memory < 5000


def test_diagnostics_name_what_is_wrong(graph):
    graph.listen(Image, 'depth/image')
    graph.ready()
    assert 'no image on /image for' in graph.diagnosis(
        lambda s: s.level == DiagnosticStatus.WARN)['depth'].message
    graph.diagnosis(lambda s: re.search('for [4-9] s', s.message))
    assert graph.log.read_text().count('no image on /image for') == 1  # each silence, once
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), camera=None)
    assert 'camera_info' in graph.diagnosis(
        lambda s: 'no camera_info' in s.message)['depth'].message
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()))
    status = graph.diagnosis(lambda s: s.message == 'running')['depth']
    assert status.level == DiagnosticStatus.OK
    assert value(status, 'published') == '2'
    assert value(status, 'state') == 'active'
    assert graph.set_parameter('latency_warning', 1e-6).successful
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()))
    assert 'latency p95' in graph.diagnosis(lambda s: 'latency' in s.message)['depth'].message
    assert graph.answer('depth/image', Image(encoding='rgb8', header=graph.header()),
                        timeout=0.5) is None
    assert graph.diagnosis(lambda s: s.level == DiagnosticStatus.ERROR)['depth'].message \
        .startswith('frame skipped')


def test_snapshot(graph, tmp_path):
    assert graph.state() == 'active'
    refused = graph.call(Trigger, 'snapshot', Trigger.Request())
    assert not refused.success
    assert 'no image on /image within' in refused.message
    folder = tmp_path / 'snapshots'
    assert graph.set_parameter('snapshot_folder', str(folder)).successful
    timer = graph.node.create_timer(0.1, lambda: (
        graph.info.publish(camera_info_message(CAMERA, graph.header())),
        graph.image.publish(rgb_to_image(CHART, graph.header()))))
    answer = graph.call(Trigger, 'snapshot', Trigger.Request())
    timer.cancel()
    assert answer.success, answer.message
    folder = folder / answer.message.rsplit('/', 1)[-1]
    assert sorted(file.name for file in folder.iterdir()) == [
        'camera.yaml', 'cloud.ply', 'depth.png', 'rgb.png']
    np.testing.assert_array_equal(cv2.imread(str(folder / 'rgb.png'))[..., ::-1], CHART)
    depth = cv2.imread(str(folder / 'depth.png'), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(depth / 1000, scene_depth(WIDTH, HEIGHT), atol=5.1e-4)
    camera = intrinsics_from_camera_info(
        camera_info_from_yaml(folder / 'camera.yaml'), WIDTH, HEIGHT)
    assert camera == CAMERA
    assert graph.spin(5, lambda: not graph.image.get_subscription_count())  # it listens no more


def test_camera_names():
    check_cameras([''])
    check_cameras(['front', 'rear_2'])
    for names in ([], ['front', ''], ['front', 'front'], ['/front'], ['2nd']):
        with pytest.raises(ValueError, match='cameras'):
            check_cameras(names)


@pytest.mark.parametrize(('arguments', 'said'), [
    (('min_range:=5',), 'parameter min_range is 5; it must be a number with a point from 0.0 to '
     '100.0 m'),
    (('cloud_stride:=0',), 'parameter cloud_stride is 0; it must be a whole number from 1 to 64'),
    (('min_range:=1.0', 'max_range:=0.5'), 'max_range 0.5 m is not above min_range 1 m; make it')])
def test_a_start_value_that_will_not_do_is_named(arguments, said):
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        with pytest.raises(ValueError, match=f'^{re.escape(said)}'):
            DepthNode(ScenePredictor(0), context=context, cli_args=[
                '--ros-args', *(word for argument in arguments for word in ('-p', argument))])
    finally:
        rclpy.shutdown(context=context)


@pytest.mark.parametrize('graph', [{'arguments': (
    '-p', 'cameras:=[front, rear, left]'), 'seconds': 0.05}], indirect=True)
def test_several_cameras_keep_what_is_theirs(graph):
    """Sizes, stamps, frames and intrinsics of their own; one that falls silent holds up none."""
    sizes = {'front': (WIDTH, HEIGHT), 'rear': (WIDTH, HEIGHT), 'left': (80, 60)}
    images, infos = {}, {}
    for name in sizes:
        images[name] = graph.node.create_publisher(Image, f'{name}/image', 10)
        infos[name] = graph.node.create_publisher(CameraInfo, f'{name}/camera_info', 10)
        graph.listen(Image, f'{name}/depth/image', QoSProfile(depth=100))
        graph.listen(PointCloud2, f'{name}/depth/points', QoSProfile(depth=100))
        graph.listen(CameraInfo, f'{name}/depth/camera_info', QoSProfile(depth=100))
    for name in sizes:
        graph.ready(images[name])
    sent = {name: {} for name in sizes}

    def publish(names):
        for name in names:
            width, height = sizes[name]
            header = graph.header()
            header.frame_id = name
            sent[name][header.stamp.sec, header.stamp.nanosec] = header
            infos[name].publish(camera_info_message(
                Intrinsics.from_horizontal_fov(width, height, 40.0 + 10 * len(name)), header))
            images[name].publish(rgb_to_image(np.zeros((height, width, 3), np.uint8), header))

    def run(names, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            publish(names)
            graph.spin(0.1)
        graph.spin(0.5)
    run(sizes, 4.0)
    counts = {name: len(graph.got[f'{name}/depth/image']) for name in sizes}
    assert min(counts.values()) > 0.5 * max(counts.values()) > 3
    for name, (width, height) in sizes.items():
        for message in graph.got[f'{name}/depth/image']:
            assert message.header == sent[name][message.header.stamp.sec,
                                                message.header.stamp.nanosec]
            np.testing.assert_allclose(image_to_depth(message), scene_depth(width, height),
                                       rtol=1e-6)
        assert graph.got[f'{name}/depth/points'][-1].header.frame_id == name
        assert graph.got[f'{name}/depth/camera_info'][-1].k[0] == pytest.approx(
            Intrinsics.from_horizontal_fov(width, height, 40.0 + 10 * len(name)).fx)
    run(('front', 'left'), 3.0)
    statuses = graph.diagnosis()
    assert set(statuses) == set(sizes)
    assert 'no image on /rear/image' in statuses['rear'].message
    assert 'no image' not in statuses['left'].message or statuses['left'].level == 0
    later = {name: len(graph.got[f'{name}/depth/image']) - counts[name] for name in sizes}
    assert later['rear'] <= 1
    assert min(later['front'], later['left']) > 5


@pytest.fixture
def one_process(request):
    process = OneProcess(request.param)
    yield process
    process.close()


class CountedPredictor(ScenePredictor):
    calls = 0

    def __call__(self, images, focals):
        self.calls += len(images)
        return super().__call__(images, focals)


@pytest.mark.parametrize('one_process', [CountedPredictor(0.0)], indirect=True)
def test_nothing_is_computed_twice(one_process, monkeypatch):
    calls = Counter()

    def watch(module, name):
        real = getattr(module, name)

        def counted(*args, **options):
            calls[name] += 1
            return real(*args, **options)
        monkeypatch.setattr(module, name, counted)
    once_a_frame = ('image_to_rgb', 'depth_to_image', 'organised_cloud', 'cloud_message',
                    'snap_edges')
    for name in once_a_frame:
        watch(camera_stream, name)
    watch(calibration, 'rectification_from_camera_info')
    watch(camera_stream.Rectification, 'apply')
    camera = camera_info_message(CAMERA, Header())
    camera.d = [-0.1, 0.02, 0.0, 0.0, 0.0]
    one_process.info.publish(camera)
    assert one_process.spin(lambda: one_process.depth_node._cameras[0]._calibrations)
    frames = 5
    for count in range(1, frames + 1):
        one_process.info.publish(camera)
        one_process.send()
        assert one_process.spin(lambda count=count: len(one_process.got['depth/points']) == count)
    assert calls == {**dict.fromkeys((*once_a_frame, 'apply'), frames),
                     'rectification_from_camera_info': 1}
    assert one_process.depth_node._network.predictor.calls == frames


class TwoAtOnce(ScenePredictor):
    """Knows when it sees its second image; messages of the first wait for that."""

    def __init__(self):
        super().__init__(0.0)
        self.calls, self.second = 0, threading.Event()

    def __call__(self, images, focals):
        self.calls += 1
        if self.calls == 2:
            self.second.set()
        return super().__call__(images, focals)


@pytest.mark.parametrize('one_process', [TwoAtOnce()], indirect=True)
def test_the_next_image_is_looked_at_while_messages_are_sent(one_process, monkeypatch):
    predictor, overlapped = one_process.depth_node._network.predictor, []
    publish = camera_stream.CameraStream.publish_cloud

    def slow_publish(camera, frame, depth, settings):
        overlapped.append(predictor.second.wait(10))
        publish(camera, frame, depth, settings)
    monkeypatch.setattr(camera_stream.CameraStream, 'publish_cloud', slow_publish)
    one_process.send()
    assert one_process.spin(lambda: predictor.calls == 1)
    one_process.send()
    assert one_process.spin(lambda: predictor.calls == 2)
    # what the network has seen is sent, though the node is told to stop
    assert one_process.depth_node.trigger_deactivate().name == 'SUCCESS'
    assert overlapped == [True, True]
    assert one_process.spin(lambda: len(one_process.got['depth/image']) == 2)


@pytest.mark.parametrize('one_process', [CountedPredictor(0.0)], indirect=True)
def test_what_fails_behind_the_network_ends_one_frame(one_process, monkeypatch):
    """The network's thread died of it: no depth came any more, without a word."""
    failing = [True]

    def wants_sigma(camera, settings):
        if failing.pop():
            raise RuntimeError('the context is invalid')
        failing.append(False)
        return False
    monkeypatch.setattr(camera_stream.CameraStream, 'wants_sigma', wants_sigma)
    monkeypatch.setattr(one_process.depth_node, '_predict', lambda network, frames, settings: (
        [Prediction(depth, True) for depth in network.predictor(
            [frame.rgb for _, frame in frames], None)], len(frames)))
    predictor = one_process.depth_node._network.predictor
    one_process.send()
    assert one_process.spin(lambda: predictor.calls == 1)
    assert one_process.spin(lambda: failing == [])
    failing.append(False)
    one_process.send()
    assert one_process.spin(lambda: one_process.got['depth/image'])
