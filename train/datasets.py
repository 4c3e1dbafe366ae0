"""Every form in which people have NYU Depth v2, and their own RGB-D data, as one dataset.

:func:`open_dataset` tells by what lies at a path which form it is. All are an
:class:`RgbdSet`; ``python -m train.prepare`` turns any of them into a :class:`Store`, which
training reads fastest.
"""

import contextlib
import csv
import json
import os
import re
from argparse import ArgumentTypeError
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.errors import explain, reason
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from hybrid_depth_ros.recordings.pairing import SLOP
from hybrid_depth_ros.recordings.pairs import PairedRecording

MAT, SPLITS = 'nyu_depth_v2_labeled.mat', 'splits.mat'
SPLIT_NAMES = ('train', 'test', 'all')


class RgbdSet:
    """Pairs of colour and depth: ``len``, :meth:`read`, :meth:`name`, :meth:`number`.

    left_out: a sentence for each pair that was found, but whose other half is not there.
    """

    left_out = ()

    def __len__(self):
        raise NotImplementedError

    def read(self, i):
        """Colour uint8 H×W×3 RGB; depth float32 H×W, metres, 0 where there is none.

        Raises OSError naming the file that can't be read.
        """
        raise NotImplementedError

    def name(self, i):
        """What people call pair i: a file or a frame."""
        raise NotImplementedError

    def number(self, i):
        """The frame number that index ranges count by; where files have none, i."""
        return i

    def focal(self, i):
        """Focal length / image width of pair i's camera; NYU's where nothing else is known."""
        return NYU_FX_PER_WIDTH

    def numbered(self, ranges, keep=True, option='--ranges [[A,B]]'):
        """The pairs in ``[[first, last], …]`` (both inclusive), or with keep=False the others.

        option: how people choose others. Raises OSError where none is left.
        """
        chosen = [i for i in range(len(self)) if keep == any(
            first <= self.number(i) <= last for first, last in ranges)]
        if not chosen:
            raise OSError(f'no pair is {"inside" if keep else "outside"} the ranges {ranges}: the '
                          f'{len(self)} pairs are numbered {self.number(0)} to '
                          f'{self.number(len(self) - 1)}; choose others by {option}')
        return Subset(self, chosen)


class Subset(RgbdSet):
    """Some pairs of another dataset."""

    def __init__(self, dataset, chosen):
        self.dataset, self.chosen, self.left_out = dataset, list(chosen), dataset.left_out

    def __len__(self):
        return len(self.chosen)

    def read(self, i):
        return self.dataset.read(self.chosen[i])

    def name(self, i):
        return self.dataset.name(self.chosen[i])

    def number(self, i):
        return self.dataset.number(self.chosen[i])

    def focal(self, i):
        return self.dataset.focal(self.chosen[i])


def ranges(text):
    """``[[0,9],[20,29]]`` → lists of whole numbers; ArgumentTypeError for anything else."""
    try:
        found = json.loads(text)
        if all(type(first) is type(last) is int for first, last in found):
            return found
    except (ValueError, TypeError):
        pass
    raise ArgumentTypeError(f'{text!r} is no list of ranges; write it like [[0,9],[20,29]]')


def above_0(text):
    """A number above 0; ValueError for anything else."""
    number = float(text)
    if not 0 < number < float('inf'):
        raise ArgumentTypeError(f'{text} is not above 0')
    return number


def read_whole(dataset, i):
    """Colour, depth and focal length of pair i, if it is fit for use; OSError names it if not."""
    try:
        rgb, depth = dataset.read(i)
        focal = dataset.focal(i)
    except (ValueError, cv2.error) as error:
        raise OSError(f'{dataset.name(i)} cannot be read ({error}); remove the pair or copy it '
                      'again') from error
    (height, width), (rows, columns) = rgb.shape[:2], depth.shape
    if abs(width * rows - height * columns) > max(width, height, rows, columns):
        raise OSError(f'{dataset.name(i)}: colour is {width}×{height}, depth {columns}×{rows}: '
                      'not of one view; remove the pair')
    if not depth.any():
        raise OSError(f'{dataset.name(i)} has no depth anywhere; remove the pair')
    return rgb, depth, focal


def readable(dataset):
    """Those pairs that :func:`read_whole` can read, and a sentence for each of the others."""
    chosen, lost = [], []
    for i in range(len(dataset)):
        try:
            read_whole(dataset, i)
            chosen.append(i)
        except OSError as error:
            lost.append(explain(error))
    return Subset(dataset, chosen), lost


