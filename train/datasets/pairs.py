"""RGB-D pairs, whatever form they have on disk, and which of them are fit for use."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.geometry import same_aspect_ratio
from hybrid_depth_ros.metrics import unit_warning
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH

MIN_FOCAL, MAX_FOCAL = 0.1, 100.0  # focal length / image width: 157° to half a degree
PROBED_PAIRS = 4  # of a dataset, for :func:`unit_warnings`
SPLIT_NAMES = ('train', 'test', 'all')


class RgbdPair(NamedTuple):
    """Colour and depth of one view.

    Attributes:
        rgb: uint8 H×W×3.
        depth: float32 h×w, metres, 0 where there is none.
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]


class CheckedPair(NamedTuple):
    """An :class:`RgbdPair` that is fit for use, and the focal length / image width."""

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    focal: float


class RgbdDataset:
    """Pairs of colour and depth, by index.

    Attributes:
        pairs: An entry for each pair, where they are listed.
        left_out: A sentence for each pair that was found, but whose other half is not there.
        assumptions: A sentence for each thing that is assumed about all pairs.
        sparse: Whether depth is known in a few pixels only, so that an image counts as a whole.
    """

    pairs: Sequence[Any] = ()
    left_out: Sequence[str] = ()
    assumptions: Sequence[str] = ()
    sparse: bool = False

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, i: int) -> RgbdPair:
        """Pair i. Raises OSError naming the file that cannot be read."""
        raise NotImplementedError

    def name(self, i: int) -> str:
        """What people call pair i: a file or a frame."""
        raise NotImplementedError

    def number(self, i: int) -> int:
        """The frame number that index ranges count by; where files have none, i."""
        return i

    def focal(self, i: int) -> float:
        """Focal length / image width of pair i's camera; NYU's where nothing else is known."""
        return NYU_FX_PER_WIDTH

    def height(self, i: int) -> float | None:
        """Height of pair i's camera above the floor, m; None where it is not known."""
        return None

    def down(self, i: int) -> npt.NDArray[np.float64] | None:
        """Gravity's unit vector in pair i's optical frame, 3; None where it is not known."""
        return None

    def kind(self, i: int) -> str | None:
        """What kind of view pair i is (near, plain, hall …); None where it is not known."""
        return None

    def numbered(self, ranges: Iterable[Sequence[int]], keep: bool = True,
                 option: str = '--ranges [[A,B]]') -> Subset:
        """The pairs in ``[[first, last], …]`` (both inclusive), or the others.

        Args:
            ranges: Frame numbers.
            keep: Whether the pairs inside are meant, or those outside.
            option: How people choose other ranges.

        Raises:
            OSError: None is left.
        """
        ranges = [list(pair) for pair in ranges]
        chosen = [i for i in range(len(self)) if keep == any(
            first <= self.number(i) <= last for first, last in ranges)]
        if not chosen:
            raise OSError(f'no pair is {"inside" if keep else "outside"} the ranges {ranges}: the '
                          f'{len(self)} pairs have frame numbers from {self.number(0)} to '
                          f'{self.number(len(self) - 1)}; choose others by {option}')
        return Subset(self, chosen)


class FilePairs(RgbdDataset):
    """Pairs of a colour file and a depth file each."""

    def name(self, i: int) -> str:
        colour, _ = self.pairs[i]
        return f'{colour.parent.name}/{colour.name}'


class Subset(RgbdDataset):
    """Some pairs of another dataset."""

    def __init__(self, dataset: RgbdDataset, chosen: Iterable[int]) -> None:
        self.dataset, self.chosen, self.left_out = dataset, list(chosen), dataset.left_out
        self.assumptions, self.sparse = dataset.assumptions, dataset.sparse

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, i: int) -> RgbdPair:
        return self.dataset.read(self.chosen[i])

    def name(self, i: int) -> str:
        return self.dataset.name(self.chosen[i])

    def number(self, i: int) -> int:
        return self.dataset.number(self.chosen[i])

    def focal(self, i: int) -> float:
        return self.dataset.focal(self.chosen[i])

    def height(self, i: int) -> float | None:
        return self.dataset.height(self.chosen[i])

    def down(self, i: int) -> npt.NDArray[np.float64] | None:
        return self.dataset.down(self.chosen[i])

    def kind(self, i: int) -> str | None:
        return self.dataset.kind(self.chosen[i])


def parse_ranges(text: str) -> list[list[int]]:
    """``[[0,9],[20,29]]`` → lists of whole numbers; ArgumentTypeError for anything else."""
    try:
        found = json.loads(text)
        if all(type(first) is type(last) is int for first, last in found):
            return found
    except (ValueError, TypeError):
        pass
    raise ArgumentTypeError(f'{text!r} is no list of ranges; write it like [[0,9],[20,29]]')


def read_checked(dataset: RgbdDataset, i: int) -> CheckedPair:
    """Pair i, if it is fit for use. Raises OSError naming it if not."""
    try:
        rgb, depth = dataset.read(i)
        focal = dataset.focal(i)
    except (ValueError, cv2.error) as error:
        raise OSError(f'{dataset.name(i)} cannot be read ({error}); remove the pair or copy it '
                      'again') from error
    (height, width), (rows, columns) = rgb.shape[:2], depth.shape
    if not same_aspect_ratio((width, height), (columns, rows)):
        raise OSError(f'{dataset.name(i)}: colour is {width}×{height}, depth {columns}×{rows}: '
                      'not of one view; remove the pair')
    if not depth.any():
        raise OSError(f'{dataset.name(i)} has no depth anywhere; remove the pair')
    if not MIN_FOCAL < focal < MAX_FOCAL:
        raise OSError(f'{dataset.name(i)}: its focal length is {focal:.4g} of its width; no lens '
                      'sees like that; write fx in pixels of the image, or remove the pair')
    return CheckedPair(rgb, depth, focal)


def unit_warnings(dataset: RgbdDataset) -> list[str]:
    """Sentences about depths that can hardly be those of rooms, from PROBED_PAIRS pairs."""
    for i in np.unique(np.linspace(0, len(dataset) - 1, PROBED_PAIRS).astype(int)).tolist():
        try:
            depth = read_checked(dataset, i).depth
        except OSError:  # named when it is wanted
            continue
        if doubt := unit_warning(depth):
            return [f'{dataset.name(i)}: {doubt} (for a .csv, --depth-scale says how many units '
                    'are a metre)']
    return []


def split_readable(dataset: RgbdDataset) -> tuple[Subset, list[str]]:
    """The pairs that :func:`read_checked` can read, and a sentence for each of the others."""
    chosen, unreadable = [], []
    for i in range(len(dataset)):
        try:
            read_checked(dataset, i)
            chosen.append(i)
        except OSError as error:
            unreadable.append(explain(error))
    return Subset(dataset, chosen), unreadable


def equally_spaced(dataset: RgbdDataset, count: int | None = None) -> RgbdDataset:
    """At most `count` pairs, equally spaced over the whole dataset; None: all of it."""
    if count is None or len(dataset) <= count:
        return dataset
    return Subset(dataset, np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist())
