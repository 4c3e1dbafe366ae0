"""Half an hour at full speed, with a camera that is another one every minute.

``python test/soak/soak.py [--minutes 30] [--every 60] [--changes 1000]``. The node runs with its
defaults; a camera publishes at 30 Hz, each minute in another size and encoding; all of depth and
cloud is listened to; parameters are changed all the time, one in five to what will not do. While
the camera goes round for the first time they are set to what takes most memory; after that they
are random, and what memory grows by is a leak. In the last quarter of each minute they are the
defaults: latency, which goes by them, is taken there. It ends with 1 where memory, threads or files
grow, frames stop, latency rises, or a parameter is taken or refused that should not be.
"""

import argparse
import array
import os
import random
import struct
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from itertools import cycle
from pathlib import Path

from ground import ROOT, arguments, end

# isort: split
import cv2
import numpy as np
import rclpy
from four_cameras import cpu_seconds, megabytes
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.depth.node import SETTINGS
from hybrid_depth_ros.nodes.shared.messages import camera_info_message
from hybrid_depth_ros.virtual_room import Room

MODES = (('rgb8', 640, 480), ('bgr8', 320, 240), ('mono8', 1280, 720), ('yuv422_yuy2', 640, 480),
         ('bayer_rggb8', 800, 600), ('nv12', 640, 480))
RATE = 30.0  # Hz
SAMPLE = 2.0  # seconds between looks at memory
MOST_SLOPE, LONGEST_GAP, MOST_RISE = 50.0, 5.0, 2.0  # MB/h, s, p95 of the end over the start's

GOOD = {
    'edge_filter': lambda: random.choice((0.0, 0.05, 0.1, 0.3, 1.0)),
    'cloud_stride': lambda: random.randint(1, 8),
    'min_range': lambda: random.uniform(0, 1),
    'max_range': lambda: random.choice((0.0, random.uniform(2, 20))),
    'voxel_size': lambda: random.choice((0.0, 0.0, 0.05)),
    'depth_encoding': lambda: random.choice(('32FC1', '16UC1')),
    'rectify': lambda: random.choice(('auto', 'always', 'never')),
    'horizontal_fov': lambda: random.uniform(0, 120),
    'focal_correction': lambda: random.random() < 0.5,
    'sharpen': lambda: random.random() < 0.5,
    'latency_warning': lambda: random.uniform(0, 5),
}
DEFAULTS = {setting.name: setting.default for setting in SETTINGS if setting.name in GOOD}
# What makes a cloud take most memory, one after the other.
HEAVIEST = (('rectify', 'always'), ('voxel_size', 0.05), ('depth_encoding', '16UC1'),
            ('edge_filter', 0.1), ('cloud_stride', 1), ('voxel_size', 0.0), ('min_range', 0.5),
            ('max_range', 10.0), ('depth_encoding', '32FC1'))
BAD = (('device', 'toaster'), ('weights', 'nowhere.safetensors'), ('edge_filter', 1.5),
       ('edge_filter', float('nan')), ('cloud_stride', 0), ('cloud_stride', 'two'),
       ('min_range', -1.0), ('min_range', 150.0), ('max_range', 1e9), ('depth_encoding', 'float'),
       ('image_transport', 'compressed'), ('cameras', ['a', 'b']))


