"""Images as a camera would see them from places nearby, lower and nearer ones most of all.

``moved:PATH`` is VIEWS views of each pair at PATH, ``nearer:PATH`` as many from much nearer. Who
trains on images from eye height alone gets a network that takes its height for granted: a real
image from 0.6 m lower is then worth a quarter less. So a pair's pixels, as points in space, are
looked at from another place. What was hidden before stays unknown in depth; in colour it takes
what is around it. A view is a window where most is known, of a longer focal length.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from train.datasets.pairs import RgbdDataset, read_checked

PREFIX, MARK = 'moved:', ', moved '
VIEWS = 3                   # of each pair
MOVES = np.array([(-0.4, 0.4), (-0.4, 1.0), (-0.25, 0.35)])  # m right, down, ahead, at most
WINDOW = 0.5, 0.9           # of the picture's sides
KNOWN = 0.8                 # of a view, at least; or the move becomes shorter
EDGE = 0.028                # of the width, at each side, that is no scene: NYU's white frame
NEAR = 0.25                 # m; nearer things have been left behind
SIZE, POINTS = 352, 960     # pixels across: a view, and the points that are looked at
COARSE = 96                 # pixels across, in which a window is chosen
NEARER, NEAREST = 'nearer:', 0.35   # m; the least distance that views of the pairs go up to
EVEN = 0.03                 # by which depth differs between two pixels of one surface


class ReprojectedViews(RgbdDataset):
    """VIEWS views of each pair of another dataset; each is decided by its number alone."""

    def __init__(self, dataset):
        self.dataset, self.left_out = dataset, dataset.left_out
        self.assumptions = dataset.assumptions

    def __len__(self):
        return VIEWS * len(self.dataset)

    def _window(self, i):
        """The share of the picture's sides that view i shows, and what else chance decides."""
        rng = np.random.default_rng([i, 6])
        return float(rng.uniform(*WINDOW)), rng

    def read(self, i):
        rgb, depth, focal = read_checked(self.dataset, i // VIEWS)
        share, rng = self._window(i)
        return reproject(rgb, depth, focal, rng.uniform(*MOVES.T), share)[:2]

    def name(self, i):
        return f'{self.dataset.name(i // VIEWS)}{MARK}{i % VIEWS + 1}'

    def number(self, i):
        return self.dataset.number(i // VIEWS)

    def focal(self, i):
        return self.dataset.focal(i // VIEWS) / self._window(i)[0]


class NearerViews(ReprojectedViews):
    """``nearer:PATH``: VIEWS views of each pair from places much nearer to something in it.

    The camera goes towards one of the nearer things in the image until it is 1.3 to 2.4 times as
    near, at least NEAREST. More would show that an image has only so many pixels.
    """

    def _window(self, i: int) -> tuple[float, np.random.Generator]:
        rng = np.random.default_rng([i, 7])
        return float(rng.uniform(0.8, 0.92)), rng

    def read(self, i: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        rgb, depth, focal = read_checked(self.dataset, i // VIEWS)
        share, rng = self._window(i)
        height, width = depth.shape
        inner = np.zeros_like(depth)
        part = np.s_[height // 6:-height // 6, width // 6:-width // 6]
        inner[part] = depth[part]
        rows, columns = np.nonzero((inner > 0) & (inner < np.median(depth[depth > 0])))
        if not rows.size:
            return reproject(rgb, depth, focal, np.zeros(3), share)[:2]
        k = int(rng.integers(rows.size))
        z = float(depth[rows[k], columns[k]])
        ahead = z - max(z / rng.uniform(1.3, 2.4), NEAREST)
        ray = np.array([(columns[k] - (width - 1) / 2) / (focal * width),
                        (rows[k] - (height - 1) / 2) / (focal * width), 1.0])
        return reproject(rgb, depth, focal, np.maximum(ahead, 0.0) * ray, share)[:2]


def source_name(name):
    """The name of the pair that a view shows, from the view's own name; other names stay."""
    return name.partition(MARK)[0]


def reproject(rgb, depth, focal, shift, share):
    """A pair as it is seen from another place.

    rgb: uint8 H×W×3; depth: float32 H×W metres, 0: unknown; focal: per width. shift: where the
    camera goes, m, in its optical frame (x right, y down, z ahead); it goes less and less far
    until KNOWN of some window is known. share: of the sides that the window shows. Returns
    rgb, uint8, and depth, float32 metres along the same axis, 0: unknown, SIZE across and as high
    as the picture's shape asks for, of focal length focal / share; how far the camera went; and
    the window's upper left corner, a share of the sides.
    """
    height = max(1, round(SIZE * depth.shape[0] / depth.shape[1]))
    coarse = COARSE, max(1, round(COARSE * depth.shape[0] / depth.shape[1]))
    points, colours, known = _points(rgb, depth, focal)
    for _ in range(8):
        place = points - np.asarray(shift, np.float32)
        seen = _look(place[::9], focal * COARSE, np.subtract(coarse, 1) / 2, coarse) >= 0
        corner, found = _best_window(seen, share)
        if found >= KNOWN:
            break
        shift = np.multiply(shift, 0.7)
    middle = np.subtract((SIZE, height), 1) / 2 + (0.5 - share / 2 - np.array(corner)) * (
        SIZE / share, height / share)
    which = _look(place, focal / share * SIZE, middle, (SIZE, height))
    near = np.where(which >= 0, place[which, 2], 0).astype(np.float32)
    # a far surface that shows through a near one, between its points
    usual = cv2.medianBlur(near, 3)
    which[(usual > 0) & (near > (1 + 3 * EVEN) * usual)] = -1
    picture = _filled(colours[which], which < 0)
    depth = np.where((which >= 0) & known[which], place[which, 2], 0).astype(np.float32)
    return picture, depth, shift, corner


def _points(rgb, depth, focal):
    """Each pixel, and those between: points N×3 (m), colours N×3, whether depth is known there."""
    width = POINTS
    height = round(POINTS * depth.shape[0] / depth.shape[1])
    depth, known = _whole(depth)
    smooth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR)
    z = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    z = np.where(np.abs(smooth - z) < EVEN * z, smooth, z)  # no points between two surfaces
    known = cv2.resize(known.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    colours = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA
                         if rgb.shape[1] > width else cv2.INTER_LINEAR)
    edge = round(EDGE * width)
    inner = np.s_[edge:-edge, edge:-edge]
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / np.float32(focal * width)
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / np.float32(focal * width)
    points = np.dstack((x * z, y[:, None] * z, z))[inner].reshape(-1, 3).astype(np.float32)
    return points, colours[inner].reshape(-1, 3), known[inner].ravel() > 0


def _whole(depth):
    """Depth that is known everywhere, from the nearest pixel; steps of a sensor made even."""
    known = (depth > 0) & np.isfinite(depth)
    if not known.all():
        _, nearest = cv2.distanceTransformWithLabels(
            (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        values = np.zeros(nearest.max() + 1, np.float32)
        values[nearest[known]] = depth[known]
        depth = values[nearest]
    inverse = 1 / np.maximum(depth, np.float32(NEAR))
    return 1 / cv2.bilateralFilter(inverse.astype(np.float32), 9, 0.012, 4), known


def _look(points, focal, middle, size):
    """Which point each pixel shows, the nearest one; −1: none. int H×W.

    focal, middle (column, row): in pixels; size: columns, rows.
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


def _best_window(seen, share):
    """The corner (column, row; shares of the sides) of the window that shows most, and how much."""
    rows, columns = (max(1, int(side * share)) for side in seen.shape)
    total = cv2.integral(seen.astype(np.uint8))
    inside = (total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns]
              + total[:-rows, :-columns])
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return (column / seen.shape[1], row / seen.shape[0]), inside.max() / (rows * columns)


def _filled(rgb, holes):
    """Colours where nothing is known, from around: in half the size, as nothing is sharp there."""
    if not holes.any():
        return rgb
    half = (max(1, rgb.shape[1] // 2), max(1, rgb.shape[0] // 2))
    small, gaps = (cv2.resize(image, half, interpolation=cv2.INTER_NEAREST)
                   for image in (rgb, holes.astype(np.uint8)))
    around = cv2.resize(cv2.inpaint(small, gaps, 2, cv2.INPAINT_TELEA), rgb.shape[1::-1])
    return np.where(holes[..., None], around, rgb)
