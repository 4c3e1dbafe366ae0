"""A node as a process: started, run and ended in one way."""

import ctypes
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation

from hybrid_depth_ros.errors import explain

FAST_DDS_PROFILE = Path(__file__).parent.parent / 'data' / 'fastdds.xml'
# What a user may have set instead; the first two name a file of profiles, by Fast DDS's version.
FAST_DDS_CHOICES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE',
                    'FASTDDS_BUILTIN_TRANSPORTS')


def fast_dds_environment():
    """Variables for processes that use Fast DDS: messages of megabytes are cheap, and one that was
    killed and comes back is found at once. None where somebody chose otherwise, or has no room."""
    shared = Path('/dev/shm')
    room = shared.is_dir() and os.statvfs(shared).f_bavail * os.statvfs(shared).f_frsize
    if not room > 48 << 20 or any(os.environ.get(name) for name in FAST_DDS_CHOICES):
        return {}
    return dict.fromkeys(FAST_DDS_CHOICES[:2], str(FAST_DDS_PROFILE))


def prepare():
    """What must be done before rclpy.init."""
    os.environ.update(fast_dds_environment())
    # a frame's arrays are kept, not mapped anew each time: docs/speed.md
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 6 << 20)   # M_MMAP_THRESHOLD: more than a 640×480 cloud of 4.9 MB
        libc.mallopt(-1, 64 << 20)  # M_TRIM_THRESHOLD


def _said(error):
    """What rclpy's own errors say, without where in its sources."""
    return ' '.join(re.sub(r', at \S+:\d+', '', str(error)).split())


def run(name, create, args=None):
    """Spin the node that `create` makes until it is told to stop; returns the exit status.

    A node may end by itself: by an ``exit_status`` other than None. What `create` raises as
    ValueError or OSError is logged in one line, as by `name`. Ctrl-C comes twice, from the
    terminal and from launch: the second doesn't cut the ending short.
    """
    prepare()
    try:
        rclpy.init(args=args)
    except Exception as error:
        print(f'{name}: {_said(error)}; check the environment, and what stands behind --ros-args',
              file=sys.stderr)
        return 1
    node = None
    try:
        node = create()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while rclpy.ok() and getattr(node, 'exit_status', None) is None:
            executor.spin_once()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (OSError, ValueError) as error:
        rclpy.logging.get_logger(name).fatal(explain(error))
        return 1
    except Exception as error:
        if node is None and isinstance(error, rclpy_implementation.RCLError):
            text = _said(error)
            if os.environ.get('ROS_SECURITY_ENABLE') == 'true' and text.startswith('Failed to'):
                text += "; see that the policy of the node's enclave grants its topics"
            rclpy.logging.get_logger(name).fatal(text)
            return 1
        if rclpy.ok():
            raise
        # shut down in the middle of a call to rclpy
    finally:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.SIG_IGN)
        if node:
            node.destroy_node()
        rclpy.try_shutdown()
    return getattr(node, 'exit_status', None) or 0
