"""Timers that run on whatever /clock does."""

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer


def create_steady_timer(node: Node, period: float, callback: Callable[[], Any]) -> Timer:
    """Call back every `period` seconds of the steady clock, under use_sim_time too."""
    return node.create_timer(period, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))
