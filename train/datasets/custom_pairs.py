"""People's own data: a list of files, a ROS 2 recording."""

import csv
import os
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_depth_ros.arguments import number
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.image_files import read_colour
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from hybrid_depth_ros.recordings.pairs import PairedRecording
from hybrid_depth_ros.recordings.time_synchronizer import SLOP
from train.datasets.depth_files import UNKNOWN_MAXIMUM, at_maximum, read_values, to_metres
from train.datasets.pairs import RgbdDataset, RgbdPair

# Where a list's paths start from: its folder or the one above (DenseDepth's data/nyu2_train.csv),
# or below one of its folders as BTS lays NYU out.
ROOTS = ('', '..')
BTS_ROOTS = tuple(f'{above}/{inside}' for above in ('.', '..', '../..') for nyu in (
    '', 'nyu_depth_v2/', 'dataset/nyu_depth_v2/') for inside in (
    f'{nyu}sync', f'{nyu}official_splits/test'))
COLOUR = ('rgb', 'color', 'colour', 'img')  # what the column image is called too
MILLIMETRES = 1000.0        # depth units in a metre, where nothing else is said
DENSEDEPTH = 'nyu2_train'   # in the name of its list: depth has 8 bits there
DENSEDEPTH_SCALE = 25.5     # units of them in a metre


class ListedPair(NamedTuple):
    """A row of a list: the two files, and the focal length in pixels; 0: a camera like NYU's."""

    image: Path
    depth: Path
    fx: float


def _rows(path: Path) -> list[list[str]]:
    """The cells of a list's rows; OSError where it is no text."""
    def rows(lines: Iterable[str], sign: str) -> Iterator[list[str]]:
        for row in csv.reader(lines, delimiter=sign, skipinitialspace=True):
            if any(row):
                yield [cell.strip() for cell in row]

    def separates(sign: str) -> bool:
        """Whether the first row's cells, parted so, are names: a name may hold a sign too."""
        row = next(rows(lines, sign), [])
        return len(row) > 1 and ('depth' in map(str.lower, row)
                                 or all(Path(cell).suffix or cell == 'None' for cell in row[:2]))
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            lines = file.read().splitlines()
        return list(rows(lines, next(filter(separates, ',;\t '), ',')))
    except (UnicodeDecodeError, csv.Error) as error:
        raise OSError(f'{path} is not a text file ({reason(error)}); save it as UTF-8') from error


