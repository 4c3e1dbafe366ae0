"""Anchors out of a recording: its scans, clouds and ranges, and frames by its own /tf."""

from contextlib import suppress

import numpy as np

from hybrid_depth_ros.anchors.anchoring import KINDS, Anchoring, View
from hybrid_depth_ros.recordings.frame_tree import FrameTree

TYPES = {'scan': 'LaserScan', 'points': 'PointCloud2', 'range': 'Range'}


class RecordedAnchors:
    """Corrects depth of a recording's frames, in their order, as the depth node does it.

    recording: Recording. image: the topic whose frames depth belongs to. topics: for each of
    ``scan``, ``points`` and ``range`` a list of topics; floor: whether the floor is an anchor.
    poses: 4×4 of the sensors in the optical frame, in the order of ``KINDS`` and of their topics,
    or one for all; None: by /tf_static and /tf. settings: AnchorSettings. fixed_frame: of TF, as
    the node's parameter. ``troubles``: how many frames went without a source, by what was said.
    Raises OSError where a topic isn't there or holds something else.
    """

    def __init__(self, recording, image, topics, floor, poses, settings, fixed_frame):
        self._recording, self._settings, self._fixed = recording, settings, fixed_frame
        self._names = {}
        for kind in KINDS:
            for number, topic in enumerate(topics.get(kind, ())):
                self._names[topic] = kind if not number else f'{kind}/{number + 1}'
                recording.require(topic, TYPES[kind], f'--anchor-{kind}')
        names = [*self._names.values(), *(['floor'] if floor else [])]
        self._frames, self._damaged = FrameTree(), []
        for topic, _, raw in recording.messages('/tf', '/tf_static'):
            if message := self._read(topic, raw):
                self._frames.add(message, static=topic == '/tf_static')
        self._anchoring = Anchoring(names, poses, self._pose)
        self._messages = recording.messages(*self._names) if self._names else iter(())
        self._next, self._frame = next(self._messages, None), ''
        for topic, _, raw in recording.messages(image):
            with suppress(OSError):  # a damaged picture is named where it is seen
                self._frame = recording.message(topic, raw).header.frame_id
                break
        self.troubles = {}

    def _read(self, topic, raw):
        """The message, or None where it is damaged."""
        try:
            return self._recording.message(topic, raw)
        except OSError as error:
            self._damaged.append(str(error))
            return None

    def _pose(self, frame, stamp, other, other_stamp):
        return self._frames.pose_over_time(frame, stamp, other, other_stamp, self._fixed)

    def correct(self, depth, stamp, recorded, intrinsics, relative=False):
        """Depth (float32 H×W metres) of the frame with this stamp, recorded then (both ns), by what
        had come until then. relative: it is inverse depth, of which anchors make metres; where none
        had come, all is NaN."""
        while self._next and self._next[1].time <= recorded:
            topic, _, raw = self._next
            if message := self._read(topic, raw):
                self._anchoring.take(self._names[topic], message)
            self._next = next(self._messages, None)
        try:
            corrected = self._anchoring.correct(
                depth, View(stamp, self._frame, intrinsics), self._settings, relative)
        except LookupError:
            corrected = np.full_like(depth, np.nan)
        for name, source in self._anchoring.sources.items():
            if source.trouble:
                count, _ = self.troubles.get(name, (0, ''))
                self.troubles[name] = count + 1, source.trouble
        return corrected

    def said(self):
        """A sentence for each source that some frames went without, and for what is damaged."""
        return [*(f'{count} frames without anchors of {name}: {trouble}'
                  for name, (count, trouble) in self.troubles.items()),
                *([f'{len(self._damaged)} messages that anchors need are left out; the first: '
                   f'{self._damaged[0]}'] if self._damaged else [])]

    @property
    def scale(self):
        """What the last frame's depth was multiplied by."""
        return self._anchoring.result.scale if self._anchoring.result else np.nan
