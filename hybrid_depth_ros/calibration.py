"""The calibration that a frame is seen through: what camera_info says, and from when on.

A message here is anything with the fields of sensor_msgs/CameraInfo; needs no ROS.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from hybrid_depth_ros.geometry import Intrinsics, Rectification, same_shape

NEAR = 10_000_000  # ns: a camera_info that is stamped this soon after a frame was meant for it
KEPT = 300  # calibrations that a live camera has had: ten seconds of zooming
KEPT_NUMBERS = 10_000  # distortion coefficients in them, all together
TRANSPORTS = ('compressed', 'compressedDepth')  # image_transport's, behind the topic's own name


def says_rectified(topic):
    """Whether an image topic's name says that its images are undistorted: ``image_rect_color``.

    The last name's own words count (image_pipeline's convention): ``direct`` and
    ``image_corrected`` say nothing.
    """
    names = [name for name in topic.split('/') if name not in TRANSPORTS]
    return bool({'rect', 'rectified'} & set(names[-1].split('_'))) if names else False


class Region(NamedTuple):
    """sensor_msgs/RegionOfInterest, pixels of the whole image."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class Calibration(NamedTuple):
    """What a sensor_msgs/CameraInfo says, without its header."""

    width: int
    height: int
    distortion_model: str
    d: tuple
    k: tuple
    r: tuple
    p: tuple
    binning_x: int
    binning_y: int
    roi: Region

    @classmethod
    def of(cls, message):
        """Taken from a message."""
        roi = message.roi
        return cls(message.width, message.height, message.distortion_model[:100],
                   *(tuple(map(float, getattr(message, name))) for name in 'dkrp'),
                   message.binning_x, message.binning_y,
                   Region(roi.x_offset, roi.y_offset, roi.width, roi.height))


