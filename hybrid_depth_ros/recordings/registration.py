"""Depth of one camera in the pixels of another: registration."""

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.geometry import Intrinsics, same_aspect_ratio


def register_depth(depth: npt.NDArray[np.float32], width: int, height: int,
                   depth_camera: Intrinsics | None = None, camera: Intrinsics | None = None,
                   transform: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.float32]:
    """Depth as a width×height camera has it.

    No depth is interpolated: each pixel takes its nearest one's, or of several that fall on it
    after a transform the nearest to the camera.

    Args:
        depth: Any size, metres.
        width: Of the camera's image.
        height: Of the camera's image.
        depth_camera: Intrinsics of the depth image; without them or the camera's, depth is taken
            to be registered, and only scaled to the size.
        camera: Intrinsics of the camera.
        transform: 4×4, the depth camera's pose in the camera's optical frame; None: both are at
            one point and look in one direction.

    Returns:
        float32 height×width, metres, NaN where unknown.

    Raises:
        ValueError: Intrinsics are for another size, or depth of another aspect ratio would have
            to be scaled.
    """
    if depth_camera is None or camera is None:
        if depth.shape == (height, width):
            return depth
        if not same_aspect_ratio((depth.shape[1], depth.shape[0]), (width, height)):
            raise ValueError(f'depth of {depth.shape[1]}×{depth.shape[0]} and an image of '
                             f'{width}×{height} are not of one view')
        rows, columns = ((2 * np.arange(size) + 1) * own // (2 * size)
                         for size, own in zip((height, width), depth.shape))
        return depth[rows[:, None], columns]
    for name, intrinsics, size in (('depth', depth_camera, depth.shape),
                                   ('camera', camera, (height, width))):
        if (intrinsics.height, intrinsics.width) != size:
            raise ValueError(f'the {name} is {size[1]}×{size[0]}, its intrinsics are for '
                             f'{intrinsics.width}×{intrinsics.height}')
    if transform is not None:
        return _project(depth, depth_camera, camera, np.asarray(transform))
    if depth_camera == camera:
        return depth
    columns = _nearest_pixel((np.arange(width) - camera.cx) * (depth_camera.fx / camera.fx)
                             + depth_camera.cx)
    rows = _nearest_pixel((np.arange(height) - camera.cy) * (depth_camera.fy / camera.fy)
                          + depth_camera.cy)
    seen = (((rows >= 0) & (rows < depth.shape[0]))[:, None]
            & ((columns >= 0) & (columns < depth.shape[1])))
    nearest = depth[rows.clip(0, depth.shape[0] - 1)[:, None],
                    columns.clip(0, depth.shape[1] - 1)]
    return np.where(seen, nearest, np.float32(np.nan))


def _nearest_pixel(places: npt.NDArray[np.floating]) -> npt.NDArray[np.int_]:
    return np.floor(places + 0.5).astype(int)


def _project(depth: npt.NDArray[np.float32], depth_camera: Intrinsics, camera: Intrinsics,
             transform: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    v, u = np.nonzero(np.isfinite(depth))
    z = depth[v, u].astype(np.float64)
    points = np.stack(((u - depth_camera.cx) / depth_camera.fx * z,
                       (v - depth_camera.cy) / depth_camera.fy * z, z))
    x, y, z = transform[:3, :3] @ points + transform[:3, 3:]
    x, y, z = x[z > 0], y[z > 0], z[z > 0]
    u = _nearest_pixel(x / z * camera.fx + camera.cx)
    v = _nearest_pixel(y / z * camera.fy + camera.cy)
    seen = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    registered = np.full((camera.height, camera.width), np.inf, np.float32)
    np.minimum.at(registered, (v[seen], u[seen]), z[seen].astype(np.float32))
    registered[np.isinf(registered)] = np.nan
    return registered
