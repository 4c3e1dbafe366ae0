"""Anchors: distances that a robot measures, and depth that agrees with them."""

from hybrid_depth_ros.anchors.correction import Anchored, anchored
from hybrid_depth_ros.anchors.measured import Anchors
from hybrid_depth_ros.anchors.relative import Line, metric

__all__ = ['Anchored', 'Anchors', 'Line', 'anchored', 'metric']
