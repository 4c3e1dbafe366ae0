"""Ctrl-C while a process of ours starts: its imports take seconds.

An entry point calls :func:`begin_command` or :func:`begin_node` before it imports anything else.
"""

import os
import signal
from contextlib import suppress
from typing import Any

_is_node = False


def begin_command() -> None:
    """Let Ctrl-C end this command silently, as the system does, until it handles signals itself.

    That is from :func:`hybrid_depth_ros.errors.setup_console` on. Where a script started the
    command with ``&``, so that it ignores Ctrl-C, it stays so.
    """
    with suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin_node() -> None:
    """Let SIGINT and SIGTERM end this node's process with 0 until it handles signals itself.

    Also where a script's ``&`` made it ignore Ctrl-C, because rclpy handles that one too.
    """
    global _is_node
    _is_node = True
    with suppress(ValueError):  # not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, exit_at_once)


def is_node_process() -> bool:
    """Whether this process was started as one of this package's nodes."""
    return _is_node


def exit_at_once(*_: Any) -> None:
    """End this process with 0; it has begun nothing that would have to be closed."""
    os._exit(0)
