"""Which surface each ray of a camera hits first, and how far away."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room.shapes import NEAREST, Shape

FACES = 6  # of the room, numbered before its objects: by axis, the near one, then the far


class Hits(NamedTuple):
    """What a camera's rays hit.

    Attributes:
        depth: H×W metres along z.
        surface: int16 H×W: a face of the room, or FACES + the number of an object.
    """

    depth: npt.NDArray[np.float32]
    surface: npt.NDArray[np.int16]


def without_zeros(rays: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The same array, changed so that one can divide by it."""
    rays[np.abs(rays) < 1e-7] = 1e-7
    return rays


def camera_rays(intrinsics: Intrinsics,
                pose: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float32]]:
    """World direction (x, y, z, each H×W) of each pixel's ray, with z = 1 in the camera.

    Length along such a ray is depth.
    """
    rotation = pose[:3, :3]
    x = ((np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx)[None]
    y = ((np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy)[:, None]
    return [without_zeros((rotation[i, 0] * x + rotation[i, 1] * y + rotation[i, 2]
                           ).astype(np.float32)) for i in range(3)]


def cast_rays(size: npt.NDArray[np.float64], objects: Sequence[Shape], intrinsics: Intrinsics,
              pose: npt.NDArray[np.float64], rays: list[npt.NDArray[np.float32]]) -> Hits:
    """The first surface on each ray.

    Args:
        size: 3, of the room, metres.
        objects: In the room.
        intrinsics: Of the camera.
        pose: 4×4, optical frame → world.
        rays: Of :func:`camera_rays`.
    """
    eye = pose[:3, 3]
    shape = intrinsics.height, intrinsics.width
    depth, surface = np.full(shape, np.inf, np.float32), np.empty(shape, np.int16)
    for axis in range(3):
        walls = np.where(rays[axis] > 0, size[axis] - eye[axis], -eye[axis])
        distance = walls.astype(np.float32) / rays[axis]
        nearer = distance < depth
        depth[nearer] = distance[nearer]
        surface[nearer] = (2 * axis + (rays[axis] > 0))[nearer]
    for number, item in enumerate(objects, FACES):
        window = _image_window(item.corners, pose, intrinsics)
        if window is None:
            continue
        hit = item.hit(eye, [ray[window] for ray in rays])
        nearer = hit < depth[window]
        depth[window][nearer] = hit[nearer]
        surface[window][nearer] = number
    return Hits(depth, surface)


def _image_window(corners: npt.NDArray[np.float64], pose: npt.NDArray[np.float64],
                  intrinsics: Intrinsics) -> tuple[slice, slice] | None:
    """Rows and columns that the corners (N×3) may cover; None: none of them."""
    x, y, z = ((corners - pose[:3, 3]) @ pose[:3, :3]).T
    if (z < NEAREST).all():
        return None
    if (z < NEAREST).any():
        return slice(0, intrinsics.height), slice(0, intrinsics.width)
    columns = intrinsics.fx * x / z + intrinsics.cx
    rows = intrinsics.fy * y / z + intrinsics.cy
    left, right = max(0, int(columns.min())), min(intrinsics.width, int(columns.max()) + 2)
    top, bottom = max(0, int(rows.min())), min(intrinsics.height, int(rows.max()) + 2)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None
