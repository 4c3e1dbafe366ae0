"""Bars and frames around an image that show no scene: letterboxed video, NYU's white border.

A border is told from a scene by these things together. Its rows, or columns, are of one colour from
end to end. Opposite sides are of the same colour and about equally wide. They end along a straight
line. A white wall or a dark room has the first at most.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

MIN_SIDE = 32           # pixels of an image that may have one
MIN_WIDTH = 2           # pixels: a narrower border is not looked for
MAX_SHARE = 0.4         # of the image that one side takes at most
FRAME_SHARE = 0.05      # of the image: a wider side is wide
BLACK = 32              # of 255
SAMPLES = 160           # pixels of a row or column that are looked at
TOLERANCE = 16          # of 255: how far a pixel of a border may be from its colour
CONSTANT_SHARE = 0.98   # of a row's pixels that are no farther
STEP = 24               # of 255: by so much a pixel of the scene beside the border differs from it
STEP_SHARE = 0.2        # so many of them do at each side; in each quarter of a wide one,
MEAN_STEP_SHARE = 0.5   # and on average
STEP_DEPTH = 3          # pixels of the scene that count as beside the border
MAX_DIFFERENCE = 3      # pixels between the widths of opposite sides,
MAX_RATIO = 1.25        # or their ratio
LEAP = 8                # rows from one that is looked at to the next, at first
DECISIVE_FRAMES = 3     # in a row, of a camera: then what they show counts
CHECK_INTERVAL = 4      # frames from one check of a border that counts to the next
AGREEMENT = 2           # pixels by which one border may differ from image to image

Pixels = npt.NDArray[np.void]  # of three bytes: NumPy copies them three times as fast as uint8 ×3


class Border(NamedTuple):
    """Pixels at each side of an image that show no scene."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def crop(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The scene in an array H×W…: a view."""
        height, width = image.shape[:2]
        return image[self.top:height - self.bottom, self.left:width - self.right]

    def pad(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Values of the scene, float32 h×w → H×W of the image, NaN in the border."""
        return np.pad(values, ((self.top, self.bottom), (self.left, self.right)),
                      constant_values=np.nan) if any(self) else values


NO_BORDER = Border()


def find_border(rgb: npt.NDArray[np.uint8]) -> Border:
    """The border of an image; all 0 where it has none.

    Args:
        rgb: uint8 H×W×3.
    """
    height, width = rgb.shape[:2]
    if min(height, width) < MIN_SIDE:
        return NO_BORDER
    rows = _pixels(rgb)
    (top, bottom), (left, right) = _constant_sides(rows), _constant_sides(rows.T)
    border = Border(top, bottom, left, right)
    if not any(border):
        return border
    if top and left and max(border) > FRAME_SHARE * min(height, width) and (
            rgb[0, 0].max() >= BLACK):  # a thing on a white wall, rather than a frame
        return NO_BORDER
    edges = []
    for side, first, last in ((rows[:, left:width - right], top, bottom),
                              (rows.T[:, top:height - bottom], left, right)):
        if first:
            pair = [_steps(side, first), _steps(side[::-1], last)]
            if max(first, last) > FRAME_SHARE * len(side) and not _reaches_the_ends(*pair):
                return NO_BORDER
            edges += pair
    shares = [float(edge.mean()) for edge in edges]
    certain = min(shares) >= STEP_SHARE and sum(shares) >= MEAN_STEP_SHARE * len(shares)
    return border if certain else NO_BORDER


def _pixels(rgb: npt.NDArray[np.uint8]) -> Pixels:
    """uint8 H×W×3 → H×W."""
    return np.ascontiguousarray(rgb).view('V3')[..., 0]


def _bytes(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """n×m → uint8 n×m×3, C-contiguous."""
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(*pixels.shape, 3)


def _reaches_the_ends(first: npt.NDArray[np.bool_], last: npt.NDArray[np.bool_]) -> bool:
    """Whether the scene begins in each quarter of two opposite edges.

    A bright door or screen in a dark room does not reach from end to end.
    """
    return all(part.mean() >= STEP_SHARE for part in np.array_split(first | last, 4))


def _constant_sides(rows: Pixels) -> tuple[int, int]:
    """How many of the first rows and of the last are of one colour, the same; 0, 0: no border."""
    sampled = rows[:, ::max(1, rows.shape[1] // SAMPLES)]
    colour = _colour(sampled)
    if not (_are_constant(sampled[:1], colour)[0] and _are_constant(sampled[-1:], colour)[0]):
        return 0, 0
    limit = int(MAX_SHARE * len(rows))
    first, last = (_count_constant(side[:limit], colour) for side in (sampled, sampled[::-1]))
    wide, narrow = max(first, last), min(first, last)
    alike = wide <= max(narrow + MAX_DIFFERENCE, narrow * MAX_RATIO)
    return (first, last) if alike and narrow >= MIN_WIDTH and wide < limit else (0, 0)


def _colour(rows: Pixels) -> npt.NDArray[np.float64]:
    """The median colour of the first row."""
    return np.sort(_bytes(rows[:1])[0], axis=0)[rows.shape[1] // 2].astype(np.float64)


def _count_constant(rows: Pixels, colour: npt.NDArray[np.float64]) -> int:
    """How many of the first rows are of a colour; looked at in leaps, then one by one."""
    coarse = _are_constant(rows[::LEAP], colour)
    if coarse.all():
        return len(rows)
    first = max(int(np.argmin(coarse)) - 1, 0) * LEAP
    return first + int(np.argmin(_are_constant(rows[first:first + LEAP + 1], colour)))


def _are_constant(rows: Pixels, colour: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which rows are of a colour."""
    near = cv2.inRange(_bytes(rows), colour - TOLERANCE, colour + TOLERANCE)
    return np.asarray(np.count_nonzero(near, axis=1) >= CONSTANT_SHARE * rows.shape[1])


def _steps(rows: Pixels, width: int) -> npt.NDArray[np.bool_]:
    """Which columns differ from the border just behind its `width` rows."""
    sampled = rows[:, ::max(1, rows.shape[1] // SAMPLES)]
    colour = _colour(sampled)
    inside = _bytes(sampled[width:width + STEP_DEPTH])
    return np.asarray((cv2.inRange(inside, colour - STEP, colour + STEP) == 0).any(0))


class BorderTracker:
    """The border of a camera's images: it changes only where several frames in a row say so.

    A dark frame whose scene can't be told from black bars does not undo them.
    """

    def __init__(self) -> None:
        self._border, self._size = NO_BORDER, (0, 0)
        self._others: list[Border] = []
        self._since_check = 0

    def update(self, rgb: npt.NDArray[np.uint8]) -> Border:
        """The border that counts for this frame.

        Args:
            rgb: uint8 H×W×3.
        """
        size = rgb.shape[:2]
        if size != self._size:
            self._border, self._size, self._others = NO_BORDER, size, []
        if any(self._border) and not self._others:
            self._since_check = (self._since_check + 1) % CHECK_INTERVAL
            if self._since_check:
                return self._border
        found = find_border(rgb)
        if _agree(found, self._border) or (not any(found) and self._holds(rgb)):
            self._others = []
            return self._border
        if self._others and not _agree(found, self._others[-1]):
            self._others = []
        self._others.append(found)
        if len(self._others) >= DECISIVE_FRAMES:
            self._border = Border(*map(min, zip(*self._others)))
            self._others = []
        return self._border

    def _holds(self, rgb: npt.NDArray[np.uint8]) -> bool:
        """Whether the border that counts shows nothing in this frame."""
        top, bottom, left, right = self._border
        pixels = _pixels(rgb)
        return any(self._border) and all(
            _count_constant(rows[:width], _colour(rows)) >= width
            for rows, width in ((pixels, top), (pixels[::-1], bottom), (pixels.T, left),
                                (pixels.T[::-1], right)) if width)


def _agree(border: Border, other: Border) -> bool:
    """Whether two borders are one, found in different images."""
    return all(abs(a - b) <= AGREEMENT and bool(a) == bool(b) for a, b in zip(border, other))
