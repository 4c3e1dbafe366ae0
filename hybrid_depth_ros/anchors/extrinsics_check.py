"""Whether anchors lie where the picture says they do: extrinsics, judged by residuals."""

import numpy as np

SHIFTS = np.arange(-5, 6)  # cells, of which there are 64 across: 1° each for a usual lens
CELLS = 64
LEAST = 20      # anchors, for a frame to say anything
FRAMES = 100    # frames over which it is averaged
SURE = 50       # frames before anything is said
# Share of the residuals that a shift must leave. Measured with lite-nyu over 36 to 66 pictures:
# 0.99 to 1 with right extrinsics, 0.89 to 0.95 mostly where they are wrong by 2° sideways.
BETTER = 0.96
FAR = 2         # cells; a smaller shift is the network's softness


class Alignment:
    """Spread of log (measured / predicted depth), with the anchors shifted in the picture.

    With right extrinsics the anchors' steps in depth are the picture's, and any shift makes them
    fit worse. What the network is wrong about differs from frame to frame and averages out.
    """

    def __init__(self):
        self._spread, self._frames = np.zeros((SHIFTS.size, SHIFTS.size)), 0

    def add(self, depth, anchors):
        """A frame: float32 H×W metres as predicted, and Anchors of one sensor."""
        height, width = depth.shape
        step = max(1, width // CELLS)
        rows, columns = (np.arange(step // 2, size, step) for size in (height, width))
        with np.errstate(divide='ignore', invalid='ignore'):
            seen = np.log(depth[rows[:, None], columns])
        cells = []
        for along, count in ((anchors.v, rows.size), (anchors.u, columns.size)):
            cell = (along / step).astype(np.int32) + SHIFTS[:, None]
            cells.append(np.where((cell >= 0) & (cell < count), cell, 0))
            cells[-1][(cell < 0) | (cell >= count)] = -1
        v, u = cells
        if anchors.u.size < LEAST:
            return
        log_depth = np.log(anchors.depth)
        inside = ((v >= 0).all(0) & (u >= 0).all(0))  # the same anchors for all shifts
        if np.count_nonzero(inside) < LEAST:
            return
        off = log_depth[inside] - seen[v[:, None, inside], u[None, :, inside]]
        off = np.where(np.isfinite(off), off, 0)
        off -= np.median(off, -1, keepdims=True)
        spread = np.abs(off).clip(0, 0.5).mean(-1)
        if not spread.any():  # nothing is known there, or all fits, wherever it is
            return
        self._frames += 1
        self._spread += (spread / spread.mean() - self._spread) / min(self._frames, FRAMES)

    @property
    def shift(self):
        """(right, down) in shares of the picture's width by which the anchors would fit better, or
        None where they fit as they are, or too few frames were seen.
        """
        if self._frames < SURE:
            return None
        best = np.unravel_index(np.argmin(self._spread), self._spread.shape)
        down, right = (int(SHIFTS[place]) for place in best)
        zero = SHIFTS.size // 2
        better = self._spread[best] < BETTER * self._spread[zero, zero]
        if not better or max(abs(down), abs(right)) < FAR:
            return None
        return right / CELLS, down / CELLS
