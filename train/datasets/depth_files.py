"""Depth out of image files, whole or refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.image_files import read_pixels

UNKNOWN_MAXIMUM = ('the largest number that a pixel holds (65535 of 16 bits) is taken for unknown '
                   'depth')


def read_values(path: str | Path, kinds: Sequence[str] = 'uif') -> npt.NDArray[Any]:
    """A depth image of one channel, or .npy → H×W as the file holds it.

    Args:
        path: The file.
        kinds: What its values may be: numpy's kinds or names of dtypes.

    Raises:
        OSError: The file is not whole, or no depth.
    """
    if Path(path).suffix == '.npy':
        try:
            values = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise OSError(f'{path} is not a readable image; remove the pair or copy it '
                          'again') from error
    else:
        values = read_pixels(path, cv2.IMREAD_UNCHANGED)
    if values.ndim != 2 or (values.dtype.kind not in kinds and values.dtype.name not in kinds):
        raise OSError(f'{path} is not a depth image: it is {values.dtype} of shape '
                      f'{values.shape}; {"numbers" if kinds == "uif" else kinds[0]} of one '
                      'channel are wanted')
    return values


def read_depth(path: str | Path, scale: float, kinds: Sequence[str] = 'uif'
               ) -> npt.NDArray[np.float32]:
    """A depth image of one channel, or .npy → float32 H×W, metres, 0 where there is none.

    Args:
        path: The file.
        scale: Units of its values in a metre.
        kinds: What its values may be: numpy's kinds or names of dtypes.

    Raises:
        OSError: The file is not whole, or no depth.
    """
    return to_metres(read_values(path, kinds), scale)


def to_metres(values: npt.NDArray[Any], scale: float = 1) -> npt.NDArray[np.float32]:
    """Values / scale, float32; 0 where they are not finite or negative, or :func:`at_maximum`."""
    depth = values.astype(np.float32)
    if scale != 1:
        depth /= np.float32(scale)
    if values.dtype.kind == 'f':
        depth = np.nan_to_num(depth, copy=False, nan=0, posinf=0, neginf=0)
    elif values.itemsize > 1:
        depth[at_maximum(values)] = 0
    return depth if values.dtype.kind == 'u' else np.maximum(depth, 0, out=depth)


def at_maximum(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a whole number of 16 bits or more is the largest of its type.

    Many cameras write it where they measured nothing. Of 8 bits it is a measurement: DenseDepth's
    255 is 10 m.
    """
    if values.dtype.kind == 'f' or values.itemsize == 1:
        return np.zeros(values.shape, bool)
    return values == np.iinfo(values.dtype).max
