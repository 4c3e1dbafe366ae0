"""How far to follow what anchors say of the places that they did not measure.

As by Wiener's filter: a correction is made as far as it is large against the doubt in it. The
process (process.py) knows too little of that doubt, for what it predicts is right for most of a
room and wrong for a chair before its wall. So by how much its variance is to be multiplied was
learnt from pictures with true depth: by a small network, of one hidden layer, from what is known
of each cell and of all anchors together. ``python -m train.trust`` fits it.
"""

from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.anchors import process

FILE = Path(__file__).parent.parent / 'data' / 'trust.npz'
BESIDE_U, BESIDE_V = 0.05, 0.3  # how near anchors are to be of a place's column, in sides
EACH, WHOLE = 8, 4              # how many numbers ``known`` gives of a cell, and of all anchors


def known(grid, knots, values, surety, mean, variance):
    """What the share depends on: of each cell, float32 EACH×rows×columns, and float32 WHOLE.

    grid, knots: as of ``process.mean``; mean: what it gave. values, surety: of the knots, log
    ratios and what each of them counts. variance: of the process, float32, on a coarser grid.

    Of a cell: the mean, its size, how far it is from that of all anchors; log of the variance; by
    how much log depth it stands from the anchors of its column; log depth about its level; by how
    much it stands before what is beside it; log of how much anchors of its column count. Of all:
    log of the standard deviation of their log ratios, the mean, its size, log of how many knots
    they are.
    """
    (u, v, x, front, _), size = grid, grid[2].shape[::-1]
    surety = (surety / surety.sum()).astype(np.float32)
    middle = float(surety @ values)
    spread = float(np.sqrt(surety @ (values - middle) ** 2))
    across, down = (process.rbf(side[1::2] if side.size > 1 else side, place, length)
                    for side, place, length in ((u, knots[0], BESIDE_U), (v, knots[1], BESIDE_V)))
    beside = down @ across.T
    down *= surety
    seen = (down * knots[2]) @ across.T
    seen /= down @ across.T
    beside += np.float32(1e-6)
    each = np.empty((EACH, *x.shape), np.float32)
    each[0], each[5], each[6] = mean, x, front
    np.abs(mean, out=each[1])
    np.subtract(mean, np.float32(middle), out=each[2])
    np.abs(each[2], out=each[2])
    cv2.resize(np.log(variance), size, each[3])
    np.subtract(x, cv2.resize(seen, size), out=each[4])
    np.abs(each[4], out=each[4])
    cv2.resize(np.log(beside), size, each[7])
    return each, np.array([np.log(spread + 0.003), middle, abs(middle), np.log(values.size)],
                          np.float32)


def _read():
    with np.load(FILE) as stored:
        return [stored[name] for name in ('each', 'whole', 'bias', 'out', 'out_bias')]


_LAYERS = _read()


def share(each, whole):
    """Of each cell's correction that is made, 0…1: float32 rows×columns. Both as of ``known``."""
    of_each, of_whole, bias, out, out_bias = _LAYERS
    hidden = process.product(of_each, each.reshape(EACH, -1))
    hidden += (whole @ of_whole + bias)[:, None]
    np.maximum(hidden, 0, out=hidden)
    doubt = (out @ hidden).reshape(each.shape[1:])
    doubt += each[3]
    doubt += out_bias
    np.minimum(doubt, np.float32(20), out=doubt)
    np.exp(doubt, out=doubt)
    square = each[1] * each[1]
    doubt += square
    doubt += np.float32(1e-12)
    return np.divide(square, doubt, out=square)
