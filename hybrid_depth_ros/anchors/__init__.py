"""Anchors: distances that a robot measures, and depth that agrees with them."""

from hybrid_depth_ros.anchors.correction import Anchored, Anchors, anchored
from hybrid_depth_ros.anchors.relative import Line, metric

__all__ = ['Anchored', 'Anchors', 'Line', 'anchored', 'metric']
