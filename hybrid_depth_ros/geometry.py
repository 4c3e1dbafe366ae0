"""Pinhole geometry: intrinsics, rectification, and depth images as point clouds.

Frames are optical frames (REP 103): x right, y down, z forward, metres. Pixel (0, 0) is the
centre of the top-left pixel. Depth is z, not the distance along the ray (REP 118).
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

# One organised point: x, y, z in metres, colour packed as 0x00RRGGBB in a float's place.
POINT = np.dtype([('x', np.float32), ('y', np.float32), ('z', np.float32), ('rgb', np.uint32)])


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; all but width and height in pixels.

    Raises ValueError where a number is not finite, or a size or focal length not above 0.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self):
        for name in ('width', 'height', 'fx', 'fy'):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f'camera {name} is {value}; it must be a number above 0')
        for name in ('cx', 'cy'):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f'camera {name} is {getattr(self, name)}; it must be finite')

    @classmethod
    def from_horizontal_fov(cls, width, height, degrees):
        """Square pixels, the principal point in the middle, `degrees` from side to side."""
        if not 0 < degrees < 180:
            raise ValueError(f'horizontal field of view is {degrees}°; it must lie in 0…180°')
        focal = width / (2 * np.tan(np.deg2rad(degrees) / 2))
        return cls(width, height, float(focal), float(focal), (width - 1) / 2, (height - 1) / 2)

    def resized(self, width, height):
        """The same camera read out at another resolution (image_geometry's convention)."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)

    def region(self, x, y, width, height):
        """The same camera with only a window of its image kept."""
        return replace(self, width=width, height=height, cx=self.cx - x, cy=self.cy - y)

    @property
    def matrix(self):
        """K, float64 3×3."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])


@lru_cache(maxsize=8)
def _ray_slopes(intrinsics):
    x = (np.arange(intrinsics.width, dtype=np.float32) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height, dtype=np.float32) - intrinsics.cy) / intrinsics.fy
    return x.astype(np.float32), y.astype(np.float32)[:, None]


def organised_cloud(depth, rgb, intrinsics):
    """Depth image → points, one per pixel, in the camera's optical frame.

    depth: float32 H×W metres, NaN where unknown. rgb: uint8 H×W×3. Returns a structured
    array H×W of dtype ``POINT``; x, y and z are NaN where depth is. Raises ValueError when
    the intrinsics are for another size.
    """
    if depth.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(f'depth is {depth.shape[1]}×{depth.shape[0]}, the intrinsics are for '
                         f'{intrinsics.width}×{intrinsics.height}')
    x, y = _ray_slopes(intrinsics)
    cloud = np.empty(depth.shape, POINT)
    np.multiply(depth, x, out=cloud['x'])
    np.multiply(depth, y, out=cloud['y'])
    cloud['z'] = depth
    # little-endian 0x00RRGGBB is the bytes B, G, R, 0
    packed = cloud.view(np.uint8).reshape(*depth.shape, POINT.itemsize)[..., 12:]
    packed[..., :3] = rgb[..., ::-1]
    packed[..., 3] = 0
    return cloud


class Rectification:
    """Undistort images of one calibrated camera.

    camera, rectified: Intrinsics before and after. model: ``plumb_bob``,
    ``rational_polynomial`` or ``equidistant``. distortion: its coefficients. rotation: 3×3,
    the rectifying rotation of a stereo camera, or None.
    Raises ValueError for another model or a coefficient that is not finite.
    """

    def __init__(self, camera, rectified, model, distortion, rotation=None):
        distortion = np.asarray(distortion, np.float64)
        if not np.isfinite(distortion).all():
            raise ValueError(f'distortion coefficients {distortion.tolist()} are not all finite')
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
        # Where the rectified image looks past the edge of what the camera saw.
        self.unseen = ~((x >= -0.5) & (x <= camera.width - 0.5)
                        & (y >= -0.5) & (y <= camera.height - 0.5))

    def apply(self, image):
        """uint8 H×W×3 → the same, undistorted; black where :attr:`unseen`."""
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR)
