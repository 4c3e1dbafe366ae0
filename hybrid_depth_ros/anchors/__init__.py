"""Anchors: distances that a robot measures, and depth that agrees with them."""

from hybrid_depth_ros.anchors.correction import Anchored, anchored, complete_depth
from hybrid_depth_ros.anchors.hole_filling import fill_holes
from hybrid_depth_ros.anchors.motion import MotionAnchors
from hybrid_depth_ros.anchors.scale_shift import ScaleShift, fit_scale_shift
from hybrid_depth_ros.anchors.types import Anchors

__all__ = ['Anchored', 'Anchors', 'MotionAnchors', 'ScaleShift', 'anchored', 'complete_depth',
           'fill_holes', 'fit_scale_shift']