def intrinsics_from_camera_info(info, width, height, rectified=False):
    """CameraInfo → the Intrinsics of the width×height image that came with it.

    As the message and image_geometry's PinholeCameraModel define it: K is for the full
    info.width×info.height; the region of interest moves the principal point, then binning
    divides (0 means 1). An image of yet another size, but of the same shape, was resized, and the
    camera is with it. rectified: the image is undistorted already, so P counts (K where P is 0).
    Raises ValueError for an uncalibrated camera, one with impossible numbers, or an image of
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
    size = read_out_size(info, width, height)
    if not same_shape(size, (width, height)):
        raise ValueError(f'it is for {size[0]}×{size[1]}, the image is {width}×{height}: have the '
                         "driver publish this resolution's calibration, or calibrate it")
    roi, across, down = info.roi, max(info.binning_x, 1), max(info.binning_y, 1)
    return Intrinsics(*size, fx / across, fy / down, (cx - roi.x_offset) / across,
                      (cy - roi.y_offset) / down).resized(width, height)


def read_out_size(info, width, height):
    """(width, height) of the images that a CameraInfo is for, after region and binning.

    width, height: of an image, which count where the message has 0 for its own.
    """
    roi, across, down = info.roi, max(info.binning_x, 1), max(info.binning_y, 1)
    return ((roi.width or max(info.width - roi.x_offset, 0)) // across or width,
            (roi.height or max(info.height - roi.y_offset, 0)) // down or height)


def rectification_from_camera_info(info, width, height):
    """CameraInfo → the Rectification of its width×height images; None without distortion.

    From K, D and R to P (K where P is 0), after :func:`intrinsics_from_camera_info`.
    Raises ValueError for an unknown model, or numbers that do not go with it.
    """
    if not any(info.d):
        return None
    rotation = np.array(info.r, np.float64).reshape(3, 3)
    if not np.isfinite(rotation).all():
        raise ValueError(f'rectification matrix {rotation.ravel().tolist()} is not all finite: '
                         'calibrate the camera anew')
    if not rotation.any() or np.array_equal(rotation, np.eye(3)):
        rotation = None
    camera, target = (intrinsics_from_camera_info(info, width, height, rectified)
                      for rectified in (False, True))
    try:
        return Rectification(camera, target, info.distortion_model, info.d, rotation)
    except cv2.error as error:
        raise ValueError(f'{len(info.d)} distortion coefficients do not make a '
                         f'{info.distortion_model} model: calibrate the camera '
                         'anew') from error


class Camera(NamedTuple):
    """How the images of one size are seen.

    intrinsics: of the images, undistorted where there is a rectification. rotation: what
    rectifying has turned the camera by, 3×3. note: what is taken for granted, or empty.
    """

    intrinsics: Intrinsics
    rectification: Rectification | None
    rotation: np.ndarray
    note: str


def camera_of(info, width, height, rectify=True, rectified=False):
    """The Camera of the width×height images that came with a camera_info.

    rectify: undistort where there is distortion; rectified: the images are undistorted already.
    Raises ValueError where the camera is not calibrated, by impossible numbers, or for images of
    another shape.
    """
    rectification = rectification_from_camera_info(info, width, height) if rectify else None
    intrinsics = rectification.rectified if rectification else (
        intrinsics_from_camera_info(info, width, height, rectified))
    turn = np.array(info.r, np.float64).reshape(3, 3) if rectification else np.eye(3)
    size = read_out_size(info, width, height)
    return Camera(intrinsics, rectification, turn if turn.any() else np.eye(3), '' if size == (
        width, height) else f'it is for {size[0]}×{size[1]}, images are {width}×{height}: they are '
        'taken to be the same view, resized')


@dataclass
class _Run:
    """The same calibration in one camera_info after the other. first, last: stamps, ns."""

    calibration: Calibration
    first: int
    last: int


class Calibrations:
    """The camera_infos of one camera; :meth:`at` says which of them a frame is seen through.

    live: they come one by one and are thrown away when they are many; the newest counts where
    none is as old as a frame. Otherwise all of them are added in the order of their stamps
    before the first frame is looked at, and frames before the first take the first. near: ns
    that a frame's own may be younger than it.
    """

    def __init__(self, live=False, near=NEAR):
        self._live, self._near = live, near
        self._runs = deque(maxlen=KEPT if live else None)
        self._cameras = {}

    def __bool__(self):
        return bool(self._runs)

    def add(self, message, stamp):
        """Take a CameraInfo. stamp: ns."""
        calibration = Calibration.of(message)
        last = self._runs[-1] if self._runs else None
        if last and last.calibration == calibration and stamp >= last.last:
            last.last = stamp
            return
        self._runs.append(_Run(calibration, stamp, stamp))
        while self._live and len(self._runs) > 1 and sum(
                len(run.calibration.d) for run in self._runs) > KEPT_NUMBERS:
            self._runs.popleft()

    def newest(self):
        """The stamp of what came last, ns; None before anything came."""
        return self._runs[-1].last if self._runs else None

    def at(self, stamp, width, height, rectify=True, rectified=False):
        """The Camera of the width×height frame with this stamp (ns); None: nothing is known.

        The last camera_info that is not younger than the frame is the valid one (or that which
        follows it within `near` and is nearer). A camera may say that it isn't calibrated, or
        something else that won't do, until its calibration is loaded: before the first one that
        will do, that one counts. Raises what :func:`camera_of` raises of the valid one.
        """
        runs = list(self._runs)
        if not runs:
            return None
        seen_by = (width, height, rectify, rectified)
        valid = self._valid(runs, stamp)
        try:
            return self._camera(runs[valid], *seen_by)
        except ValueError:
            if any(_will_do(run, width, height, rectified) for run in runs[:valid]):
                raise
            for run in runs[valid + 1:]:
                if _will_do(run, width, height, rectified):
                    return self._camera(run, *seen_by)
            raise

    def _valid(self, runs, stamp):
        """The place of the run that is valid at a stamp."""
        after = None
        for place in reversed(range(len(runs))):
            run = runs[place]
            if run.first <= stamp:
                gap = runs[after].first - stamp if after is not None else self._near
                return after if gap < min(self._near, stamp - run.last) else place
            after = place
        return len(runs) - 1 if self._live else 0

    def _camera(self, run, *seen_by):
        key = (run.calibration, *seen_by)
        if key not in self._cameras:
            camera = camera_of(run.calibration, *seen_by)
            if len(self._cameras) > 3:  # the maps of a rectification are large
                del self._cameras[next(iter(self._cameras))]
            self._cameras[key] = camera
        return self._cameras[key]


def _will_do(run, width, height, rectified):
    try:
        return bool(intrinsics_from_camera_info(run.calibration, width, height, rectified))
    except ValueError:
        return False
