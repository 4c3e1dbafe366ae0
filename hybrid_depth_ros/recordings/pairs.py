"""Colour and true depth out of a rosbag2 recording, in pairs; needs no ROS.

Frames are paired by the stamps in their headers; what distorts a picture is taken out of it, and
true depth is brought to the pixels of the picture that it is compared with.
"""

from typing import NamedTuple

import numpy as np

from hybrid_depth_ros.encodings import (
    intrinsics_from_camera_info,
    rectification_from_camera_info,
)
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.recordings.pairing import SLOP, pair_stamps
from hybrid_depth_ros.recordings.recording import Recording
from hybrid_depth_ros.recordings.registration import register_depth


class _Camera:
    """The camera of an image topic: undistorts its frames, knows their intrinsics."""

    def __init__(self, recording, topic, info_topic, option):
        compressed = recording.topics[topic].type == 'CompressedImage'
        base, _, last = topic.rpartition('/')
        if compressed and last in ('compressed', 'compressedDepth'):  # image_transport's names
            base, _, last = base.rpartition('/')
        if info_topic:
            info_topic = recording.choose('camera_info', info_topic, option)
        self.info_topic = info_topic or f'{base}/camera_info'
        self._info = recording.camera_info(self.info_topic)
        self._rectified = 'rect' in last
        self._known = {}
        self.reason = '' if self._info else f'nothing is on {self.info_topic}'

    def at(self, width, height):
        """(Intrinsics or None, Rectification or None) of a frame of this size."""
        if (width, height) not in self._known:
            intrinsics = rectification = None
            try:
                if self._info and not self._rectified:
                    rectification = rectification_from_camera_info(self._info, width, height)
                if self._info:
                    intrinsics = rectification.rectified if rectification else (
                        intrinsics_from_camera_info(self._info, width, height, self._rectified))
            except ValueError as error:
                self.reason = f'{self.info_topic} will not do: {error}'
            self._known[width, height] = intrinsics, rectification
        return self._known[width, height]

    def rotation(self, rectification):
        """What rectifying has turned the camera by, 3×3."""
        turn = np.array(self._info.r, np.float64).reshape(3, 3) if rectification else np.eye(3)
        return turn if turn.any() else np.eye(3)


class Pair(NamedTuple):
    """Two frames of one moment.

    stamp: ns, the seen frame's. seen: uint8 H×W×3 RGB, undistorted, or where a depth topic is
    scored float32 H×W metres. truth: float32 H×W metres in the pixels of `seen`, NaN where
    unknown. camera: Intrinsics of both, or None.
    """

    stamp: int
    seen: np.ndarray
    truth: np.ndarray
    camera: Intrinsics | None


class PairedRecording:
    """Colour frames of a recording, each with its true depth: ``len``, iteration, :meth:`read`.

    image, depth, camera_info, depth_camera_info: topics; found where there is one of a kind,
    camera infos beside their images (``<namespace>/camera_info``). predicted: a depth topic
    that takes the place of the colour images. slop: the most that the stamps of a pair may
    differ, seconds. Iteration streams; frames that can't be decoded are left out and said in
    ``damaged``. Raises OSError, one sentence, for what is missing, and where no stamps meet.
    """

    def __init__(self, path, image=None, depth=None, camera_info=None, depth_camera_info=None,
                 predicted=None, slop=SLOP):
        self.recording = recording = Recording(path)
        self.path, self.damaged = recording.path, []
        self.seen = (recording.choose('depth', predicted, '--predicted') if predicted else
                     recording.choose('image', image, '--image'))
        self.truth = recording.choose('depth', depth, '--depth', besides=(self.seen,))
        if self.seen == self.truth:
            raise OSError(f'{self.path}: {self.seen} would be compared with itself: name another '
                          'topic with --depth')
        self._cameras = (
            _Camera(recording, self.seen, camera_info, '--camera-info'),
            _Camera(recording, self.truth, depth_camera_info, '--depth-camera-info'))
        stamps = {self.seen: [], self.truth: []}
        for topic, message, _ in recording.messages(self.seen, self.truth):
            stamps[topic].append(message)
        self._stamps = [stamps[self.seen], stamps[self.truth]]
        for topic, found in stamps.items():
            if not found:
                raise OSError(f'{self.path}: {recording.topics[topic].held} messages of {topic} '
                              'are listed, none is there: record it again')
            if not any(message.stamp for message in found):
                raise OSError(f'{self.path}: the headers on {topic} carry no stamp, so that '
                              'nothing can be paired: have its driver fill them')
        self.pairs = pair_stamps(*([m.stamp for m in found] for found in self._stamps),
                                 round(slop * 1e9))
        if not self.pairs:
            spans = [f'{topic} runs from {min(found).stamp / 1e9:.3f} to '
                     f'{max(found).stamp / 1e9:.3f} s' for topic, found in stamps.items()]
            raise OSError(f'{self.path}: no frame on {self.seen} is within {slop:g} s of one on '
                          f'{self.truth} ({"; ".join(spans)}): allow more (evaluate_bag: --slop, '
                          'in ms), or set the clocks')

    def __len__(self):
        return len(self.pairs)

    def stamp(self, i):
        """ns, of pair i."""
        return self._stamps[0][self.pairs[i][0]].stamp

    def recorded(self, i):
        """ns, when the seen frame of pair i was recorded."""
        return self._stamps[0][self.pairs[i][0]].time

    def __iter__(self):
        place = {(topic, number): (i, side) for i, pair in enumerate(self.pairs)
                 for side, (topic, number) in enumerate(zip((self.seen, self.truth), pair))}
        counts, waiting, following = {self.seen: 0, self.truth: 0}, {}, 0
        for topic, _, raw in self.recording.messages(self.seen, self.truth):
            key = place.get((topic, counts[topic]))
            counts[topic] += 1
            if key:
                waiting[key] = raw
            while (following, 0) in waiting and (following, 1) in waiting:
                raws = waiting.pop((following, 0)), waiting.pop((following, 1))
                following += 1
                try:
                    pair = self._pair(following - 1, *raws)
                except OSError as error:
                    self.damaged.append(str(error))
                    continue
                yield pair

    def read(self, i):
        """Pair i. Raises OSError where it can't be decoded."""
        return self._pair(i, *(self.recording.read(topic, stamps[number]) for topic, stamps, number
                               in zip((self.seen, self.truth), self._stamps, self.pairs[i])))

    def _pair(self, i, seen, truth):
        seen = self.recording.decode(self.seen, seen)
        truth = self.recording.decode(self.truth, truth)
        height, width = seen.shape[:2]
        camera, rectification = self._cameras[0].at(width, height)
        depth_camera, depth_rectification = self._cameras[1].at(*truth.shape[::-1])
        if depth_rectification:
            truth = depth_rectification.apply_depth(truth)
        turn = (self._cameras[0].rotation(rectification)
                @ self._cameras[1].rotation(depth_rectification).T)
        transform = np.eye(4)
        transform[:3, :3] = turn
        truth = register_depth(truth, width, height, depth_camera, camera,
                               None if np.allclose(turn, np.eye(3)) else transform)
        if rectification:
            seen = (rectification.apply(seen) if seen.ndim == 3 else
                    rectification.apply_depth(seen))
            truth = np.where(rectification.unseen, np.float32(np.nan), truth)
        return Pair(self.stamp(i), seen, truth, camera)

    @property
    def without_camera(self):
        """Why the camera's focal length is not known; empty where it is, or no frame was read."""
        return self._cameras[0].reason
