"""A source of anchors: the messages of one sensor, and what came of them in the last frame."""

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.depth_image import DepthImageCheck
from hybrid_depth_ros.anchors.extrinsics_check import ExtrinsicsCheck
from hybrid_depth_ros.anchors.motion import MotionAnchors
from hybrid_depth_ros.anchors.odometry_check import OdometryCheck
from hybrid_depth_ros.anchors.orientation_check import OrientationCheck
from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.poses import Pose, interpolate_poses, pose_from_quaternion
from hybrid_depth_ros.stamps import stamp_of

KINDS = ('scan', 'points', 'range', 'depth', 'floor', 'motion')
WITHOUT_POSE = ('depth', 'floor')  # kinds whose pose nobody need know
SINGLE = ('depth', 'floor', 'motion')  # of which there is one
MAX_EXTRAPOLATION = 0.1  # seconds after the last odometry
QUEUE_LENGTH = 50  # messages of a source that may still be the one nearest to an image
MAX_IMAGES = 32  # the same of depth images, 1 s at 30 Hz: each takes a megabyte
MAX_EXTRINSICS = 120  # anchors of a depth image that its registration is judged by

Depth = npt.NDArray[np.float32]


def source_kind(name: str) -> str:
    """``scan``, ``points``, ``range``, ``depth`` … of a source's name, ``scan/rear``.

    Raises:
        ValueError: it is another one.
    """
    kind, _, rest = name.partition('/')
    if kind not in KINDS or (kind in SINGLE and rest) or name.endswith('/'):
        raise ValueError(f'anchors has the source {name!r}; it must be one of {", ".join(KINDS)}, '
                         'of several of a kind with a name behind it: scan/rear')
    return kind


class AnchorSource:
    """One sensor, or the floor, and what came of it in the last frame.

    Attributes:
        name: ``scan`` or ``scan/rear``.
        kind: ``scan``.
        pose: 4×4 in the optical frame, or None: it is looked up.
        measured: float32 H×W metres, what a depth image says of this frame, or None.
        rectified: as of its last message.
        received: messages so far.
        used: anchors that agreed with the correction.
        rejected: usable ones that did not.
        trouble: why it isn't used; empty where it is.
        warning: what should be looked at, though it is used; or empty.
        note: why it needn't be used, or what is assumed; or empty.
    """

    def __init__(self, name: str, pose: Pose | None) -> None:
        self.name, self.kind, self.pose = name, source_kind(name), pose
        self._messages: deque[Any] = deque(
            maxlen=MAX_IMAGES if self.kind == 'depth' else QUEUE_LENGTH)
        self.rectified = False
        self.reset()

    def reset(self) -> None:
        """Forget all messages and figures."""
        self._messages.clear()
        self.received = 0
        self.extrinsics = ExtrinsicsCheck()
        self.orientation = OrientationCheck(self.kind == 'points')
        self.depth_image = DepthImageCheck()
        self.motion: MotionAnchors | None = None
        self.motion_intrinsics: Intrinsics | None = None
        self.odometry = OdometryCheck()
        self.start_frame()

    def start_frame(self) -> None:
        """Forget what came of it in the last frame."""
        self.used = self.rejected = 0
        self.trouble = self.warning = self.note = ''
        self.measured: Depth | None = None

    def warn(self, text: str) -> None:
        """Add to what should be looked at in this frame."""
        if text and text not in self.warning:
            self.warning = '; '.join(filter(None, (self.warning, text)))

    def take(self, message: Any, rectified: bool = False) -> None:
        """Keep a message; those before it are forgotten where it comes on a topic of another kind.

        Args:
            message: of its kind.
            rectified: whether it is an undistorted depth image, though the camera's images are not.
        """
        if rectified != self.rectified:
            self._messages.clear()
            self.rectified = rectified
        self.received += 1
        self._messages.append(message)

    def nearest(self, stamp: int, age: float, max_age: float = np.inf) -> Any:
        """The message whose stamp is nearest.

        Args:
            stamp: ns.
            age: seconds that it may be away, as was set.
            max_age: likewise, whatever was set.

        Raises:
            LookupError: there is none.
        """
        messages = tuple(self._messages)  # others may come meanwhile
        if not messages:
            raise LookupError('nothing came')
        message = min(messages, key=lambda m: abs(stamp_of(m.header) - stamp))
        away = abs(stamp_of(message.header) - stamp) / 1e9
        if away > min(age, max_age) and not stamp_of(message.header):
            raise LookupError('its messages carry no stamp (0): have its driver fill it')
        if away > min(age, max_age):
            raise LookupError(f'the nearest one is {away:.3g} s away from the image' + (
                ': see whether it still comes, whether the clocks agree, or allow more age'
                if age < max_age else f', at most {max_age:g} s will do: see whether it still '
                'comes, and whether the clocks agree'))
        return message

    def pose_at(self, stamp: int) -> tuple[Pose, str]:
        """Odometry's pose at a stamp (ns), between two messages, and the frame that it is of.

        Raises:
            LookupError: it isn't known for this moment.
            ValueError: a message holds no pose.
        """
        messages = list(self._messages)  # others may come meanwhile
        messages.sort(key=lambda m: stamp_of(m.header))
        stamps = [stamp_of(message.header) for message in messages]
        away = max(stamps[0] - stamp, stamp - stamps[-1]) / 1e9
        if away > MAX_EXTRAPOLATION:
            raise LookupError(f'odometry is known from {stamps[0] / 1e9:.3f} to '
                              f'{stamps[-1] / 1e9:.3f} s, the image is of {stamp / 1e9:.3f} s: see '
                              'whether it still comes, and whether the clocks agree')
        if len(messages) == 1:
            return _odometry_pose(messages[0]), messages[0].child_frame_id
        after = int(np.clip(np.searchsorted(stamps, stamp), 1, len(stamps) - 1))
        first, second = (_odometry_pose(message) for message in messages[after - 1:after + 1])
        share = (stamp - stamps[after - 1]) / max(1, stamps[after] - stamps[after - 1])
        return interpolate_poses(first, second, share), messages[after].child_frame_id

    def finish_frame(self, depth: Depth, anchors: Anchors, used: npt.NDArray[np.bool_],
                     usable: npt.NDArray[np.bool_]) -> None:
        """Count this frame's anchors, and see whether they lie where its pose says."""
        self.used = int(np.count_nonzero(used))
        self.rejected = int(np.count_nonzero(usable)) - self.used
        if self.kind in ('scan', 'points'):
            self.extrinsics.add(depth, anchors)
        elif self.kind == 'depth':
            self.extrinsics.add(depth, anchors.every(-(-len(anchors) // MAX_EXTRINSICS) or 1))


def _odometry_pose(message: Any) -> Pose:
    pose = message.pose.pose
    return pose_from_quaternion(
        (pose.position.x, pose.position.y, pose.position.z),
        (pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w))
