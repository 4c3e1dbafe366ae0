"""People's own data: a list of files, a ROS 2 recording."""

import csv
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import expanded
from hybrid_depth_ros.pictures import read_colour
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from hybrid_depth_ros.recordings.pairing import SLOP
from hybrid_depth_ros.recordings.pairs import PairedRecording
from train.datasets.files import read_depth
from train.datasets.pairs import RgbdSet, above_0


class PairList(RgbdSet):
    """Anyone's own data: a CSV of image and depth paths, relative to the CSV's folder, or where
    not one is there to the folder above. Cells are parted by commas, semicolons or tabs.

    Columns ``image,depth``, and ``fx`` (pixels) where the camera is not like NYU's; without
    such a header, the first two columns. Depth files are pictures of one channel or ``.npy``;
    metres are their values / depth_scale (1000: millimetres).
    """

    def __init__(self, path, depth_scale=1000.0):
        self.path, self.depth_scale = Path(path), depth_scale
        try:
            with open(path, newline='', encoding='utf-8-sig') as file:
                text = file.read()
            first = text.partition('\n')[0]  # a spreadsheet may part cells by ; or by tabs
            parted = next((sign for sign in ',;\t' if sign in first), ',')
            rows = [[cell.strip() for cell in row]
                    for row in csv.reader(text.splitlines(), delimiter=parted) if any(row)]
        except UnicodeDecodeError as error:
            raise OSError(f'{path} is not a text file ({reason(error)}); save it as '
                          'UTF-8') from error
        columns = ['image', 'depth']
        if rows and 'depth' in [cell.lower() for cell in rows[0]]:
            columns = [cell.lower() for cell in rows.pop(0)]
        if 'image' not in columns or not rows:
            raise OSError(f'{path}: want rows of image,depth (and fx), got '
                          + (f'the columns {", ".join(columns)}; begin it with the line '
                             'image,depth' if rows else 'no row; add some'))
        self.rows, self._widths = [], {}
        for number, row in enumerate(rows, 1):
            entry = dict(zip(columns, row))
            if not entry.get('image') or not entry.get('depth'):
                raise OSError(f'{path}: row {number} lacks an image or a depth: '
                              f'{",".join(row)}; write both, or remove the row')
            try:
                fx = above_0(entry['fx']) if entry.get('fx') else 0
            except (ValueError, ArgumentTypeError):
                raise OSError(f'{path}: row {number}: fx is {entry["fx"]!r}; it must be a '
                              "number of pixels above 0, or empty where the camera is like NYU's"
                              ) from None
            self.rows.append((self.path.parent / expanded(entry['image']),
                              self.path.parent / expanded(entry['depth']), fx))
        if not any(image.exists() for image, *_ in self.rows):  # as in data/nyu2_train.csv
            above = [(self._above(image), self._above(depth), fx) for image, depth, fx in self.rows]
            self.rows = above if any(image.exists() for image, *_ in above) else self.rows
        whole = [row for row in self.rows if row[0].exists() and row[1].exists()]
        self.left_out = [f'{file} is not there, and {path} names it' for row in self.rows
                         for file in row[:2] if not file.exists()]
        if not whole:
            raise OSError(f'{path}: not one of its pairs is there; the first file that is not: '
                          f'{self.left_out[0].split(" is not there")[0]}; write its paths '
                          'relative to the .csv')
        self.rows = whole

    def _above(self, file):
        """The file by the same name, read from the folder above the CSV's."""
        folder = self.path.parent
        inside = file.is_relative_to(folder)
        return folder.parent / file.relative_to(folder) if inside else file

    def __len__(self):
        return len(self.rows)

    def read(self, i):
        image, depth, _ = self.rows[i]
        rgb = read_colour(image)
        self._widths[i] = rgb.shape[1]
        return rgb, read_depth(depth, self.depth_scale)

    def name(self, i):
        image = self.rows[i][0]
        inside = image.is_relative_to(self.path.parent)
        return str(image.relative_to(self.path.parent) if inside else image)

    def focal(self, i):
        image, _, fx = self.rows[i]
        if not fx:
            return NYU_FX_PER_WIDTH
        if i not in self._widths:
            self._widths[i] = read_colour(image).shape[1]
        return fx / self._widths[i]


class BagPairs(RgbdSet):
    """Colour and depth topics of a rosbag2 recording (sqlite3 or MCAP), paired by stamp.

    The arguments and what is raised: :class:`~hybrid_depth_ros.recordings.pairs.PairedRecording`'s.
    """

    def __init__(self, path, image_topic=None, depth_topic=None, slop=SLOP):
        self._recording = PairedRecording(path, image_topic, depth_topic, slop=slop)
        self._recording.first()
        self.assumptions = self._recording.assumptions()
        if self._recording.without_camera:
            self.assumptions.append(f"{self._recording.without_camera}: it is taken to be a camera "
                                    "like NYU's")
        self._focals = {}  # of the pairs that were read: a lens may zoom

    def __len__(self):
        return len(self._recording)

    def read(self, i):
        pair = self._recording.read(i)
        self._focals[i] = pair.camera.fx / pair.camera.width if pair.camera else NYU_FX_PER_WIDTH
        return pair.seen, np.nan_to_num(pair.truth)

    def name(self, i):
        return f'{self._recording.path.name} at {self._recording.stamp(i) / 1e9:.3f} s'

    def focal(self, i):
        if i not in self._focals:
            self.read(i)
        return self._focals[i]