def _decode(path, flags):
    """An image file's pixels; OSError where they are not all there."""
    data = Path(path).read_bytes()
    if not _cut_short(data):
        with contextlib.suppress(cv2.error):  # more pixels than OpenCV takes
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None:
                return pixels
    raise _unreadable(path)


def _cut_short(data):
    """Whether the end of a JPEG or PNG file is not there, which OpenCV 4 shows as grey."""
    if data.startswith(b'\xff\xd8'):
        return b'\xff\xd9' not in data[data.rfind(b'\xff\xda'):]
    return not data or (data.startswith(b'\x89PNG') and b'IEND' not in data[-64:])


def read_colour(path):
    """An image file → uint8 H×W×3 RGB; OSError where it isn't a whole one."""
    bgr = _decode(path, cv2.IMREAD_COLOR)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, bgr)


def read_depth(path, scale, kinds='uif'):
    """A depth picture of one channel, or .npy → float32 H×W, its values / scale.

    kinds: what its values may be (numpy's kinds or dtypes).
    """
    if Path(path).suffix == '.npy':
        try:
            depth = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(path) from error
    else:
        depth = _decode(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim != 2 or (depth.dtype.kind not in kinds and depth.dtype.name not in kinds):
        raise OSError(f'{path} is not a depth picture: it is {depth.dtype} of shape {depth.shape}; '
                      f'{"numbers" if kinds == "uif" else kinds[0]} of one channel are wanted')
    return _metres(depth, scale)


def _metres(depth, scale=1):
    """Float32, values / scale; 0 where they are none or negative."""
    metres = depth.astype(np.float32)
    if scale != 1:
        metres /= np.float32(scale)
    if depth.dtype.kind == 'f':
        metres = np.nan_to_num(metres, copy=False, nan=0, posinf=0, neginf=0)
    return metres if depth.dtype.kind == 'u' else np.maximum(metres, 0, out=metres)


def _unreadable(path):
    return OSError(f'{path} is not a readable image; remove the pair or copy it again')


class SyncTree(RgbdSet):
    """The "sync" layout: ``rgb_NNNNN.jpg`` beside ``sync_depth_NNNNN.png`` (uint16 mm).

    Flat, or a folder for each scene.
    """

    def __init__(self, path):
        path = Path(path)

        def files(pattern):
            return sorted(path.glob(pattern)) + sorted(path.glob(f'*/{pattern}'))
        depths = {depth.with_name(f'rgb{depth.stem[10:]}.jpg'): depth
                  for depth in files('sync_depth_*.png')}
        colours = files('rgb_*.jpg')
        self.pairs = [(rgb, depths[rgb]) for rgb in colours if rgb in depths]
        self.left_out = [f'{rgb} has no sync_depth{rgb.stem[3:]}.png beside it'
                         for rgb in colours if rgb not in depths] + [
            f'{depths[rgb]} has no {rgb.name} beside it' for rgb in sorted(depths.keys() - colours)]
        if not self.pairs:
            raise OSError(f'{path}: no rgb_NNNNN.jpg with a sync_depth_NNNNN.png beside it, '
                          'here or one folder down')

    def __len__(self):
        return len(self.pairs)

    def read(self, i):
        rgb, depth = self.pairs[i]
        return read_colour(rgb), read_depth(depth, 1000, ('uint16',))

    def name(self, i):
        return f'{self.pairs[i][0].parent.name}/{self.pairs[i][0].name}'

    def number(self, i):
        return int(re.sub(r'\D', '', self.pairs[i][0].stem))


@lru_cache(maxsize=8)
def _hdf5(path, process):
    """An open HDF5 file; a handle must not cross into a worker process."""
    import h5py
    try:
        return h5py.File(path, 'r')
    except OSError as error:
        raise OSError(f'{path} is not a whole HDF5 file ({error}); copy or download it '
                      'again') from error


def _rgbd(name, rgb, depth):
    """Arrays as a file held them → uint8 H×W×3, float32 H×W; OSError where they are others."""
    rgb, depth = np.asarray(rgb), np.asarray(depth)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise OSError(f'{name}: rgb is {rgb.dtype} of shape {rgb.shape}; uint8 of three channels '
                      'is wanted; remove it')
    if depth.dtype.kind not in 'uif' or depth.ndim != 2:
        raise OSError(f'{name}: depth is {depth.dtype} of shape {depth.shape}; metres of one '
                      'channel are wanted; remove it')
    return np.ascontiguousarray(rgb), _metres(np.ascontiguousarray(depth))


class LabeledMat(RgbdSet):
    """The labelled set as published: ``nyu_depth_v2_labeled.mat`` (HDF5, 1449 pairs).

    split: ``train`` (795) and ``test`` (654) are read from ``splits.mat`` beside it;
    ``all`` needs none. Depth is the in-painted one, in metres; ``number`` is the 0-based
    index in the file.
    """

    def __init__(self, path, split='train'):
        self.path = Path(path)
        file = self._open()
        absent = [key for key in ('images', 'depths') if key not in file]
        if absent:
            raise OSError(f'{path} has no {" and no ".join(absent)}: it is not {MAT}; pass '
                          'that')
        self.indices = np.arange(len(file['images']))
        if split != 'all':
            self.indices = official_split(self.path.with_name(SPLITS), split)

    def _open(self):
        return _hdf5(self.path, os.getpid())

    def __len__(self):
        return len(self.indices)

    def read(self, i):
        file, index = self._open(), self.indices[i]
        try:
            rgb, depth = file['images'][index], file['depths'][index]
        except OSError as error:
            raise OSError(f'{self.name(i)} cannot be read ({error}); copy or download the file '
                          'again') from error
        # MATLAB's column-major H×W×3 arrives as 3×W×H
        return _rgbd(self.name(i), rgb.transpose(2, 1, 0), depth.T)

    def name(self, i):
        return f'{self.path.name}[{self.indices[i]}]'

    def number(self, i):
        return int(self.indices[i])

    def scenes(self):
        """The scene that each pair shows, as NYU names it (``kitchen_0004``)."""
        file = self._open()
        references = file['scenes'][()].ravel()[self.indices]
        return [''.join(map(chr, file[reference][()].ravel())) for reference in references]


def official_split(path, split):
    """0-based indices of ``train`` or ``test`` from NYU's ``splits.mat``; OSError if absent."""
    import scipy.io
    if not path.exists():
        raise OSError(f'{path} is not there: it says which images are the official training and '
                      'test sets. Get splits.mat from NYU (indoor_seg_sup/splits.mat), or '
                      'pass --split all')
    try:
        numbers = scipy.io.loadmat(path)[f'{split}Ndxs']
    except (KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise OSError(f"{path} is not NYU's splits.mat ({reason(error)}); get it from "
                      'NYU again, or pass --split all') from error
    return np.sort(numbers.ravel().astype(int) - 1)


class H5Tree(RgbdSet):
    """HDF5 files of a pair each: ``rgb`` 3×480×640 uint8, ``depth`` float32 metres.

    ``train/SCENE/NNNNN.h5`` and ``val/official/NNNNN.h5``, the tree of 47,584 training files
    that came with *Sparse-to-Dense* (Ma and Karaman, 2018); or any folder of such files.
    """

    def __init__(self, path, split='train'):
        path = Path(path)
        inside = {'train': path / 'train', 'test': path / 'val', 'all': path}[split]
        self.files = sorted((inside if inside.is_dir() else path).glob('**/*.h5'))
        if not self.files:
            raise OSError(f'{path} holds no .h5 file; check the path')

    def __len__(self):
        return len(self.files)

    def read(self, i):
        import h5py
        try:
            with h5py.File(self.files[i], 'r') as file:
                rgb, depth = file['rgb'][()], file['depth'][()]
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise OSError(f'{self.files[i]} does not hold rgb and depth ({reason(error)}); remove '
                          'it or copy it again') from error
        return _rgbd(self.files[i], np.moveaxis(rgb, 0, -1) if np.ndim(rgb) == 3 else rgb, depth)

    def name(self, i):
        return f'{self.files[i].parent.name}/{self.files[i].name}'


class PairList(RgbdSet):
    """Anyone's own data: a CSV of image and depth paths, relative to the CSV's folder.

    Columns ``image,depth``, and ``fx`` (pixels) where the camera is not like NYU's; without
    such a header, the first two columns. Depth files are pictures of one channel or ``.npy``;
    metres are their values / depth_scale (1000: millimetres).
    """

    def __init__(self, path, depth_scale=1000.0):
        self.path, self.depth_scale = Path(path), depth_scale
        try:
            with open(path, newline='', encoding='utf-8-sig') as file:
                rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
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
                fx = float(entry.get('fx') or 0)
            except ValueError:
                raise OSError(f'{path}: row {number}: fx is {entry["fx"]!r}; it must be a '
                              'number of pixels') from None
            self.rows.append((self.path.parent / entry['image'],
                              self.path.parent / entry['depth'], fx))
        whole = [row for row in self.rows if row[0].exists() and row[1].exists()]
        self.left_out = [f'{file} is not there, and {path} names it' for row in self.rows
                         for file in row[:2] if not file.exists()]
        if not whole:
            raise OSError(f'{path}: not one of its pairs is there; the first file that is not: '
                          f'{self.left_out[0].split(" is not there")[0]}; write its paths '
                          'relative to the .csv')
        self.rows = whole

    def __len__(self):
        return len(self.rows)

    def read(self, i):
        image, depth, _ = self.rows[i]
        rgb = read_colour(image)
        self._widths[i] = rgb.shape[1]
        return rgb, read_depth(depth, self.depth_scale)

    def name(self, i):
        return str(self.rows[i][0].relative_to(self.path.parent))

    def focal(self, i):
        image, _, fx = self.rows[i]
        if not fx:
            return NYU_FX_PER_WIDTH
        if i not in self._widths:
            self._widths[i] = read_colour(image).shape[1]
        return fx / self._widths[i]


class BagPairs(RgbdSet):
    """Colour and depth topics of a rosbag2 recording (sqlite3 or MCAP), paired by stamp.

    The arguments and what is raised: :class:`hybrid_depth_ros.recordings.pairs.PairedRecording`'s.
    """

    def __init__(self, path, image_topic=None, depth_topic=None, slop=SLOP):
        self._recording = PairedRecording(path, image_topic, depth_topic, slop=slop)
        self._focal = None

    def __len__(self):
        return len(self._recording)

    def read(self, i):
        pair = self._recording.read(i)
        return pair.seen, np.nan_to_num(pair.truth)

    def name(self, i):
        return f'{self._recording.path.name} at {self._recording.stamp(i) / 1e9:.3f} s'

    def focal(self, i):
        if self._focal is None:
            camera = self._recording.read(0).camera
            self._focal = camera.fx / camera.width if camera else NYU_FX_PER_WIDTH
        return self._focal


class Store(RgbdSet):
    """What ``python -m train.prepare`` writes: two memory-mapped arrays of one picture size.

    ``rgb.npy`` uint8 N×H×W×3, ``depth.npy`` uint16 N×H×W in millimetres (0: none) and
    ``store.json``: names, numbers and focal lengths per width.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            self.index = json.loads((self.path / 'store.json').read_text())
            self.rgb, self.depth = (np.load(self.path / f'{name}.npy', mmap_mode='r')
                                    for name in ('rgb', 'depth'))
            lengths = {len(self.rgb), len(self.depth), len(self.index['names'])}
        except (OSError, ValueError, KeyError) as error:
            raise OSError(f'{path} is not a whole store ({reason(error)}); remove it and '
                          'run train.prepare again') from error
        if len(lengths) != 1:
            raise OSError(f'{path}: its files hold {sorted(lengths)} pairs; remove it '
                          'and run train.prepare again')

    def __len__(self):
        return len(self.rgb)

    def read(self, i):
        return np.array(self.rgb[i]), _metres(self.depth[i], 1000)

    def name(self, i):
        return self.index['names'][i]

    def number(self, i):
        return self.index['numbers'][i]

    def focal(self, i):
        return self.index['focals'][i]


def open_dataset(path, split='train', *, depth_scale=1000.0, image_topic=None, depth_topic=None):
    """The dataset at a path, whichever form it has.

    split: ``train``, ``test`` or ``all``, where the form knows the official split (the labelled
    .mat, the HDF5 tree); the other forms are taken whole. depth_scale: a CSV's depth units per
    metre. image_topic, depth_topic: a bag's.
    Raises OSError saying what was looked for where nothing is recognised.
    """
    from train.raw import RawScenes
    path = Path(path).expanduser()
    if not path.exists():
        raise OSError(f'{path} does not exist; check the path given by --data')

    def holds(*patterns):
        return any(True for pattern in patterns for _ in path.glob(pattern))
    if path.suffix == '.mat':
        return LabeledMat(path, split)
    if path.suffix == '.csv':
        return PairList(path, depth_scale)
    if path.suffix in ('.mcap', '.db3') or (path / 'metadata.yaml').is_file():
        return BagPairs(path, image_topic, depth_topic)
    if (path / 'store.json').is_file():
        return Store(path)
    if (path / MAT).is_file():
        return LabeledMat(path / MAT, split)
    if holds('rgb_*.jpg', '*/rgb_*.jpg'):
        return SyncTree(path)
    if holds('d-*.pgm', '*/d-*.pgm'):
        return RawScenes(path)
    if holds('*.h5', '*/*.h5', '*/*/*.h5'):
        return H5Tree(path, split)
    raise OSError(
        f'{path} is no RGB-D data known here. Looked for: {MAT}; a store of train.prepare '
        '(store.json); rgb_NNNNN.jpg with sync_depth_NNNNN.png; raw scenes (r-*.ppm, d-*.pgm); '
        'SCENE/NNNNN.h5; a rosbag2 recording (metadata.yaml, .mcap, .db3); a .csv of image,depth')
