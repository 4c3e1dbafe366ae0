"""What sensors measured, as points in their own frame, and as anchors in a camera's picture.

Messages are taken by their fields alone, so that those of rclpy and those out of a recording will
do. Transforms are 4×4, a sensor's pose in the camera's optical frame (REP 103): they take points
from the one to the other.
"""

import cv2
import numpy as np

from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.point_cloud import cloud_to_array

NEAREST = 0.05   # metres along the optical axis; nearer is the robot itself, or the lens
CELLS = 64       # along the picture's width, in which points hide those behind them
# A point is hidden where another one near it is shifted by more than this many cells against it,
# seen from the camera instead of from the sensor.
SHIFT = 1.2
FARTHEST = 300.0  # metres: a median beyond is of another unit
ULTRASOUND = 0   # sensor_msgs/Range: its radiation_type
ULTRASOUND_SD, LIGHT_SD = 0.1, 0.03  # share of the range, of a single one


def _in_metres(distances, what):
    """Raise ValueError where distances can hardly be metres."""
    if distances.size and (median := float(np.median(distances))) > FARTHEST:
        raise ValueError(f'{what} of {median:.0f} m are told of: are these millimetres? Have the '
                         'driver publish metres (REP 103)')


def scan_points(message):
    """sensor_msgs/LaserScan → float32 3×N metres in its frame, x forward, z = 0.

    Left out is what is no measurement: NaN, inf, outside of range_min…range_max (REP 117).
    Raises ValueError where angles or limits are no numbers, angles are no radians, or ranges no
    metres.
    """
    ranges = np.asarray(message.ranges, np.float32)
    first, step = float(message.angle_min), float(message.angle_increment)
    nearest, farthest = float(message.range_min), float(message.range_max)
    if not np.isfinite([first, step]).all() or np.isnan([nearest, farthest]).any():
        raise ValueError(f'the scan starts at {first} rad in steps of {step} rad, from {nearest} '
                         f'to {farthest} m: have its driver fill these')
    if ranges.size > 1 and not 0 < abs(step) * (ranges.size - 1) < 4 * np.pi:
        raise ValueError(f'the scan has {ranges.size} ranges in steps of {step:g} rad, which no '
                         'turn has: have its driver fill angle_increment, in radians')
    with np.errstate(invalid='ignore'):
        good = (ranges >= max(nearest, 1e-3)) & (ranges < np.inf)
        if farthest > 0:
            good &= ranges <= farthest
    angles = first + step * np.flatnonzero(good)
    ranges = ranges[good]
    _in_metres(ranges, 'ranges')
    return np.stack((ranges * np.cos(angles), ranges * np.sin(angles), np.zeros_like(ranges))
                    ).astype(np.float32)


def cloud_points(message):
    """sensor_msgs/PointCloud2 → float32 3×N metres in its frame; what is not finite is left out.

    Raises ValueError where it has no x, y and z, not the bytes that it tells of, or no metres.
    """
    cloud = cloud_to_array(message)
    with np.errstate(over='ignore', invalid='ignore'):
        points = np.stack([cloud[axis].ravel().astype(np.float32) for axis in 'xyz'])
    good = np.isfinite(points).all(0)
    points = points if good.all() else points[:, good]
    _in_metres(np.abs(points).max(0), 'points at distances')
    return points


def project(points, transform, intrinsics):
    """Points as anchors of a picture: those that lie in it, and that the camera can see.

    points: 3×N metres. transform: 4×4, see above. intrinsics: of the picture. A sensor that
    looks over a table's edge measures what the table hides from the camera; such points lie
    beside nearer ones, and far enough from the sensor's own ray, and are left out. Returns
    :class:`Anchors`. Raises ValueError for a transform that is not 4×4 and finite.
    """
    transform = _checked(transform)
    points = np.asarray(points, np.float32)
    x, y, z = (transform[:3, :3].astype(np.float32) @ points
               + transform[:3, 3:].astype(np.float32))
    ahead = z > NEAREST
    x, y, z = x[ahead], y[ahead], z[ahead]
    u = x / z * np.float32(intrinsics.fx) + np.float32(intrinsics.cx)
    v = y / z * np.float32(intrinsics.fy) + np.float32(intrinsics.cy)
    inside = ((u > -0.5) & (u < intrinsics.width - 0.5)
              & (v > -0.5) & (v < intrinsics.height - 0.5))
    u, v, z = u[inside], v[inside], z[inside]
    baseline = float(np.hypot(*transform[:2, 3]))
    seen = _seen(u, v, z, baseline, intrinsics)
    return Anchors(u[seen], v[seen], z[seen])


