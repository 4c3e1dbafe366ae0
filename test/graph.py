"""A depth node, in a process of its own or in this one, and who talks to it over DDS."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from forked_process import ForkedProcess
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from stub_depth_node import CX, CY, FX, FY, HEIGHT, WIDTH

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.depth.node import DepthNode
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, rgb_to_image

RECOVERY = 2.0  # seconds from the end of a fault to depth
CAMERA = Intrinsics(WIDTH, HEIGHT, FX, FY, CX, CY)
CHART = np.repeat(np.repeat(np.array(
    [[(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)],
     [(0, 0, 0), (128, 128, 128), (200, 120, 40), (30, 160, 220)]], np.uint8),
    HEIGHT // 2, axis=0), WIDTH // 4, axis=1)


def value(status, key):
    """A value of a diagnostic_msgs/DiagnosticStatus; None where it has no such key."""
    return next((entry.value for entry in status.values if entry.key == key), None)


class Graph:
    """A depth node in a process, and this process's node that talks to it."""

    def __init__(self, log, *arguments, seconds=0.0, scale=1.0, warnings_every=5.0):
        self.log = log
        self.process = ForkedProcess(
            Path(__file__).with_name('stub_depth_node.py'),
            [f'--warnings-every={warnings_every}', '--', seconds, scale, '--ros-args', *arguments],
            log)
        self.connect()
        self.count = 0

    def connect(self):
        """Join the graph, as a participant that is new."""
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('tester', context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.image = self.node.create_publisher(Image, 'image', 10)
        self.jpeg = self.node.create_publisher(CompressedImage, 'image/compressed', 10)
        self.info = self.node.create_publisher(CameraInfo, 'camera_info', 10)
        self.got, self.clients = {}, {}

    def leave(self):
        """Be gone from the graph; the depth node goes on."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def listen(self, kind, topic, qos=None):
        self.got[topic] = []
        return self.node.create_subscription(
            kind, topic, self.got[topic].append, qos or QoSProfile(depth=10))

    def spin(self, seconds=10.0, until=lambda: False):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
            if until():
                return True
        return False

    def header(self):
        self.count += 1
        stamp = self.node.get_clock().now().to_msg()
        return Header(stamp=stamp, frame_id=f'camera_{self.count}')

    def ready(self, publisher=None):
        """Wait until the depth node listens to us."""
        publisher = publisher or self.image
        assert self.spin(60, lambda: publisher.get_subscription_count()), self.log.read_text()
        self.spin(0.3)

    def answer(self, topic, message, camera=CAMERA, publisher=None, timeout=3.0):
        """Publish one frame; what comes on `topic` with the frame's stamp, or None."""
        if camera is not None:
            self.info.publish(camera_info_message(camera, message.header))
            self.spin(0.15)  # the two topics are two streams: let it be there first
        (publisher or self.image).publish(message)

        def mine():
            return [m for m in self.got[topic] if m.header.stamp == message.header.stamp]
        self.spin(timeout, mine)
        return mine()[0] if mine() else None

    def call(self, kind, name, request, timeout=20.0):
        """The depth node's answer to a service call."""
        if name not in self.clients:
            self.clients[name] = self.node.create_client(kind, f'depth_node/{name}')
            assert self.clients[name].wait_for_service(timeout), self.log.read_text()
            self.spin(0.5)  # it must know us too, or its answer is lost: nothing tells when it does
        futures = []
        for _ in range(2):  # Fast DDS may lose a first request: the two sides don't meet at once
            futures.append(self.clients[name].call_async(request))
            if self.spin(timeout / 2, lambda: any(future.done() for future in futures)):
                return next(future.result() for future in futures if future.done())
        raise AssertionError(self.log.read_text())

    def set_parameter(self, name, value, timeout=20.0):
        return self.call(SetParameters, 'set_parameters', SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]), timeout).results[0]

    def change_state(self, transition, timeout=20.0):
        """Whether `configure`, `activate`, `deactivate` or `cleanup` went well."""
        return self.call(ChangeState, 'change_state', ChangeState.Request(
            transition=Transition(label=transition)), timeout).success

    def state(self):
        return self.call(GetState, 'get_state', GetState.Request()).current_state.label

    def diagnosis(self, wanted=lambda status: True, timeout=10.0):
        """The next statuses from /diagnostics of which one is as wanted, by their name."""
        if '/diagnostics' not in self.got:
            self.listen(DiagnosticArray, '/diagnostics')
        self.got['/diagnostics'].clear()
        assert self.spin(timeout, lambda: any(
            wanted(status) for m in self.got['/diagnostics'] for status in m.status)), [
                (s.level, s.message) for m in self.got['/diagnostics'] for s in m.status]
        return {status.name.partition(': ')[2]: status
                for status in self.got['/diagnostics'][-1].status}

    def close(self, seconds=10.0):
        self.process.send_signal(signal.SIGINT)
        try:
            assert self.process.wait(seconds) == 0, self.log.read_text()
        finally:
            self.process.kill()
            self.leave()


class OneProcess:
    """A depth node here, where its functions can be watched, and who talks to it over DDS.

    Args:
        predictor: Stands in for the network; None: what the arguments name.
        arguments: Behind --ros-args.
    """

    def __init__(self, predictor=None, *arguments):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.depth_node = DepthNode(predictor, context=self.context,
                                    cli_args=['--ros-args', *arguments])
        self.node = rclpy.create_node('tester', context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        for node in (self.depth_node, self.node):
            self.executor.add_node(node)
        self.image = self.node.create_publisher(Image, 'image', 10)
        self.info = self.node.create_publisher(CameraInfo, 'camera_info', 10)
        self.got = {}
        for topic, kind in (('depth/image', Image), ('depth/points', PointCloud2)):
            self.listen(kind, topic)
        assert self.spin(lambda: self.image.get_subscription_count()
                         and self.info.get_subscription_count())

    def listen(self, kind, topic):
        self.got[topic] = []
        self.node.create_subscription(kind, topic, self.got[topic].append, 10)

    def spin(self, until, seconds=20.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self.executor.spin_once(timeout_sec=0.02)
        return until()

    def send(self, rgb=CHART):
        self.image.publish(rgb_to_image(rgb, Header(
            stamp=self.node.get_clock().now().to_msg(), frame_id='camera')))

    def close(self):
        self.executor.shutdown()
        self.depth_node.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def start_camera():
    """A camera node at 20 Hz on ``image``, in a process."""
    return ForkedProcess('hybrid_depth_ros.nodes.camera', [
        '--ros-args', '-p', 'rate:=20.0', '-p', 'width:=160', '-p', 'height:=120',
        '-r', 'image_raw:=image'], os.devnull)


def start_again(process, log):
    """The process of a Graph, once more."""
    return ForkedProcess(*process.args, log)
