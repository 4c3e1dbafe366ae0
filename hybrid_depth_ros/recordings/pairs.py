"""Colour and true depth out of a rosbag2 recording, in pairs; needs no ROS.

Frames are paired by the stamps in their headers. Images are undistorted, and true depth is
registered to the pixels of the image that it is compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.calibration import (
    IMAGE_TRANSPORTS,
    STAMP_TOLERANCE,
    CalibrationHistory,
    CameraModel,
    is_rectified_topic,
    other_camera,
)
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.recordings.recording import MessageTimes, Recording
from hybrid_depth_ros.recordings.registration import register_depth
from hybrid_depth_ros.recordings.time_synchronizer import SLOP, match_stamps
from hybrid_depth_ros.stamps import header_frame


class TopicCamera:
    """The camera of an image topic, by its camera_info topic."""

    def __init__(self, recording: Recording, topic: str, info_topic: str | None,
                 option: str) -> None:
        base, _, last = topic.rpartition('/')
        if recording.topics[topic].type == 'CompressedImage' and last in IMAGE_TRANSPORTS:
            base, _, last = base.rpartition('/')
        if info_topic:
            info_topic = recording.choose('camera_info', info_topic, option)
        self.info_topic = info_topic or f'{base}/camera_info'
        self._rectified = is_rectified_topic(topic)
        self._by_stamp = True
        self._calibrations = CalibrationHistory()
        self._frames = 0
        self._image_frame = ''
        self._failures: Counter[str] = Counter()
        self.notes: set[str] = set()

    def add_camera_infos(self, infos: Sequence[tuple[MessageTimes, Any]],
                         frames: Sequence[MessageTimes], image_frame: str = '') -> None:
        """Add all camera_infos, each with its times; `frames` are the images' times, and
        `image_frame` their frame_id.

        Where none of the stamps lies among those of the images, the clocks are not the same, and
        what was recorded before an image is valid for it.
        """
        self._image_frame = image_frame
        self._by_stamp = bool(frames) and any(
            min(frames).stamp <= message.stamp <= max(frames).stamp for message, _ in infos)
        self._calibrations = CalibrationHistory(
            tolerance=STAMP_TOLERANCE if self._by_stamp else 0)
        for times, info in sorted(infos, key=lambda entry: self._when(entry[0])):
            self._calibrations.add(info, self._when(times))

    def _when(self, times: MessageTimes) -> int:
        return times.stamp if self._by_stamp else times.time

    def at(self, times: MessageTimes, width: int, height: int) -> CameraModel | None:
        """The CameraModel of a frame; None where it is not known, which is counted."""
        self._frames += 1
        failure = f'no camera_info on {self.info_topic}'
        try:
            camera = self._calibrations.at(self._when(times), width, height,
                                           not self._rectified, self._rectified)
        except ValueError as error:
            camera, failure = None, f'camera_info on {self.info_topic} will not do: {error}'
        if camera is None:
            self._failures[failure] += 1
        elif note := '; '.join(filter(None, (camera.note, camera.doubt, self.other_camera))):
            self.notes.add(f'camera_info on {self.info_topic}: {note}')
        return camera

    @property
    def other_camera(self) -> str:
        """Why its camera_infos may be another camera's; empty where they are its own."""
        return other_camera(self._image_frame, self._calibrations.frame)

    @property
    def failure(self) -> str:
        """Why the camera of some frames that were asked for is not known; or empty."""
        if not self._failures:
            return ''
        (failure, _), count = self._failures.most_common(1)[0], self._failures.total()
        return failure if count == self._frames else f'{failure} ({count} of {self._frames} frames)'


class Pair(NamedTuple):
    """Two frames of one moment.

    Attributes:
        stamp: ns, the image's.
        image: uint8 H×W×3 RGB, undistorted, or where a depth topic is scored float32 H×W metres.
        truth: float32 H×W metres in the pixels of `image`, NaN where unknown.
        camera: Intrinsics of both, or None.
    """

    stamp: int
    image: npt.NDArray[Any]
    truth: npt.NDArray[np.float32]
    camera: Intrinsics | None


