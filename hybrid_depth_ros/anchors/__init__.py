"""Anchors: distances that a robot measures, and depth that agrees with them."""

from hybrid_depth_ros.anchors.correction import Anchored, Anchors, anchored

__all__ = ['Anchored', 'Anchors', 'anchored']
