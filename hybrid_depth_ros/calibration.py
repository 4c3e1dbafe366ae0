"""The calibration of a camera at the time of a frame, from the camera_info messages.

A message here is anything with the fields of sensor_msgs/CameraInfo; needs no ROS.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.geometry import Intrinsics, Rectification, same_aspect_ratio

STAMP_TOLERANCE = 10_000_000  # ns: a camera_info stamped this soon after a frame was meant for it
MAX_CALIBRATIONS = 300  # kept of a live camera: ten seconds of zooming
MAX_COEFFICIENTS = 10_000  # distortion coefficients in them, all together
MAX_CACHED_MODELS = 4  # the maps of a rectification are large
MAX_MODEL_NAME = 100  # characters of a distortion model's name that are kept
MAX_FRAME_NAME = 100  # characters of a frame_id that are shown
# times the image's size for which K may have been left, and how near its centre must be to that
OTHER_SIZES, CENTRE_TOLERANCE = (1, 3/2, 2, 3, 4, 6), 0.12
LEAST_CENTRE = 0.6  # times the middle of the image
# distortion models by their numbers of coefficients, where the message names none
MODELS_BY_COUNT = {5: 'plumb_bob', 8: 'rational_polynomial', 12: 'rational_polynomial',
                   14: 'rational_polynomial'}
MAX_FOCAL_RATIO = 1.5  # between fx and fy
IMAGE_TRANSPORTS = ('compressed', 'compressedDepth')  # image_transport's suffixes of a topic


class CameraInfoMessage(Protocol):
    """The fields of sensor_msgs/CameraInfo that count here; `roi` is a RegionOfInterest."""

    width: Any
    height: Any
    distortion_model: Any
    d: Any
    k: Any
    r: Any
    p: Any
    binning_x: Any
    binning_y: Any
    roi: Any


def is_rectified_topic(topic: str) -> bool:
    """Whether an image topic's name says that its images are undistorted: ``image_rect_color``.

    By image_pipeline's convention the words of the last name count: ``direct`` and
    ``image_corrected`` say nothing.
    """
    names = [name for name in topic.split('/') if name not in IMAGE_TRANSPORTS]
    return bool({'rect', 'rectified'} & set(names[-1].split('_'))) if names else False


def same_camera(frame: str, other: str) -> bool:
    """Whether two frames can be of one camera.

    ``camera_link``, ``camera_optical_frame``, ``camera_color_frame``, ``camera0``, ``cam`` and
    ``/robot/camera`` can be that of ``camera``. ``camera_1`` and ``camera_10``, ``left/camera`` and
    ``right/camera`` are two. A shorter name says less, an empty one is any.
    """
    spaces, words = zip(*map(_parts_of_frame, (frame, other)))
    return all(one == another for parts in (spaces, words) for one, another in zip(*parts))


def _parts_of_frame(frame: str) -> tuple[list[str], list[str]]:
    """Namespaces of a frame, the innermost first; words and numbers of its name, which is without
    what says how the frame lies on its camera.
    """
    *spaces, name = frame.strip('/').split('/')
    words = re.findall(r'\d+|[^\d_]+', re.sub('(_optical)?(_frame|_link)?$', '', name))
    return spaces[::-1], ['camera' if word == 'cam' else word for word in words]


def other_camera(image_frame: str, info_frame: str) -> str:
    """Say that a camera_info is of another camera than an image; empty where it can be its own."""
    if same_camera(image_frame, info_frame):
        return ''
    return (f'camera_info is of the frame {info_frame[:MAX_FRAME_NAME]!r}, the images are of '
            f'{image_frame[:MAX_FRAME_NAME]!r}: if it is another camera, remap camera_info; else '
            'have the drivers name one frame')


class RegionOfInterest(NamedTuple):
    """sensor_msgs/RegionOfInterest, pixels of the whole image."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class Calibration(NamedTuple):
    """The content of a sensor_msgs/CameraInfo, without its header."""

    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]
    binning_x: int
    binning_y: int
    roi: RegionOfInterest

    @classmethod
    def from_message(cls, message: CameraInfoMessage) -> Calibration:
        """Copied from a message."""
        roi = message.roi
        d, k, r, p = (tuple(map(float, values))
                      for values in (message.d, message.k, message.r, message.p))
        return cls(message.width, message.height, message.distortion_model[:MAX_MODEL_NAME],
                   d, k, r, p, message.binning_x, message.binning_y,
                   RegionOfInterest(roi.x_offset, roi.y_offset, roi.width, roi.height))


