"""A node as a process: started, run and ended in one way."""

import _thread
import atexit
import ctypes
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from hybrid_depth_ros.errors import escape_unprintable, explain, printable
from hybrid_depth_ros.interrupts import exit_at_once, is_node_process

SHUTDOWN_TIMEOUT = 2.0  # seconds that what a node does may go on for once it was told to end
FAST_DDS_PROFILE = Path(__file__).parents[2] / 'data' / 'fastdds.xml'
# What a user may have set instead; the first two name a file of profiles, by Fast DDS's version.
FAST_DDS_CHOICES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE',
                    'FASTDDS_BUILTIN_TRANSPORTS')


def fast_dds_environment() -> dict[str, str]:
    """Return variables for processes that use Fast DDS.

    With them messages of megabytes are cheap, and a process that was killed and comes back is found
    at once. Empty where somebody chose otherwise, or shared memory has no room.
    """
    shared = Path('/dev/shm')
    room = shared.is_dir() and os.statvfs(shared).f_bavail * os.statvfs(shared).f_frsize
    if not room > 48 << 20 or any(os.environ.get(name) for name in FAST_DDS_CHOICES):
        return {}
    return dict.fromkeys(FAST_DDS_CHOICES[:2], str(FAST_DDS_PROFILE))


def prepare_process() -> None:
    """Set up Fast DDS and malloc; to be called before rclpy.init."""
    os.environ.update(fast_dds_environment())
    # a frame's arrays are kept, not mapped anew each time: docs/speed.md
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 6 << 20)   # M_MMAP_THRESHOLD: more than a 640×480 cloud of 4.9 MB
        libc.mallopt(-1, 64 << 20)  # M_TRIM_THRESHOLD


def log_arguments() -> list[str]:
    """Return arguments that let rclpy go without log files where it can't write them.

    Its folder is ROS_LOG_DIR, log in ROS_HOME, or ~/.ros/log; a container may have no HOME.
    """
    folder = os.environ.get('ROS_LOG_DIR') or os.path.join(
        os.environ.get('ROS_HOME') or os.path.join(os.environ.get('HOME') or '~', '.ros'), 'log')
    with suppress(OSError, ValueError):
        if os.environ.get('HOME') or not folder.startswith('~'):
            folder = os.path.expanduser(folder)
            os.makedirs(folder, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return []
    return ['--ros-args', '--disable-external-lib-logs', '--']


def _rcl_message(error: BaseException) -> str:
    """What rclpy's own errors say, without where in its sources."""
    return ' '.join(re.sub(r', at \S+:\d+', '', str(error)).split())


def _explain_arguments(error: BaseException) -> str:
    """What is wrong with a command line that ROS can't read."""
    match = re.search(r"Couldn't parse (remap|parameter override) rule: '-. (.*?)'\. Error",
                      str(error), re.DOTALL)
    if match and match[1] == 'remap':
        return (f'-r {match[2]} is no remapping: a name has letters, digits, _ and /, and no part '
                'of it begins with a digit or is empty')
    if match and ':=' in match[2]:
        return (f'-p {match[2]} is not YAML; write the value in quotes for the shell and for YAML: '
                f'{match[2].partition(":=")[0]}:="\'…\'"')
    return f'{_rcl_message(error)}; check the environment, and what stands behind --ros-args'


class _ShutdownSignals:
    """Handles SIGINT and SIGTERM besides rclpy: it does next to nothing.

    rclpy's handlers, which call these, shut its context down, and that ends the spinning. An
    exception, raised anywhere, would be taken for a fault of what happens to run: an import makes
    an ImportError of it. A start that goes on for SHUTDOWN_TIMEOUT all the same, as a download
    does, is left where it is; a callback that does, as a configure by service, is interrupted.
    To be made before rclpy.init: Python's handlers would replace rclpy's.
    """

    def __init__(self) -> None:
        self.phase, self._received, self._overdue = 'before', False, False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):  # where they are ignored too: as rclpy
                signal.signal(number, self._take)

    def _take(self, number: int, frame: Any) -> None:
        if self.phase == 'before':
            exit_at_once()
        if not self._received:
            self._received = True
            threading.Thread(target=self._end_overdue, daemon=True).start()
        elif self._overdue and self.phase == 'run':
            raise KeyboardInterrupt

    def _end_overdue(self) -> None:
        time.sleep(SHUTDOWN_TIMEOUT)
        if self.phase == 'start':
            exit_at_once()
        self._overdue = True
        if self.phase == 'run':
            _thread.interrupt_main()


def _exit_without_teardown(status: int) -> None:
    """Leave this process, a node's, as soon as Python comes to its end.

    All is closed by then. What Python does last, taking modules apart, takes seconds of a processor
    where a network of transformers was loaded; a Ctrl-C seems not to have been heard.
    """
    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError, OSError):  # none there, or closed
                stream.flush()
        os._exit(status)
    atexit.register(end)  # the last to be registered is called first


class _Executor(SingleThreadedExecutor):
    """An executor whose making may be cut short by Ctrl-C."""

    _sigint_gc: Any = None  # rclpy's destructor reads it, also where making failed before


def run_node(name: str, create: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Spin a node until it is told to stop, or ends by an ``exit_status`` other than None.

    Ctrl-C comes twice, from the terminal and from launch: the second doesn't cut the ending short.

    Args:
        name: The node's, for the log.
        create: Makes the node. What it raises as ValueError or OSError is logged in one line.
        args: The command line; None: this process's.

    Returns:
        The exit status.
    """
    escape_unprintable()
    # rclpy's, of a node that was told to end while it was being made
    warnings.filterwarnings('ignore', 'Failed to fini', RuntimeWarning)
    prepare_process()
    signals = _ShutdownSignals()
    arguments = list(sys.argv if args is None else args)
    for argument in arguments:
        if printable(argument) != argument:
            print(f'{name}: {printable(argument)} is not UTF-8, which ROS wants of a name: rename '
                  'the file, or put a link to it', file=sys.stderr)
            return 1
    try:
        rclpy.init(args=arguments + log_arguments())
    except Exception as error:
        print(f'{name}: {_explain_arguments(error)}', file=sys.stderr)
        return 1
    node = None
    try:
        signals.phase = 'start'
        node = create()
        signals.phase = 'run'
        executor = _Executor()
        executor.add_node(node)
        while rclpy.ok() and getattr(node, 'exit_status', None) is None:
            executor.spin_once()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        if not rclpy.ok():
            return 0  # shut down in the middle of a call to rclpy
        if isinstance(error, (OSError, ValueError)):
            rclpy.logging.get_logger(name).fatal(explain(error))
            return 1
        if node is None and isinstance(error, rclpy_implementation.RCLError):
            text = _rcl_message(error)
            if os.environ.get('ROS_SECURITY_ENABLE') == 'true' and text.startswith('Failed to'):
                text += "; see that the policy of the node's enclave grants its topics"
            rclpy.logging.get_logger(name).fatal(text)
            return 1
        raise
    finally:
        signals.phase = 'end'
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.SIG_IGN)
        if node:
            node.destroy_node()
        rclpy.try_shutdown()
    status = getattr(node, 'exit_status', None) or 0
    if is_node_process():
        _exit_without_teardown(status)
    return status
