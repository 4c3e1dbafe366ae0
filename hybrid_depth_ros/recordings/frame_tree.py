"""Frames in space and time: a tree of transforms out of a recording's /tf and /tf_static."""

from bisect import bisect_right, insort

import numpy as np

from hybrid_depth_ros.poses import pose_from_quaternion
from hybrid_depth_ros.stamps import stamp_of


class FrameTree:
    """Poses of frames in each other, as tf2 has them: interpolated between stamps, never beyond.

    Frames are named without a leading slash. The children of a recording may have several
    parents over time; the newest transform before a moment counts.
    """

    def __init__(self):
        self._links = {}  # child → (parent, is static, [(stamp, translation, quaternion)])

    def add(self, message, static):
        """Take in a tf2_msgs/TFMessage; what is not finite is left out."""
        for transform in message.transforms:
            child, parent = (name.lstrip('/') for name in (
                transform.child_frame_id, transform.header.frame_id))
            stamp = stamp_of(transform.header)
            t, q = transform.transform.translation, transform.transform.rotation
            pose = (t.x, t.y, t.z), (q.x, q.y, q.z, q.w)
            try:
                pose_from_quaternion(*pose)
            except ValueError:
                continue
            known = self._links.get(child)
            if static or not known or known[0] != parent or known[1]:
                self._links[child] = (parent, static, [(stamp, *pose)])
            else:
                insort(known[2], (stamp, *pose))

    def _pose_in_parent(self, child, stamp):
        parent, static, poses = self._links[child]
        if static or stamp is None:
            return pose_from_quaternion(*poses[-1][1:])
        after = bisect_right(poses, stamp, key=lambda pose: pose[0])
        if after and poses[after - 1][0] == stamp:
            return pose_from_quaternion(*poses[after - 1][1:])
        if not 0 < after < len(poses):
            raise LookupError(
                f'{child} in {parent} is known from {poses[0][0] / 1e9:.3f} to '
                f'{poses[-1][0] / 1e9:.3f} s, not at {stamp / 1e9:.3f} s')
        (t0, *first), (t1, *second) = poses[after - 1], poses[after]
        share = (stamp - t0) / (t1 - t0)
        return pose_from_quaternion((1 - share) * np.array(first[0]) + share * np.array(second[0]),
                           _slerp(np.array(first[1]), np.array(second[1]), share))

    def _chain(self, frame):
        chain = [frame]
        while chain[-1] in self._links and len(chain) <= len(self._links):
            chain.append(self._links[chain[-1]][0])
        return chain

    def pose(self, frame, other, stamp=None):
        """4×4 float64: `other` in `frame` at a stamp (ns; None: the newest).

        Raises LookupError, a sentence that names the frames.
        """
        frame, other = frame.lstrip('/'), other.lstrip('/')
        ours, theirs = self._chain(frame), self._chain(other)
        meeting = next((name for name in theirs if name in ours), None)
        if meeting is None:
            missing = [name for name in (frame, other) if name not in self._links and not any(
                link[0] == name for link in self._links.values())]
            raise LookupError(f'no transform leads from {other} to {frame}: ' + (
                f'{" and ".join(missing)} is in no transform' if missing else
                f'they hang in two trees, of {theirs[-1]} and of {ours[-1]}'))

        def to_meeting(chain):
            pose = np.eye(4)
            for name in chain[:chain.index(meeting)]:
                pose = self._pose_in_parent(name, stamp) @ pose
            return pose
        return np.linalg.inv(to_meeting(ours)) @ to_meeting(theirs)

    def pose_over_time(self, frame, stamp, other, other_stamp, fixed):
        """`other` as it was at other_stamp, in `frame` at stamp: through `fixed`, which stays.

        Without such a frame, or without its poses for these moments, nothing is taken to have
        moved. Raises LookupError as :meth:`pose`.
        """
        if stamp != other_stamp and fixed:
            try:
                return self.pose(frame, fixed, stamp) @ self.pose(fixed, other, other_stamp)
            except LookupError:
                pass
        try:
            return self.pose(frame, other, stamp)
        except LookupError:
            return self.pose(frame, other)


def _slerp(first, second, share):
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
