"""Cameras and nodes killed, frozen and brought back, again and again: how soon depth comes again.

Within 2 s, to a listener that has the Fast DDS profile of this package, as what the launch files
start does.

``python test/soak/faults.py [--rounds 5] [--seed 0] [--minutes 10]``. The node has a stand-in for
the network. Those that are killed for longer than DDS keeps up with them come last, and then those
that stand still as long. Of these the figures are told but not judged: in about one of six times,
whatever the profile, Fast DDS 2.14 does not bring such a node and its listener together again.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from ground import arguments

# isort: split
from graph import RECOVERY, Graph, start_again, start_camera
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from hybrid_depth_ros.nodes.shared.run_node import fast_dds_environment

LEASE = 25.0  # seconds: Fast DDS forgets a participant that is silent for 20


class Watch:
    """A depth node, a camera, and the time when the last image and the last depth came."""

    def __init__(self, folder):
        os.environ.update(fast_dds_environment())
        self.folder, self.lives = folder, 0
        self.graph, self.camera = Graph(folder / 'log'), start_camera()
        self.came, self.results = {'image': [], 'depth/image': []}, []
        for topic, times in self.came.items():
            self.graph.node.create_subscription(
                Image, topic, lambda _, times=times: times.append(time.monotonic()),
                qos_profile_sensor_data)

    def after(self, topic, moment, seconds=30.0):
        """When the first message came after a moment; None: none in so many seconds."""
        times = self.came[topic]
        return times[-1] if self.graph.spin(
            seconds, lambda: times and times[-1] > moment) else None

    def recovered(self, what, since):
        """Note how long after `since` depth came; None: never."""
        depth = since and self.after('depth/image', since)
        took = depth - since if depth else float('inf')
        self.results.append(took)
        print(f'{what}: depth after {took:.2f} s', flush=True)

    def kill_camera(self, seconds):
        self.camera.kill()
        self.camera.wait()
        self.graph.spin(seconds)
        self.camera, started = start_camera(), time.monotonic()
        self.recovered(f'camera killed, away for {seconds:.1f} s',
                       self.after('image', started))

    def kill_node(self, seconds):
        self.graph.process.kill()
        self.graph.process.wait()
        self.graph.spin(seconds)
        self.lives += 1
        log = self.folder / f'log{self.lives}'
        self.graph.process = start_again(self.graph.process, log)
        while 'listening to' not in log.read_text() and self.graph.process.poll() is None:
            self.graph.spin(0.02)
        self.recovered(f'node killed, away for {seconds:.1f} s', time.monotonic())

    def freeze(self, name, process, seconds):
        """Out of everybody's sight beyond the lease, as by a pulled cable."""
        process.send_signal(signal.SIGSTOP)
        self.graph.spin(seconds)
        process.send_signal(signal.SIGCONT)
        self.recovered(f'{name} frozen for {seconds:.1f} s', time.monotonic())

    def close(self):
        self.camera.kill()
        self.camera.wait()
        self.graph.close()


def main():
    # no round begins after the minutes
    args = arguments(__doc__, minutes=10, rounds=5, seed=0).parse_args()
    rng, deadline = random.Random(args.seed), time.monotonic() + 60 * args.minutes
    rounds = 0
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(Path(folder))
        try:
            if not watch.after('depth/image', 0):
                sys.exit('no depth to begin with')
            while rounds < args.rounds and time.monotonic() < deadline:
                rounds += 1
                watch.kill_camera(rng.uniform(0, 3))
                watch.kill_node(rng.uniform(0, 3))
                watch.freeze('camera', watch.camera, rng.uniform(0, 3))
                watch.freeze('node', watch.graph.process, rng.uniform(0, 3))
            watch.kill_camera(LEASE)
            watch.kill_node(LEASE)
            judged = list(watch.results)
            watch.freeze('camera', watch.camera, LEASE)
            watch.freeze('node', watch.graph.process, LEASE)
        finally:
            watch.close()
    slow = sum(took > RECOVERY for took in judged)
    print(f'{rounds} rounds, {len(judged)} faults: longest {max(judged):.2f} s, '
          f'{slow} took more than {RECOVERY:g} s')
    return 1 if slow or rounds < args.rounds else 0


if __name__ == '__main__':
    sys.exit(main())