def _checked(transform):
    transform = np.asarray(transform, np.float64)
    if transform.shape != (4, 4) or not np.isfinite(transform).all():
        raise ValueError(f'a pose must be 4×4 finite numbers, got {transform.shape}')
    return transform


def _seen(u, v, z, baseline, intrinsics):
    size = intrinsics.width / CELLS
    if baseline * intrinsics.fx / NEAREST < SHIFT * size or not z.size:
        return np.ones(z.size, bool)
    columns, rows = CELLS, int(np.ceil(intrinsics.height / size))
    cell = ((v + 0.5) / size).astype(np.int32).clip(0, rows - 1) * columns + (
        (u + 0.5) / size).astype(np.int32).clip(0, columns - 1)
    inverse = 1 / z
    nearest = np.zeros(rows * columns, np.float32)
    np.maximum.at(nearest, cell, inverse)
    nearest = cv2.dilate(nearest.reshape(rows, columns), np.ones((3, 3), np.uint8)).ravel()
    return baseline * intrinsics.fx * (nearest[cell] - inverse) < SHIFT * size


def range_anchors(message, transform, depth, intrinsics):
    """sensor_msgs/Range → at most one anchor.

    transform: see above; the sensor looks along its x. depth: float32 H×W metres as predicted,
    which tells where in its cone the nearest thing is: that is what ultrasound hears. Light, in
    its narrow cone, measures along the middle. Returns :class:`Anchors`. Raises ValueError where
    its limits or its cone are no numbers.
    """
    transform = _checked(transform)
    if np.isnan([message.min_range, message.max_range, message.field_of_view]).any():
        raise ValueError(f'the range lies in {message.min_range} to {message.max_range} m, within '
                         f'{message.field_of_view} rad: have its driver fill these')
    distance, none = float(message.range), Anchors.joined(())
    if not (max(message.min_range, 1e-3) <= distance <= (message.max_range or np.inf)
            and distance < np.inf):  # NaN neither
        return none
    axis = np.array([1.0, 0, 0])
    if message.radiation_type != ULTRASOUND:
        light = project(distance * axis[:, None], transform, intrinsics)
        return Anchors(light.u, light.v, light.depth, LIGHT_SD * light.depth)
    step = max(1, intrinsics.width // 80)
    columns, rows = (np.arange(step // 2, size, step)
                     for size in (intrinsics.width, intrinsics.height))
    x = ((columns - intrinsics.cx) / intrinsics.fx)[None, :]
    y = ((rows - intrinsics.cy) / intrinsics.fy)[:, None]
    z = depth[rows[:, None], columns].astype(np.float64)
    offset = np.stack((x * z, y * z, z)) - transform[:3, 3][:, None, None]
    with np.errstate(invalid='ignore', divide='ignore'):
        away = np.sqrt((offset * offset).sum(0))
        cosine = np.tensordot(transform[:3, :3] @ axis, offset, 1) / away
        heard = ((cosine > np.cos(max(message.field_of_view, np.deg2rad(3)) / 2))
                 & (z > 0) & (away < np.inf))
    if not heard.any():
        return none
    away = np.where(heard, away, np.inf)
    # not the very nearest: one wrong pixel would decide
    nearest = np.partition(away[heard], heard.sum() // 20)[heard.sum() // 20]
    v, u = np.unravel_index(np.argmin(np.abs(away - nearest)), away.shape)
    # the ray of that pixel, as far as the sensor says
    ray = np.array([x[0, u], y[v, 0], 1.0])
    origin = transform[:3, 3]
    a, b, c = ray @ ray, ray @ origin, origin @ origin - distance ** 2
    root = b * b - a * c
    if root < 0 or b + np.sqrt(root) <= NEAREST * a:
        return none
    true = (b + np.sqrt(root)) / a
    return Anchors([columns[u]], [rows[v]], [true], [ULTRASOUND_SD * distance])
