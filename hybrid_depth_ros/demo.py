"""Camera node and depth node as processes of their own, and what they say, on disk.

``python -m hybrid_depth_ros.demo``, or ``make demo``.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# Nothing of the demo leaves this machine or meets another ROS graph; before rclpy is loaded.
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('ROS_DOMAIN_ID', str(random.randint(1, 100)))

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2

from hybrid_depth_ros.arguments import argument_parser, exit_on_error, number, user_path
from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.errors import explain, printable
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.metrics import DepthErrors, format_metrics
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.nodes.camera import ROOM_FOV
from hybrid_depth_ros.nodes.shared.messages import image_to_rgb
from hybrid_depth_ros.nodes.shared.parameters import yaml_quoted
from hybrid_depth_ros.nodes.shared.run_node import log_arguments, prepare_process
from hybrid_depth_ros.point_cloud import cloud_to_array, save_ply
from hybrid_depth_ros.poses import quaternion_from_pose, read_pose
from hybrid_depth_ros.sources import LIDAR_POSE, SOURCE_HELP, is_device, missing_device_reason
from hybrid_depth_ros.stamps import header_stamp
from hybrid_depth_ros.visualization import side_by_side
from hybrid_depth_ros.weights import REGISTRY

try:  # only depth by motion needs it
    from nav_msgs.msg import Odometry
except ImportError:
    Odometry = None

Frame = dict[str, bytes]  # topic → serialised message, all of one stamp
ALONE = 'alone'  # namespace of the node that has no anchors
TOPICS = {
    '/image_raw': Image,
    '/camera_info': CameraInfo,
    '/depth_ground_truth': Image,
    '/depth/image': Image,
    '/depth/camera_info': CameraInfo,
    '/depth/points': PointCloud2,
}
SHOWN_TOPICS = {'/depth/uncertainty': Image}  # where there is any; not recorded
# With anchors: what they are taken from; beside it stands depth as the network gave it.
ANCHOR_TOPICS: dict[str, dict[str, type]] = {
    'scan': {'/scan': LaserScan}, 'depth': {},  # one true depth in a recording
    'motion': {'/odom': Odometry} if Odometry else {}}
ANCHOR_ARGUMENTS = {
    'scan': ('-p', 'anchors:=[scan]', '-p', f"anchor_poses:=['{LIDAR_POSE}']",
             '-r', 'anchors/scan:=scan'),
    'depth': ('-p', 'anchors:=[depth]', '-r', 'anchors/depth:=depth_registered'),
    'motion': ('-p', 'anchors:=[motion]', '-r', 'anchors/motion:=odom')}
RECORD_INTERVAL = 0.5  # seconds between recorded frames: a cloud alone takes 5 MB
START_TIMEOUT = 90.0  # seconds for both nodes to start and the first depth to come
EXPORT_TIMEOUT = 600.0  # the same where another's network may have to be exported first
PORT = 8080  # of the page that --view opens
KEPT_FRAMES = 20  # frames waiting for their depth and cloud


class Recorder(Node):
    """Listens to everything, counts, scores against the room's true depth, records."""

    def __init__(self, bag: Writer, anchors: str = '', alone: bool = False) -> None:
        super().__init__('demo')
        self._bag, self._alone = bag, f'/{ALONE}/depth/image' if alone else ''
        topics: dict[str, type] = {
            **TOPICS, **ANCHOR_TOPICS.get(anchors, {}),
            **({self._alone: Image} if alone else {})}
        typestore = get_typestore(Stores.ROS2_JAZZY)
        self._connections = {
            topic: bag.add_connection(
                topic, f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}', typestore=typestore)
            for topic, kind in topics.items()}
        if anchors == 'scan':
            self._record_transform(typestore)
        self._frames: OrderedDict[int, Frame] = OrderedDict()  # by stamp, ns
        self._waiting: list[int] = []  # stamps of depth images that are not kept yet
        self._last_recorded: float | None = None
        self.latencies: list[float] = []
        self.arrivals: list[float] = []
        self.recorded = 0
        self.errors, self.alone_errors = DepthErrors(), DepthErrors()
        self.diagnostics: dict[str, str] = {}
        self.shown: Frame = {}
        for topic, kind in (topics | SHOWN_TOPICS).items():
            self.create_subscription(kind, topic, functools.partial(self._take, topic),
                                     QoSProfile(depth=20), raw=True)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._take_diagnostics, 10)

    def _record_transform(self, typestore: Any) -> None:
        # by hand: tf2_ros isn't among PyPI's wheels, and rosbags knows the message
        kinds = typestore.types
        pose = read_pose(LIDAR_POSE)
        assert pose is not None
        stamp = kinds['builtin_interfaces/msg/Time'](sec=0, nanosec=0)
        transform = kinds['geometry_msgs/msg/TransformStamped'](
            header=kinds['std_msgs/msg/Header'](stamp=stamp, frame_id='camera_optical_frame'),
            child_frame_id='camera_lidar', transform=kinds['geometry_msgs/msg/Transform'](
                translation=kinds['geometry_msgs/msg/Vector3'](*pose[:3, 3].tolist()),
                rotation=kinds['geometry_msgs/msg/Quaternion'](*quaternion_from_pose(pose))))
        kind = 'tf2_msgs/msg/TFMessage'
        data = typestore.serialize_cdr(kinds[kind](transforms=[transform]), kind)
        self._bag.write(self._bag.add_connection('/tf_static', kind, typestore=typestore),
                        self.get_clock().now().nanoseconds, data)

    def _take(self, topic: str, data: bytes) -> None:
        stamp = header_stamp(data)
        self._frames.setdefault(stamp, {})[topic] = data
        while len(self._frames) > KEPT_FRAMES:
            self._frames.popitem(last=False)
        if topic != '/depth/image':
            return
        self.arrivals.append(time.monotonic())
        self.latencies.append((self.get_clock().now().nanoseconds - stamp) / 1e9)
        # its cloud follows, but not always before the next depth
        self._waiting.append(stamp)
        if len(self._waiting) > 3 and (frame := self._frames.get(self._waiting.pop(0))):
            self._keep(frame)

    def _keep(self, frame: Frame) -> None:
        truth = self._depth(frame, '/depth_ground_truth')
        for topic, errors in (('/depth/image', self.errors), (self._alone, self.alone_errors)):
            depth = self._depth(frame, topic)
            if truth is not None and depth is not None:
                errors.add(depth, truth)
        if '/image_raw' in frame and (not self._alone or self._alone in frame):
            self.shown = frame
        now = time.monotonic()
        if self._last_recorded is None or now - self._last_recorded >= RECORD_INTERVAL:
            self._last_recorded = now
            self.recorded += 1
            stamp = self.get_clock().now().nanoseconds
            for topic, data in frame.items():
                if topic in self._connections:
                    self._bag.write(self._connections[topic], stamp, data)

    def _depth(self, frame: Frame, topic: str) -> npt.NDArray[np.float32] | None:
        """float32 H×W metres, or None where the frame has none of this topic."""
        return image_to_depth(deserialize_message(frame[topic], Image)) if topic in frame else None

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f'/{ALONE}/'):
                continue
            self.diagnostics = {value.key: value.value for value in status.values}

    def save_shown(self, out: Path) -> list[Path]:
        """Write picture.png and cloud.ply of the last whole frame; returns their paths."""
        if not self.shown:
            return []
        saved = [out / 'picture.png']
        depth, anchored = self._depth(self.shown, self._alone or '/depth/image'), None
        assert depth is not None  # a frame is shown once its depth is there
        if self._alone:
            anchored = self._depth(self.shown, '/depth/image')
        save_image(saved[0], side_by_side(
            image_to_rgb(deserialize_message(self.shown['/image_raw'], Image)), depth,
            self._depth(self.shown, '/depth_ground_truth'), anchored,
            self._depth(self.shown, '/depth/uncertainty')))
        if '/depth/points' in self.shown:
            cloud = deserialize_message(self.shown['/depth/points'], PointCloud2)
            saved.append(out / 'cloud.ply')
            save_ply(saved[1], cloud_to_array(cloud))
        return saved

    def summary(self) -> dict[str, Any]:
        """What was measured, as a dictionary for JSON."""
        latencies, times = np.array(self.latencies), self.arrivals
        span = times[-1] - times[0]
        return {
            'frames': len(times),
            'rate_hz': (len(times) - 1) / span if span > 1 else None,
            'latency_median_s': float(np.median(latencies)),
            'latency_p95_s': float(np.percentile(latencies, 95)),
            'dropped': int(self.diagnostics.get('dropped', 0)),
            'recorded_frames': self.recorded,
            'metrics': self.errors.metrics() if self.errors.pixels else None,
            'metrics_without_anchors': (self.alone_errors.metrics() if self.alone_errors.pixels
                                        else None),
        }


