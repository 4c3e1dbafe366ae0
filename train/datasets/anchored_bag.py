"""A recording without a depth camera: colour images, and what its other sensors measured.

The depth of a pair is coarse, :data:`COLUMNS` across, so that no measured pixel is lost where the
network's output is sampled from it. It is 0 but where a beam or a point lies.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tqdm

from hybrid_depth_ros.anchors import Anchors
from hybrid_depth_ros.anchors.corrector import AnchorSettings
from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.poses import Pose
from hybrid_depth_ros.recordings.pairs import TopicCamera
from hybrid_depth_ros.recordings.recorded_anchors import BY_TF, TYPES, RecordedAnchors
from hybrid_depth_ros.recordings.recording import MessageTimes, Recording
from train.datasets.pairs import RgbdDataset, RgbdPair

KINDS = ('scan', 'points', 'range', 'motion')
COLUMNS = 160  # of the coarse depth; the network's output has as many

# An image (uint8 H×W×3) and fx in pixels → its predicted depth, float32 H×W metres.
Predict = Callable[[npt.NDArray[np.uint8], float], npt.NDArray[np.float32]]


class AnchoredBag(RgbdDataset):
    """Colour images of a rosbag2 recording, each with the depth that its sensors measured.

    All frames are gone through once at the start, as anchors come in the order of time.

    Args:
        path: As of :class:`~hybrid_depth_ros.recordings.recording.Recording`.
        topics: Of each kind of :data:`KINDS` that is used the topic, or None where there is one;
            of ``motion`` that of Odometry, or ``tf`` for poses by /tf.
        image_topic: Of the colour images, where there are several.
        poses: 4×4 of the sensors in the optical frame, or one for all; None: by /tf.
        predict: Where a range lies in its cone depends on predicted depth; others need none.

    Raises:
        OSError: Something is missing, or no image has anchors.
    """

    sparse = True

    def __init__(self, path: str | Path, topics: Mapping[str, str | None],
                 image_topic: str | None = None, poses: Sequence[Pose | None] = (None,),
                 predict: Predict | None = None) -> None:
        self._recording = recording = Recording(path)
        self._topic = recording.choose('image', image_topic, '--image-topic')
        self._camera = TopicCamera(recording, self._topic, None, '--camera-info')
        times = self._read_times()
        anchors = RecordedAnchors(
            recording, self._topic,
            {kind: [BY_TF if kind == 'motion' and topic == BY_TF else
                    recording.choose_sensor(TYPES[kind], topic, kind)]
             for kind, topic in topics.items()},
            False, poses, AnchorSettings(), 'odom')
        self._times: list[MessageTimes] = []  # of the images with anchors
        self._focals: list[float] = []
        self._depths: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]] = []
        self._shape = (0, 0)
        without, unreadable = 0, list[str]()
        for frame in tqdm.tqdm(times, unit='frame', disable=None):
            try:
                rgb, intrinsics = self._read(frame)
            except OSError as error:
                unreadable.append(explain(error))
                continue
            depth = (predict(rgb, intrinsics.fx) if predict else
                     np.full(rgb.shape[:2], np.nan, np.float32))
            measured = anchors.measure(depth, frame.stamp, frame.time, intrinsics, rgb)
            places, values = coarse_depth(measured, *rgb.shape[:2])
            if not places.size:
                without += 1
                continue
            self._shape = coarse_shape(*rgb.shape[:2])
            self._times.append(frame)
            self._focals.append(intrinsics.fx / intrinsics.width)
            self._depths.append((places, values))
        said = [*anchors.said(), *unreadable[:1]]
        if not self._times:
            raise OSError(f'{recording.path}: not one of {len(times)} images has anchors of '
                          f'{", ".join(topics)}: '
                          + (said[0] if said else 'none lies in the image; see the poses'))
        self.assumptions = anchors.said() + (
            [f'{without} of {len(times)} images have no anchors'] if without else [])
        self.left_out = unreadable

    def _read_times(self) -> list[MessageTimes]:
        """The times of the images, as recorded; the camera gets its calibrations."""
        infos: list[tuple[MessageTimes, Any]] = []
        times: list[MessageTimes] = []
        names = [self._topic] + [self._camera.info_topic] * (
            self._camera.info_topic in self._recording.topics)
        for topic, at, raw in self._recording.messages(*names):
            if topic == self._topic:
                times.append(at)
            else:
                infos.append((at, self._recording.message(topic, raw)))
        self._camera.add_camera_infos(infos, times)
        return times

    def _read(self, times: MessageTimes) -> tuple[npt.NDArray[np.uint8], Intrinsics]:
        """An image without distortion, and its camera."""
        rgb = self._recording.decode(self._topic, self._recording.read(self._topic, times))
        model = self._camera.at(times, rgb.shape[1], rgb.shape[0])
        if model is None:
            raise OSError(f'{self._recording.path}: {self._camera.failure}; anchors have no place '
                          'in an image without it')
        if model.rectification:
            rgb = model.rectification.apply(rgb)
        return rgb, model.intrinsics

    def __len__(self) -> int:
        return len(self._times)

    def read(self, i: int) -> RgbdPair:
        rgb, _ = self._read(self._times[i])
        depth = np.zeros(self._shape, np.float32)
        places, values = self._depths[i]
        depth.flat[places] = values
        return RgbdPair(rgb, depth)

    def name(self, i: int) -> str:
        return f'{self._recording.path.name} at {self._times[i].stamp / 1e9:.3f} s'

    def focal(self, i: int) -> float:
        return self._focals[i]


def coarse_shape(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the coarse depth of an image of this size."""
    return max(1, round(COLUMNS * height / width)), COLUMNS


def coarse_depth(anchors: Anchors, height: int, width: int
                 ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The cells of the coarse depth that anchors lie in, and the nearest depth in each.

    Args:
        anchors: In pixels of the image.
        height, width: Of the image.

    Returns:
        int32 indices into the flat coarse depth, ascending; float32 metres.
    """
    inside = anchors.inside(width, height)
    rows, columns = coarse_shape(height, width)
    u = ((anchors.u[inside] + 0.5) * columns / width).astype(np.int32).clip(0, columns - 1)
    v = ((anchors.v[inside] + 0.5) * rows / height).astype(np.int32).clip(0, rows - 1)
    depth = np.full(rows * columns, np.inf, np.float32)
    np.minimum.at(depth, v * columns + u, anchors.depth[inside])
    places = np.flatnonzero(np.isfinite(depth)).astype(np.int32)
    return places, depth[places]
