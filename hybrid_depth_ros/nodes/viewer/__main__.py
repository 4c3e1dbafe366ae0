"""``python -m hybrid_depth_ros.nodes.viewer``."""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_node
    begin_node()

import sys

from hybrid_depth_ros.nodes.viewer.node import main

if __name__ == '__main__':
    sys.exit(main())
