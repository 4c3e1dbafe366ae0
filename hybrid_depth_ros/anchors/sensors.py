"""Anchors from what sensors measured: points in their own frame, then in a camera's image.

Messages are taken by their fields alone, so that those of rclpy and those of a recording will do.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import cloud_to_array
from hybrid_depth_ros.poses import Pose

NEAREST = 0.05  # metres along the optical axis; nearer is the robot itself, or the lens
OCCLUSION_CELLS = 64  # along the image's width, in which points hide those behind them
# A point is hidden where another one near it is shifted by more than this many cells against it,
# seen from the camera instead of from the sensor.
OCCLUSION_PARALLAX = 1.2
FARTHEST_MEDIAN = 300.0  # metres: a median beyond is of another unit
ULTRASOUND = 0  # sensor_msgs/Range: its radiation_type
ULTRASOUND_SD, INFRARED_SD = 0.1, 0.03  # share of a range
MIN_FIELD_OF_VIEW = np.deg2rad(3)  # radians of an ultrasound's cone


def _check_metres(distances: npt.NDArray[np.floating], what: str) -> None:
    """Raise ValueError where distances can hardly be metres."""
    if distances.size and (median := float(np.median(distances))) > FARTHEST_MEDIAN:
        raise ValueError(f'{what} of {median:.0f} m are told of: are these millimetres? Have the '
                         'driver publish metres (REP 103)')


def scan_points(message: Any) -> npt.NDArray[np.float32]:
    """The points of a sensor_msgs/LaserScan in its frame.

    What is no measurement is left out: NaN, inf, outside of range_min…range_max (REP 117).

    Returns:
        float32 3×N metres, x forward, z = 0.

    Raises:
        ValueError: angles or limits are no numbers, angles no radians, or ranges no metres.
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
    _check_metres(ranges, 'ranges')
    return np.stack((ranges * np.cos(angles), ranges * np.sin(angles), np.zeros_like(ranges))
                    ).astype(np.float32)


def cloud_points(message: Any) -> npt.NDArray[np.float32]:
    """The finite points of a sensor_msgs/PointCloud2 in its frame.

    Returns:
        float32 3×N metres.

    Raises:
        ValueError: it has no x, y and z, not as many bytes as it says, or no metres.
    """
    cloud = cloud_to_array(message)
    with np.errstate(over='ignore', invalid='ignore'):
        points = np.stack([cloud[axis].ravel().astype(np.float32) for axis in 'xyz'])
    good = np.isfinite(points).all(0)
    points = points if good.all() else points[:, good]
    _check_metres(np.abs(points).max(0), 'points at distances')
    return points


def project(points: npt.NDArray[np.floating], pose: Pose, intrinsics: Intrinsics) -> Anchors:
    """The points that lie in an image and that the camera can see, as its anchors.

    A sensor that looks over a table's edge measures what the table hides from the camera. Such
    points lie beside nearer ones and, by parallax, elsewhere than the sensor sees them. They are
    left out.

    Args:
        points: 3×N metres in the sensor's frame.
        pose: 4×4, of the sensor in the optical frame (REP 103).
        intrinsics: of the image.

    Raises:
        ValueError: the pose is not 4×4 and finite.
    """
    pose = _check_pose(pose)
    points = np.asarray(points, np.float32)
    x, y, z = pose[:3, :3].astype(np.float32) @ points + pose[:3, 3:].astype(np.float32)
    ahead = z > NEAREST
    x, y, z = x[ahead], y[ahead], z[ahead]
    u = x / z * np.float32(intrinsics.fx) + np.float32(intrinsics.cx)
    v = y / z * np.float32(intrinsics.fy) + np.float32(intrinsics.cy)
    inside = ((u > -0.5) & (u < intrinsics.width - 0.5)
              & (v > -0.5) & (v < intrinsics.height - 0.5))
    u, v, z = u[inside], v[inside], z[inside]
    baseline = float(np.hypot(*pose[:2, 3]))
    seen = _visible(u, v, z, baseline, intrinsics)
    return Anchors(u[seen], v[seen], z[seen])


