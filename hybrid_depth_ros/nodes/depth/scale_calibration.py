"""The tape measure of one camera of the depth node: its services, its factor."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.depth.settings import DepthSettings
from hybrid_depth_ros.nodes.shared.timers import create_steady_timer
from hybrid_depth_ros.scale_factors import ScaleFactor, ScaleFile, distance_at, measure_factor

FRAMES = 5  # that are measured in
TIMEOUT = 5.0  # seconds to wait for them


def parse_pixel(text: str) -> tuple[float, float] | None:
    """Read the parameter measured_pixel; None: the image's middle.

    Raises:
        ValueError: It is not two numbers.
    """
    if not text.strip():
        return None
    numbers = re.fullmatch(r'\s*(\d+(?:\.\d*)?)[\s,]+(\d+(?:\.\d*)?)\s*', text, re.ASCII)
    if not numbers:
        raise ValueError(f'measured_pixel is {text!r}; it must be the column and the row: '
                         "'320 240', or empty for the middle")
    return float(numbers[1]), float(numbers[2])


class ScaleCalibration:
    """Multiplies a camera's depth by a factor, which a measured distance gave.

    ``calibrate_scale`` (std_srvs/Trigger, ``~/`` or ``~/CAMERA/``) compares depth at
    ``measured_pixel`` with ``measured_distance``, and ``reset_scale`` forgets it. The factor lies
    in a file, for this camera and these weights, and counts from the next start on too.

    Args:
        node: The depth node.
        name: The camera's, or empty.
        topic: Of its images: its name in the file.
        path: Of the file.
        settings: Returns the node's.
        changed: Called when images are wanted, and when they no longer are.
    """

    def __init__(self, node: Node, name: str, topic: str, path: Path,
                 settings: Callable[[], DepthSettings], changed: Callable[[], None]) -> None:
        self._node, self._topic, self._file = node, topic, ScaleFile(path)
        self._settings, self._changed = settings, changed
        self._weights, self._scale = '', ScaleFactor(1.0, 0.0)
        self.problem = ''
        self._depths: list[npt.NDArray[np.float32]] | None = None  # while it measures
        self._intrinsics: Intrinsics | None = None
        self._measured = Future()
        # as with snapshots: while they wait for frames, others must go on
        group = MutuallyExclusiveCallbackGroup()
        prefix = f'~/{name}/' if name else '~/'
        node.create_service(Trigger, prefix + 'calibrate_scale', self._calibrate,
                            callback_group=group)
        node.create_service(Trigger, prefix + 'reset_scale', self._reset, callback_group=group)

    @property
    def waiting(self) -> bool:
        """Whether it needs frames."""
        return self._depths is not None

    def apply(self, depth: npt.NDArray[np.float32], weights: str,
              intrinsics: Intrinsics | None) -> float:
        """Measure in the network's own depth where that is asked for; return the factor of it.

        Args:
            depth: float32 H×W, metres.
            weights: Of the network.
            intrinsics: Of the image.
        """
        if weights != self._weights:
            self._weights = weights
            self._read()
        if (depths := self._depths) is not None and len(depths) < FRAMES:
            depths.append(depth.copy())
            self._intrinsics = intrinsics
            if len(depths) == FRAMES:
                self._measured.set_result(True)
        return self._scale.factor

    def values(self) -> dict[str, str]:
        """What /diagnostics shows of it."""
        if self._scale.factor == 1 and not self.problem:
            return {}
        return {'scale factor': f'{self._scale.factor:.4f}', 'scale file': str(self._file.path)}

    def _read(self) -> None:
        self._scale, self.problem = ScaleFactor(1.0, 0.0), ''
        try:
            self._scale = self._file.read(self._topic, self._weights) or self._scale
        except (OSError, ValueError) as error:
            self.problem = f'no scale factor is used: {explain(error)}'
            self._node.get_logger().warning(self.problem)
        if self._scale.factor != 1:
            self._node.get_logger().info(
                f'depth of {self._topic} is multiplied by {self._scale.factor:.4f}, '
                f'as {self._file.path} says')

    async def _calibrate(self, request: Trigger.Request, response: Trigger.Response
                         ) -> Trigger.Response:
        try:
            response.message = await self._measure(self._settings())
            response.success = True
        except (OSError, ValueError) as error:
            response.message = explain(error)
        return response

    async def _measure(self, settings: DepthSettings) -> str:
        """Find and keep the factor; says what it is.

        Raises:
            OSError: The file can't be written.
            ValueError: It can't be measured.
        """
        distance, pixel = settings.measured_distance, parse_pixel(settings.measured_pixel)
        if not distance:
            raise ValueError('measure from the lens to what the image shows in its middle, set '
                             'measured_distance to that (metres), and call again')
        if any(settings.anchors):
            raise ValueError('anchors give depth its scale: start without them to calibrate it')
        if self.waiting:
            raise ValueError('a distance is being measured already: call again')
        self._measured, self._depths = Future(), []
        timeout = create_steady_timer(
            self._node, TIMEOUT, lambda: self._measured.done() or self._measured.set_result(False))
        self._changed()
        try:
            whole = await self._measured
        finally:
            depths, self._depths = self._depths or [], None
            self._node.destroy_timer(timeout)
            self._changed()
        if not whole:
            raise ValueError(f'{len(depths)} of {FRAMES} images came on {self._topic} within '
                             f'{TIMEOUT:g} s: see whether the camera runs, the node is active and '
                             'its network gives metres')
        height, width = depths[0].shape
        u, v = pixel or ((width - 1) / 2, (height - 1) / 2)
        estimated = distance_at(depths, u, v, self._intrinsics)
        scale = measure_factor(estimated, distance)
        self._file.write(self._topic, self._weights, scale)
        self._scale, self.problem = scale, ''
        return (f'{estimated:.3f} m was estimated at pixel {u:g} {v:g}: depth is multiplied by '
                f'{scale.factor:.4f} from here on, as {self._file.path} says')

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._file.write(self._topic, self._weights or self._settings().weights, None)
            self._scale, self.problem = ScaleFactor(1.0, 0.0), ''
            response.success, response.message = True, f'{self._topic} has no scale factor any more'
        except (OSError, ValueError) as error:
            response.message = explain(error)
        return response
