"""How far completed depth may be off: it grows with the way to the next anchor and at outlines."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SIDE = 320  # pixels of the longer side, at which it is computed
WINDOW = 5  # of these, in which depth's range is looked for
# Of the log error's standard deviation, chosen on 21 images of NYU with 5 to 3,000 points, a line
# and zones, so that 68 % of the pixels are within it:
LEAST = 0.005
RANGE = 0.6  # for each unit of log range in a window: outlines may be misplaced
DISTANCE = 0.6  # for each side of the image to the next anchor,
FAR = 0.2  # sides at most


def depth_sigma(depth: npt.NDArray[np.floating], u: npt.NDArray[np.floating],
                v: npt.NDArray[np.floating], measured: npt.NDArray[np.bool_] | None = None
                ) -> npt.NDArray[np.float32]:
    """The standard deviation of completed depth, float32 H×W metres; NaN where it is unknown.

    Args:
        depth: H×W metres, completed.
        u: columns of the anchors that were used, at least one.
        v: rows of these.
        measured: bool H×W, the pixels that a depth image measured: they count instead, and outlines
            add nothing to them; or None.
    """
    height, width = depth.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    with np.errstate(divide='ignore', invalid='ignore'):
        x = np.log(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST), dtype=np.float32)
    known = np.isfinite(x)
    x[~known] = np.median(x[known]) if known.any() else 0
    step = cv2.morphologyEx(x, cv2.MORPH_GRADIENT, np.ones((WINDOW, WINDOW), np.uint8))
    away = np.full(x.shape, 255, np.uint8)
    if measured is None:
        column, row = (np.clip(((values + 0.5) * scale).astype(np.int32), 0, length - 1)
                       for values, length in ((u, size[0]), (v, size[1])))
        away[row, column] = 0
    else:
        away[cv2.resize(measured.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0] = 0
    distance: Array = cv2.distanceTransform(away, cv2.DIST_L2, 3) / np.float32(max(size))
    step *= np.float32(RANGE)
    step *= step
    step += (np.float32(DISTANCE) * np.minimum(distance, np.float32(FAR))) ** 2
    step += np.float32(LEAST ** 2)
    sigma: npt.NDArray[np.float32] = cv2.resize(np.sqrt(step), (width, height))
    if measured is not None:
        sigma[measured] = LEAST
    sigma *= np.where(depth > 0, depth, np.float32('nan'))
    return sigma
