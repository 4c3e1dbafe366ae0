"""The anchors of a recording: its scans, clouds and ranges, in frames by its own /tf."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors import Anchors
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.source import KINDS
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.poses import PlacedPose, Pose, pose_over_time
from hybrid_depth_ros.recordings.frame_tree import FrameTree
from hybrid_depth_ros.recordings.recording import Recording

TYPES = {'scan': 'LaserScan', 'points': 'PointCloud2', 'range': 'Range', 'motion': 'Odometry'}
BY_TF = 'tf'  # in place of a topic of odometry: poses by /tf


class RecordedAnchors:
    """Corrects depth of a recording's frames, in their order, as the depth node does it.

    Args:
        recording: that holds the messages.
        image: the topic whose frames depth belongs to.
        topics: a list of topics for each of ``scan``, ``points`` and ``range``.
        floor: whether the floor is an anchor.
        poses: 4×4 of the sensors in the optical frame, in the order of ``KINDS`` and of their
            topics, or one for all; None: by /tf_static and /tf.
        settings: how anchors are used.
        fixed_frame: of TF, as the node's parameter.
        other_camera: why the images' camera_info may be another camera's, or empty.
        depth: whether :meth:`correct` is given measured depth.

    Attributes:
        troubles: how many frames went without a source, and why the last one did.
        warnings: likewise, what should be looked at where it was used.

    Raises:
        OSError: a topic isn't there or holds something else.
    """

    def __init__(self, recording: Recording, image: str, topics: Mapping[str, Sequence[str]],
                 floor: bool, poses: Sequence[Pose | None], settings: AnchorSettings,
                 fixed_frame: str, other_camera: str = '', depth: bool = False) -> None:
        self._other_camera = other_camera
        self._recording, self._settings, self._fixed_frame = recording, settings, fixed_frame
        self._names: dict[str, str] = {}  # of the sources, by topic
        for kind in KINDS:
            for number, topic in enumerate(topics.get(kind, ())):
                if kind == 'motion' and topic == BY_TF:
                    continue
                self._names[topic] = kind if not number else f'{kind}/{number + 1}'
                recording.require(topic, TYPES[kind], f'--anchor-{kind}')
        names = [*self._names.values(), *['depth'] * depth, *['floor'] * floor]
        if BY_TF in topics.get('motion', ()):
            names.append('motion')
        self._frames = FrameTree()
        self._damaged: list[str] = []
        for topic, _, raw in recording.messages('/tf', '/tf_static'):
            if message := self._read(topic, raw):
                self._frames.add(message, static=topic == '/tf_static')
        self._corrector = AnchorCorrector(names, poses, self._pose)
        self._messages = recording.messages(*self._names) if self._names else iter(())
        self._next, self._frame = next(self._messages, None), ''
        for topic, _, raw in recording.messages(image):
            with suppress(OSError):  # a damaged image is named where it is seen
                self._frame = recording.message(topic, raw).header.frame_id
                break
        self.troubles: dict[str, tuple[int, str]] = {}
        self.warnings: dict[str, tuple[int, str]] = {}

    def _read(self, topic: str, raw: bytes) -> Any:
        """The message, or None where it is damaged."""
        try:
            return self._recording.message(topic, raw)
        except OSError as error:
            self._damaged.append(str(error))
            return None

    def _pose(self, frame: str, stamp: int, other: str, other_stamp: int) -> PlacedPose:
        return pose_over_time(self._frames, frame, stamp, other, other_stamp, self._fixed_frame)

    def correct(self, depth: npt.NDArray[np.float32], stamp: int, recorded: int,
                intrinsics: Intrinsics | None, relative: bool = False,
                rgb: npt.NDArray[np.uint8] | None = None,
                measured: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """The depth of a frame, corrected by the anchors that had come until then.

        Args:
            depth: H×W metres.
            stamp: of the frame, ns.
            recorded: when it was recorded, ns.
            intrinsics: of the frame.
            relative: whether depth is inverse depth without scale and shift.
            rgb: uint8 H×W×3 of the frame: depth by motion, and where a correction ends.
            measured: float32 H×W metres of a depth image that is registered to the frame, NaN where
                it measured nothing; or None.

        Returns:
            float32 H×W metres; all NaN where depth is relative and no anchors had come.
        """
        self._take_until(recorded)
        if measured is not None:
            self._corrector.take('depth', _depth_image(measured, stamp))
        try:
            corrected = self._corrector.correct(
                depth, self._image(stamp, intrinsics, rgb), self._settings, relative).depth
        except LookupError:
            corrected = np.full_like(depth, np.nan)
        self._count_troubles()
        return corrected

    def measure(self, depth: npt.NDArray[np.float32], stamp: int, recorded: int,
                intrinsics: Intrinsics | None, rgb: npt.NDArray[np.uint8] | None = None
                ) -> Anchors:
        """The anchors of a frame; arguments as for :meth:`correct`.

        Depth may be NaN where nothing is known of it, but for ranges and the floor.
        """
        self._take_until(recorded)
        anchors = self._corrector.measure(depth, self._image(stamp, intrinsics, rgb),
                                          self._settings)
        self._count_troubles()
        return anchors

    def _image(self, stamp: int, intrinsics: Intrinsics | None,
               rgb: npt.NDArray[np.uint8] | None) -> ImageInfo:
        gray = None if rgb is None else np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        return ImageInfo(stamp, self._frame, intrinsics, gray, self._other_camera, rgb)

    def _take_until(self, recorded: int) -> None:
        """Give the corrector all messages that were recorded until then, ns."""
        while self._next and self._next[1].time <= recorded:
            topic, _, raw = self._next
            if message := self._read(topic, raw):
                self._corrector.take(self._names[topic], message)
            self._next = next(self._messages, None)

    def _count_troubles(self) -> None:
        for name, source in self._corrector.sources.items():
            for told, text in ((self.troubles, source.trouble), (self.warnings, source.warning)):
                if text:
                    told[name] = told.get(name, (0, ''))[0] + 1, text

    def said(self) -> list[str]:
        """A sentence for each source that some frames went without or that should be looked at, and
        for damaged messages."""
        return [*(f'{count} frames without anchors of {name}: {trouble}'
                  for name, (count, trouble) in self.troubles.items()),
                *(f'{count} frames with anchors of {name}: {warning}'
                  for name, (count, warning) in self.warnings.items()),
                *([f'{len(self._damaged)} messages that anchors need are left out; the first: '
                   f'{self._damaged[0]}'] if self._damaged else [])]

    @property
    def scale(self) -> float:
        """What the last frame's depth was multiplied by."""
        return self._corrector.last.completion.scale if self._corrector.last else np.nan


def _depth_image(depth: npt.NDArray[np.float32], stamp: int) -> Any:
    """Depth with the fields of a sensor_msgs/Image; stamp: ns."""
    seconds, nanoseconds = divmod(stamp, 10**9)
    header = SimpleNamespace(
        frame_id='', stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds))
    return SimpleNamespace(header=header, height=depth.shape[0], width=depth.shape[1],
                           encoding='32FC1', is_bigendian=0, step=0,
                           data=depth.astype('<f4').tobytes())
