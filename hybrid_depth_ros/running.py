"""A node as a process: started, run and ended in one way."""

import signal

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor


def run(name, create, args=None):
    """Spin the node that `create` makes until it is told to stop; returns the exit status.

    A node may end by itself: by an ``exit_status`` other than None. What `create` raises as
    ValueError or OSError is logged in one line, as by `name`. Ctrl-C comes twice, from the
    terminal and from launch: the second doesn't cut the ending short.
    """
    rclpy.init(args=args)
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
        rclpy.logging.get_logger(name).fatal(str(error))
        return 1
    except Exception:
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
