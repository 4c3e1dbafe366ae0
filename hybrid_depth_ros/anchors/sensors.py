"""Anchors from what sensors measured: points in their own frame, then in a camera's image.

Messages are taken by their fields alone, so that those of rclpy and those of a recording will do.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.measurements import (
    field_of_view,
    measured_range,
    read_cloud,
    read_scan,
)
from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.poses import Pose

NEAREST = 0.05  # metres along the optical axis; nearer is the robot itself, or the lens
MANY = 20_000  # points in the image, of which the nearest in each of so many cells are kept
OCCLUSION_CELLS = 64  # along the image's width, in which points hide those behind them
# A point is hidden where another one near it is shifted by more than this many cells against it,
# seen from the camera instead of from the sensor.
OCCLUSION_PARALLAX = 1.2
ULTRASOUND = 0  # sensor_msgs/Range: its radiation_type
ULTRASOUND_SD, INFRARED_SD = 0.1, 0.03  # share of a range
MIN_FIELD_OF_VIEW = np.deg2rad(3)  # radians of an ultrasound's cone
MAX_SLANT = np.deg2rad(60)  # to what faces an ultrasound
SCALE_SD = 0.25  # log of the scale by which networks are wrong
AGREEMENT = 0.15  # log ratio within which ranges say the same


def scan_points(message: Any) -> npt.NDArray[np.float32]:
    """What a sensor_msgs/LaserScan measured: float32 3×N metres in its frame, x forward, z = 0.

    Raises:
        ValueError: as of :func:`~hybrid_depth_ros.anchors.measurements.read_scan`.
    """
    return read_scan(message).points


def cloud_points(message: Any) -> npt.NDArray[np.float32]:
    """What a sensor_msgs/PointCloud2 measured: float32 3×N metres in its frame.

    Raises:
        ValueError: as of :func:`~hybrid_depth_ros.anchors.measurements.read_cloud`.
    """
    return read_cloud(message).points


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
    u, v, z = in_image(np.asarray(points, np.float32), pose, intrinsics)
    if z.size > MANY:
        kept = _nearest_in_cells(u, v, z, intrinsics)
        u, v, z = u[kept], v[kept], z[kept]
    baseline = float(np.hypot(*pose[:2, 3]))
    seen = _visible(u, v, z, baseline, intrinsics)
    return Anchors(u[seen], v[seen], z[seen])


def in_image(points: npt.NDArray[np.float32], pose: Pose, intrinsics: Intrinsics
             ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Columns, rows and depths, float32, of the points (3×N metres) that lie in an image; `pose` is
    4×4, of their frame in the optical one."""
    x, y, z = pose[:3, :3].astype(np.float32) @ points + pose[:3, 3:].astype(np.float32)
    ahead = z > NEAREST
    x, y, z = x[ahead], y[ahead], z[ahead]
    u = x / z * np.float32(intrinsics.fx) + np.float32(intrinsics.cx)
    v = y / z * np.float32(intrinsics.fy) + np.float32(intrinsics.cy)
    inside = ((u > -0.5) & (u < intrinsics.width - 0.5)
              & (v > -0.5) & (v < intrinsics.height - 0.5))
    return u[inside], v[inside], z[inside]


def _nearest_in_cells(u: npt.NDArray[np.float32], v: npt.NDArray[np.float32],
                      z: npt.NDArray[np.float32], intrinsics: Intrinsics) -> npt.NDArray[np.intp]:
    """Which points are the nearest of those in a cell of some pixels: what is near is kept."""
    size = np.sqrt(intrinsics.width * intrinsics.height / MANY)  # pixels
    columns, rows = (int(np.ceil(side / size)) for side in (intrinsics.width, intrinsics.height))
    cell = ((v + 0.5) / size).astype(np.int32).clip(0, rows - 1) * columns + (
        (u + 0.5) / size).astype(np.int32).clip(0, columns - 1)
    nearest: npt.NDArray[np.float32] = np.full(rows * columns, np.inf, np.float32)
    np.minimum.at(nearest, cell, z)
    first = np.flatnonzero(z == nearest[cell])
    kept: npt.NDArray[np.intp] = np.full(rows * columns, -1)
    kept[cell[first]] = first  # one of those that are equally near
    return kept[kept >= 0]


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

    Ultrasound hears the nearest thing in its cone, or the nearest that faces it: what it meets at a
    slant, as a floor, often sends no echo. Predicted depth tells where these are; the one that fits
    the range better counts. Infrared, in its narrow cone, measures along the axis.

    Args:
        message: the range.
        pose: 4×4, of the sensor in the optical frame; it looks along its x.
        depth: H×W metres as predicted.
        intrinsics: of the image.

    Raises:
        ValueError: its limits or its cone are no numbers.
    """
    pose = _check_pose(pose)
    distance, cone = measured_range(message), field_of_view(message)[0]
    if distance is None:
        return Anchors.joined(())
    if message.radiation_type != ULTRASOUND:
        u, v, z = in_image(np.array([[distance], [0], [0]], np.float32), pose, intrinsics)
        return Anchors(u, v, z, INFRARED_SD * z)
    rays, away, heard, facing = _seen_in_cone(cone, pose, depth, intrinsics)
    nearest = [_nearest(away, chosen) for chosen in (heard, heard & facing) if chosen.any()]
    if not nearest:
        return Anchors.joined(())
    row, column = min(nearest, key=lambda place: abs(float(np.log(away[place] / distance))))
    # the ray of that pixel, as far as the sensor says
    ray, origin = rays[:, row, column], pose[:3, 3]
    a, b, c = ray @ ray, ray @ origin, origin @ origin - distance ** 2
    root = b * b - a * c
    if root < 0 or b + np.sqrt(root) <= NEAREST * a:
        return Anchors.joined(())
    true = (b + np.sqrt(root)) / a
    place = np.array([ray[0] * intrinsics.fx + intrinsics.cx, ray[1] * intrinsics.fy
                      + intrinsics.cy, true, ULTRASOUND_SD * distance], np.float32)
    return Anchors(*place[:, None])


def looks_beside(message: Any, pose: Pose, intrinsics: Intrinsics) -> str:
    """Why a sensor_msgs/Range can't say anything about an image; empty where it can."""
    pose, half = _check_pose(pose), max(field_of_view(message)[0], MIN_FIELD_OF_VIEW) / 2
    around = np.linspace(0, 2 * np.pi, 16)
    cone = np.stack((np.full(16, np.cos(half)), np.sin(half) * np.cos(around),
                     np.sin(half) * np.sin(around)))
    rays = np.concatenate((np.array([[1.0], [0], [0]]), cone), 1).astype(np.float32)
    distance = measured_range(message)
    return '' if distance is None or in_image(distance * rays, pose, intrinsics)[2].size else (
        'it looks beside the image: see the pose of the sensor, and whether the image\'s frame '
        'looks along z')


