"""True depth in the pixels of the picture that it is compared with."""

import numpy as np

from hybrid_depth_ros.geometry import same_shape


def register_depth(depth, width, height, depth_camera=None, camera=None, transform=None):
    """Depth as a width×height camera has it: float32 H×W metres, NaN where nothing is known.

    depth: float32, any size. depth_camera, camera: Intrinsics of the depth and of the camera;
    where either is None, depth is taken to be registered, and only scaled to the size.
    transform: 4×4, the depth camera's pose in the other camera's frame; None: both look from one
    point in one direction.
    No depth is invented: each pixel takes its nearest one's, or of several that fall on it
    after a transform the nearest to the camera. Raises ValueError where intrinsics are for
    another size, or depth of another shape would have to be scaled.
    """
    if depth_camera is None or camera is None:
        if depth.shape == (height, width):
            return depth
        if not same_shape(depth.shape[::-1], (width, height)):
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
    columns = _nearest((np.arange(width) - camera.cx) * (depth_camera.fx / camera.fx)
                       + depth_camera.cx)
    rows = _nearest((np.arange(height) - camera.cy) * (depth_camera.fy / camera.fy)
                    + depth_camera.cy)
    seen = (((rows >= 0) & (rows < depth.shape[0]))[:, None]
            & ((columns >= 0) & (columns < depth.shape[1])))
    nearest = depth[rows.clip(0, depth.shape[0] - 1)[:, None],
                    columns.clip(0, depth.shape[1] - 1)]
    return np.where(seen, nearest, np.float32(np.nan))


def _nearest(pixels):
    return np.floor(pixels + 0.5).astype(int)


def _project(depth, depth_camera, camera, transform):
    v, u = np.nonzero(np.isfinite(depth))
    z = depth[v, u].astype(np.float64)
    points = np.stack(((u - depth_camera.cx) / depth_camera.fx * z,
                       (v - depth_camera.cy) / depth_camera.fy * z, z))
    x, y, z = transform[:3, :3] @ points + transform[:3, 3:]
    x, y, z = x[z > 0], y[z > 0], z[z > 0]
    u, v = _nearest(x / z * camera.fx + camera.cx), _nearest(y / z * camera.fy + camera.cy)
    seen = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    registered = np.full((camera.height, camera.width), np.inf, np.float32)
    np.minimum.at(registered, (v[seen], u[seen]), z[seen].astype(np.float32))
    registered[np.isinf(registered)] = np.nan
    return registered
