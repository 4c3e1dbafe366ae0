"""The floor as a source of anchors: a camera that knows how high it is knows how far the floor is.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics

CELLS = 64  # along the image's longer side, where the floor is looked for
MAX_SLANT = 35  # degrees that a surface may slant, as the network sees it, to be level
MIN_DEPRESSION = 3  # degrees below the horizon; rays nearer to it tell nothing
HEIGHT_BIN = 0.05  # log height, in which levels are counted
FLOOR_REACH = 0.2  # log height around the level that is still the floor,
# and below it, where the floor goes on: from a low camera the far floor seems to rise to eye height
FAR_FLOOR_REACH = 0.3
FLOOR_SLANT, LOW_FLOOR_SLANT = 40, 68  # degrees it may slant, from eye height and a third of it
MIN_SHARE = 0.015  # of the image that the floor fills
LARGE_SHARE = 0.3  # a lower level with this share of the largest one's cells is the floor
# A network may take an image for one from a person's height: what it sees as the floor lies
# between the true height and that one, give or take these factors, less upwards, as seats and
# tables are there. From above, up to TALL, it sees the true height, as it did in training.
EYE_HEIGHT, TALL = 1.3, 1.7  # metres
UPWARD_FACTOR, DOWNWARD_FACTOR = 1.3, 2.0
HEIGHT_SD = 0.03  # share of the height
GRAVITY_SD = np.deg2rad(0.5)  # radians of the direction of gravity
NOT_IN_VIEW = 'the camera looks above the floor'


class Floor(NamedTuple):
    """The floor that was found.

    Attributes:
        anchors: on the floor; none where it isn't seen.
        height: metres that the network sees the camera above it; NaN where it isn't seen.
        reason: why it isn't seen; empty where it is.
    """

    anchors: Anchors
    height: float
    reason: str


def down_from_pitch(pitch: float, roll: float = 0.0) -> npt.NDArray[np.floating]:
    """The unit vector of gravity in the optical frame (REP 103).

    Args:
        pitch: degrees that the camera looks down.
        roll: degrees that it is turned clockwise about its axis, as seen from behind it.
    """
    pitch, roll = np.deg2rad(pitch), np.deg2rad(roll)
    return np.array([np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch), np.sin(pitch)])


def find_floor(depth: npt.NDArray[np.float32], intrinsics: Intrinsics, height: float,
               down: npt.ArrayLike) -> Floor:
    """Anchors on the floor that is seen in predicted depth.

    Level surfaces are counted by how far they lie below the camera. The floor is the lowest level
    that fills enough of the image. If the floor isn't seen, a table would lie too high for
    `height`, and is refused.

    Args:
        depth: H×W metres, in any scale that the network may have.
        intrinsics: of the image.
        height: metres of the camera above the floor.
        down: the direction of gravity in the optical frame, 3.

    Raises:
        ValueError: the height is not above 0, or the direction is none.
    """
    down = np.asarray(down, np.float64)
    if not (np.isfinite(height) and height > 0):
        raise ValueError(f'camera height is {height} m; it must be above 0')
    length = np.linalg.norm(down)
    if down.shape != (3,) or not (np.isfinite(length) and length > 0):
        raise ValueError(f'the direction of gravity is {down}; it must be 3 numbers, not all 0')
    down /= length
    rows, columns = (np.arange(step // 2, size, step) for size, step in (
        (size, max(1, max(depth.shape) // CELLS)) for size in depth.shape))
    x = ((columns - intrinsics.cx) / intrinsics.fx)[None, :]
    y = ((rows - intrinsics.cy) / intrinsics.fy)[:, None]
    drop = x * down[0] + y * down[1] + down[2]  # of a ray, for each metre of depth
    sine = drop / np.sqrt(x * x + y * y + 1)
    z = depth[rows[:, None], columns].astype(np.float64)
    known = np.isfinite(z) & (z > 0)
    below = (sine > np.sin(np.deg2rad(MIN_DEPRESSION))) & known
    if not below.any():
        return _none(NOT_IN_VIEW if known.any() else 'no depth is known')
    z = np.where(known, z, np.nan)
    level = _levelness(np.stack((x * z, y * z, z)), down)
    seen = below & (level > np.cos(np.deg2rad(MAX_SLANT)))
    height_of = np.log(np.where(below, drop * z, 1.0))
    least = np.log(min(height, TALL) / UPWARD_FACTOR)
    most = np.log(max(height, EYE_HEIGHT) * DOWNWARD_FACTOR)
    bins = np.arange(np.log(0.02), np.log(50), HEIGHT_BIN)
    counts = np.histogram(height_of[seen], bins)[0].astype(np.float32)
    counts = cv2.GaussianBlur(counts[:, None], (1, 9), 1.5)[:, 0] * (1.5 * np.sqrt(2 * np.pi))
    middles = (bins[:-1] + bins[1:]) / 2
    peaks = np.flatnonzero((counts >= MIN_SHARE * z.size) & (counts >= np.roll(counts, 1))
                           & (counts > np.roll(counts, -1)))
    if not peaks.size:
        return _none('no level surface is seen')
    fitting = peaks[(middles[peaks] > least) & (middles[peaks] < most)]
    if not fitting.size:
        return _none(f'level surfaces are seen {_listed(middles[peaks])} m below the camera, none '
                     f'fits its height of {height:g} m')
    large = fitting[counts[fitting] >= LARGE_SHARE * counts[fitting].max()]
    floor = middles[large[-1]]
    off = height_of - floor
    lower = max(0.0, np.log(EYE_HEIGHT / height))
    slanted = np.cos(np.deg2rad(
        FLOOR_SLANT + (LOW_FLOOR_SLANT - FLOOR_SLANT) * min(1.0, lower)))
    candidates = below & (level > slanted) & (off > -FAR_FLOOR_REACH - lower) & (
        off < FLOOR_REACH)
    parts = cv2.connectedComponents(candidates.astype(np.uint8), connectivity=4)[1]
    sure = candidates & (np.abs(off) < FLOOR_REACH)
    v, u = np.nonzero(np.isin(parts, np.flatnonzero(
        np.bincount(parts[sure], minlength=parts.max() + 1) > MIN_SHARE * z.size)) & candidates)
    if v.size < MIN_SHARE * z.size:
        return _none('too little of the floor is seen')
    true = height / drop[v, u]
    angle = np.arcsin(sine[v, u].clip(0, 1))
    sigma = true * np.hypot(HEIGHT_SD, GRAVITY_SD / np.tan(angle))
    return Floor(Anchors(columns[u], rows[v], true, sigma), float(np.exp(floor)), '')


def _none(reason: str) -> Floor:
    return Floor(Anchors.joined(()), float('nan'), reason)


def _listed(logs: npt.NDArray[np.floating]) -> str:
    return ', '.join(f'{value:.2f}' for value in np.exp(logs))


def _levelness(points: npt.NDArray[np.floating], down: npt.NDArray[np.floating]
               ) -> npt.NDArray[np.floating]:
    """|cosine| between a surface's normal and gravity, on a grid of points 3×rows×columns."""
    across, along = np.empty_like(points), np.empty_like(points)
    across[:, :, 1:-1] = points[:, :, 2:] - points[:, :, :-2]
    along[:, 1:-1] = points[:, 2:] - points[:, :-2]
    across[:, :, [0, -1]], along[:, [0, -1]] = (
        across[:, :, [1, -2]] if points.shape[2] > 2 else np.nan,
        along[:, [1, -2]] if points.shape[1] > 2 else np.nan)
    normal = np.cross(across, along, axis=0)
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.abs(np.tensordot(down, normal, 1)) / np.sqrt((normal * normal).sum(0))