def _seen_in_cone(cone: float, pose: Pose, depth: npt.NDArray[np.float32], intrinsics: Intrinsics
                  ) -> tuple[npt.NDArray[Any], ...]:
    """Every n-th pixel: 3×H×W its ray (z = 1), H×W how far from the sensor it is, bool H×W whether
    it lies in the cone, and whether it faces the sensor."""
    step = max(1, intrinsics.width // 80)
    columns, rows = (np.arange(step // 2, size, step)
                     for size in (intrinsics.width, intrinsics.height))
    rays = np.stack(np.broadcast_arrays(
        ((columns - intrinsics.cx) / intrinsics.fx)[None, :],
        ((rows - intrinsics.cy) / intrinsics.fy)[:, None], 1.0))
    z = depth[rows[:, None], columns].astype(np.float64)
    with np.errstate(invalid='ignore', divide='ignore'):
        points = rays * z
        offset = points - pose[:3, 3][:, None, None]
        away = np.sqrt((offset * offset).sum(0))
        cosine = np.tensordot(pose[:3, 0], offset, 1) / away
        heard = ((cosine > np.cos(max(cone, MIN_FIELD_OF_VIEW) / 2))
                 & (z > 0) & (away < np.inf))
        along, down = (np.gradient(points, axis=axis) for axis in (2, 1))
        normal = np.cross(along, down, axis=0)
        slant = np.abs((normal * offset).sum(0)) / (np.sqrt((normal * normal).sum(0)) * away)
        facing = slant > np.cos(MAX_SLANT)
    return rays, away, heard, facing


def _nearest(away: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Row and column of the nearest place; not the very nearest: one wrong pixel would decide."""
    distances = away[chosen]
    wanted = np.partition(distances, distances.size // 20)[distances.size // 20]
    place = np.argmin(np.abs(np.where(chosen, away, np.inf) - wanted))
    row, column = np.unravel_index(place, away.shape)
    return int(row), int(column)


def limited_by_prior(anchors: Anchors, depth: npt.NDArray[np.float32]) -> Anchors:
    """Ranges that have no other anchors beside them, as far as a few doubtful ones may say.

    One range says one number about a whole image, and often of another thing than it seems. The
    log of measured / predicted depth is followed as far as networks are wrong (``SCALE_SD``), and
    less where it is far beyond: then an echo of something else is more probable. Ranges that agree
    may say more together.

    Args:
        anchors: of ranges alone.
        depth: H×W metres as predicted.
    """
    height, width = depth.shape
    there = np.flatnonzero(anchors.inside(width, height))
    u, v = (np.rint(values[there]).astype(int) for values in (anchors.u, anchors.v))
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = np.log(anchors.depth[there] / depth[v, u])
    known = np.isfinite(ratio)
    there, ratio = there[known], ratio[known]
    share = np.zeros(there.size) if anchors.sigma is None else (
        anchors.sigma[there] / anchors.depth[there])
    agreeing = (np.abs(np.subtract.outer(ratio, ratio)) < AGREEMENT).sum(1)
    # infrared is of one thing, ultrasound of whatever echoes
    most = np.where(share < (INFRARED_SD + ULTRASOUND_SD) / 2, 2, 1) * SCALE_SD * np.sqrt(agreeing)
    limited: npt.NDArray[np.float32] = anchors.depth.copy()
    limited[there] *= np.exp(ratio / (1 + (ratio / (2 * most)) ** 2) - ratio)
    return Anchors(anchors.u, anchors.v, limited, anchors.sigma)
