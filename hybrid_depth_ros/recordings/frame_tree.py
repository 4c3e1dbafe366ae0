"""Frames in space and time: the tree of transforms of a recording's /tf and /tf_static."""

from bisect import bisect_right, insort
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.poses import Pose, pose_from_quaternion, pose_over_time
from hybrid_depth_ros.stamps import stamp_of


class _StampedTransform(NamedTuple):
    """A transform to the parent. stamp: ns. translation: metres. rotation: x, y, z, w."""

    stamp: int
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]

    def pose(self) -> Pose:
        return pose_from_quaternion(self.translation, self.rotation)


@dataclass
class _Link:
    """A frame's transforms to its parent, by stamp; one alone where it is static."""

    parent: str
    static: bool
    transforms: list[_StampedTransform]


class FrameTree:
    """Poses of frames in each other, as tf2 has them: interpolated between stamps, never beyond.

    Frames are named without a leading slash. The children of a recording may have several
    parents over time; the newest transform before a moment counts.
    """

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}  # by the child's name

    def add(self, message: Any, static: bool) -> None:
        """Take in a tf2_msgs/TFMessage; what is not finite is left out."""
        for transform in message.transforms:
            child, parent = (name.lstrip('/') for name in (
                transform.child_frame_id, transform.header.frame_id))
            t, q = transform.transform.translation, transform.transform.rotation
            stamped = _StampedTransform(stamp_of(transform.header), (t.x, t.y, t.z),
                                        (q.x, q.y, q.z, q.w))
            try:
                stamped.pose()
            except ValueError:
                continue
            known = self._links.get(child)
            if static or not known or known.parent != parent or known.static:
                self._links[child] = _Link(parent, static, [stamped])
            else:
                insort(known.transforms, stamped)

    def _pose_in_parent(self, child: str, stamp: int | None) -> Pose:
        link = self._links[child]
        transforms = link.transforms
        if link.static or stamp is None:
            return transforms[-1].pose()
        after = bisect_right(transforms, stamp, key=lambda transform: transform.stamp)
        if after and transforms[after - 1].stamp == stamp:
            return transforms[after - 1].pose()
        if not 0 < after < len(transforms):
            raise LookupError(
                f'{child} in {link.parent} is known from {transforms[0].stamp / 1e9:.3f} to '
                f'{transforms[-1].stamp / 1e9:.3f} s, not at {stamp / 1e9:.3f} s')
        first, second = transforms[after - 1], transforms[after]
        share = (stamp - first.stamp) / (second.stamp - first.stamp)
        translation = ((1 - share) * np.array(first.translation)
                       + share * np.array(second.translation))
        rotation = _slerp(np.array(first.rotation), np.array(second.rotation), share)
        return pose_from_quaternion(translation, rotation)

    def _chain(self, frame: str) -> list[str]:
        """A frame, its parent, and so on to the root."""
        chain = [frame]
        while chain[-1] in self._links and len(chain) <= len(self._links):
            chain.append(self._links[chain[-1]].parent)
        return chain

    def pose(self, frame: str, other: str, stamp: int | None = None) -> Pose:
        """The pose of `other` in `frame`, 4×4 float64.

        Args:
            frame: a frame's name.
            other: another's.
            stamp: ns; None: the newest.

        Raises:
            LookupError: a sentence that names the frames.
        """
        frame, other = frame.lstrip('/'), other.lstrip('/')
        ours, theirs = self._chain(frame), self._chain(other)
        meeting = next((name for name in theirs if name in ours), None)
        if meeting is None:
            missing = [name for name in (frame, other) if name not in self._links and not any(
                link.parent == name for link in self._links.values())]
            raise LookupError(f'no transform leads from {other} to {frame}: ' + (
                f'{" and ".join(missing)} is in no transform' if missing else
                f'they hang in two trees, of {theirs[-1]} and of {ours[-1]}'))

        def to_meeting(chain: list[str]) -> Pose:
            pose: Pose = np.eye(4)
            for name in chain[:chain.index(meeting)]:
                pose = self._pose_in_parent(name, stamp) @ pose
            return pose
        return np.linalg.inv(to_meeting(ours)) @ to_meeting(theirs)

    def newest(self, frame: str, other: str) -> int:
        """The stamp (ns) up to which :meth:`pose` of these is known; 0: always.

        Raises:
            LookupError: as :meth:`pose`.
        """
        self.pose(frame, other)
        ours, theirs = (self._chain(name.lstrip('/')) for name in (frame, other))
        links = [self._links[name] for name in {*ours} ^ {*theirs} if name in self._links]
        return min((link.transforms[-1].stamp for link in links if not link.static), default=0)

    def pose_over_time(self, frame: str, stamp: int, other: str, other_stamp: int, fixed: str
                       ) -> Pose:
        """As of :func:`~hybrid_depth_ros.poses.pose_over_time`: 4×4 float64."""
        return pose_over_time(self, frame, stamp, other, other_stamp, fixed).pose


def _slerp(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating], share: float
           ) -> npt.NDArray[np.floating]:
    """The quaternion at this share of the way between two: spherical linear interpolation."""
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    if cosine > 0.9995:
        between = (1 - share) * first + share * second
    else:
        angle = np.arccos(cosine)
        between = np.sin((1 - share) * angle) * first + np.sin(share * angle) * second
    return between / np.linalg.norm(between)
