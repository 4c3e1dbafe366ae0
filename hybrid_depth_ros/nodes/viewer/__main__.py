"""``python -m hybrid_depth_ros.nodes.viewer``."""

import sys

from hybrid_depth_ros.nodes.viewer.node import main

if __name__ == '__main__':
    sys.exit(main())
