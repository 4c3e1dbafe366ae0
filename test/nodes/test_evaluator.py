"""The evaluator node scores live what evaluate_bag scores in a recording."""

import json
import signal
import time

import pytest
from forked_process import ForkedProcess
from small_recordings import COUNT, DEPTH, PREDICTED, STORE, recording, write

from hybrid_depth_ros import evaluate_bag


@pytest.mark.parametrize(('stop', 'depth'), [
    (signal.SIGINT, '32FC1'), (signal.SIGTERM, '16UC1; compressedDepth rvl')])
def test_live_scores_are_those_of_the_recording(frames, tmp_path, stop, depth):
    """Raw and compressed depth; either signal ends the node with its report."""
    rclpy = pytest.importorskip('rclpy')
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSReliabilityPolicy
    from sensor_msgs.msg import CompressedImage, Image
    small = [(rgb, true[::2, ::2]) for rgb, true in frames]  # true depth of another resolution
    messages = list(recording(small, depth=depth, predicted=True))
    path = write(tmp_path / 'bag', messages)
    offline, live = tmp_path / 'offline.json', tmp_path / 'live.json'
    assert evaluate_bag.main([str(path), '--predicted', PREDICTED, '--json', str(offline)]) == 0

    process = ForkedProcess('hybrid_depth_ros.nodes.evaluator', [
        '--ros-args', '-p', f'json:={live}', '-r', f'depth_ground_truth:={DEPTH}'],
        tmp_path / 'log')
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('player', context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    said = {}

    def listen(message):
        said.update({value.key: value.value for value in message.status[0].values})

    def wait(until):
        deadline = time.monotonic() + 30
        while not until():
            assert time.monotonic() < deadline, (said, (tmp_path / 'log').read_text())
            executor.spin_once(timeout_sec=0.05)
    try:
        node.create_subscription(DiagnosticArray, '/diagnostics', listen, 10)
        packed = f'{DEPTH}/compressedDepth'
        publishers = {topic: node.create_publisher(kind, topic, 20) for kind, topic in (
            (Image, PREDICTED), (CompressedImage, packed) if ';' in depth else (Image, DEPTH))}

        def heard(publisher):
            """A reliable subscription is there: it gets what is sent before it knows of us, too."""
            found = node.get_subscriptions_info_by_topic(publisher.topic_name)
            return publisher.get_subscription_count() == len(found) and any(
                subscription.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
                for subscription in found)
        wait(lambda: said and all(map(heard, publishers.values())))
        for topic, message in messages:
            if topic in publishers:
                publishers[topic].publish(bytes(STORE.serialize_cdr(message, message.__msgtype__)))
        # the last pair is sure only when no more frames come
        wait(lambda: int(said['frames']) >= COUNT - 1)
        assert float(said['rel']) > 0
        process.send_signal(stop)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
    reports = [json.loads(file.read_text()) for file in (offline, live)]
    assert reports[0]['frames'] == COUNT
    for key in ('metrics', 'bands', 'frames', 'pixels', 'damaged', 'seen'):
        assert reports[0][key] == reports[1][key]
    assert reports[1]['truth'] == DEPTH
    printed = (tmp_path / 'log').read_text()
    assert f'{COUNT} frames' in printed
    assert 'Traceback' not in printed
