"""Killed processes, full disks, jumping clocks, no memory: the node goes on, nothing is half there.

``test/soak/faults.py`` has those that take minutes.
"""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

rclpy = pytest.importorskip('rclpy')

from graph import CAMERA, CHART, RECOVERY, start_again, start_camera, value
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from stub_depth_node import ScenePredictor

from hybrid_depth_ros.nodes.depth.node import DepthNode
from hybrid_depth_ros.nodes.depth.running_network import RunningNetwork
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, rgb_to_image

ROOT = Path(__file__).resolve().parents[3]
# This process has Fast DDS's own profile: it says only every 3 s that it is there, and its answer
# to one that is new may come before that one listens.
DISCOVERY = 3.0


# --- processes that die -------------------------------------------------------------------

def test_a_camera_that_is_killed_and_comes_back(graph):
    first = {'image': None, 'depth/image': None}  # when the first of each came

    def listen(topic):
        def take(_):
            first[topic] = first[topic] or time.monotonic()
        graph.node.create_subscription(Image, topic, take, qos_profile_sensor_data)
    listen('depth/image')
    listen('image')
    for life in range(3):
        camera = start_camera()
        try:
            assert graph.spin(20, lambda: all(first.values())), (life, graph.log.read_text())
        finally:
            camera.kill()
            camera.wait()
        assert first['depth/image'] - first['image'] < DISCOVERY + RECOVERY
        while graph.spin(0.3, lambda: first['image']):
            first.update(dict.fromkeys(first))  # until what was on its way has come
        first.update(dict.fromkeys(first))


@pytest.mark.parametrize('graph', [{'seconds': 30.0}], indirect=True)
def test_a_node_at_work_on_a_long_frame_is_told_to_end(graph):
    graph.listen(Image, 'depth/image')
    graph.ready()
    graph.image.publish(rgb_to_image(CHART, graph.header()))
    graph.spin(2)
    graph.process.send_signal(signal.SIGINT)
    assert graph.process.wait(15) == 0, graph.log.read_text()


def test_a_node_that_is_killed_and_starts_again(graph, tmp_path):
    graph.listen(Image, 'depth/image')
    graph.ready()
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()))
    timer = graph.node.create_timer(
        0.05, lambda: graph.image.publish(rgb_to_image(CHART, graph.header())))
    graph.process.kill()
    graph.process.wait()
    assert not graph.spin(1.0, lambda: graph.got['depth/image'].clear())
    graph.process = start_again(graph.process, tmp_path / 'second')
    assert graph.spin(20, lambda: 'listening to' in (tmp_path / 'second').read_text())
    assert graph.spin(DISCOVERY + RECOVERY, lambda: graph.got['depth/image'])
    timer.cancel()


def test_two_nodes_of_one_name(graph, tmp_path):
    graph.listen(Image, 'depth/image', QoSProfile(depth=50))
    second = start_again(graph.process, tmp_path / 'second')
    try:
        assert graph.spin(20, lambda: graph.image.get_subscription_count() == 2)
        graph.spin(0.3)
        for _ in range(5):
            message = rgb_to_image(CHART, graph.header())
            graph.image.publish(message)
            assert graph.spin(5, lambda message=message: sum(
                depth.header == message.header for depth in graph.got['depth/image']) == 2)
        assert graph.process.poll() is None
    finally:
        second.terminate()
        assert second.wait(10) == 0, (tmp_path / 'second').read_text()
    assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()))


def test_a_participant_that_is_gone_and_back(graph):
    """The one that sends the images and wants the depth."""
    for _ in range(2):
        graph.listen(Image, 'depth/image')
        graph.ready()
        assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), timeout=RECOVERY)
        graph.leave()
        graph.connect()


# --- a full disk --------------------------------------------------------------------------

@pytest.mark.parametrize('disk', [1], indirect=True)
@pytest.mark.parametrize('graph', [{'arguments': ('-p', 'cameras:=[front, rear]')}],
                         indirect=True)
def test_a_snapshot_on_a_full_disk(graph, disk, tmp_path):
    publishers = [(graph.node.create_publisher(CameraInfo, f'{name}/camera_info', 10),
                   graph.node.create_publisher(Image, f'{name}/image', 10))
                  for name in ('front', 'rear')]

    def publish():
        for info, image in publishers:
            header = graph.header()
            info.publish(camera_info_message(CAMERA, header))
            image.publish(rgb_to_image(CHART, header))
    graph.node.create_timer(0.1, publish)

    def snapshot(folder):
        assert graph.set_parameter('snapshot_folder', str(folder)).successful
        return graph.call(Trigger, 'snapshot', Trigger.Request())
    assert snapshot(tmp_path / 'elsewhere').success
    # nothing fits; a picture does; a camera's cloud does, the other's no more
    for leave in (0, 40_000, 500_000):
        disk.fill(leave)
        refused = snapshot(disk.path / 'snapshots')
        assert not refused.success
        assert re.fullmatch(r'snapshot \S+ could not be written: .*No space left on device.*'
                            'set snapshot_folder', refused.message), refused.message
        assert disk.files() in ([], ['snapshots'])
        assert snapshot(tmp_path / 'elsewhere').success
    disk.ballast.unlink()
    assert snapshot(disk.path / 'snapshots').success
    assert len(disk.files()) == 12  # four folders, and four files of each camera
    assert 'Traceback' not in graph.log.read_text()


