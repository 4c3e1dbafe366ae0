"""Colour and true depth out of a rosbag2 recording, in pairs; needs no ROS.

Frames are paired by the stamps in their headers; what distorts a picture is taken out of it, and
true depth is brought to the pixels of the picture that it is compared with.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from hybrid_depth_ros.calibration import TRANSPORTS, Calibrations, says_rectified
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.recordings.pairing import SLOP, pair_stamps
from hybrid_depth_ros.recordings.recording import Recording
from hybrid_depth_ros.recordings.registration import register_depth


class _Camera:
    """The camera of an image topic: what its camera_info says of each frame."""

    def __init__(self, recording, topic, info_topic, option):
        base, _, last = topic.rpartition('/')
        if recording.topics[topic].type == 'CompressedImage' and last in TRANSPORTS:
            base, _, last = base.rpartition('/')
        if info_topic:
            info_topic = recording.choose('camera_info', info_topic, option)
        self.info_topic = info_topic or f'{base}/camera_info'
        self._rectified = says_rectified(topic)
        self._by_stamp = True
        self._frames, self._troubles, self.notes = 0, Counter(), set()

    def learn(self, infos, frames):
        """Take all there is. infos: [(Message, CameraInfo), …]; frames: the images' Messages.

        Where none of the stamps lies among those of the images, the clocks are not the same, and
        what was recorded before an image is valid for it.
        """
        self._by_stamp = bool(frames) and any(
            min(frames).stamp <= message.stamp <= max(frames).stamp for message, _ in infos)
        self._calibrations = Calibrations() if self._by_stamp else Calibrations(near=0)
        for message, info in sorted(infos, key=lambda entry: self._when(entry[0])):
            self._calibrations.add(info, self._when(message))

    def _when(self, message):
        return message.stamp if self._by_stamp else message.time

    def at(self, message, width, height):
        """The calibration.Camera of a frame; None where it is not known, which is counted."""
        self._frames += 1
        trouble = f'no camera_info on {self.info_topic}'
        try:
            camera = self._calibrations.at(self._when(message), width, height,
                                           not self._rectified, self._rectified)
        except ValueError as error:
            camera, trouble = None, f'camera_info on {self.info_topic} will not do: {error}'
        if camera is None:
            self._troubles[trouble] += 1
        elif camera.note:
            self.notes.add(f'camera_info on {self.info_topic}: {camera.note}')
        return camera

    @property
    def trouble(self):
        """Why the camera of some frames that were looked at is not known; or empty."""
        if not self._troubles:
            return ''
        (trouble, _), count = self._troubles.most_common(1)[0], self._troubles.total()
        return trouble if count == self._frames else f'{trouble} ({count} of {self._frames} frames)'


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
        self._stamps = self._read_stamps()
        stamped = [[number for number, message in enumerate(found) if message.stamp]
                   for found in self._stamps]
        self._unstamped = [f'{len(found) - len(numbers)} of {len(found)} frames on {topic} carry '
                           'no stamp and are left out' for topic, found, numbers in zip(
                               (self.seen, self.truth), self._stamps, stamped)
                           if len(numbers) < len(found)]
        stamps = [[found[number].stamp for number in numbers]
                  for found, numbers in zip(self._stamps, stamped)]
        self.pairs = [(stamped[0][i], stamped[1][j])
                      for i, j in pair_stamps(*stamps, round(slop * 1e9))]
        if not self.pairs:
            spans = [f'{topic} runs from {min(found) / 1e9:.3f} to {max(found) / 1e9:.3f} s'
                     for topic, found in zip((self.seen, self.truth), stamps)]
            raise OSError(f'{self.path}: no frame on {self.seen} is within {slop:g} s of one on '
                          f'{self.truth} ({"; ".join(spans)}): allow more (evaluate_bag: --slop, '
                          'in ms), or set the clocks')

    def _read_stamps(self):
        """The Messages of both topics, as recorded; the cameras learn their calibrations."""
        recording, topics = self.recording, (self.seen, self.truth)
        frames = {topic: [] for topic in topics}
        infos = {camera.info_topic: [] for camera in self._cameras
                 if camera.info_topic in recording.topics
                 and recording.topics[camera.info_topic].kind == 'camera_info'}
        decoded = {}  # most camera_infos are alike, but for their stamps
        for topic, message, raw in recording.messages(*frames, *infos):
            if topic in frames:
                frames[topic].append(message)
                continue
            try:
                said = decoded.get((topic, raw[12:])) or recording.message(topic, raw)
            except OSError as error:
                self.damaged.append(str(error))
                continue
            decoded[topic, raw[12:]] = said
            infos[topic].append((message, said))
        for topic, found in frames.items():
            if not found:
                raise OSError(f'{self.path}: {recording.topics[topic].held} messages of {topic} '
                              'are listed, none is there: record it again')
            if not any(message.stamp for message in found):
                raise OSError(f'{self.path}: the headers on {topic} carry no stamp, so that '
                              'nothing can be paired: have its driver fill them')
        for camera, topic in zip(self._cameras, topics):
            camera.learn(infos.get(camera.info_topic, ()),
                         [message for message in frames[topic] if message.stamp])
        return [frames[topic] for topic in topics]

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
        views = [camera.at(stamps[number], *size) for camera, stamps, number, size in zip(
            self._cameras, self._stamps, self.pairs[i], ((width, height), truth.shape[::-1]))]
        intrinsics = [view and view.intrinsics for view in views]
        rectification, depth_rectification = (view and view.rectification for view in views)
        if depth_rectification:
            truth = depth_rectification.apply_depth(truth)
        turn, depth_turn = (view.rotation if view else np.eye(3) for view in views)
        transform = np.eye(4)
        transform[:3, :3] = turn @ depth_turn.T
        try:
            truth = register_depth(
                truth, width, height, intrinsics[1], intrinsics[0],
                None if np.allclose(transform, np.eye(4)) else transform)
        except ValueError as error:
            raise OSError(f'{self.path}: {self.seen} and {self.truth}: {error}; what would say how '
                          f'they lie is missing: {self._unknown()}; record it, or name its topic '
                          'with --camera-info and --depth-camera-info') from error
        if rectification:
            seen = (rectification.apply(seen) if seen.ndim == 3 else
                    rectification.apply_depth(seen))
            truth = np.where(rectification.unseen, np.float32(np.nan), truth)
        return Pair(self.stamp(i), seen, truth, intrinsics[0])

    def first(self):
        """The first pair that can be read, of at most eight; None where none can."""
        for i in np.unique(np.linspace(0, len(self) - 1, 8).astype(int)).tolist():
            try:
                return self.read(i)
            except OSError:
                continue
        return None

    def _unknown(self):
        return '; '.join(dict.fromkeys(filter(None, (camera.trouble for camera in self._cameras))))

    def assumptions(self):
        """Sentences: what was taken for granted, or left out, with the pairs read so far."""
        what = 'colour' if self.recording.topics[self.seen].kind == 'image' else (
            f'the depth on {self.seen}')
        notes = set().union(*(camera.notes for camera in self._cameras))
        return [*([f'depth on {self.truth} is taken to be registered to {what}: '
                   f'{self._unknown()}'] if self._unknown() else []),
                *sorted(notes), *self._unstamped]

    @property
    def without_camera(self):
        """Why the camera's focal length is not known; empty where it is, or no frame was read."""
        return self._cameras[0].trouble