def pixels(rgb, encoding):
    """Rows of bytes of a picture in one of the MODES' encodings."""
    height, width = rgb.shape[:2]
    if encoding == 'bgr8':
        return rgb[..., ::-1]
    if encoding == 'mono8':
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if encoding == 'bayer_rggb8':
        mosaic = rgb[..., 1].copy()
        mosaic[::2, ::2], mosaic[1::2, 1::2] = rgb[::2, ::2, 0], rgb[1::2, 1::2, 2]
        return mosaic
    if encoding == 'nv12':
        planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
        chroma = planes[height:].reshape(2, -1)
        return np.vstack((planes[:height], chroma.T.reshape(height // 2, width)))
    if encoding == 'yuv422_yuy2':
        yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
        packed = np.empty((height, width, 2), np.uint8)
        packed[..., 0], packed[:, ::2, 1] = yuv[..., 0], yuv[:, ::2, 1]
        packed[:, 1::2, 1] = yuv[:, ::2, 2]
        return packed
    return rgb


def camera(began, every):
    """The camera, as a process of its own. Its frame_id says what it is at the moment."""
    rclpy.init()
    node = rclpy.create_node('camera')
    image_publisher = node.create_publisher(Image, 'image', 2)
    info_publisher = node.create_publisher(CameraInfo, 'camera_info', 2)
    wide = Intrinsics.from_horizontal_fov(1280, 960, 63.3)
    rgb, _ = Room(0).render(wide, Room(0).camera_pose(0))
    messages = {}
    for encoding, width, height in MODES:
        header = Header(frame_id=f'{encoding} {width}×{height}')
        data = pixels(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), encoding)
        messages[encoding] = (
            camera_info_message(Intrinsics.from_horizontal_fov(width, height, 63.3), header),
            Image(header=header, width=width, height=height, encoding=encoding,
                  step=data[0].size, data=array.array('B', data.tobytes())))

    def publish():
        encoding = MODES[int((time.monotonic() - began) / every) % len(MODES)][0]
        info, image = messages[encoding]
        image.header.stamp = info.header.stamp = node.get_clock().now().to_msg()
        info_publisher.publish(info)
        image_publisher.publish(image)
    node.create_timer(1 / RATE, publish)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


class Listener:
    """Takes all depth and clouds; changes parameters meanwhile."""

    def __init__(self, interval):
        self.node = rclpy.create_node('soak')
        self.latencies = defaultdict(list)  # frame_id: seconds, since they were last taken
        self.depths, self.clouds, self.last, self.gap = 0, 0, None, 0.0
        self.made = self.refused = 0
        self.wrong, self.pending = [], None
        self.bad, self.heaviest = cycle(BAD), cycle(HEAVIEST)
        self.heavy, self.resting = True, False  # parameters are the HEAVIEST, the DEFAULTS
        for kind, topic in ((Image, 'depth/image'), (PointCloud2, 'depth/points')):
            self.node.create_subscription(
                kind, topic, lambda data, topic=topic: self.take(topic, data),
                QoSProfile(depth=2), raw=True)
        self.client = self.node.create_client(SetParameters, 'depth_node/set_parameters')
        self.node.create_timer(interval, self.change)

    def take(self, topic, data):
        if topic == 'depth/points':
            self.clouds += 1
            return
        self.depths += 1
        # CDR: 4 bytes of encapsulation, then stamp, and the frame_id with its length
        seconds, nanoseconds, length = struct.unpack_from('<iII', data, 4)
        name = bytes(data[16:15 + length]).decode()
        self.latencies[name].append(time.time() - seconds - nanoseconds / 1e9)
        now = time.monotonic()
        self.gap = max(self.gap, now - (self.last or now))
        self.last = now

    def set(self, changes, good, done):
        """Set parameters, by their names; `done` is called when the node has answered."""
        self.pending = self.client.call_async(SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()
                        for name, value in changes.items()]))

        def answered(future):
            for (name, value), result in zip(changes.items(), future.result().results):
                self.count(name, value, good, result)
            done()
        self.pending.add_done_callback(answered)

    def change(self):
        if self.last is None or self.resting or (self.pending and not self.pending.done()):
            return
        good = random.random() < 0.8
        if not good:
            name, value = next(self.bad)
        elif self.heavy:
            name, value = next(self.heaviest)
        else:
            name = random.choice(list(GOOD))
            value = GOOD[name]()
        self.set({name: value}, good, lambda: None)

    def rest(self):
        """Back to the defaults; latencies are those from here."""
        self.resting = True
        self.set(DEFAULTS, True, self.latencies.clear)

    def count(self, name, value, good, result):
        if result.successful != good or not (good or result.reason):
            self.wrong.append(f'{name} = {value!r}: {result.reason or "accepted"}')
        elif good:
            self.made += 1
        else:
            self.refused += 1


def held(process):
    """Threads and file descriptors."""
    folder = Path(f'/proc/{process.pid}')
    return len(os.listdir(folder / 'task')), len(os.listdir(folder / 'fd'))


def slope(samples):
    """MB/h that memory grows by; each mode may take its own amount. Least squares.

    samples: (hours, mode, MB).
    """
    hours, modes, memory = (np.array(column) for column in zip(*samples))
    offsets = modes[:, None] == np.unique(modes)
    return np.linalg.lstsq(np.column_stack((hours, offsets)), memory, rcond=None)[0][0]


