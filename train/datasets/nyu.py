"""NYU Depth v2 as it is passed around: the labelled .mat, the sync layout, the HDF5 tree."""

import contextlib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.image_files import read_colour
from train.datasets.depth_files import read_depth, to_metres
from train.datasets.pairs import FilePairs, RgbdDataset, RgbdPair

MAT, SPLITS = 'nyu_depth_v2_labeled.mat', 'splits.mat'
CAMERA = 'camera.txt'


class SyncTree(FilePairs):
    """The "sync" layout: ``rgb_NNNNN.jpg`` beside ``sync_depth_NNNNN.png`` (uint16 mm).

    Flat, or a folder for each scene. A folder may hold ``camera.txt``, its camera's ``fx fy cx cy``
    in pixels of these files. A scene without it has that of the whole tree; where that lacks it
    too, the camera is NYU's.
    """

    def __init__(self, path: str | Path) -> None:
        self._root = path = Path(path)
        self._widths: dict[int, int] = {}  # of images that were read: no need to decode them again

        def files(pattern: str) -> list[Path]:
            return sorted(path.glob(pattern)) + sorted(path.glob(f'*/{pattern}'))
        colours = files('rgb_*.jpg') + files('rgb_*.png')
        there = set(colours)
        depths = {}
        for depth in files('sync_depth_*.png'):
            rgb = depth.with_name(f'rgb{depth.stem[10:]}.png')
            depths[rgb if rgb in there else rgb.with_suffix('.jpg')] = depth
        self.pairs = [(rgb, depths[rgb]) for rgb in colours if rgb in depths]
        self.left_out = [f'{rgb} has no sync_depth{rgb.stem[3:]}.png beside it'
                         for rgb in colours if rgb not in depths] + [
            f'{depths[rgb]} has no {rgb.name} beside it' for rgb in sorted(depths.keys() - colours)]
        if not self.pairs:
            raise OSError(f'{path}: no rgb_NNNNN.jpg with a sync_depth_NNNNN.png beside it, '
                          'here or one folder down')

    def read(self, i: int) -> RgbdPair:
        colour, depth = self.pairs[i]
        rgb = read_colour(colour)
        self._widths[i] = rgb.shape[1]
        return RgbdPair(rgb, read_depth(depth, 1000, ('uint16',)))

    def number(self, i: int) -> int:
        digits = re.sub(r'\D', '', self.pairs[i][0].stem)
        return int(digits) if digits else i

    def focal(self, i: int) -> float:
        colour, _ = self.pairs[i]
        for camera in (colour.with_name(CAMERA), self._root / CAMERA):
            if camera.is_file():
                width = self._widths.get(i) or read_colour(colour).shape[1]
                return read_camera(camera)[0] / width
        return super().focal(i)


def read_camera(camera: Path) -> list[float]:
    """fx, fy, cx, cy in pixels from a file of these, below a line of names or not.

    Raises:
        OSError: The file is not there, or its last line does not hold four numbers.
    """
    lines = camera.read_text(errors='replace').strip().splitlines() or ['']
    numbers: list[float] = []
    with contextlib.suppress(ValueError):
        for word in lines[-1].split():
            numbers.append(float(word))
    if len(numbers) != 4:
        raise OSError(f'{camera} holds no camera: its last line begins with {len(numbers)} '
                      'numbers, not with four; write fx fy cx cy in pixels into it, or remove it '
                      "where the camera is NYU's")
    return numbers


@lru_cache(maxsize=8)
def _hdf5(path: Path, process: int) -> Any:
    """An open HDF5 file; a handle must not cross into a worker process."""
    import h5py
    try:
        return h5py.File(path, 'r')
    except OSError as error:
        raise OSError(f'{path} is not a whole HDF5 file ({error}); copy or download it '
                      'again') from error


