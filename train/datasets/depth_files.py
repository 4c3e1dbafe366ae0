"""Depth out of picture files, whole or refused."""

from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.image_files import read_pixels


def read_depth(path, scale, kinds='uif', scale8=None):
    """A depth picture of one channel, or .npy → float32 H×W, its values / scale.

    kinds: what its values may be (numpy's kinds or dtypes). scale8: of values of 8 bits, where
    that is another.
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
        raise OSError(f'{path} is not a depth picture: it is {depth.dtype} of shape {depth.shape}; '
                      f'{"numbers" if kinds == "uif" else kinds[0]} of one channel are wanted')
    return to_metres(depth, scale8 if scale8 and depth.dtype == np.uint8 else scale)


def to_metres(depth, scale=1):
    """Float32, values / scale; 0 where they are none or negative."""
    values = depth.astype(np.float32)
    if scale != 1:
        values /= np.float32(scale)
    if depth.dtype.kind == 'f':
        values = np.nan_to_num(values, copy=False, nan=0, posinf=0, neginf=0)
    return values if depth.dtype.kind == 'u' else np.maximum(values, 0, out=values)
