"""The ROS edge: nodes, and what turns messages into arrays and arrays into messages."""

import os
import signal
import sys
import threading

EXECUTABLES = ('depth_node', 'camera_node', 'viewer_node', 'evaluator_node')


def _is_node():
    """Whether this process is one: by its executable, or by python -m hybrid_depth_ros.nodes.…"""
    folder, name = os.path.split(sys.argv[0])
    return ((name in EXECUTABLES and os.path.basename(folder) in ('bin', 'hybrid_depth_ros'))
            or (name == '-m' and any(argument.startswith(f'{__name__}.')
                                    for argument in sys.orig_argv)))


def leave(*_):
    """End this process at once: it has begun nothing that would have to be ended."""
    os._exit(0)


def end_quietly_while_starting():
    """Until rclpy listens to signals, Ctrl-C and SIGTERM end a node without a word, as later on.

    A process that was made deaf to a signal stays so.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, leave)


if _is_node():  # imports take half a second
    end_quietly_while_starting()
