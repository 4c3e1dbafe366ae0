"""Whether a sensor's extrinsics are right, judged by the residuals of its anchors."""

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.types import Anchors

CELLS = 64  # across the image: 1° each for a usual lens
SHIFTS = np.arange(-5, 6)  # cells by which anchors are shifted to see whether they fit better
MIN_ANCHORS = 20  # for a frame to say anything
AVERAGED_FRAMES = 100
MIN_FRAMES = 50  # before anything is said
MAX_RESIDUAL = 0.5  # log depth, so that outliers do not decide
# Share of the residuals that a shift must leave. Measured with lite-nyu over 36 to 66 images:
# 0.99 to 1 with right extrinsics, 0.89 to 0.95 mostly where they are wrong by 2° sideways.
BETTER = 0.96
MIN_SHIFT = 2  # cells; a smaller shift is the network's softness


class ExtrinsicsCheck:
    """Spread of log (measured / predicted depth), with the anchors shifted in the image.

    With right extrinsics the anchors' steps in depth are the image's, and any shift makes them
    fit worse. What the network is wrong about differs from frame to frame and averages out.
    """

    def __init__(self) -> None:
        self._spread, self._frames = np.zeros((SHIFTS.size, SHIFTS.size)), 0

    def add(self, depth: npt.NDArray[np.float32], anchors: Anchors) -> None:
        """Take in a frame.

        Args:
            depth: H×W metres as predicted.
            anchors: of one sensor.
        """
        if len(anchors) < MIN_ANCHORS:
            return
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
        log_depth = np.log(anchors.depth)
        inside = ((v >= 0).all(0) & (u >= 0).all(0))  # the same anchors for all shifts
        if np.count_nonzero(inside) < MIN_ANCHORS:
            return
        off = log_depth[inside] - seen[v[:, None, inside], u[None, :, inside]]
        off = np.where(np.isfinite(off), off, 0)
        off -= np.median(off, -1, keepdims=True)
        spread = np.abs(off).clip(0, MAX_RESIDUAL).mean(-1)
        if not spread.any():  # nothing is known there, or all fits, wherever it is
            return
        self._frames += 1
        self._spread += (spread / spread.mean() - self._spread) / min(self._frames, AVERAGED_FRAMES)

    @property
    def shift(self) -> tuple[float, float] | None:
        """(right, down) in shares of the image's width by which the anchors would fit better, or
        None where they fit as they are, or too few frames were seen.
        """
        if self._frames < MIN_FRAMES:
            return None
        best = np.unravel_index(np.argmin(self._spread), self._spread.shape)
        down, right = (int(SHIFTS[place]) for place in best)
        zero = SHIFTS.size // 2
        better = self._spread[best] < BETTER * self._spread[zero, zero]
        if not better or max(abs(down), abs(right)) < MIN_SHIFT:
            return None
        return right / CELLS, down / CELLS
