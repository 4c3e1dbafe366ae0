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


def same_shape(size, other):
    """Whether images of two (width, height) can be one view: one is the other resized.

    A side may be a pixel off, rounded.
    """
    (width, height), (columns, rows) = size, other
    return abs(width * rows - height * columns) <= max(width, height, rows, columns)


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; all but width and height in pixels.

    Raises ValueError where a number is not finite, a size or focal length not above 0, or a
    focal length beyond 10⁻⁴…10⁵ of the image's side: depth is scaled by it. Nor may cx and cy lie
    10⁵ sides away.
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
        for name, side in (('fx', self.width), ('fy', self.height)):
            if not 1e-4 < getattr(self, name) / side < 1e5:
                raise ValueError(f'camera {name} is {getattr(self, name):g} for {side} pixels; no '
                                 'lens sees like that: calibrate it anew')
        for name, side in (('cx', self.width), ('cy', self.height)):
            if not abs(getattr(self, name)) < 1e5 * side:
                raise ValueError(f'camera {name} is {getattr(self, name):g} for {side} pixels; it '
                                 'must be near them: calibrate the camera anew')

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


def depth_edges(depth, fraction):
    """The pixels on a jump in depth, where a network hangs points in the air: bool H×W.

    depth: float32 H×W metres; NaN and what is not above 0 is unknown and makes no jump. Depth is
    looked at on a grid of every n-th pixel, n 1/160 of the image's width, and each pixel goes by
    the one next to it: it is on a jump where depth changes by more than `fraction` of itself from
    there to the grid's neighbours. A network's output is enlarged, so the grid misses nothing,
    and what should be a step is a ramp over many pixels: direct neighbours hardly differ. A
    plane n·X = c, however slanted, is no jump: its inverse depth n·(x, y, 1) / c is linear along
    rows and columns, so the least slope that is seen around a pixel is taken off.
    """
    step = max(1, round(depth.shape[1] / 160))
    top, left = ((size - 1) % step // 2 for size in depth.shape)  # what is left over, halved
    edges = _grid_edges(np.ascontiguousarray(depth[top::step, left::step]), fraction)
    above, before = (step - 1) // 2 - top, (step - 1) // 2 - left
    return edges.repeat(step, 0).repeat(step, 1)[
        above:above + depth.shape[0], before:before + depth.shape[1]]


def _grid_edges(depth, fraction):
    window, surroundings = np.ones((3, 3), np.uint8), np.ones((7, 7), np.uint8)
    # 1 / 0, and what has nothing known near it, become infinite or NaN: no jump either
    with np.errstate(divide='ignore', over='ignore', invalid='ignore'):
        inverse = np.reciprocal(depth)
        known = (inverse >= 0) & (inverse < np.inf)
        low, high = np.where(known, inverse, np.inf), np.where(known, inverse, -np.inf)
        inverse = np.where(known, inverse, np.float32(np.nan))
        change = cv2.dilate(high, window) - cv2.erode(low, window)
        for axis in (0, 1):
            ahead, behind, middle = (np.s_[n:m] if axis == 0 else np.s_[:, n:m] for n, m in (
                (2, None), (0, -2), (1, -1)))
            # a slope that leads outside or to the unknown is infinite: never the least
            slope = np.full_like(inverse, np.inf)
            slope[middle] = np.fmin(np.abs(inverse[ahead] - inverse[behind]), np.inf)
            change -= cv2.erode(slope, surroundings)
        return change > np.float32(fraction) * inverse


def organised_cloud(depth, rgb, intrinsics, stride=1, min_range=0.0, max_range=0.0,
                    edge_filter=0.0):
    """Depth image → points, one per pixel, in the camera's optical frame.

    depth: float32 H×W metres, NaN where unknown. rgb: uint8 H×W×3. Returns a structured
    array of dtype ``POINT``, ⌈H/stride⌉×⌈W/stride⌉: every stride-th row and column from the
    first. x, y and z are NaN where depth is, and where a point is filtered: nearer than
    min_range or farther than max_range (metres from the camera in a straight line, as costmaps
    measure it; 0: no limit), or on a jump in depth (:func:`depth_edges` with the fraction
    edge_filter; 0: off).
    Raises ValueError when the intrinsics are for another size, stride is below 1, or no range
    is left.
    """
    if depth.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(f'depth is {depth.shape[1]}×{depth.shape[0]}, the intrinsics are for '
                         f'{intrinsics.width}×{intrinsics.height}')
    if stride < 1:
        raise ValueError(f'cloud stride is {stride}; it must be 1 or more')
    if 0 < max_range <= min_range:
        raise ValueError(f'max_range {max_range} m is not beyond min_range {min_range} m: make '
                         'it larger, or 0 for no limit')
    picked = np.s_[::stride, ::stride]
    x, y = _ray_slopes(intrinsics)
    x, y, z = x[::stride], y[::stride], depth[picked].astype(np.float32)
    if edge_filter > 0:
        z[depth_edges(depth, edge_filter)[picked]] = np.nan
    if min_range > 0 or max_range > 0:
        square = (x * x + (y * y + 1)) * z * z
        outside = square < min_range ** 2
        if max_range > 0:
            outside |= square > max_range ** 2
        z[outside] = np.nan
    # little-endian 0x00RRGGBB is the bytes B, G, R, 0
    colours = cv2.cvtColor(rgb[picked], cv2.COLOR_RGB2BGRA).view(np.uint32)[..., 0]
    colours &= 0xffffff
    # one pass over the points; field by field NumPy takes twice as long
    return cv2.merge([z * x, z * y, z, colours.view(np.float32)]).view(POINT)[..., 0]


def voxel_cloud(cloud, size):
    """One point for each cube of `size` metres that holds any: their centroid and mean colour.

    cloud: structured array of dtype ``POINT``, any shape, NaN where unknown. Returns 1×N, no
    NaN, in the order of the cubes (by x, then y, then z); their corners lie on multiples of
    `size` in the cloud's frame. Raises ValueError where size is not above 0, or the cloud more
    than 65536 cubes long.
    """
    if not size > 0:
        raise ValueError(f'voxel size is {size}; it must be above 0 metres')
    points = cloud.ravel()[np.flatnonzero(np.isfinite(cloud['z']))]
    if not points.size:
        return np.empty((1, 0), POINT)
    cubes = np.empty((3, points.size), np.uint16)  # NumPy sorts 16 bits by radix, the fastest
    for place, axis in zip(cubes, 'xyz'):
        along = np.floor(points[axis] / np.float32(size))
        along -= along.min()
        if not along.max() <= 0xffff:
            raise ValueError(f'voxel size {size} m is too small for this cloud: make it larger')
        place[:] = along

    def starts(cubes):
        return np.flatnonzero(np.append(True, (cubes[:, 1:] != cubes[:, :-1]).any(0)))
    # Neighbours in the image mostly share a cube: added up, far fewer are left to sort.
    runs = starts(cubes)
    cubes = cubes[:, runs]
    order = np.lexsort(cubes[::-1])
    firsts = starts(cubes[:, order])
    counts = np.add.reduceat(np.diff(runs, append=points.size)[order], firsts)

    def mean(values):
        sums = np.add.reduceat(values, runs, dtype=np.float64)
        return np.add.reduceat(sums[order], firsts) / counts
    voxels = np.zeros((1, firsts.size), POINT)
    for axis in 'xyz':
        voxels[axis] = mean(points[axis])
    for shift in (0, 8, 16):
        voxels['rgb'] |= np.rint(mean(points['rgb'] >> shift & 0xff)).astype(np.uint32) << shift
    return voxels


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
        # Where the rectified image looks past the edge of what the camera saw.
        self.unseen = ~((x >= -0.5) & (x <= camera.width - 0.5)
                        & (y >= -0.5) & (y <= camera.height - 0.5))

    def apply(self, image):
        """uint8 H×W×3 → the same, undistorted; black where :attr:`unseen`."""
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR)

    def apply_depth(self, depth):
        """float32 H×W metres → the same, undistorted, nearest; NaN where :attr:`unseen`."""
        nearest = cv2.remap(depth, *map(np.rint, self._maps), cv2.INTER_NEAREST,
                            borderMode=cv2.BORDER_REPLICATE)
        return np.where(self.unseen, np.float32(np.nan), nearest)
