"""Images as a camera nearby would see them, most of all from lower and nearer places.

``moved:PATH`` is VIEWS views of each pair at PATH, ``nearer:PATH`` as many from much nearer. A
network that is trained on images from eye height alone expects that height, and does a quarter
worse on real images from 0.6 m lower. So the pixels of a pair, as points in space, are projected
into a camera at another place. Depth stays unknown where nothing was seen before; colour is filled
in from around it. A view is a window where most is known, of a longer focal length.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from train.datasets.pairs import RgbdDataset, RgbdPair, read_checked

MOVED_PREFIX, NEARER_PREFIX = 'moved:', 'nearer:'
MARK = ', moved '           # in the name of a view, behind the pair's
VIEWS = 3                   # of each pair
MAX_MOVES = np.array([(-0.4, 0.4), (-0.4, 1.0), (-0.25, 0.35)])  # m right, down, ahead
MOVE_STEP, MAX_TRIES = 0.7, 8  # a move that shows too little becomes so much shorter, so often
WINDOW_SIDE = 0.5, 0.9      # of the image's sides
MIN_KNOWN = 0.8             # of a view
FRAME = 0.028               # of the width, at each side, that shows no scene: NYU's white frame
NEAR = 0.25                 # m; nearer things have been left behind
NEAREST = 0.35              # m; nearer views come no closer to a thing
APPROACH = 1.3, 2.4         # times as near; more would show the pixels of the image
NEARER_SIDE = 0.8, 0.92     # of the image's sides
VIEW_WIDTH = 352            # pixels
POINT_COLUMNS = 960         # points across the image that are projected
COARSE_WIDTH = 96           # pixels; a window is chosen in this resolution
SAME_SURFACE = 0.03         # relative difference of depth between two pixels of one surface

Colour = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.float32]


class ReprojectedView(NamedTuple):
    """A pair as it is seen from another place.

    Attributes:
        rgb: uint8, VIEW_WIDTH across, in the aspect of the image.
        depth: float32 of that size, metres along the same axis, 0 where unknown.
        shift: How far the camera went: m, in its optical frame (x right, y down, z ahead).
        corner: The window's upper left corner (column, row), a share of the sides.
    """

    rgb: Colour
    depth: Depth
    shift: npt.NDArray[np.float64] | tuple[float, float, float]
    corner: tuple[float, float]


class ReprojectedViews(RgbdDataset):
    """VIEWS views of each pair of another dataset; each is decided by its number alone."""

    def __init__(self, dataset: RgbdDataset) -> None:
        self.dataset, self.left_out = dataset, dataset.left_out
        self.assumptions = dataset.assumptions

    def __len__(self) -> int:
        return VIEWS * len(self.dataset)

    def _window(self, i: int) -> tuple[float, np.random.Generator]:
        """The share of the image's sides that view i shows; the generator of the rest."""
        rng = np.random.default_rng([i, 6])
        return float(rng.uniform(*WINDOW_SIDE)), rng

    def read(self, i: int) -> RgbdPair:
        rgb, depth, focal = read_checked(self.dataset, i // VIEWS)
        share, rng = self._window(i)
        view = reproject(rgb, depth, focal, rng.uniform(*MAX_MOVES.T), share)
        return RgbdPair(view.rgb, view.depth)

    def name(self, i: int) -> str:
        return f'{self.dataset.name(i // VIEWS)}{MARK}{i % VIEWS + 1}'

    def number(self, i: int) -> int:
        return self.dataset.number(i // VIEWS)

    def focal(self, i: int) -> float:
        return self.dataset.focal(i // VIEWS) / self._window(i)[0]


class NearerViews(ReprojectedViews):
    """``nearer:PATH``: VIEWS views of each pair from places much nearer to something in it.

    The camera goes towards one of the nearer things in the image, until it is APPROACH times as
    near, but no closer than NEAREST.
    """

    def _window(self, i: int) -> tuple[float, np.random.Generator]:
        rng = np.random.default_rng([i, 7])
        return float(rng.uniform(*NEARER_SIDE)), rng

    def read(self, i: int) -> RgbdPair:
        rgb, depth, focal = read_checked(self.dataset, i // VIEWS)
        share, rng = self._window(i)
        height, width = depth.shape
        inner = np.zeros_like(depth)
        part = np.s_[height // 6:-height // 6, width // 6:-width // 6]
        inner[part] = depth[part]
        rows, columns = np.nonzero((inner > 0) & (inner < np.median(depth[depth > 0])))
        shift = np.zeros(3)
        if rows.size:
            k = int(rng.integers(rows.size))
            z = float(depth[rows[k], columns[k]])
            ahead = z - max(z / rng.uniform(*APPROACH), NEAREST)
            ray = np.array([(columns[k] - (width - 1) / 2) / (focal * width),
                            (rows[k] - (height - 1) / 2) / (focal * width), 1.0])
            shift = np.maximum(ahead, 0.0) * ray
        view = reproject(rgb, depth, focal, shift, share)
        return RgbdPair(view.rgb, view.depth)


def source_name(name: str) -> str:
    """The name of the pair that a view shows, from the view's own name; other names stay."""
    return name.partition(MARK)[0]


def reproject(rgb: Colour, depth: Depth, focal: float,
              shift: npt.NDArray[np.float64] | tuple[float, float, float], share: float
              ) -> ReprojectedView:
    """A pair as a camera at another place sees it.

    Args:
        rgb: uint8 H×W×3.
        depth: float32 H×W, metres, 0 where unknown.
        focal: Focal length per image width.
        shift: Where the camera goes: m, in its optical frame (x right, y down, z ahead). It goes
            less and less far until MIN_KNOWN of some window is known.
        share: Of the sides that the window shows. The view's focal length is focal / share.
    """
    height = max(1, round(VIEW_WIDTH * depth.shape[0] / depth.shape[1]))
    coarse = COARSE_WIDTH, max(1, round(COARSE_WIDTH * depth.shape[0] / depth.shape[1]))
    points, colours, known = _points(rgb, depth, focal)
    for _ in range(MAX_TRIES):
        moved = points - np.asarray(shift, np.float32)
        seen = _project(moved[::9], focal * COARSE_WIDTH, np.subtract(coarse, 1) / 2, coarse) >= 0
        corner, share_known = _best_window(seen, share)
        if share_known >= MIN_KNOWN:
            break
        shift = np.multiply(shift, MOVE_STEP)
    middle = np.subtract((VIEW_WIDTH, height), 1) / 2 + (0.5 - share / 2 - np.array(corner)) * (
        VIEW_WIDTH / share, height / share)
    which = _project(moved, focal / share * VIEW_WIDTH, middle, (VIEW_WIDTH, height))
    near = np.where(which >= 0, moved[which, 2], 0).astype(np.float32)
    # a far surface that shows through a near one, between its points
    usual = cv2.medianBlur(near, 3)
    which[(usual > 0) & (near > (1 + 3 * SAME_SURFACE) * usual)] = -1
    image = _fill_holes(colours[which], which < 0)
    depth = np.where((which >= 0) & known[which], moved[which, 2], 0).astype(np.float32)
    return ReprojectedView(image, depth, shift, corner)


def _points(rgb: Colour, depth: Depth, focal: float
            ) -> tuple[npt.NDArray[np.float32], Colour, npt.NDArray[np.bool_]]:
    """Each pixel, and those between: points N×3 (m), colours N×3, whether depth is known there."""
    width = POINT_COLUMNS
    height = round(POINT_COLUMNS * depth.shape[0] / depth.shape[1])
    depth, has_depth = _fill_depth(depth)
    smooth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR)
    z = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    z = np.where(np.abs(smooth - z) < SAME_SURFACE * z, smooth, z)  # no points between two surfaces
    known = cv2.resize(has_depth.astype(np.uint8), (width, height),
                       interpolation=cv2.INTER_NEAREST)
    colours = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA
                         if rgb.shape[1] > width else cv2.INTER_LINEAR)
    frame = round(FRAME * width)
    inner = np.s_[frame:-frame, frame:-frame]
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / np.float32(focal * width)
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / np.float32(focal * width)
    points = np.dstack((x * z, y[:, None] * z, z))[inner].reshape(-1, 3).astype(np.float32)
    return points, colours[inner].reshape(-1, 3), known[inner].ravel() > 0


def _fill_depth(depth: Depth) -> tuple[Depth, npt.NDArray[np.bool_]]:
    """Depth that is known everywhere, from the nearest pixel, without a sensor's steps.

    Returns it, and where it was known.
    """
    known = (depth > 0) & np.isfinite(depth)
    if not known.all():
        _, nearest = cv2.distanceTransformWithLabels(
            (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        values = np.zeros(nearest.max() + 1, np.float32)
        values[nearest[known]] = depth[known]
        depth = values[nearest]
    inverse = (1 / np.maximum(depth, np.float32(NEAR))).astype(np.float32)
    return 1 / cv2.bilateralFilter(inverse, 9, 0.012, 4), known


def _project(points: npt.NDArray[np.float32], focal: float, middle: npt.NDArray[np.float64],
             size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Which point each pixel shows, the nearest one; −1: none. int H×W.

    Args:
        points: float32 N×3, m.
        focal: In pixels.
        middle: Column and row of the optical axis, pixels.
        size: Columns and rows.
    """
    (width, height), z = size, points[:, 2]
    ahead = np.flatnonzero(z > NEAR)
    u, v = (np.rint(points[ahead, k] / z[ahead] * np.float32(focal) + np.float32(middle[k]))
            for k in (0, 1))
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    ahead = ahead[inside]
    far_first = np.argsort((65535 - 1000 * z[ahead].clip(0, 65)).astype(np.uint16), kind='stable')
    shown = np.full(width * height, -1)
    pixel = (v[inside] * width + u[inside]).astype(np.int64)
    shown[pixel[far_first]] = ahead[far_first]
    return shown.reshape(height, width)


def _best_window(seen: npt.NDArray[np.bool_], share: float) -> tuple[tuple[float, float], float]:
    """The corner (column, row; shares of the sides) of the window that shows most, and how much."""
    rows, columns = (max(1, int(side * share)) for side in seen.shape)
    total = cv2.integral(seen.astype(np.uint8))
    inside = (total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns]
              + total[:-rows, :-columns])
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return (column / seen.shape[1], row / seen.shape[0]), inside.max() / (rows * columns)


def _fill_holes(rgb: Colour, holes: npt.NDArray[np.bool_]) -> Colour:
    """Colours where nothing is known, from around: in half the size, as nothing is sharp there."""
    if not holes.any():
        return rgb
    half = (max(1, rgb.shape[1] // 2), max(1, rgb.shape[0] // 2))
    small, gaps = (cv2.resize(image, half, interpolation=cv2.INTER_NEAREST)
                   for image in (rgb, holes.astype(np.uint8)))
    around = cv2.resize(cv2.inpaint(small, gaps, 2, cv2.INPAINT_TELEA), rgb.shape[1::-1])
    return np.where(holes[..., None], around, rgb)