def start(node: str, *arguments: str) -> subprocess.Popen:
    """Start a node of this package, by the name of its module, as a process.

    A terminal's Ctrl-C reaches it too. Until rclpy runs it is deaf to that, not killed half-way
    through an import with a traceback.
    """
    return subprocess.Popen(['/bin/sh', '-c', 'trap "" INT; exec "$0" "$@"',
                             sys.executable, '-m', f'hybrid_depth_ros.nodes.{node}',
                             '--ros-args', '--log-level', 'warn', *arguments])


def stop(processes: Iterable[subprocess.Popen]) -> None:
    """End processes: politely, then not."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + 5
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run(source: str, seconds: float, out: Path, partial: Path, weights: str,
        horizontal_fov: float, view: bool = False, anchors: str = '', alone: bool = False) -> int:
    """Run both nodes for `seconds` of depth; returns the exit status.

    alone: a third one shows depth without anchors. What is in the folder `out` is replaced, by
    what was whole in the folder `partial` first.
    """
    shutil.rmtree(out / 'recording', ignore_errors=True)
    for name in ('picture.png', 'cloud.ply', 'summary.json'):
        (out / name).unlink(missing_ok=True)
    bag = Writer(partial / 'recording', version=9, storage_plugin=StoragePlugin.MCAP)
    bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    nodes: list[subprocess.Popen] = []
    names: list[str] = []
    recorder, stopped = None, threading.Event()
    # no exception: one in the middle of start() would leave a node running
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: stopped.set())
    print('Starting the camera node and the depth node', flush=True)
    bag.open()
    try:
        prepare_process()
        rclpy.init(args=log_arguments(), signal_handler_options=rclpy.SignalHandlerOptions.NO)
        recorder = Recorder(bag, anchors, alone)
        names = ['camera', 'depth', *['depth'] * alone, *['viewer'] * view]
        nodes = [
            start('camera', '-p', f'source:={yaml_quoted(source)}',
                  '-p', f'horizontal_fov:={horizontal_fov}'),
            start('depth', '-p', f'weights:={yaml_quoted(weights)}', '-r', 'image:=image_raw',
                  *ANCHOR_ARGUMENTS.get(anchors, ()))]
        if alone:
            nodes.append(start('depth', '-p', f'weights:={yaml_quoted(weights)}',
                               '-r', 'image:=/image_raw', '-r', 'camera_info:=/camera_info',
                               '-r', f'__ns:=/{ALONE}'))
        if view:
            nodes.append(start('viewer', '-r', 'image:=image_raw', '-p', f'port:={PORT}'))
            print(f'Open http://127.0.0.1:{PORT} in a browser', flush=True)
        patience = START_TIMEOUT if weights in REGISTRY else EXPORT_TIMEOUT
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not stopped.is_set():
            rclpy.spin_once(recorder, timeout_sec=0.1)
            if any(process.poll() is not None for process in nodes):
                break
            if recorder.arrivals:
                deadline = recorder.arrivals[0] + seconds
    finally:
        ended = [(name, process.poll()) for name, process in zip(names, nodes)]
        stop(nodes)
        if recorder:
            recorder.destroy_node()
        rclpy.try_shutdown()
        bag.close()
    for node, status in ended:
        if status:
            print(f'{node}_node gave up; its reason stands above.' if status > 0 else
                  f'{node}_node was killed by signal {-status}; has this machine enough memory?',
                  file=sys.stderr)
            return 1
    if not recorder or not recorder.arrivals:
        print('No depth came' + (' before the interruption.' if stopped.is_set() else
              f' within {patience:.0f} s of the start: see what the nodes say above, or '
              'whether --source room gives some.'), file=sys.stderr)
        return 1
    return report(recorder, out, partial)


def report(recorder: Recorder, out: Path, partial: Path) -> int:
    """Print and save what was measured."""
    saved = [out / path.name for path in recorder.save_shown(partial)]
    summary = recorder.summary()
    (partial / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    for path in list(partial.iterdir()):
        path.replace(out / path.name)
    rate = summary['rate_hz']
    print(f'{summary["frames"]} depth images' + (f' at {rate:.1f} Hz' if rate else '')
          + f', latency median {summary["latency_median_s"] * 1000:.0f} ms, '
          f'p95 {summary["latency_p95_s"] * 1000:.0f} ms, {summary["dropped"]} frames dropped')
    for key, which in (('metrics_without_anchors', 'Without anchors, against'),
                       ('metrics', 'Against')):
        if summary[key]:
            print(f"{which} the virtual room's true depth: {format_metrics(summary[key])}")
    print('Look at: ' + '  '.join(str(path) for path in [*saved, out / 'recording']))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__, prog='make demo')
    parser.add_argument('--source', default='room', help=SOURCE_HELP)
    parser.add_argument('--seconds', type=float, default=20.0, help='of depth')
    parser.add_argument('--out', type=user_path, default=Path('demo_out'))
    parser.add_argument('--weights', default='lite-nyu', help='registered name, file or folder')
    parser.add_argument('--horizontal-fov', type=number(0), default=ROOM_FOV, metavar='DEGREES',
                        help="the camera's field of view; %(default)s is a Kinect's")
    parser.add_argument('--anchors', default='', choices=('', *ANCHOR_ARGUMENTS),
                        help="scan: correct depth by the room's lidar; depth: by its depth camera, "
                        "which has holes; motion: by the camera's own motion; and show it without "
                        'too')
    parser.add_argument('--view', action='store_true', help='show it in a browser meanwhile')
    args = parser.parse_args(argv)
    for name in (args.source, args.weights):
        if printable(name) != name:
            parser.error(f'{printable(name)} is not UTF-8, which ROS wants of a name: rename the '
                         'file, or put a link to it')
    if args.anchors and args.source != 'room':
        parser.error('--anchors is for --source room: only there are these sensors')
    if is_device(args.source) and (missing := missing_device_reason(args.source)):
        parser.error(missing)  # a node would wait for it
    if not args.seconds > 0:
        parser.error(f'--seconds is {args.seconds:g}; it must be above 0')
    with exit_on_error('demo', 'interrupted'):  # before nodes start: a download may take its time
        relative = open_model(args.weights).relative
    if relative and not args.anchors:
        parser.error(f'{args.weights} gives no metres, only what is nearer and farther: ' + (
            "correct it by the room's lidar (make demo ANCHORS=scan, --anchors scan)"
            if args.source == 'room' else 'pass --weights that give metres'))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='partial_', dir=args.out) as partial:
            return run(args.source, args.seconds, args.out, Path(partial), args.weights,
                       args.horizontal_fov, args.view, args.anchors,
                       alone=bool(args.anchors) and not relative)
    except OSError as error:
        print(f'demo: {args.out} could not be written: {explain(error)}, or pass another '
              '--out', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
