"""Corners of an image, and where they lie in the next ones.

Corners (Shi and Tomasi 1994) are tracked by pyramidal Lucas-Kanade from the last keyframe, which is
turned before as the camera turned.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]

BORDER = 6               # pixels from the image's border within which nothing is tracked
CELL = 13                # pixels, side of the cells that hold one corner each
MIN_CORNER = 1e-5        # least eigenvalue of a corner, as of cv2.cornerMinEigenVal
WINDOW = 11              # pixels, side of the Lucas-Kanade window
PYRAMID_LEVELS = 3       # above the image itself
MAX_BACKWARD_ERROR = 0.5  # pixels by which tracking back may miss its start
WARP_ANGLE = np.deg2rad(3)  # turn from which the keyframe's image is turned before tracking
HOW: dict[str, Any] = {'winSize': (WINDOW, WINDOW), 'criteria': (3, 20, 0.02),
                       'flags': cv2.OPTFLOW_USE_INITIAL_FLOW}


def detect_corners(image: Image, taken: Floats, most: int) -> Floats:
    """Corners, one in each cell that has no track, the strongest first.

    Args:
        image: uint8 H×W.
        taken: N×2 pixels of the tracks.
        most: tracks and corners together.

    Returns:
        M×2 pixels.
    """
    strength = cv2.cornerMinEigenVal(image, 5)
    height, width = image.shape
    columns, rows = ((side - 2 * BORDER) // CELL for side in (width, height))
    left, top = (width - columns * CELL) // 2, (height - rows * CELL) // 2
    cells = strength[top:top + rows * CELL, left:left + columns * CELL].reshape(
        rows, CELL, columns, CELL).transpose(0, 2, 1, 3).reshape(rows * columns, CELL * CELL)
    number = np.arange(len(cells))
    best = cells.argmax(1)
    value = cells[number, best]
    points = np.stack((number % columns * CELL + best % CELL + left,
                       number // columns * CELL + best // CELL + top), -1).astype(np.float64)
    good = value > MIN_CORNER
    if len(taken):
        row, column = (taken[:, 1] - top) // CELL, (taken[:, 0] - left) // CELL
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        good[(row * columns + column)[inside].astype(int)] = False
        good[good] = (np.abs(points[good, None] - taken).max(-1) > CELL / 2).all(1)
    chosen = np.flatnonzero(good)
    return points[chosen[np.argsort(-value[chosen])[:max(0, most - len(taken))]]]


def on_plane(points: Floats) -> Floats:
    """x / z and y / z of N×3 points, within what a lens can see."""
    return (points[:, :2] / np.maximum(points[:, 2:], 0.05)).clip(-5, 5)


def camera_turn(guess: Floats, found: Floats) -> Floats:
    """Rotation vector of a camera that takes most of N×2 points from where they were guessed.

    By iteratively reweighted least squares with Cauchy's weights.
    """
    x, y = guess.T
    rows = np.stack((np.stack((x * y, -1 - x * x, y), -1), np.stack((1 + y * y, -x * y, -x), -1)))
    error, turn = (found - guess).T, np.zeros(3)
    if len(guess) < 8:
        return turn
    for _ in range(4):
        left = error - rows @ turn
        square = (left * left).sum(0)
        weighted = (rows / (np.median(square) + square + 1e-9)[:, None]).reshape(-1, 3)
        turn = turn + np.linalg.solve(weighted.T @ rows.reshape(-1, 3) + 1e-9 * np.eye(3),
                                      left.ravel() @ weighted)
    return turn


class CornerTracker:
    """Tracking from a keyframe.

    Args:
        camera: 3×3 of the images.
        key: uint8 H×W, the keyframe.
    """

    def __init__(self, camera: Floats, key: Image) -> None:
        self._camera, self._key = camera, key

    def match(self, image: Image, points: Floats, guess: Floats, turn: Floats
              ) -> tuple[Floats, Bools]:
        """Where points of the keyframe lie in an image.

        Args:
            image: uint8 H×W.
            points: N×2 pixels of the keyframe.
            guess: N×2, where they are expected.
            turn: 3×3, rotation from the keyframe's optical frame to the image's.

        Returns:
            float64 N×2 pixels; bool N, whether each was found.
        """
        self._image, self._turned = image, self._key
        if np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)) > WARP_ANGLE:
            warp = self._camera @ turn @ np.linalg.inv(self._camera)
            self._turned = cv2.warpPerspective(self._key, warp, image.shape[::-1],
                                               borderMode=cv2.BORDER_REPLICATE)
            if len(points):
                points = cv2.perspectiveTransform(points[:, None], warp)[:, 0]
        self._start = np.ascontiguousarray(points, np.float32).reshape(-1, 1, 2)
        self._found = self._start
        if not len(points):
            return points, np.zeros(0, bool)
        self._found, status, _ = cv2.calcOpticalFlowPyrLK(
            self._turned, image, self._start,
            np.ascontiguousarray(guess, np.float32).reshape(-1, 1, 2),
            maxLevel=PYRAMID_LEVELS, **HOW)
        found, edge = self._found[:, 0], BORDER - 2
        good = (status.ravel() > 0) & (found > edge).all(1) & (
            found < np.array(image.shape[::-1]) - 1 - edge).all(1)
        return found.astype(np.float64), good

    def leads_back(self) -> Bools:
        """Whether tracking back from where points were last found meets them again: bool N."""
        if not len(self._start):
            return np.zeros(0, bool)
        back, status, _ = cv2.calcOpticalFlowPyrLK(
            self._image, self._turned, self._found, self._start.copy(), maxLevel=1, **HOW)
        return np.asarray((status.ravel() > 0) & (
            np.abs(back - self._start)[:, 0].max(1) < MAX_BACKWARD_ERROR))
