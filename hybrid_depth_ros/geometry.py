"""Pinhole geometry: intrinsics and rectification.

Frames are optical frames (REP 103): x right, y down, z forward, metres. Pixel (0, 0) is the
centre of the top-left pixel. Depth is z, not the distance along the ray (REP 118).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt


def same_aspect_ratio(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether images of two (width, height) can be one view: one is the other resized.

    A side may be a pixel off, rounded.
    """
    (width, height), (columns, rows) = size, other
    return abs(width * rows - height * columns) <= max(width, height, rows, columns)


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; all but width and height in pixels.

    Raises:
        ValueError: A number is not finite, a size or focal length is not above 0, a focal length
            lies beyond 10⁻⁴…10⁵ of the image's side (depth is scaled by it), or the principal
            point lies 10⁵ sides away.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        for name in ('width', 'height', 'fx', 'fy'):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f'camera {name} is {value}; it must be a number above 0')
        for name, side in (('fx', self.width), ('fy', self.height)):
            if not 1e-4 < getattr(self, name) / side < 1e5:
                raise ValueError(f'camera {name} is {getattr(self, name):g} for {side} pixels; no '
                                 'lens sees like that: calibrate it anew')
        for name, side in (('cx', self.width), ('cy', self.height)):
            if not abs(getattr(self, name)) < 1e5 * side:
                raise ValueError(f'camera {name} is {getattr(self, name):g} for {side} pixels; it '
                                 'must be near them: calibrate the camera anew')

    @classmethod
    def from_horizontal_fov(cls, width: int, height: int, degrees: float) -> Intrinsics:
        """Square pixels, the principal point in the middle, `degrees` from side to side."""
        if not 0 < degrees < 180:
            raise ValueError(f'horizontal field of view is {degrees}°; it must lie in 0…180°')
        focal = width / (2 * np.tan(np.deg2rad(degrees) / 2))
        return cls(width, height, float(focal), float(focal), (width - 1) / 2, (height - 1) / 2)

    def resized(self, width: int, height: int) -> Intrinsics:
        """The same camera read out at another resolution (image_geometry's convention)."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """K, 3×3."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])


class Rectification:
    """Undistorts the images of one calibrated camera.

    Args:
        camera: Intrinsics of the distorted images.
        rectified: Intrinsics of the undistorted ones.
        model: ``plumb_bob``, ``rational_polynomial`` or ``equidistant``.
        distortion: The model's coefficients.
        rotation: 3×3, the rectifying rotation of a stereo camera.

    Attributes:
        rectified: As given.
        unseen: bool H×W, where the undistorted image looks past the edge of the distorted one.

    Raises:
        ValueError: The model is another, or a coefficient is not finite.
    """

    def __init__(self, camera: Intrinsics, rectified: Intrinsics, model: str,
                 distortion: npt.ArrayLike,
                 rotation: npt.NDArray[np.float64] | None = None) -> None:
        distortion = np.asarray(distortion, np.float64)
        if not np.isfinite(distortion).all():
            raise ValueError(f'distortion coefficients {distortion.tolist()} are not all '
                             'finite: calibrate the camera anew')
        size = (rectified.width, rectified.height)
        if model in ('plumb_bob', 'rational_polynomial'):
            self._maps = cv2.initUndistortRectifyMap(
                camera.matrix, distortion, rotation, rectified.matrix, size, cv2.CV_32FC1)
        elif model == 'equidistant':
            self._maps = cv2.fisheye.initUndistortRectifyMap(
                camera.matrix, distortion[:4], np.eye(3) if rotation is None else rotation,
                rectified.matrix, size, cv2.CV_32FC1)
        else:
            raise ValueError(f'distortion model {model!r} is not known: use plumb_bob, '
                             'rational_polynomial or equidistant')
        self.rectified = rectified
        x, y = self._maps
        self.unseen: npt.NDArray[np.bool_] = ~(
            (x >= -0.5) & (x <= camera.width - 0.5) & (y >= -0.5) & (y <= camera.height - 0.5))

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 H×W×3 → the same, undistorted; black where :attr:`unseen`."""
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR).astype(np.uint8, copy=False)

    def apply_depth(self, depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 H×W metres → the same, undistorted, nearest; NaN where :attr:`unseen`."""
        x, y = self._maps
        nearest = cv2.remap(depth, np.rint(x), np.rint(y), cv2.INTER_NEAREST,
                            borderMode=cv2.BORDER_REPLICATE)
        return np.where(self.unseen, np.float32(np.nan), nearest.astype(np.float32, copy=False))
