"""Point clouds: from depth images, thinned by voxels, out of messages, into PLY files.

Frames are optical frames (REP 103): x right, y down, z forward, metres.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.outlines import snap_edges

# One organised point: x, y, z in metres, colour packed as 0x00RRGGBB in a float's place.
POINT = np.dtype([('x', np.float32), ('y', np.float32), ('z', np.float32), ('rgb', np.uint32)])
# Likewise with how sure depth is: 1 − its standard deviation / depth, 0…1, where RViz looks for it.
CONFIDENT_POINT = np.dtype([*POINT.descr, ('intensity', np.float32)])
# sensor_msgs/PointField: its datatypes
POINT_FIELD_TYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8'}
RGB_SHIFTS = (16, 8, 0)  # bits: where red, green and blue lie in 0x00RRGGBB


def pack_rgb(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Colours uint8 …×3 → uint32 …, 0x00RRGGBB as RViz and PCL read it."""
    packed = np.zeros(colours.shape[:-1], np.uint32)
    for channel, shift in enumerate(RGB_SHIFTS):
        packed |= colours[..., channel].astype(np.uint32) << shift
    return packed


def unpack_rgb(packed: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """uint32 0x00RRGGBB … → colours uint8 …×3."""
    return np.stack([packed >> shift & 255 for shift in RGB_SHIFTS], axis=-1).astype(np.uint8)


@lru_cache(maxsize=8)
def _ray_slopes(intrinsics: Intrinsics) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """x/z of each column (W) and y/z of each row (H×1)."""
    x = (np.arange(intrinsics.width, dtype=np.float32) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height, dtype=np.float32) - intrinsics.cy) / intrinsics.fy
    return x.astype(np.float32), y.astype(np.float32)[:, None]


