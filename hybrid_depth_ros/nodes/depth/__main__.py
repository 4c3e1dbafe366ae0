"""``python -m hybrid_depth_ros.nodes.depth``."""

import sys

from hybrid_depth_ros.nodes.depth.node import main

if __name__ == '__main__':
    sys.exit(main())