@pytest.mark.parametrize('disk', [2], indirect=True)
def test_a_recording_on_a_full_disk(disk, known_runtime):
    done = subprocess.run(
        [sys.executable, '-m', 'hybrid_depth_ros.demo', '--seconds', '8', '--out', disk.path],
        cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 1
    assert re.search(r'^demo: \S+disk could not be written: .*No space left on device.*--out$',
                     done.stderr, re.MULTILINE), done.stderr
    assert 'Traceback' not in done.stderr
    assert 'Exception ignored' not in done.stderr
    assert disk.files() == []


# --- clocks that jump ---------------------------------------------------------------------

@pytest.mark.parametrize('graph', [{'arguments': ('-p', 'use_sim_time:=true')}], indirect=True)
def test_a_recording_played_in_a_loop(graph):
    """By /clock: 20 minutes on at once in the middle, and back at each new start."""
    clock = graph.node.create_publisher(Clock, '/clock', 10)
    graph.listen(Image, 'depth/image', QoSProfile(depth=100))
    graph.ready()
    assert graph.spin(5, lambda: clock.get_subscription_count())

    def play(start, frames):
        for frame in range(frames):
            seconds, nanoseconds = divmod(start * 10**9 + frame * 50_000_000, 10**9)
            header = Header(frame_id='camera')
            header.stamp.sec, header.stamp.nanosec = seconds, nanoseconds
            clock.publish(Clock(clock=header.stamp))
            graph.info.publish(camera_info_message(CAMERA, header))
            graph.image.publish(rgb_to_image(CHART, header))
            assert graph.spin(RECOVERY, lambda: graph.got['depth/image']
                              and graph.got['depth/image'][-1].header == header)  # noqa: B023
            if frame == 0:  # the same trouble in each loop, which the log must not forget
                graph.image.publish(Image(encoding='magic', header=header))
            graph.spin(0.03)
    begun = time.monotonic()
    while time.monotonic() < begun + 6:
        play(1000, 20)
        play(2200, 20)
    stamps = [message.header.stamp.sec for message in graph.got['depth/image']]
    assert stamps.count(1000) == stamps.count(2200) >= 40
    figures = graph.diagnosis()['depth']
    assert -0.1 < float(value(figures, 'latency median (s)')) < 0.5
    assert -0.1 < float(value(figures, 'latency p95 (s)')) < 0.5
    assert float(value(figures, 'input rate (Hz)')) >= 0
    said = graph.log.read_text().count('magic')
    assert 2 <= said <= 1 + (time.monotonic() - begun) / 5


# --- no memory ----------------------------------------------------------------------------

class SmallGPU(ScenePredictor):
    """Has memory for so many images at once."""

    def __init__(self, capacity):
        super().__init__(0.0)
        self.capacity, self.batches = capacity, []

    def __call__(self, images, focals):
        import torch
        self.batches.append(len(images))
        if len(images) > self.capacity:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')
        return super().__call__(images, focals)


@pytest.mark.parametrize(('capacity', 'batches', 'later'), [
    (1, [4, 2, 1, 1, 1, 1], [1, 1, 1, 1]), (2, [4, 2, 2], [2, 2]), (4, [4], [4])])
def test_a_gpu_without_memory_for_a_batch(monkeypatch, capacity, batches, later):
    """vllm#10185's neighbour: one moment without memory made batches small for ever."""
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', '-p', 'cameras:=[a, b, c, d]',
                                      '-p', 'autostart:=false'])
    predictor, said = SmallGPU(capacity), []
    node = DepthNode(predictor, context=context)
    try:
        sent = []
        node._network, node._sent = RunningNetwork(predictor, node._settings.network), None
        node._sender = ImmediateSender(sent)
        monkeypatch.setattr(type(node.get_logger()), 'warning', lambda _, text: said.append(text))
        clock = [time.monotonic()]
        monkeypatch.setattr(time, 'monotonic', lambda: clock[0])
        frames = [(camera, depth_frame()) for camera in node._cameras]
        for expected in (batches, later, later):
            predictor.batches.clear()
            sent.clear()
            node._process(frames, node._settings)
            assert predictor.batches == expected
            assert sent == list(node._cameras)
        assert len(said) == len([n for n in batches if n > capacity])
        if said:
            assert f'at most {capacity} from here on' in said[-1]
        told = len(said)
        clock[0] += 61  # the same again; then others have given memory back
        predictor.batches.clear()
        node._process(frames, node._settings)
        assert predictor.batches == batches
        clock[0] += 61
        predictor.batches.clear()
        predictor.capacity = 4
        node._process(frames, node._settings)
        assert predictor.batches == [4]
        assert len(said) == told
        # as new weights make one
        node._network = RunningNetwork(SmallGPU(4), node._settings.network)
        node._process(frames, node._settings)
        assert node._network.predictor.batches == [4]
        assert len(said) == told
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


class ImmediateSender:
    """Stands in for the thread that sends: notes whose frames it was given."""

    def __init__(self, sent):
        self.sent = sent

    def submit(self, send, publish, frames, depths, settings):
        assert len(frames) == len(depths)
        self.sent += [camera for camera, _ in frames]


def depth_frame():
    from hybrid_depth_ros.nodes.depth.camera_stream import InputFrame
    return InputFrame(Header(), CHART, CAMERA, None)
