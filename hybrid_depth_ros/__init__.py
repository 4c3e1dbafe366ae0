"""Turns an RGB camera into a metric depth camera."""

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_depth_ros.predictor import DepthPredictor, Prediction

__all__ = ['DepthPredictor', 'Prediction']

NODES = ('depth_node', 'camera_node', 'viewer_node', 'evaluator_node')


def _begins(executables, *packages):
    """Whether this process is one of these commands: an executable, or python -m PACKAGE.…"""
    folder, name = os.path.split(sys.argv[0])
    return ((name in executables and os.path.basename(folder) in ('bin', __name__))
            or (name == '-m' and any(f'{argument}.'.startswith(f'{package}.')
                                    for argument in sys.orig_argv for package in packages)))


# whether this process is one of this package's nodes; later on, python -m is not to be seen in argv
IS_NODE = _begins(NODES, f'{__name__}.nodes')


def leave(*_):
    """End this process at once: it has begun nothing that would have to be ended."""
    os._exit(0)


def end_quietly_while_starting():
    """Until a command of ours begins its work, Ctrl-C ends it without a word: imports take a while.

    A node ends with 0, as later on, by SIGTERM too; and by a Ctrl-C to which a script's ``&`` has
    made it deaf, for rclpy hears that as well. Another command dies of it, as programs do, until
    :func:`hybrid_depth_ros.errors.setup_console`.
    """
    with suppress(ValueError):  # not the main thread
        if IS_NODE:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, leave)
        elif (_begins(('evaluate_bag',), __name__, 'train')
                and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN):
            signal.signal(signal.SIGINT, signal.SIG_DFL)


end_quietly_while_starting()


def __getattr__(name: str) -> Any:
    """Import the predictor at its first use: nodes and commands without it start faster."""
    if name in __all__:
        from hybrid_depth_ros import predictor
        return getattr(predictor, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
