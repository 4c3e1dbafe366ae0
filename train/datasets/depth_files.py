"""Depth out of image files, whole or refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.image_files import read_pixels


def read_depth(path: str | Path, scale: float, kinds: Sequence[str] = 'uif',
               scale8: float | None = None) -> npt.NDArray[np.float32]:
    """A depth image of one channel, or .npy → float32 H×W, metres, 0 where there is none.

    Args:
        path: The file.
        scale: Units of its values in a metre.
        kinds: What its values may be: numpy's kinds or names of dtypes.
        scale8: Units of values of 8 bits in a metre, where that is another number.

    Raises:
        OSError: The file is not whole, or no depth.
    """
    if Path(path).suffix == '.npy':
        try:
            depth = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise OSError(f'{path} is not a readable image; remove the pair or copy it '
                          'again') from error
    else:
        depth = read_pixels(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim != 2 or (depth.dtype.kind not in kinds and depth.dtype.name not in kinds):
        raise OSError(f'{path} is not a depth image: it is {depth.dtype} of shape {depth.shape}; '
                      f'{"numbers" if kinds == "uif" else kinds[0]} of one channel are wanted')
    return to_metres(depth, scale8 if scale8 and depth.dtype == np.uint8 else scale)


def to_metres(depth: npt.NDArray[Any], scale: float = 1) -> npt.NDArray[np.float32]:
    """Values / scale, float32; 0 where they are not finite or negative."""
    values = depth.astype(np.float32)
    if scale != 1:
        values /= np.float32(scale)
    if depth.dtype.kind == 'f':
        values = np.nan_to_num(values, copy=False, nan=0, posinf=0, neginf=0)
    return values if depth.dtype.kind == 'u' else np.maximum(values, 0, out=values)
