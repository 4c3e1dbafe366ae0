"""Sequences as TUM's RGB-D benchmark lays them out (Sturm et al., IROS 2012).

``rgb.txt`` and ``depth.txt`` list a time and a file in each row, colour and depth apart; or
``associations.txt``, as its tool associate.py writes it, lists both in each row.
"""

from pathlib import Path
from typing import NamedTuple

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.image_files import read_colour
from hybrid_depth_ros.recordings.time_synchronizer import SLOP, match_stamps
from train.datasets.depth_files import UNKNOWN_MAXIMUM, at_maximum, read_values, to_metres
from train.datasets.pairs import FilePairs, RgbdPair

COLOUR_LIST, DEPTH_LIST = 'rgb.txt', 'depth.txt'
ASSOCIATIONS = ('associations.txt', 'association.txt', 'associate.txt', 'associated.txt')
TUM_SCALE = 5000.0  # depth units in a metre


class TimedFile(NamedTuple):
    """A row of a list: seconds, and a file relative to the list."""

    time: float
    name: str


def is_tum(path: Path) -> bool:
    """Whether a folder or a list is of this layout."""
    if path.is_dir():
        return ((path / COLOUR_LIST).is_file() and (path / DEPTH_LIST).is_file()) or any(
            (path / name).is_file() for name in ASSOCIATIONS)
    if path.name in (COLOUR_LIST, DEPTH_LIST):
        return is_tum(path.parent)
    if path.suffix != '.txt':
        return False
    try:
        rows = _rows(path)
    except OSError:
        return False
    return bool(rows) and len(rows[0]) == 4 and _is_time(rows[0][0]) and _is_time(rows[0][2])


class TumSequence(FilePairs):
    """Pairs of a folder with COLOUR_LIST and DEPTH_LIST, or with one of ASSOCIATIONS.

    Args:
        path: The folder, or one of these files.
        depth_scale: Depth units in a metre; by default TUM_SCALE.

    Raises:
        OSError: A list cannot be read, or no pair is there.
    """

    def __init__(self, path: str | Path, depth_scale: float | None = None) -> None:
        path = Path(path)
        self.depth_scale = depth_scale or TUM_SCALE
        self.assumptions: list[str] = [] if depth_scale else [
            f"depth is taken to be TUM's: {TUM_SCALE:.0f} units are a metre (--depth-scale)"]
        folder = path if path.is_dir() else path.parent
        if path.is_dir() or path.name in (COLOUR_LIST, DEPTH_LIST):
            named = [folder / name for name in ASSOCIATIONS if (folder / name).is_file()]
            lists = folder / COLOUR_LIST, folder / DEPTH_LIST
            found = (_matched(*lists) if all(file.is_file() for file in lists) else
                     _associated(named[0]))
        else:
            found = _associated(path)
        pairs = [(folder / colour, folder / depth) for colour, depth in found]
        self.left_out = [f'{file} is not there, and {path} names it' for pair in pairs
                         for file in pair if not file.exists()]
        self.pairs = [pair for pair in pairs if all(file.exists() for file in pair)]
        if not self.pairs:
            raise OSError(f'{path}: ' + (
                f'not one of its pairs is there; the first: {self.left_out[0]}' if pairs else
                f'no colour within {SLOP} s of a depth; check the times') + '; copy it again')

    def read(self, i: int) -> RgbdPair:
        colour, depth = self.pairs[i]
        values = read_values(depth)
        if UNKNOWN_MAXIMUM not in self.assumptions and at_maximum(values).any():
            self.assumptions.append(UNKNOWN_MAXIMUM)
        return RgbdPair(read_colour(colour), to_metres(values, self.depth_scale))


def _rows(path: Path) -> list[list[str]]:
    """The cells of a list's rows, without comments."""
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise OSError(f'{path} is not a text file ({reason(error)}); save it as UTF-8') from error
    return [line.split() for line in lines if line.strip() and not line.lstrip().startswith('#')]


def _is_time(cell: str) -> bool:
    try:
        return float(cell) >= 0
    except ValueError:
        return False


def _timed_files(path: Path) -> list[TimedFile]:
    """The rows of COLOUR_LIST or DEPTH_LIST; OSError for another row."""
    files = []
    for n, row in enumerate(_rows(path), 1):
        if len(row) != 2 or not _is_time(row[0]):
            raise OSError(f'{path}: row {n} is {" ".join(row)!r}; it must be a time and a file')
        files.append(TimedFile(float(row[0]), row[1]))
    return files


def _matched(colour_list: Path, depth_list: Path) -> list[tuple[str, str]]:
    """Files of colour and depth that are each other's nearest in time, at most SLOP apart."""
    colours, depths = _timed_files(colour_list), _timed_files(depth_list)
    first, second = ([round(file.time * 1e9) for file in files] for files in (colours, depths))
    return [(colours[i].name, depths[j].name)
            for i, j in match_stamps(first, second, round(SLOP * 1e9))]


def _associated(path: Path) -> list[tuple[str, str]]:
    """Files of colour and depth that a list names together, whichever comes first in it."""
    pairs = []
    for n, row in enumerate(_rows(path), 1):
        if len(row) != 4 or not _is_time(row[0]) or not _is_time(row[2]):
            raise OSError(f'{path}: row {n} is {" ".join(row)!r}; it must be a time and a file, '
                          'of colour and of depth')
        first, second = row[1], row[3]
        depth_first = first.startswith('depth') and not second.startswith('depth')
        pairs.append((second, first) if depth_first else (first, second))
    return pairs