def _rgbd(name: str | Path, rgb: npt.ArrayLike, depth: npt.ArrayLike) -> RgbdPair:
    """Arrays as a file held them → a pair; OSError where they are of another kind or shape."""
    rgb, depth = np.asarray(rgb), np.asarray(depth)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise OSError(f'{name}: rgb is {rgb.dtype} of shape {rgb.shape}; uint8 of three channels '
                      'is wanted; remove it')
    if depth.dtype.kind not in 'uif' or depth.ndim != 2:
        raise OSError(f'{name}: depth is {depth.dtype} of shape {depth.shape}; metres of one '
                      'channel are wanted; remove it')
    return RgbdPair(np.ascontiguousarray(rgb), to_metres(np.ascontiguousarray(depth)))


class LabeledMat(RgbdDataset):
    """The labelled set as published: ``nyu_depth_v2_labeled.mat`` (HDF5, 1449 pairs).

    split: ``train`` (795) and ``test`` (654) are read from ``splits.mat`` beside it;
    ``all`` needs none. Depth is the in-painted one, in metres; ``number`` is the 0-based
    index in the file.
    """

    def __init__(self, path: str | Path, split: str = 'train') -> None:
        self.path = Path(path)
        file = self._open()
        absent = [key for key in ('images', 'depths') if key not in file]
        if absent:
            raise OSError(f'{path} has no {" and no ".join(absent)}: it is not {MAT}; pass '
                          'that')
        self.indices = np.arange(len(file['images']))
        if split != 'all':
            self.indices = official_split(self.path.with_name(SPLITS), split)

    def _open(self) -> Any:
        return _hdf5(self.path, os.getpid())

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, i: int) -> RgbdPair:
        file, index = self._open(), self.indices[i]
        try:
            rgb, depth = file['images'][index], file['depths'][index]
        except OSError as error:
            raise OSError(f'{self.name(i)} cannot be read ({error}); copy or download the file '
                          'again') from error
        # MATLAB's column-major H×W×3 arrives as 3×W×H
        return _rgbd(self.name(i), rgb.transpose(2, 1, 0), depth.T)

    def name(self, i: int) -> str:
        return f'{self.path.name}[{self.indices[i]}]'

    def number(self, i: int) -> int:
        return int(self.indices[i])

    def scenes(self) -> list[str]:
        """The scene that each pair shows, as NYU names it (``kitchen_0004``)."""
        file = self._open()
        references = file['scenes'][()].ravel()[self.indices]
        return [''.join(map(chr, file[reference][()].ravel())) for reference in references]


def official_split(path: Path, split: str) -> npt.NDArray[np.int64]:
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


class H5Tree(RgbdDataset):
    """HDF5 files of a pair each: ``rgb`` 3×480×640 uint8, ``depth`` float32 metres.

    ``train/SCENE/NNNNN.h5`` and ``val/official/NNNNN.h5``, the tree of 47,584 training files
    that came with *Sparse-to-Dense* (Ma and Karaman, 2018); or any folder of such files.
    """

    def __init__(self, path: str | Path, split: str = 'train') -> None:
        path = Path(path)
        inside = {'train': path / 'train', 'test': path / 'val', 'all': path}[split]
        self.pairs = sorted(file for file in (inside if inside.is_dir() else path).glob('**/*.h5')
                            if not file.name.startswith('.'))
        if not self.pairs:
            raise OSError(f'{path} holds no .h5 file; check the path')

    def read(self, i: int) -> RgbdPair:
        import h5py
        try:
            with h5py.File(self.pairs[i], 'r') as file:
                rgb, depth = file['rgb'][()], file['depth'][()]
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise OSError(f'{self.pairs[i]} does not hold rgb and depth ({reason(error)}); remove '
                          'it or copy it again') from error
        last = np.ndim(rgb) == 3 and np.shape(rgb)[2] == 3 and np.shape(rgb)[0] != 3
        return _rgbd(self.pairs[i], rgb if last or np.ndim(rgb) != 3 else np.moveaxis(rgb, 0, -1),
                     depth)

    def name(self, i: int) -> str:
        return f'{self.pairs[i].parent.name}/{self.pairs[i].name}'
