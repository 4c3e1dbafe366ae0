"""Four cameras on one depth node, or on a node each: rates, latency, memory, an unplugged camera.

``python test/soak/four_cameras.py [--seconds 300] [--rate 5] [--nodes 1] [--precision bf16]
[--unplug]``
"""

import argparse
import subprocess
import sys
import time
from functools import partial

from ground import ROOT, end

# isort: split
import numpy as np
import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from hybrid_depth_ros.benchmark.node import create_cameras, process_usage
from hybrid_depth_ros.nodes.shared.run_node import run_node
from hybrid_depth_ros.stamps import header_stamp

NAMES = ('front', 'rear', 'left', 'right')


def megabytes(processes):
    """Resident memory of all processes."""
    return sum(process_usage(process)[1] for process in processes)


def cpu_seconds(processes):
    """Processor time that all processes have used."""
    return sum(process_usage(process)[0] for process in processes)


def start_nodes(count, precision):
    """One node for all cameras, or one for each."""
    command = [sys.executable, '-m', 'hybrid_depth_ros.nodes.depth', '--ros-args',
               '--log-level', 'error', '-p', f'precision:={precision}']
    if count == 1:
        arguments = [['-p', f'cameras:=[{", ".join(NAMES)}]']]
    else:
        arguments = [['-r', f'__ns:=/{name}'] for name in NAMES]
    return [subprocess.Popen([*command, *extra], cwd=ROOT) for extra in arguments]


def start_camera(name, rate):
    return subprocess.Popen([sys.executable, __file__, '--camera', name, '--rate', str(rate)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=300.0)
    parser.add_argument('--rate', type=float, default=5.0, help='of each camera, Hz')
    parser.add_argument('--nodes', type=int, choices=(1, 4), default=1)
    parser.add_argument('--precision', default='fp32')
    parser.add_argument('--unplug', action='store_true',
                        help='the rear camera is gone in the third of five parts')
    parser.add_argument('--camera', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.camera:
        run_node('camera', lambda: create_cameras([args.camera], args.rate), [])
        return
    rclpy.init()
    node = rclpy.create_node('four_cameras')
    got = {name: [] for name in NAMES}

    def take(name, data):
        got[name].append((time.monotonic(), (time.time_ns() - header_stamp(data)) / 1e9))
    for name in NAMES:
        node.create_subscription(Image, f'/{name}/depth/image', partial(take, name),
                                 QoSProfile(depth=5), raw=True)
    nodes = start_nodes(args.nodes, args.precision)
    cameras = {name: start_camera(name, args.rate) for name in NAMES}
    try:
        while not all(got.values()):
            rclpy.spin_once(node, timeout_sec=0.1)
        print(f'{args.nodes} node(s), {len(NAMES)} cameras at {args.rate:g} Hz, {args.precision}')
        started = time.monotonic()
        for part in range(5):
            if args.unplug and part == 2:
                cameras['rear'].kill()
            if args.unplug and part == 3:
                cameras['rear'] = start_camera('rear', args.rate)
            for frames in got.values():
                frames.clear()
            until, cpu = started + (part + 1) * args.seconds / 5, cpu_seconds(nodes)
            began = time.monotonic()
            while time.monotonic() < until:
                rclpy.spin_once(node, timeout_sec=0.01)
            took = time.monotonic() - began
            rates = '  '.join(f'{name} {len(got[name]) / took:.2f}' for name in NAMES)
            latencies = [late for frames in got.values() for _, late in frames] or [float('nan')]
            gap = max((b[0] - a[0] for frames in got.values()
                       for a, b in zip(frames, frames[1:])), default=float('nan'))
            print(f'part {part + 1} of 5: Hz {rates}; latency median {np.median(latencies):.3f} s, '
                  f'p95 {np.percentile(latencies, 95):.3f} s; longest gap {gap:.2f} s; '
                  f'{megabytes(nodes):.0f} MB; {(cpu_seconds(nodes) - cpu) / took:.2f} cores',
                  flush=True)
    finally:
        end((*nodes, *cameras.values()))
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
