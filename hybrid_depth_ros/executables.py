"""What the installed executables call: Ctrl-C first, then the imports, which take seconds."""

from hybrid_depth_ros.interrupts import begin_command, begin_node


def depth_node() -> int:
    begin_node()
    from hybrid_depth_ros.nodes.depth.node import main
    return main()


def camera_node() -> int:
    begin_node()
    from hybrid_depth_ros.nodes.camera import main
    return main()


def viewer_node() -> int:
    begin_node()
    from hybrid_depth_ros.nodes.viewer.node import main
    return main()


def evaluator_node() -> int:
    begin_node()
    from hybrid_depth_ros.nodes.evaluator import main
    return main()


def evaluate_bag() -> int:
    begin_command()
    from hybrid_depth_ros.evaluate_bag import main
    return main()


def weights() -> int:
    begin_command()
    from hybrid_depth_ros.weights.__main__ import main
    return main()