class PairedRecording:
    """Colour frames of a recording, each with its true depth: ``len``, iteration, :meth:`read`.

    Iteration streams. Topics that are not named are found where there is one of a kind, camera
    infos beside their images (``<namespace>/camera_info``).

    Args:
        path: As of :class:`~hybrid_depth_ros.recordings.recording.Recording`.
        image: Topic of the colour images.
        depth: Topic of the true depth.
        camera_info: Topic of the colour camera's calibration.
        depth_camera_info: Topic of the depth camera's calibration.
        predicted: A depth topic that takes the place of the colour images.
        slop: The most that the stamps of a pair may differ, seconds.

    Attributes:
        recording: The Recording.
        image_topic: Of the colour images, or of the predicted depth.
        truth_topic: Of the true depth.
        damaged: A sentence for each frame that could not be decoded and was left out.

    Raises:
        OSError: Something is missing, or no stamps meet.
    """

    def __init__(self, path: str | Path, image: str | None = None, depth: str | None = None,
                 camera_info: str | None = None, depth_camera_info: str | None = None,
                 predicted: str | None = None, slop: float = SLOP) -> None:
        self.recording = recording = Recording(path)
        self.path = recording.path
        self.damaged: list[str] = []
        self.image_topic = (recording.choose('depth', predicted, '--predicted') if predicted else
                            recording.choose('image', image, '--image'))
        self.truth_topic = recording.choose('depth', depth, '--depth',
                                            besides=(self.image_topic,))
        self._topics = self.image_topic, self.truth_topic
        if self.image_topic == self.truth_topic:
            raise OSError(f'{self.path}: {self.image_topic} would be compared with itself: name '
                          'another topic with --depth')
        self._cameras = (
            TopicCamera(recording, self.image_topic, camera_info, '--camera-info'),
            TopicCamera(recording, self.truth_topic, depth_camera_info, '--depth-camera-info'))
        self._times = self._read_times()
        self._unstamped: list[str] = []
        self.pairs = self._match(slop)

    def _match(self, slop: float) -> list[tuple[int, int]]:
        """The pairs' numbers among the messages of both topics."""
        stamped = [[number for number, times in enumerate(found) if times.stamp]
                   for found in self._times]
        self._unstamped = [f'{len(found) - len(numbers)} of {len(found)} frames on {topic} carry '
                           'no stamp and are left out' for topic, found, numbers in zip(
                               self._topics, self._times, stamped) if len(numbers) < len(found)]
        stamps = [[found[number].stamp for number in numbers]
                  for found, numbers in zip(self._times, stamped)]
        pairs = match_stamps(stamps[0], stamps[1], round(slop * 1e9))
        if not pairs:
            spans = [f'{topic} runs from {min(found) / 1e9:.3f} to {max(found) / 1e9:.3f} s'
                     for topic, found in zip(self._topics, stamps)]
            raise OSError(f'{self.path}: no frame on {self.image_topic} is within {slop:g} s of '
                          f'one on {self.truth_topic} ({"; ".join(spans)}): allow more '
                          '(evaluate_bag: --slop, in ms), or set the clocks')
        return [(stamped[0][i], stamped[1][j]) for i, j in pairs]

    def _read_times(self) -> list[list[MessageTimes]]:
        """The times of both topics' messages, as recorded; cameras get their calibrations."""
        recording, topics = self.recording, self._topics
        frames: dict[str, list[MessageTimes]] = {topic: [] for topic in topics}
        infos: dict[str, list[tuple[MessageTimes, Any]]] = {
            camera.info_topic: [] for camera in self._cameras
                 if camera.info_topic in recording.topics
                 and recording.topics[camera.info_topic].kind == 'camera_info'}
        names: dict[str, str] = {}  # frame_ids
        decoded: dict[tuple[str, bytes], Any] = {}  # most differ in nothing but their stamps
        for topic, times, raw in recording.messages(*frames, *infos):
            if topic in frames:
                if not frames[topic]:
                    names[topic] = header_frame(raw)
                frames[topic].append(times)
                continue
            try:
                info = decoded.get((topic, raw[12:])) or recording.message(topic, raw)
            except OSError as error:
                self.damaged.append(str(error))
                continue
            decoded[topic, raw[12:]] = info
            infos[topic].append((times, info))
        for topic, found in frames.items():
            if not found:
                count = recording.topics[topic].message_count
                raise OSError(f'{self.path}: {count} messages of {topic} are listed, none is '
                              'there: record it again')
            if not any(times.stamp for times in found):
                raise OSError(f'{self.path}: the headers on {topic} carry no stamp, so that '
                              'nothing can be paired: have its driver fill them')
        for camera, topic in zip(self._cameras, topics):
            camera.add_camera_infos(infos.get(camera.info_topic, ()),
                                    [times for times in frames[topic] if times.stamp],
                                    names[topic])
        return [frames[topic] for topic in topics]

    def __len__(self) -> int:
        return len(self.pairs)

    def stamp(self, i: int) -> int:
        """ns, of pair i."""
        return self._times[0][self.pairs[i][0]].stamp

    def recorded(self, i: int) -> int:
        """ns, when the image of pair i was recorded."""
        return self._times[0][self.pairs[i][0]].time

    def __iter__(self) -> Iterator[Pair]:
        place = {(topic, number): (i, side) for i, pair in enumerate(self.pairs)
                 for side, (topic, number) in enumerate(zip(self._topics, pair))}
        counts, following = {self.image_topic: 0, self.truth_topic: 0}, 0
        waiting: dict[tuple[int, int], bytes] = {}
        for topic, _, raw in self.recording.messages(*self._topics):
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

    def read(self, i: int) -> Pair:
        """Pair i.

        Raises:
            OSError: It can't be decoded.
        """
        image, truth = (self.recording.read(topic, times[number]) for topic, times, number
                        in zip(self._topics, self._times, self.pairs[i]))
        return self._pair(i, image, truth)

    def _pair(self, i: int, raw_image: bytes, raw_truth: bytes) -> Pair:
        image = self.recording.decode(self.image_topic, raw_image)
        truth = self.recording.decode(self.truth_topic, raw_truth)
        height, width = image.shape[:2]
        image_number, truth_number = self.pairs[i]
        model = self._cameras[0].at(self._times[0][image_number], width, height)
        depth_model = self._cameras[1].at(self._times[1][truth_number], truth.shape[1],
                                          truth.shape[0])
        if depth_model and depth_model.rectification:
            truth = depth_model.rectification.apply_depth(truth)
        transform = np.eye(4)
        transform[:3, :3] = (model.rotation if model else np.eye(3)) @ (
            depth_model.rotation if depth_model else np.eye(3)).T
        try:
            truth = register_depth(
                truth, width, height, depth_model and depth_model.intrinsics,
                model and model.intrinsics,
                None if np.allclose(transform, np.eye(4)) else transform)
        except ValueError as error:
            raise OSError(f'{self.path}: {self.image_topic} and {self.truth_topic}: {error}; what '
                          f'would say how they lie is missing: {self._missing_calibration()}; '
                          'record it, or name its topic with --camera-info and '
                          '--depth-camera-info') from error
        if model and model.rectification:
            rectification = model.rectification
            image = (rectification.apply(image) if image.ndim == 3 else
                     rectification.apply_depth(image))
            truth = np.where(rectification.unseen, np.float32(np.nan), truth)
        return Pair(self.stamp(i), image, truth, model and model.intrinsics)

    def first(self) -> Pair | None:
        """The first pair that can be read, of eight at most; None where none can."""
        for i in np.unique(np.linspace(0, len(self) - 1, 8).astype(int)).tolist():
            try:
                return self.read(i)
            except OSError:
                continue
        return None

    def _missing_calibration(self) -> str:
        return '; '.join(dict.fromkeys(filter(None, (camera.failure for camera in self._cameras))))

    def assumptions(self) -> list[str]:
        """Sentences on what was assumed, or left out, for the pairs read so far."""
        what = 'colour' if self.recording.topics[self.image_topic].kind == 'image' else (
            f'the depth on {self.image_topic}')
        notes = {note for camera in self._cameras for note in camera.notes}
        return [*([f'depth on {self.truth_topic} is taken to be registered to {what}: '
                   f'{self._missing_calibration()}'] if self._missing_calibration() else []),
                *[f'{topic}: the largest number that a pixel holds (65535 in 16UC1) is taken for '
                  'unknown depth' for topic in self._topics
                  if topic in self.recording.maximum_topics],
                *sorted(notes), *self._unstamped]

    @property
    def other_camera(self) -> str:
        """Why the camera_infos of the images may be another camera's; empty: they are its own."""
        return self._cameras[0].other_camera

    @property
    def missing_camera_reason(self) -> str:
        """Why the camera's focal length is not known; empty where it is, or no frame was read."""
        return self._cameras[0].failure
