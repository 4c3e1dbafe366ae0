"""The raw NYU Depth v2 recordings: synchronise, disparity to metres, register depth to colour.

What the NYU toolbox (Silberman et al. 2012, http://cs.nyu.edu/~silberman) does in MATLAB. Its
``camera_params.m`` is where the calibration of the Kinect comes from.
"""

import bisect
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.image_files import read_colour
from train.datasets.pairs import FilePairs, RgbdPair

WIDTH, HEIGHT = 640, 480
NO_READING = 2047   # of the 11-bit disparity
MAX_DEPTH = 10.0    # metres: what lies farther is noise
MAX_APART = 0.1     # seconds between the two images of a pair

COLOUR_MATRIX = np.array([[518.85790117450188, 0, 325.58244941119034],
                          [0, 519.46961112127485, 253.73616633400465], [0, 0, 1]])
COLOUR_DISTORTION = np.array([0.20796615318809061, -0.58613825163911781, 7.2231363135888329e-4,
                              1.0479627195765181e-3, 0.49856986684705107])
DEPTH_MATRIX = np.array([[582.62448167737955, 0, 313.04475870804731],
                         [0, 582.69103270988637, 238.44389626620386], [0, 0, 1]])
DEPTH_DISTORTION = np.array([-0.099897236553084481, 0.39065324602765344, 1.9290592870229277e-3,
                             -1.9422022475975055e-3, -0.51031725053400578])
# A point of the depth camera's frame in the colour camera's: ROTATION @ p + TRANSLATION, metres.
# (The toolbox has both with their signs turned, which cancels in its projection.)
ROTATION = np.array([
    [0.99997798940829263, 0.0050518419386157446, 0.0043011152014118693],
    [-0.0050359919480810989, 0.99998051861143999, -0.0036879781309514218],
    [-0.0043196624923060242, 0.0036662365748484798, 0.99998394948385538]]).T
TRANSLATION = -np.array([0.025031875059141302, -0.00029342312935846411, 0.00066238747008330102])
DISPARITY_SCALE, DISPARITY_OFFSET = 351.3, 1092.5