def organised_cloud(depth: npt.NDArray[np.float32], rgb: npt.NDArray[np.uint8],
                    intrinsics: Intrinsics, stride: int = 1, min_range: float = 0.0,
                    max_range: float = 0.0, edge_filter: float = 0.0,
                    confidence: npt.NDArray[np.float32] | None = None) -> npt.NDArray[Any]:
    """Depth image → points, one per pixel, in the camera's optical frame.

    Args:
        depth: H×W metres, NaN where unknown.
        rgb: H×W×3.
        intrinsics: Of that image.
        stride: Only every stride-th row and column, from the first.
        min_range: Metres from the camera in a straight line, as costmaps measure it; nearer points
            are left out.
        max_range: Likewise for farther points; 0: no limit.
        edge_filter: Moves points on a jump in depth to one of its sides (the `fraction` of
            :func:`hybrid_depth_ros.outlines.snap_edges`); 0: off.
        confidence: float32 H×W, 0…1, for the field ``intensity``; None: there is no such field.

    Returns:
        ⌈H/stride⌉×⌈W/stride⌉ of dtype ``POINT``, or ``CONFIDENT_POINT`` with `confidence`. x, y and
        z are NaN where depth is, and where a point is left out.

    Raises:
        ValueError: The intrinsics are for another size, stride is below 1, or no range is left.
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
    if edge_filter > 0:
        depth = snap_edges(depth, edge_filter)
    x, y, z = x[::stride], y[::stride], depth[picked].astype(np.float32)
    if min_range > 0 or max_range > 0:
        square = (x * x + (y * y + 1)) * z * z
        outside = square < min_range ** 2
        if max_range > 0:
            outside |= square > max_range ** 2
        z[outside] = np.nan
    # little-endian 0x00RRGGBB is the bytes B, G, R, 0: quicker than pack_rgb
    colours = cv2.cvtColor(rgb[picked], cv2.COLOR_RGB2BGRA).view(np.uint32)[..., 0]
    colours &= 0xffffff
    # one pass over the points; field by field NumPy takes twice as long
    fields = [z * x, z * y, z, colours.view(np.float32)]
    if confidence is None:
        return cv2.merge(fields).view(POINT)[..., 0]
    return cv2.merge([*fields, np.ascontiguousarray(confidence[picked])]).view(
        CONFIDENT_POINT)[..., 0]


def voxel_downsample(cloud: npt.NDArray[Any], size: float) -> npt.NDArray[Any]:
    """One point for each voxel that holds any: their centroid, mean colour and mean intensity.

    Args:
        cloud: Of dtype ``POINT`` or ``CONFIDENT_POINT``, any shape, NaN where unknown.
        size: Metres, the voxel's edge. Corners of voxels lie on multiples of it in the cloud's
            frame.

    Returns:
        1×N of the same dtype, no NaN, in the order of the voxels (by x, then y, then z).

    Raises:
        ValueError: `size` is not above 0, or the cloud is more than 65536 voxels long.
    """
    if not size > 0:
        raise ValueError(f'voxel size is {size}; it must be above 0 metres')
    points = cloud.ravel()[np.flatnonzero(np.isfinite(cloud['z']))]
    if not points.size:
        return np.empty((1, 0), cloud.dtype)
    indices = np.empty((3, points.size), np.uint16)  # NumPy sorts 16 bits by radix, the fastest
    for index, axis in zip(indices, 'xyz'):
        along = np.floor(points[axis] / np.float32(size))
        along -= along.min()
        if not along.max() <= 0xffff:
            raise ValueError(f'voxel size {size} m is too small for this cloud: make it larger')
        index[:] = along

    def starts(indices: npt.NDArray[np.uint16]) -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.append(True, (indices[:, 1:] != indices[:, :-1]).any(0)))
    # Neighbours in the image mostly share a voxel: added up, far fewer are left to sort.
    runs = starts(indices)
    indices = indices[:, runs]
    order = np.lexsort(indices[::-1])
    firsts = starts(indices[:, order])
    counts = np.add.reduceat(np.diff(runs, append=points.size)[order], firsts)

    def mean(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        sums = np.add.reduceat(values, runs, dtype=np.float64)
        means: npt.NDArray[np.float64] = np.add.reduceat(sums[order], firsts) / counts
        return means
    voxels = np.zeros((1, firsts.size), cloud.dtype)
    for field in cloud.dtype.names or ():
        if field != 'rgb':
            voxels[field] = mean(points[field])
    for shift in RGB_SHIFTS:
        voxels['rgb'] |= np.rint(mean(points['rgb'] >> shift & 0xff)).astype(np.uint32) << shift
    return voxels


def cloud_to_array(message: Any, others: Sequence[str] = ()) -> npt.NDArray[Any]:
    """sensor_msgs/PointCloud2 → its points as they lie in its data, checked: a view.

    Args:
        message: Anything with the fields of sensor_msgs/PointCloud2.
        others: Names of fields that are taken too, where the cloud has them.

    Returns:
        A structured array H×W of x, y, z and, where there is one, rgb as uint32 (0x00RRGGBB);
        empty where there is no point.

    Raises:
        ValueError: It has no x, y and z, a field is not inside a point, or the data do not fill
            the rows.
    """
    fields = {field.name: field for field in message.fields}
    if missing := [axis for axis in 'xyz' if axis not in fields]:
        raise ValueError(f'the cloud has no field {", ".join(missing)}, only '
                         f'{", ".join(map(str, fields)) or "none"}; x, y and z are needed')
    names = [name for name in (*'xyz', 'rgb', *others) if name in fields]
    kinds = {name: 'u4' if name == 'rgb' else POINT_FIELD_TYPES.get(fields[name].datatype, '')
             for name in names}
    height, width, step = message.height, message.width, message.point_step
    size = memoryview(message.data).nbytes
    if not height and width and size == width * step:
        height = 1  # some drivers leave it out
    if size and not (height and width):
        raise ValueError(f'the cloud tells of {height} rows of {width} points, and holds {size} '
                         'bytes: have its driver fill height and width')
    # NumPy's own check wraps around near 2³¹, and then it reads what is not the message's
    if odd := [name for name, kind in kinds.items()
               if not kind or fields[name].offset + int(kind[1]) > step]:
        raise ValueError(f'the cloud has points of {step} bytes, which end before their fields '
                         f'{", ".join(odd)}, or PointField does not know their datatypes')
    row_step = message.row_step or width * step
    if row_step < width * step or size < height * row_step:
        raise ValueError(f'the cloud is truncated: it tells of {height} rows of {width} points of '
                         f'{step} bytes in {row_step}, and holds {size} bytes')
    order = '>' if message.is_bigendian else '<'
    kind = np.dtype({'names': names, 'formats': [order + kinds[name] for name in names],
                     'offsets': [fields[name].offset for name in names], 'itemsize': step})
    if not width or not height:
        return np.empty((0, 0), kind)
    return np.ndarray((height, width), kind, message.data, 0, (row_step, step))


def save_ply(path: Path, cloud: npt.NDArray[Any]) -> None:
    """Write a cloud of dtype ``POINT`` as a binary PLY file, without NaN points."""
    points = cloud[np.isfinite(cloud['z'])]
    kind = np.dtype([(axis, '<f4') for axis in 'xyz'] + [('rgb', 'u1', 3)])
    vertices = np.empty(points.size, kind)
    for axis in 'xyz':
        vertices[axis] = points[axis]
    vertices['rgb'] = unpack_rgb(points['rgb'])
    header = (f'ply\nformat binary_little_endian 1.0\ncomment optical frame, metres\n'
              f'element vertex {points.size}\n'
              'property float x\nproperty float y\nproperty float z\n'
              'property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n')
    with open(path, 'wb') as file:
        file.write(header.encode())
        file.write(vertices.tobytes())