def intrinsics_from_camera_info(info: CameraInfoMessage | Calibration, width: int, height: int,
                                rectified: bool = False) -> Intrinsics:
    """CameraInfo → the Intrinsics of the width×height image that came with it.

    As the message and image_geometry's PinholeCameraModel define it: K is for the full
    info.width×info.height; the region of interest moves the principal point, then binning
    divides (0 means 1). An image of yet another size, but of the same shape, was resized, and the
    camera is with it.

    Args:
        info: The message.
        width: Of the image.
        height: Of the image.
        rectified: The image is undistorted already, so P counts (K where P is 0).

    Raises:
        ValueError: The camera is not calibrated, has impossible numbers, or the image is of
            another shape.
    """
    fx, cx, fy, cy = (float(info.k[i]) for i in (0, 2, 4, 5))
    if rectified and info.p[0] != 0:
        fx, cx, fy, cy = (float(info.p[i]) for i in (0, 2, 5, 6))
    if fx == 0 or fy == 0:
        raise ValueError('the camera is uncalibrated (K is 0): calibrate it, or have its driver '
                         'load the calibration')
    if cx == cy == 0:
        raise ValueError("the camera's centre is not calibrated (cx and cy are 0): calibrate it, "
                         'or have its driver load the calibration')
    size = calibrated_image_size(info, width, height)
    if not same_aspect_ratio(size, (width, height)):
        raise ValueError(f'it is for {size[0]}×{size[1]}, the image is {width}×{height}: have the '
                         "driver publish this resolution's calibration, or calibrate it")
    roi, across, down = info.roi, max(info.binning_x, 1), max(info.binning_y, 1)
    times = _times_too_large(info, cx, cy)
    return Intrinsics(*size, fx / times / across, fy / times / down,
                      (cx / times - roi.x_offset) / across,
                      (cy / times - roi.y_offset) / down).resized(width, height)


def _times_too_large(info: CameraInfoMessage | Calibration, cx: float, cy: float) -> float:
    """How many times as large images are that K is for as width and height say; mostly 1.

    A driver that resizes images may leave K behind: its centre is in a corner then, or beyond.
    """
    if not (info.width and info.height and np.isfinite([cx, cy]).all()):
        return 1.0
    across, down = (cx + 0.5) / (info.width / 2), (cy + 0.5) / (info.height / 2)
    times = min(OTHER_SIZES, key=lambda size: abs(across / size - 1))
    near = max(abs(across / times - 1), abs(down / times - 1)) < CENTRE_TOLERANCE
    return times if near else 1.0


def _contradictions(info: CameraInfoMessage | Calibration, camera: Intrinsics, rectified: bool
                    ) -> str:
    """A sentence on numbers of a camera_info that contradict each other, or empty."""
    matrix = info.p if rectified and info.p[0] != 0 else info.k
    cx, cy = float(matrix[2]), float(matrix[5 if matrix is info.k else 6])
    said = []
    if (times := _times_too_large(info, cx, cy)) != 1:
        said.append(f'its centre ({cx:g}, {cy:g}) is {times:.3g} times the middle of '
                    f'{info.width}×{info.height}: its numbers are taken to be of images '
                    f'{times:.3g} times as large')
    elif not info.roi.width and not (
            LEAST_CENTRE * camera.width < 2 * camera.cx < 2 * camera.width
            and LEAST_CENTRE * camera.height < 2 * camera.cy < 2 * camera.height):
        said.append(f'its centre ({camera.cx:g}, {camera.cy:g}) is far from the middle of '
                    f'{camera.width}×{camera.height}: see whether it is of this camera and size')
    if not 1 / MAX_FOCAL_RATIO < camera.fx / camera.fy < MAX_FOCAL_RATIO:
        said.append(f'fx is {camera.fx:g} and fy {camera.fy:g}: no lens sees like that, calibrate '
                    'it anew')
    count, used = len(info.d), {'equidistant': 4}.get(info.distortion_model, len(info.d))
    if any(info.d[used:]):
        said.append(f'{info.distortion_model} has {used} coefficients, it gives {count}: the first '
                    f'{used} count')
    elif any(info.d) and not info.distortion_model and count in MODELS_BY_COUNT:
        said.append(f'it names no distortion_model and has {count} coefficients: '
                    f'{MODELS_BY_COUNT[count]} is taken')
    return '; '.join(said)