def disparity_to_metres(disparity: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """11-bit Kinect disparity, any shape → float32 metres, 0 where there is no reading.

    z = 351.3 / (1092.5 − disparity), the toolbox's ``depth_rel2depth_abs``.
    """
    disparity = np.asarray(disparity, np.float32)
    with np.errstate(divide='ignore'):
        metres = np.float32(DISPARITY_SCALE) / (np.float32(DISPARITY_OFFSET) - disparity)
    known = (disparity < NO_READING) & (metres > 0) & (metres <= MAX_DEPTH)
    return np.where(known, metres, np.float32(0))


def read_disparity(path: str | Path) -> npt.NDArray[np.uint16]:
    """A 16-bit PGM, big-endian as the format says → uint16 H×W.

    Read here because some image libraries swap its bytes. Raises OSError for another file.
    """
    data = Path(path).read_bytes()
    header = re.match(rb'P5\s+(?:#[^\n]*\n\s*)*(\d+)\s+(\d+)\s+(\d+)\s', data)
    if not header:
        raise OSError(f'{path} is not a PGM image; remove it or copy it again')
    width, height, most = (int(number) for number in header.groups())
    body = data[header.end():]
    if most < 256 or len(body) < 2 * width * height:
        raise OSError(f'{path} is cut short or not of 16 bits; remove it or copy it again')
    values = np.frombuffer(body, '>u2', width * height).reshape(height, width)
    # some copies of the data set went through a tool that wrote the machine's own order
    return values.astype(np.uint16) if values.max() <= NO_READING else values.byteswap().astype(
        np.uint16)


@lru_cache(maxsize=1)
def _depth_rays() -> npt.NDArray[np.float64]:
    """Directions (z = 1) of the depth camera's pixels in its own frame, 3×307200, no lens."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    pixels = np.stack((u.ravel(), v.ravel()), axis=1)[:, None]
    rays = cv2.undistortPoints(pixels, DEPTH_MATRIX, DEPTH_DISTORTION)[:, 0]
    return np.vstack((rays.T, np.ones(len(rays))))


@lru_cache(maxsize=1)
def _colour_maps() -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the undistorted colour image is sampled, for cv2.remap."""
    return cv2.initUndistortRectifyMap(COLOUR_MATRIX, COLOUR_DISTORTION, None, COLOUR_MATRIX,
                                       (WIDTH, HEIGHT), cv2.CV_32FC1)


def undistort_colour(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 480×640×3 as the colour camera saw it → without its lens, black beyond its edge."""
    return cv2.remap(rgb, *_colour_maps(), cv2.INTER_LINEAR)


def register(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Depth of the depth camera → depth of the undistorted colour camera.

    depth: float32 480×640 metres, 0: none. Each reading is carried as a point into the colour
    camera's frame and lands on its nearest pixel; where two land, the nearer one stays.
    """
    z = depth.ravel().astype(np.float64)
    known = z > 0
    points = ROTATION @ (_depth_rays()[:, known] * z[known]) + TRANSLATION[:, None]
    u, v, _ = np.rint(COLOUR_MATRIX @ points / points[2]).astype(int)
    inside = (u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT) & (points[2] > 0)
    u, v, z = u[inside], v[inside], points[2, inside].astype(np.float32)
    far_to_near = np.argsort(-z)
    registered = np.zeros((HEIGHT, WIDTH), np.float32)
    registered[v[far_to_near], u[far_to_near]] = z[far_to_near]
    return registered


def time_of(path: str | Path) -> float:
    """Seconds, from a name like ``d-1294886362.665769-3143255701.pgm``."""
    return float(Path(path).name.split('-')[1])


def synchronise(folder: str | Path) -> list[tuple[Path, Path]]:
    """(colour, depth) file pairs of one scene: for each depth the colour nearest in time.

    At most MAX_APART seconds apart; ``a-*.dump`` (the accelerometer) is not needed.
    """
    def timed(pattern: str) -> list[tuple[float, Path]]:
        return sorted((time_of(file), file) for file in Path(folder).glob(pattern)
                      if re.match(r'[rd]-\d+(\.\d+)?-', file.name))
    colours, pairs = timed('r-*.ppm'), []
    times = [time for time, _ in colours]
    for time, depth in timed('d-*.pgm'):
        after = bisect.bisect(times, time)
        near = colours[max(0, after - 1):after + 1]
        best = min(near, key=lambda colour: abs(colour[0] - time), default=None)
        if best and abs(best[0] - time) <= MAX_APART:
            pairs.append((best[1], depth))
    return pairs


class RawScenes(FilePairs):
    """Scene folders of ``r-*.ppm`` and ``d-*.pgm`` as recorded, or one such folder."""

    def __init__(self, path: str | Path, without: Collection[str] = ()) -> None:
        path = Path(path)
        folders = [path] if any(path.glob('d-*.pgm')) else sorted(
            folder for folder in path.iterdir() if folder.is_dir())
        self.pairs = [pair for folder in folders if folder.name not in without
                      for pair in synchronise(folder)]
        if not self.pairs:
            raise OSError(f'{path}: no r-*.ppm within {MAX_APART} s of a d-*.pgm, here or one '
                          'folder down')

    def read(self, i: int) -> RgbdPair:
        colour, depth = self.pairs[i]
        rgb, disparity = read_colour(colour), read_disparity(depth)
        for file, image in ((colour, rgb), (depth, disparity)):
            if image.shape[:2] != (HEIGHT, WIDTH):
                raise OSError(f'{file} is {image.shape[1]}×{image.shape[0]}; NYU\'s raw '
                              f'images are {WIDTH}×{HEIGHT}')
        return RgbdPair(undistort_colour(rgb), register(disparity_to_metres(disparity)))