def judge(parts, growth, listener):
    """What is wrong, in sentences. parts: (mode, p95, threads, files) of each minute."""
    third = len(parts) // 3
    first, last = parts[:third], parts[-third:]
    wrong = [f'parameter {text}' for text in listener.wrong[:5]]
    if growth > MOST_SLOPE:
        wrong.append(f'memory grows by {growth:.0f} MB/h, more than {MOST_SLOPE:.0f}')
    for column, name in ((2, 'threads'), (3, 'files')):
        before, after = (max(part[column] for part in first), min(part[column] for part in last))
        if after > before:
            wrong.append(f'{name} grow: {before} → {after}')
    if listener.gap > LONGEST_GAP:
        wrong.append(f'no frame for {listener.gap:.1f} s')
    for mode in sorted({part[0] for part in first} & {part[0] for part in last}):
        before, after = (np.median([part[1] for part in some if part[0] == mode])
                         for some in (first, last))
        if not after <= MOST_RISE * before:
            wrong.append(f'latency p95 of {mode}: {before:.3f} → {after:.3f} s')
    return wrong


def soak(args):
    rclpy.init()
    listener = Listener(0.55 * 60 * args.minutes / args.changes)  # 4/5 are good, 3/4 of the time
    process = subprocess.Popen([sys.executable, '-m', 'hybrid_depth_ros.nodes.depth', '--ros-args',
                                '--log-level', 'error'], cwd=ROOT)
    pictures = None
    try:
        while not listener.client.wait_for_service(1.0):
            if process.poll() is not None:
                sys.exit('the node did not start')
        began = time.monotonic()
        pictures = subprocess.Popen([sys.executable, __file__, '--camera', str(began),
                                     '--every', str(args.every)])
        while listener.last is None and process.poll() is None:
            rclpy.spin_once(listener.node, timeout_sec=0.1)
        samples, parts, memory = [], [], megabytes([process])
        for part in range(round(60 * args.minutes / args.every)):
            mode, sampled = part % len(MODES), 0.0
            listener.heavy, listener.resting = part < len(MODES), False
            depths, clouds = listener.depths, listener.clouds
            cpu, at = cpu_seconds([process]), time.monotonic()
            until = began + (part + 1) * args.every
            while time.monotonic() < until:
                rclpy.spin_once(listener.node, timeout_sec=0.05)
                if process.poll() is not None:
                    sys.exit(f'the node ended by itself, with {process.returncode}')
                now = time.monotonic()
                if now > until - args.every / 4 and not listener.resting:
                    listener.rest()
                if now - sampled > SAMPLE:
                    sampled = now
                    memory = megabytes([process])
                    if not listener.heavy:
                        samples.append(((now - began) / 3600, mode, memory))
            listener.gap = max(listener.gap, time.monotonic() - listener.last)
            took = time.monotonic() - at
            name = '{} {}×{}'.format(*MODES[mode])
            latencies = listener.latencies[name] or [float('nan')]
            median, p95 = np.percentile(latencies, (50, 95))
            parts.append((name, p95, *held(process)))
            print(f'{(part + 1) * args.every / 60:5.1f} min  {name:22s} '
                  f'{(listener.depths - depths) / took:4.1f} Hz, clouds '
                  f'{(listener.clouds - clouds) / took:4.1f} Hz, latency {median:.3f} s, '
                  f'p95 {p95:.3f} s; {memory:.0f} MB, {parts[-1][2]} threads, '
                  f'{parts[-1][3]} files; {(cpu_seconds([process]) - cpu) / took:.2f} cores; '
                  f'parameters {listener.made} + {listener.refused} refused', flush=True)
        growth = slope(samples)
        print(f'memory {growth:+.1f} MB/h after the first round, {len(samples)} samples; longest '
              f'gap {listener.gap:.2f} s; parameters: {listener.made} changes made, '
              f'{listener.refused} refused as they should be, {len(listener.wrong)} wrongly')
        print('p95 (s): ' + ' '.join(f'{part[1]:.3f}' for part in parts))
        wrong = judge(parts[len(MODES):], growth, listener)
    finally:
        end([child for child in (pictures, process) if child])
        listener.node.destroy_node()
        rclpy.try_shutdown()
    if process.returncode:
        wrong.append(f'the node ended with {process.returncode}')
    print('\n'.join(wrong) or 'all flat')
    return 1 if wrong else 0


def main():
    # a camera that changes every so many seconds, so many changes of parameters, at least
    parser = arguments(__doc__, minutes=30, every=60.0, changes=1000)
    parser.add_argument('--camera', type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.camera:
        camera(args.camera, args.every)
        return 0
    if args.every < 10 or 60 * args.minutes < 4 * len(MODES) * args.every:
        parser.error(f'--every must be 10 or more, and --minutes leave the camera four rounds of '
                     f'{len(MODES)} times --every: {len(MODES) * args.every / 15:g} or more')
    return soak(args)


if __name__ == '__main__':
    sys.exit(main())
