"""A depth image as anchors: what of it is a measurement, and what speaks against all of it.

It must be registered: its pixels are those of the image. That is what depth cameras' drivers
publish as aligned or registered depth. Messages are taken by their fields.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.measurements import AT_LIMIT, code_limits
from hybrid_depth_ros.anchors.orientation_check import (
    MIN_ANCHORS,
    MIN_VARIATION,
    AverageCosts,
    log_of,
    misfit,
    spread,
)
from hybrid_depth_ros.calibration import MAX_FRAME_NAME, same_camera
from hybrid_depth_ros.compressed_depth import decode_compressed_depth
from hybrid_depth_ros.encodings import decode_depth_image
from hybrid_depth_ros.geometry import Rectification, same_aspect_ratio

Depth = npt.NDArray[np.float32]

MAX_AGE = 0.1  # seconds from its stamp to the image's: later, things have moved in both
CELLS = 20  # along its width, of which one pixel each is compared with the image
# Measured depth in predicted depths (the median, averaged over some frames). Networks see rooms too
# large rather than too small: near things up to four times as far.
TOO_FAR, TOO_NEAR, FRAMES = 3.0, 8.0, 10
DOUBTFUL = 2.0  # times, either way, from which on a sentence says so
TURNED = 1.7  # AverageCosts' times: of 61 images of NYU with holes none is taken for a turned one
ONE_NUMBER = 0.95  # share of pixels that say the same number, where predicted depth varies
STUCK = 0.1  # log by which predicted depth has changed, and measured depth has in no pixel
UNITS = ('16UC1 is read as millimetres (some cameras count in 0.1 or 0.25 mm), 32FC1 as metres '
         '(REP 118)')


def read_depth_image(message: Any, shape: tuple[int, ...], frame: str,
                     rectification: Rectification | None = None, min_depth: float = 0.0,
                     max_depth: float = 0.0) -> Depth:
    """What a depth image measured, in an image's pixels.

    Args:
        message: sensor_msgs/Image, or CompressedImage as compressed_depth_image_transport packs it;
            of the image's size or of another one of its shape.
        shape: of the image, rows and columns.
        frame: the image's frame_id.
        rectification: how the image was undistorted, as depth is then; None where it was not, or
            depth is already.
        min_depth: metres, nearest that its sensor can measure, or 0.
        max_depth: metres, farthest, or 0. What lies at a limit is no distance: some drivers write
            the limit where nothing was measured.

    Returns:
        float32 H×W metres; not above 0 or not finite where nothing was measured.

    Raises:
        ValueError: it is of another camera, of another shape, or no depth image.
    """
    own = message.header.frame_id
    if not same_camera(own, frame):
        raise ValueError(
            f'it is of the frame {own[:MAX_FRAME_NAME]!r}, the images are of '
            f'{frame[:MAX_FRAME_NAME]!r}: have its driver publish depth that is registered to the '
            'images (realsense2_camera: align_depth.enable), or give its cloud as anchors/points')
    depth = (decode_compressed_depth if hasattr(message, 'format') else decode_depth_image)(
        message).depth
    if depth.shape != shape:
        (rows, columns), (height, width) = depth.shape, shape
        if not same_aspect_ratio((columns, rows), (width, height)):
            raise ValueError(f'it is {columns}×{rows}, the image is {width}×{height}: have its '
                             'driver publish depth that is registered to the image')
        depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    if rectification is not None:
        depth = rectification.apply_depth(depth)
    some = _some(depth)
    low, high = code_limits(some[np.isfinite(some)])
    low, high = (max(low, min_depth * (1 + AT_LIMIT)),
                 min(high, max_depth * (1 - AT_LIMIT) or np.inf))
    if low > 0 or high < np.inf:
        depth = cv2.copyTo(depth, cv2.inRange(depth, low, min(high, 1e9)),
                           np.full_like(depth, np.nan))
    return depth


def _some(depth: Depth) -> Depth:
    """One pixel of each of CELLS × CELLS cells."""
    step = max(1, depth.shape[1] // CELLS)
    return depth[step // 2::step, step // 2::step]


def _log_of_some(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    with np.errstate(divide='ignore', invalid='ignore'):
        logs: npt.NDArray[np.floating] = np.log(_some(depth))
    return logs


class DepthImageCheck:
    """Whether a camera's depth images can be true, judged by predicted depth, frame after frame."""

    def __init__(self) -> None:
        self._turned = AverageCosts(
            ('', 'upside down', 'mirrored', 'flipped'),
            'is it registered to the image? Have its driver turn it as the image is', TURNED)
        self._ratio = 0.0  # natural logarithm, of the last frames
        self._frames = 0
        self._stamp: int | None = None
        self._first: tuple[Depth, Depth] | None = None  # of those that are equal: both logs

    def add(self, measured: Depth, depth: npt.NDArray[np.floating], stamp: int,
            metric: bool = True, guessed: bool = False) -> str:
        """Take in a frame.

        Args:
            measured: H×W metres, registered to the image.
            depth: H×W metres as predicted.
            stamp: ns, of `measured`.
            metric: whether predicted depth is in metres by itself.
            guessed: whether these are no metres yet, but a guess before scale and shift are known.

        Returns:
            What should be looked at though it is believed, or an empty text.

        Raises:
            ValueError: it is not believed.
        """
        whole = measured
        measured, predicted = (_log_of_some(values) for values in (measured, depth))
        if not (np.isfinite(measured).any() or (np.isfinite(whole) & (whole > 0)).any()):
            raise ValueError('not one of its pixels is a distance: see whether the depth camera '
                             'sees, and its range')
        ratio = measured - predicted
        known = np.isfinite(ratio)
        if np.count_nonzero(known) < MIN_ANCHORS:
            return ''
        doubt = self._check_unit(float(np.median(ratio[known]))) if metric else ''
        varies = spread(predicted[known]) > MIN_VARIATION
        if varies and (measured[known] == np.median(measured[known])).mean() > ONE_NUMBER:
            raise ValueError(f'all of it is {np.exp(np.median(measured[known])):.3g} m away, and '
                             'the image shows a room: see whether the depth camera sees')
        if not guessed:
            self._check_stuck(measured, predicted, stamp)
        if varies and not self._turned.skips():
            self._turned.average(*_costs(measured, predicted))
        if self._turned.trouble:
            raise ValueError(self._turned.trouble)
        return doubt

    def _check_unit(self, ratio: float) -> str:
        self._frames = min(self._frames + 1, FRAMES)
        self._ratio += (ratio - self._ratio) / self._frames
        told = 'its distances are {:.2g} times those that the network sees: {}'
        for found, tolerance in ((self._ratio, 1), (ratio, 2)):  # one frame need not be typical
            if not -np.log(TOO_NEAR) < found / tolerance < np.log(TOO_FAR):
                raise ValueError(told.format(np.exp(found), f'is their unit right? {UNITS}'))
        doubtful = abs(self._ratio) > np.log(DOUBTFUL)
        return (told.format(np.exp(self._ratio), 'see whether their unit is right') if doubtful
                else '')

    def _check_stuck(self, measured: Depth, predicted: Depth, stamp: int) -> None:
        if self._first is None or not np.array_equal(self._first[0], measured, equal_nan=True):
            self._first = measured, predicted
        elif stamp != self._stamp:
            change = log_of(np.exp(np.abs(predicted - self._first[1])))
            if change.size and np.median(change) > STUCK:
                raise ValueError('its images have other stamps, and all are one: the depth camera '
                                 'or its driver is stuck, start it again')
        self._stamp = stamp


def _costs(measured: Depth, predicted: Depth) -> tuple[list[float | None], list[float]]:
    """Of the measured depth as it is, upside down, mirrored and flipped; and of other places.

    Both are logs.
    """
    rows, columns = predicted.shape
    place = np.broadcast_to(np.linspace(-1, 1, columns, dtype=np.float32), (rows, columns))

    def cost(moved: Depth) -> float | None:
        ratio = moved - predicted
        known = np.isfinite(ratio)
        enough = np.count_nonzero(known) >= MIN_ANCHORS
        return misfit(ratio[known], place[known]) if enough else None
    elsewhere = (cost(np.roll(measured, shift, (0, 1))) for shift in (
        (0, columns // 2), (rows // 2, 0), (rows // 2, columns // 2)))
    turned = measured, measured[::-1, ::-1], measured[:, ::-1], measured[::-1]
    return ([cost(moved) for moved in turned],
            [found for found in elsewhere if found is not None])
