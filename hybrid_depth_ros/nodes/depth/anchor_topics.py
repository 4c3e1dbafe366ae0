"""The anchors of one camera of the depth node: their topics, their poses, what people see."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, LaserScan, PointCloud2, Range

from hybrid_depth_ros.anchors.corrector import AnchorCorrector, ImageInfo
from hybrid_depth_ros.anchors.source import WITHOUT_POSE, AnchorSource
from hybrid_depth_ros.calibration import is_rectified_topic
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.depth.settings import DepthSettings, check_anchors
from hybrid_depth_ros.nodes.shared.subscription import AdaptiveSubscription, transport_topic
from hybrid_depth_ros.nodes.shared.transforms import TransformLookup
from hybrid_depth_ros.point_cloud import POINT, pack_rgb
from hybrid_depth_ros.stamps import stamp_of
from hybrid_depth_ros.visualization import residual_colours

MESSAGE_TYPES = {'scan': LaserScan, 'points': PointCloud2, 'range': Range, 'depth': Image}
try:  # only robots without TF send it
    from nav_msgs.msg import Odometry
    MESSAGE_TYPES['motion'] = Odometry
except ImportError:
    pass
RECOVERY_FRAMES = 50  # frames without a problem before the same problem is logged again
QUEUE = 5  # messages that wait while the executor is busy
MAX_PROBLEM_LENGTH = 400  # characters: a frame_id may be a megabyte


class AnchorTopics:
    """``anchors/scan`` and so on, and the depth that they correct.

    Where nobody publishes ``anchors/depth``, its ``compressedDepth`` is listened to instead.

    Args:
        node: The depth node.
        prefix: Of the topics, the camera's namespace with a slash, or empty.
        settings: The node's.
        transforms: Asked where no pose is fixed.
        warn: Logs a text; takes a key of what it is about first.
    """

    def __init__(self, node: Node, prefix: str, settings: DepthSettings,
                 transforms: TransformLookup, warn: Callable[[str, str], None]) -> None:
        names, poses = check_anchors(settings)
        self._transforms, self._warn = transforms, warn
        self._corrector = AnchorCorrector(names, poses, transforms.pose_over_time)
        self._node = node

        def subscription(source: AnchorSource, kind: type[Any], topic: str) -> AdaptiveSubscription:
            rectified = is_rectified_topic(node.resolve_topic_name(topic))
            return AdaptiveSubscription(node, kind, topic,
                                        partial(source.take, rectified=rectified), QUEUE)
        self.subscriptions = {
            name: subscription(source, MESSAGE_TYPES[source.kind], f'{prefix}anchors/{name}')
            for name, source in self._corrector.sources.items() if source.kind in MESSAGE_TYPES}
        self._compressed_depth = None
        if depth := self._corrector.sources.get('depth'):
            self._compressed_depth = subscription(depth, CompressedImage, transport_topic(
                node, f'{prefix}anchors/depth', 'compressedDepth'))
        if any(source.pose is None and source.kind not in WITHOUT_POSE
               for source in self._corrector.sources.values()) or (
                   'floor' in names and not settings.camera_height) or 'motion' in names:
            transforms.listen()
        self.reset()

    def update(self, wanted: bool) -> None:
        """Listen to the sensors, or don't.

        To be called now and then: rclpy has no event for publishers of a topic that isn't
        subscribed, as the compressed one.
        """
        for listener in self.subscriptions.values():
            listener.update(wanted)
        if (compressed := self._compressed_depth) is not None:
            raw = self.subscriptions['depth'].topic
            compressed.update(wanted and bool(self._node.count_publishers(compressed.topic)
                                              and not self._node.count_publishers(raw)))

    def reset(self) -> None:
        """Forget measurements and figures."""
        self._corrector.reset()
        self._logged: set[str] = set()
        self._good: dict[str, int] = {}  # frames in a row, by source
        self._last_values: tuple[float, dict[str, int]] = (time.monotonic(), {})
        self._seconds = 0.0

    def correct(self, depth: npt.NDArray[np.float32], frame: Any, settings: DepthSettings,
                relative: bool = False) -> npt.NDArray[np.float32]:
        """Correct depth where anchors or smoothing are asked for.

        Args:
            depth: float32 H×W, metres; or inverse depth.
            frame: That it is of, with header and intrinsics.
            settings: The node's.
            relative: `depth` is inverse depth, and no metres yet.

        Returns:
            float32 H×W, metres.

        Raises:
            LookupError: Where no anchor makes metres of relative depth.
        """
        if not self._corrector.sources and not settings.temporal_smoothing and not relative:
            return depth
        start = time.perf_counter()
        gray = (cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
                if 'motion' in self._corrector.sources else None)
        image = ImageInfo(stamp_of(frame.header), frame.header.frame_id, frame.intrinsics, gray,
                          frame.other_camera, frame.rgb, frame.rectification)
        try:
            depth = self._corrector.correct(depth, image, settings.anchoring, relative).depth
        except LookupError as error:
            told = '; '.join(f'anchors/{name}: {self._problem(source)}'
                             for name, source in self._corrector.sources.items() if source.trouble)
            raise LookupError(f'{error.args[0]}{f" ({told})" if told else ""}') from error
        self._seconds = time.perf_counter() - start
        for name, source in self._corrector.sources.items():
            told = source.trouble or source.warning
            self._good[name] = 0 if told else self._good.get(name, 0) + 1
            key = f'{name}, used' if source.warning and not source.trouble else name
            if self._good[name] >= RECOVERY_FRAMES:
                self._logged -= {name, f'{name}, used'}
            elif told and key not in self._logged:
                self._logged.add(key)
                self._warn(f'anchors/{name}', f'anchors/{name}: ' + (
                    f'{self._problem(source)}. Depth goes on without' if source.trouble else
                    source.warning[:MAX_PROBLEM_LENGTH]))
        return depth

    def sigma(self, depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return the standard deviation of corrected depth, float32 H×W metres.

        It is None where no anchor was used, or `depth` is not what was corrected last.
        """
        last = self._corrector.last
        return None if last is None or last.depth is not depth else last.completion.sigma

    def measured(self, depth: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return which pixels of corrected depth a depth image measured: uint8 H×W, 255 or 0."""
        last = self._corrector.last
        kept = None if last is None or last.depth is not depth else last.completion.measured
        if kept is None:
            return np.zeros(depth.shape, np.uint8)
        return kept * np.uint8(255)

    def cloud(self, intrinsics: Intrinsics | None) -> npt.NDArray[np.void] | None:
        """Return the last frame's anchors as one row of points, coloured by how well they fit.

        Args:
            intrinsics: Of the frame.

        Returns:
            1×N of dtype ``point_cloud.POINT`` in the optical frame; None where there were none.
        """
        last = self._corrector.last
        if last is None or intrinsics is None or not len(last.anchors):
            return None
        anchors = last.anchors
        points = np.zeros((1, len(anchors)), POINT)
        points['x'] = (anchors.u - intrinsics.cx) / intrinsics.fx * anchors.depth
        points['y'] = (anchors.v - intrinsics.cy) / intrinsics.fy * anchors.depth
        points['z'] = anchors.depth
        points['rgb'] = pack_rgb(residual_colours(last.completion.residuals))
        return points

    def _problem(self, source: AnchorSource) -> str:
        listener = self.subscriptions.get(source.name)
        compressed = self._compressed_depth
        if source.kind == 'depth' and compressed and compressed.subscription:
            listener = compressed
        if listener and not source.received and source.kind != 'motion':
            return f'nothing came on {listener.topic}'
        return source.trouble[:MAX_PROBLEM_LENGTH]

    def health(self) -> tuple[bytes, str]:
        """Return level and message for the status: (OK, '') where there is nothing to say."""
        sources = self._corrector.sources
        told = [f'anchors/{name}: {self._problem(source)}' for name, source in sources.items()
                if source.trouble]
        if told:
            return DiagnosticStatus.WARN, '; '.join(told) + '. Depth goes on without'
        if warned := [f'anchors/{name}: {source.warning}' for name, source in sources.items()
                      if source.warning]:
            return DiagnosticStatus.WARN, '; '.join(warned)[:MAX_PROBLEM_LENGTH]
        for name, (right, down) in self._corrector.misaligned().items():
            return DiagnosticStatus.WARN, (
                f'anchors/{name}: they fit the image better '
                f'{_describe_shift(right, "right", "left")}{_describe_shift(down, "down", "up")}: '
                + ('have its driver register it to the image' if name == 'depth' else
                   'check the pose of its sensor and of the camera'))
        return DiagnosticStatus.OK, ''

    def values(self) -> dict[str, str]:
        """Return what /diagnostics shows, by name."""
        if not self._corrector.sources and self._corrector.last is None:
            return {}
        last, now = self._corrector.last, time.monotonic()
        then, before = self._last_values
        values = {}
        for name, source in self._corrector.sources.items():
            rate = (source.received - before.get(name, 0)) / max(now - then, 1e-3)
            said = source.trouble or source.warning or source.note
            values[f'anchors/{name}'] = (
                f'{source.used} used, {source.rejected} rejected'
                + (f', {rate:.1f} Hz' if name in self.subscriptions else '')
                + (f', {said[:MAX_PROBLEM_LENGTH]}' if said else ''))
        self._last_values = (now, {name: s.received for name, s in self._corrector.sources.items()})
        if last is not None:
            result = last.completion
            values['anchored scale'] = f'{result.scale:.3f}'
            values['anchored spread'] = f'{result.spread:.3f}'
            values['anchored in (ms)'] = f'{self._seconds * 1e3:.1f}'
        if last is not None and (fit := last.scale_shift):
            values['metres by'] = f'1 / ({fit.scale:.4g} · relative + {fit.shift:.4g})'
        return values


def _describe_shift(share: float, ahead: str, behind: str) -> str:
    return f' {abs(share):.0%} of its width {ahead if share > 0 else behind}' if share else ''
