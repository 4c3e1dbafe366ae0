"""What the long tests stand on: a ROS graph of their own, this source tree, arguments, an end.

Imported first: before rclpy is.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('ROS_DOMAIN_ID', str(random.randint(1, 100)))
ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / 'test'), str(ROOT)]
# the processes that they start run from this source tree too
os.environ['PYTHONPATH'] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])


def arguments(doc, minutes, **numbers):
    """A parser with --minutes, and an option of its own kind for each of the numbers."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in {'minutes': float(minutes), **numbers}.items():
        parser.add_argument(f'--{name}', type=type(number), default=number)
    return parser


def end(processes, seconds=10.0):
    """Ctrl-C to all; what still runs so many seconds later is killed: its returncode says so."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.wait()
