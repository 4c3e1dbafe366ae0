"""The depth node as a process, between cameras in another and a listener here, over DDS.

``python -m hybrid_depth_ros.benchmark.node NAME …`` is the cameras.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from hybrid_depth_ros.benchmark.stages import (
    CAMERA_HEIGHT,
    PITCH,
    milliseconds,
    room_image,
)
from hybrid_depth_ros.stamps import header_stamp

RATE = 30.0                            # Hz, of all cameras together
NODE_TIMEOUT = 30.0                    # seconds for a node to start and its depth to come
# What the node is asked for: type and topic of each. Latency is to the last of a frame's messages.
DEPTH_AND_CLOUD = (('Image', 'depth/image'), ('PointCloud2', 'depth/points'))
ALL_CONSUMERS = (*DEPTH_AND_CLOUD, ('PointCloud2', 'depth/obstacles'), ('LaserScan', 'depth/scan'),
                 ('CompressedImage', 'depth/image/compressedDepth'))
MOUNT = (f'camera_height:={CAMERA_HEIGHT}', f'camera_pitch:={PITCH}')


def ros_messages() -> ModuleType | None:
    """The module that turns arrays into messages; None where ROS is not installed."""
    try:
        import rclpy  # noqa: F401

        from hybrid_depth_ros.nodes.shared import messages
    except ImportError:
        return None
    return messages


def create_cameras(names: Sequence[str], rate: float = RATE) -> Any:
    """A node with one image of the virtual room on each camera's topics, again and again.

    Args:
        names: Namespaces of the cameras.
        rate: Hz, of all cameras together.
    """
    import rclpy
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from hybrid_depth_ros.nodes.shared.messages import camera_info_message, rgb_to_image
    node, (rgb, camera) = rclpy.create_node('benchmark_cameras'), room_image()
    image = rgb_to_image(rgb, Header(frame_id='camera'))
    info = camera_info_message(camera, image.header)
    turns = itertools.cycle([(node.create_publisher(CameraInfo, f'{name}/camera_info', 2),
                              node.create_publisher(Image, f'{name}/image', 2))
                             for name in names])

    def publish() -> None:
        image.header.stamp = info.header.stamp = node.get_clock().now().to_msg()
        for publisher, message in zip(next(turns), (info, image)):
            publisher.publish(message)
    node.create_timer(1 / rate, publish)
    return node


def process_usage(process: subprocess.Popen[Any]) -> tuple[float, float]:
    """Processor seconds that a process has used, and its resident memory in MB."""
    folder = Path(f'/proc/{process.pid}')
    fields = (folder / 'stat').read_text().rsplit(')', 1)[1].split()
    return ((int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK'),
            int(fields[21]) * os.sysconf('SC_PAGE_SIZE') / 1e6)


def measure_node(weights: str, names: Sequence[str], seconds: float,
                 consumers: Sequence[tuple[str, str]] = DEPTH_AND_CLOUD,
                 parameters: Sequence[str] = ()) -> dict[str, Any]:
    """The depth node as a process, between cameras in another and a listener here, over DDS.

    Latency is from the image's stamp to the last of its messages. With one camera, the node's CPU
    while nobody listens too.

    Args:
        weights: Name or file.
        names: Namespaces of the cameras; one empty name for a single camera.
        seconds: To measure for.
        consumers: Type in sensor_msgs and topic of what is listened to, of each camera.
        parameters: Of the node, as ``name:=value``.

    Raises:
        OSError: A process ends, or no depth comes.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs import msg
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    listener, executor = rclpy.create_node('benchmark'), SingleThreadedExecutor()
    executor.add_node(listener)
    depths: list[float] = []  # when each came
    latencies: list[float] = []
    processes: list[subprocess.Popen[Any]] = []
    came: Counter[int] = Counter()  # messages by stamp; that of two cameras is never the same

    def take(topic: str, data: bytes) -> None:
        if topic == 'depth/image':
            depths.append(time.monotonic())
        stamp = header_stamp(data)
        came[stamp] += 1
        if came[stamp] == len(consumers):
            latencies.append((time.time_ns() - stamp) / 1e9)

    def listen(timeout: float, until: Callable[[], object] = lambda: False) -> bool:
        end = time.monotonic() + timeout
        while time.monotonic() < end and not until():
            executor.spin_once(timeout_sec=0.05)
            if any(process.poll() is not None for process in processes):
                raise OSError('a process gave up; its reason stands above')
        return bool(until())

    def load() -> tuple[float, float]:
        """Cores that the node keeps busy for `seconds`, and how long these were."""
        depths.clear()
        latencies.clear()
        came.clear()
        before, start = process_usage(processes[1])[0], time.monotonic()
        listen(seconds)
        took = time.monotonic() - start
        return (process_usage(processes[1])[0] - before) / took, took
    subscriptions = [
        listener.create_subscription(getattr(msg, kind), f'{name}/{topic}', partial(take, topic), 5,
                                     raw=True)
        for name in names for kind, topic in consumers]
    try:
        processes.append(subprocess.Popen([sys.executable, '-m', 'hybrid_depth_ros.benchmark.node',
                                           *names]))
        listen(NODE_TIMEOUT, lambda: listener.count_publishers(f'{names[-1]}/image'))
        start = time.monotonic()
        processes.append(subprocess.Popen([
            sys.executable, '-m', 'hybrid_depth_ros.nodes.depth', '--ros-args', '--log-level',
            'error', '-p', f'weights:={weights}',
            *(part for parameter in parameters for part in ('-p', parameter)),
            *(['-p', f'cameras:=[{", ".join(names)}]'] if len(names) > 1 else [])]))
        if not listen(NODE_TIMEOUT, lambda: depths and latencies):
            raise OSError(f'not all of depth came within {NODE_TIMEOUT:.0f} s of the start')
        first = depths[0] - start
        listen(1.0)  # until all cameras have been found
        cores, took = load()
        result = {'cameras': len(names), 'first_depth_s': first, 'depth_fps': len(depths) / took,
                  'whole_fps': len(latencies) / took, 'cores': cores,
                  'resident_mb': process_usage(processes[1])[1]}
        if latencies:
            result.update(latency_ms=milliseconds(latencies),
                          latency_p95_ms=milliseconds(latencies, 95))
        if len(names) == 1:
            for subscription in subscriptions:
                listener.destroy_subscription(subscription)
            listen(1.0)
            result['idle_cores'], _ = load()
        return result
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
        executor.shutdown()
        listener.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    from hybrid_depth_ros.nodes.shared.run_node import run_node
    run_node('benchmark_cameras', lambda: create_cameras(sys.argv[1:]), [])