def calibrated_image_size(info: CameraInfoMessage | Calibration, width: int,
                          height: int) -> tuple[int, int]:
    """(width, height) of the images that a CameraInfo is for, after region and binning.

    `width` and `height`, of an image, count where the message has 0 for its own.
    """
    roi, across, down = info.roi, max(info.binning_x, 1), max(info.binning_y, 1)
    return ((roi.width or max(info.width - roi.x_offset, 0)) // across or width,
            (roi.height or max(info.height - roi.y_offset, 0)) // down or height)


def rectification_from_camera_info(info: CameraInfoMessage | Calibration, width: int,
                                   height: int) -> Rectification | None:
    """CameraInfo → the Rectification of its width×height images; None without distortion.

    From K, D and R to P (K where P is 0), after :func:`intrinsics_from_camera_info`.

    Raises:
        ValueError: The model is not known, or the numbers do not go with it.
    """
    if not any(info.d):
        return None
    rotation = _rectifying_rotation(info)
    if not np.isfinite(rotation).all():
        raise ValueError(f'rectification matrix {rotation.ravel().tolist()} is not all finite: '
                         'calibrate the camera anew')
    turned = rotation.any() and not np.array_equal(rotation, np.eye(3))
    camera, target = (intrinsics_from_camera_info(info, width, height, rectified)
                      for rectified in (False, True))
    try:
        model = info.distortion_model or MODELS_BY_COUNT.get(len(info.d), '')
        return Rectification(camera, target, model, info.d, rotation if turned else None)
    except cv2.error as error:
        raise ValueError(f'{len(info.d)} distortion coefficients do not make a '
                         f'{info.distortion_model} model: calibrate the camera '
                         'anew') from error


def _rectifying_rotation(info: CameraInfoMessage | Calibration) -> npt.NDArray[np.float64]:
    return np.array(info.r, np.float64).reshape(3, 3)


class CameraModel(NamedTuple):
    """How the images of one size are projected.

    Attributes:
        intrinsics: Of the images, undistorted where there is a rectification.
        rectification: What undistorts them; None where that is not needed.
        rotation: 3×3, by which rectifying has turned the camera.
        note: A sentence on what is assumed, or empty.
        doubt: A sentence on numbers that contradict each other, or empty.
    """

    intrinsics: Intrinsics
    rectification: Rectification | None
    rotation: npt.NDArray[np.float64]
    note: str
    doubt: str = ''


def camera_model_from_info(info: CameraInfoMessage | Calibration, width: int, height: int,
                           rectify: bool = True, rectified: bool = False) -> CameraModel:
    """The CameraModel of the width×height images that came with a camera_info.

    Args:
        info: The message.
        width: Of the images.
        height: Of the images.
        rectify: Undistort where there is distortion.
        rectified: The images are undistorted already.

    Raises:
        ValueError: The camera is not calibrated, has impossible numbers, or is calibrated for
            images of another shape.
    """
    rectification = rectification_from_camera_info(info, width, height) if rectify else None
    intrinsics = rectification.rectified if rectification else (
        intrinsics_from_camera_info(info, width, height, rectified))
    rotation = _rectifying_rotation(info) if rectification else np.eye(3)
    size = calibrated_image_size(info, width, height)
    note = '' if size == (width, height) else (
        f'it is for {size[0]}×{size[1]}, images are {width}×{height}: they are taken to be the '
        'same view, resized')
    return CameraModel(intrinsics, rectification, rotation if rotation.any() else np.eye(3), note,
                       _contradictions(info, intrinsics, rectified or rectification is not None))


@dataclass
class _CalibrationInterval:
    """The same calibration in consecutive camera_infos. first, last: their stamps, ns."""

    calibration: Calibration
    first: int
    last: int


class CalibrationHistory:
    """The camera_infos of one camera; :meth:`at` finds the one that is valid for a frame.

    Args:
        live: Messages come one by one, and old ones are dropped; the newest counts where none is
            as old as a frame. Otherwise all are added in the order of their stamps before the
            first frame is asked for, and frames before the first message take the first.
        tolerance: ns by which a frame's own camera_info may be younger than it.

    Attributes:
        frame: The frame_id of the last message.
    """

    def __init__(self, live: bool = False, tolerance: int = STAMP_TOLERANCE) -> None:
        self._live, self._tolerance = live, tolerance
        self._intervals: deque[_CalibrationInterval] = deque(
            maxlen=MAX_CALIBRATIONS if live else None)
        self._models: dict[tuple[Any, ...], CameraModel] = {}
        self.frame = ''

    def __bool__(self) -> bool:
        return bool(self._intervals)

    def add(self, message: CameraInfoMessage, stamp: int) -> None:
        """Add a CameraInfo. stamp: ns."""
        calibration = Calibration.from_message(message)
        self.frame = str(getattr(getattr(message, 'header', None), 'frame_id', ''))
        last = self._intervals[-1] if self._intervals else None
        if last and last.calibration == calibration and stamp >= last.last:
            last.last = stamp
            return
        self._intervals.append(_CalibrationInterval(calibration, stamp, stamp))
        while self._live and len(self._intervals) > 1 and sum(
                len(interval.calibration.d) for interval in self._intervals) > MAX_COEFFICIENTS:
            self._intervals.popleft()

    def newest(self) -> int | None:
        """The stamp of the last camera_info, ns; None before the first."""
        return self._intervals[-1].last if self._intervals else None

    def at(self, stamp: int, width: int, height: int, rectify: bool = True,
           rectified: bool = False) -> CameraModel | None:
        """The CameraModel of the width×height frame with this stamp (ns); None where none came.

        The last camera_info that is not younger than the frame is the valid one (or the one that
        follows within the tolerance and is nearer). A camera may publish unusable messages until
        its calibration is loaded: before the first usable one, that one counts.

        Raises:
            ValueError: As :func:`camera_model_from_info` of the valid one.
        """
        intervals = list(self._intervals)
        if not intervals:
            return None
        view = (width, height, rectify, rectified)
        valid = self._valid_index(intervals, stamp)
        try:
            return self._model(intervals[valid], *view)
        except ValueError:
            if any(_is_usable(interval, width, height, rectified)
                   for interval in intervals[:valid]):
                raise
            for interval in intervals[valid + 1:]:
                if _is_usable(interval, width, height, rectified):
                    return self._model(interval, *view)
            raise

    def _valid_index(self, intervals: Sequence[_CalibrationInterval], stamp: int) -> int:
        """The index of the interval that is valid at a stamp."""
        following = None
        for index in reversed(range(len(intervals))):
            interval = intervals[index]
            if interval.first <= stamp:
                if following is not None and intervals[following].first - stamp < min(
                        self._tolerance, stamp - interval.last):
                    return following
                return index
            following = index
        return len(intervals) - 1 if self._live else 0

    def _model(self, interval: _CalibrationInterval, width: int, height: int, rectify: bool,
               rectified: bool) -> CameraModel:
        key = (interval.calibration, width, height, rectify, rectified)
        if key not in self._models:
            model = camera_model_from_info(*key)
            if len(self._models) >= MAX_CACHED_MODELS:
                del self._models[next(iter(self._models))]
            self._models[key] = model
        return self._models[key]


def _is_usable(interval: _CalibrationInterval, width: int, height: int, rectified: bool) -> bool:
    try:
        return bool(intrinsics_from_camera_info(interval.calibration, width, height, rectified))
    except ValueError:
        return False