class PairList(RgbdDataset):
    """Anyone's own data: a list of image and depth paths, relative to the list's folder, or where
    not one is there to one of ROOTS and BTS_ROOTS. Cells are parted by commas, semicolons, tabs or
    spaces.

    Columns ``image,depth``, and ``fx`` (pixels) where the camera is not like NYU's; without
    such a header, the first columns. Depth files are images of one channel or ``.npy``;
    metres are their values / depth_scale (1000: millimetres; DenseDepth's 8 bits: 255 is 10 m).
    """

    def __init__(self, path: str | Path, depth_scale: float | None = None) -> None:
        self.path, self.depth_scale = Path(path), depth_scale or MILLIMETRES
        self.assumptions: list[str] = []
        rows, columns = _rows(self.path), ['image', 'depth']
        if rows and 'depth' in [cell.lower() for cell in rows[0]]:
            columns = ['image' if cell.lower() in COLOUR else cell.lower() for cell in rows.pop(0)]
        elif self.path.suffix == '.txt':  # BTS's: the focal length comes third
            columns.append('fx')
        if 'image' not in columns or not rows:
            raise OSError(f'{path}: want rows of image,depth (and fx), got '
                          + (f'the columns {", ".join(columns)}; begin it with the line '
                             'image,depth' if rows else 'no row; add some'))
        entries: list[tuple[str, str, float]] = []
        self._widths: dict[int, int] = {}  # of the images, pixels
        for n, row in enumerate(rows, 1):
            entry = dict(zip(columns, row))
            if not entry.get('image') or not entry.get('depth'):
                raise OSError(f'{path}: row {n} lacks an image or a depth: '
                              f'{",".join(row)}; write both, or remove the row')
            try:
                fx = number(above=0)(entry['fx']) if entry.get('fx') else 0.0
            except ArgumentTypeError:
                raise OSError(f'{path}: row {n}: fx is {entry["fx"]!r}; it must be a '
                              "number of pixels above 0, or empty where the camera is like NYU's"
                              ) from None
            entries.append((entry['image'], entry['depth'], fx))
        found = self._locate(entries)
        self.pairs: list[ListedPair] = [
            pair for pair in found if pair.image.exists() and pair.depth.exists()]
        self.left_out = [f'{file} is not there, and {path} names it' for pair in found
                         for file in (pair.image, pair.depth) if not file.exists()]
        if not self.pairs:
            raise OSError(f'{path}: not one of its pairs is there; the first file that is not: '
                          f'{self.left_out[0].split(" is not there")[0]}; write its paths '
                          'relative to the list, or put it where they start')
        self._scale8 = self.depth_scale  # of values of 8 bits
        if depth_scale is None and DENSEDEPTH in self.path.name:
            self._scale8 = DENSEDEPTH_SCALE
            self.assumptions.append("depth of 8 bits is taken to be DenseDepth's: 255 is 10 m")

    def _locate(self, entries: list[tuple[str, str, float]]) -> list[ListedPair]:
        """The rows with whole paths, from the first root at which one of the images is."""
        folder, first = self.path.parent, list[ListedPair]()

        def locate(start: Path, name: str) -> Path:
            file = start / expand_user(name)
            if not file.exists() and '\\' in name:  # written on Windows
                name = name.replace('\\', '/')
                file = start / expand_user(name)
            # BTS writes /kitchen_0028b/rgb_00045.jpg below sync
            return start / name.lstrip('/') if name[0] == '/' and not file.exists() else file
        for root in (*ROOTS, *BTS_ROOTS):
            start = Path(os.path.normpath(folder / root)) if root else folder
            if start.is_dir():
                pairs = [ListedPair(locate(start, image), locate(start, depth), fx)
                         for image, depth, fx in entries]
                if any(pair.image.exists() for pair in pairs):
                    return pairs
                first = first or pairs
        return first

    def read(self, i: int) -> RgbdPair:
        image, depth, _ = self.pairs[i]
        rgb = read_colour(image)
        self._widths[i] = rgb.shape[1]
        values = read_values(depth)
        if UNKNOWN_MAXIMUM not in self.assumptions and at_maximum(values).any():
            self.assumptions.append(UNKNOWN_MAXIMUM)
        return RgbdPair(rgb, to_metres(
            values, self._scale8 if values.dtype == np.uint8 else self.depth_scale))

    def name(self, i: int) -> str:
        image = self.pairs[i].image
        inside = image.is_relative_to(self.path.parent)
        return str(image.relative_to(self.path.parent) if inside else image)

    def focal(self, i: int) -> float:
        image, _, fx = self.pairs[i]
        if not fx:
            return NYU_FX_PER_WIDTH
        if i not in self._widths:
            self._widths[i] = read_colour(image).shape[1]
        return fx / self._widths[i]


class BagPairs(RgbdDataset):
    """Colour and depth topics of a rosbag2 recording (sqlite3 or MCAP), paired by stamp.

    The arguments and what is raised: :class:`~hybrid_depth_ros.recordings.pairs.PairedRecording`'s.
    """

    def __init__(self, path: str | Path, image_topic: str | None = None,
                 depth_topic: str | None = None, slop: float = SLOP) -> None:
        self._recording = PairedRecording(path, image_topic, depth_topic, slop=slop)
        self._recording.first()
        assumptions = list(self._recording.assumptions())
        if self._recording.missing_camera_reason:
            assumptions.append(f"{self._recording.missing_camera_reason}: it is taken to be a "
                               "camera like NYU's")
        self.assumptions = assumptions
        self._focals: dict[int, float] = {}  # of the pairs that were read: a lens may zoom

    def __len__(self) -> int:
        return len(self._recording)

    def read(self, i: int) -> RgbdPair:
        pair = self._recording.read(i)
        self._focals[i] = pair.camera.fx / pair.camera.width if pair.camera else NYU_FX_PER_WIDTH
        return RgbdPair(pair.image, np.nan_to_num(pair.truth))

    def name(self, i: int) -> str:
        return f'{self._recording.path.name} at {self._recording.stamp(i) / 1e9:.3f} s'

    def focal(self, i: int) -> float:
        if i not in self._focals:
            self.read(i)
        return self._focals[i]