def _check_pose(pose: Pose) -> Pose:
    pose = np.asarray(pose, np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise ValueError(f'a pose must be 4×4 finite numbers, got {pose.shape}')
    return pose


def _visible(u: npt.NDArray[np.float32], v: npt.NDArray[np.float32], z: npt.NDArray[np.float32],
             baseline: float, intrinsics: Intrinsics) -> npt.NDArray[np.bool_]:
    """Whether the camera sees each point: none near it hides it. baseline: metres."""
    size = intrinsics.width / OCCLUSION_CELLS  # pixels
    if baseline * intrinsics.fx / NEAREST < OCCLUSION_PARALLAX * size or not z.size:
        return np.ones(z.size, bool)
    columns, rows = OCCLUSION_CELLS, int(np.ceil(intrinsics.height / size))
    cell = ((v + 0.5) / size).astype(np.int32).clip(0, rows - 1) * columns + (
        (u + 0.5) / size).astype(np.int32).clip(0, columns - 1)
    inverse = 1 / z
    nearest: npt.NDArray[Any] = np.zeros(rows * columns, np.float32)
    np.maximum.at(nearest, cell, inverse)
    nearest = cv2.dilate(nearest.reshape(rows, columns), np.ones((3, 3), np.uint8)).ravel()
    return baseline * intrinsics.fx * (nearest[cell] - inverse) < OCCLUSION_PARALLAX * size


def range_anchors(message: Any, pose: Pose, depth: npt.NDArray[np.float32],
                  intrinsics: Intrinsics) -> Anchors:
    """At most one anchor of a sensor_msgs/Range.

    Ultrasound hears the nearest thing in its cone: predicted depth tells where that is. Infrared,
    in its narrow cone, measures along the axis.

    Args:
        message: the range.
        pose: 4×4, of the sensor in the optical frame; it looks along its x.
        depth: H×W metres as predicted.
        intrinsics: of the image.

    Raises:
        ValueError: its limits or its cone are no numbers.
    """
    pose = _check_pose(pose)
    if np.isnan([message.min_range, message.max_range, message.field_of_view]).any():
        raise ValueError(f'the range lies in {message.min_range} to {message.max_range} m, within '
                         f'{message.field_of_view} rad: have its driver fill these')
    distance, none = float(message.range), Anchors.joined(())
    if not (max(message.min_range, 1e-3) <= distance <= (message.max_range or np.inf)
            and distance < np.inf):  # NaN neither
        return none
    axis = np.array([1.0, 0, 0])
    if message.radiation_type != ULTRASOUND:
        hit = project(distance * axis[:, None], pose, intrinsics)
        return Anchors(hit.u, hit.v, hit.depth, INFRARED_SD * hit.depth)
    step = max(1, intrinsics.width // 80)
    columns, rows = (np.arange(step // 2, size, step)
                     for size in (intrinsics.width, intrinsics.height))
    x = ((columns - intrinsics.cx) / intrinsics.fx)[None, :]
    y = ((rows - intrinsics.cy) / intrinsics.fy)[:, None]
    z = depth[rows[:, None], columns].astype(np.float64)
    offset = np.stack((x * z, y * z, z)) - pose[:3, 3][:, None, None]
    with np.errstate(invalid='ignore', divide='ignore'):
        away = np.sqrt((offset * offset).sum(0))
        cosine = np.tensordot(pose[:3, :3] @ axis, offset, 1) / away
        heard = ((cosine > np.cos(max(message.field_of_view, MIN_FIELD_OF_VIEW) / 2))
                 & (z > 0) & (away < np.inf))
    if not heard.any():
        return none
    away = np.where(heard, away, np.inf)
    # not the very nearest: one wrong pixel would decide
    nearest = np.partition(away[heard], heard.sum() // 20)[heard.sum() // 20]
    v, u = np.unravel_index(np.argmin(np.abs(away - nearest)), away.shape)
    # the ray of that pixel, as far as the sensor says
    ray = np.array([x[0, u], y[v, 0], 1.0])
    origin = pose[:3, 3]
    a, b, c = ray @ ray, ray @ origin, origin @ origin - distance ** 2
    root = b * b - a * c
    if root < 0 or b + np.sqrt(root) <= NEAREST * a:
        return none
    true = (b + np.sqrt(root)) / a
    place = np.array([columns[u], rows[v], true, ULTRASOUND_SD * distance], np.float32)
    return Anchors(*place[:, None])
