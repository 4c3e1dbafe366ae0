"""Rooms that ``python -m train.synthetic`` rendered."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from train.datasets.custom_pairs import PairList
from train.synthetic.views import rotation

INDEX = 'frames.csv'


class RenderedFrame(NamedTuple):
    """A row of INDEX: the room's number, the camera's height (m), the kind of view, gravity."""

    room: int
    height: float
    kind: str | None
    down: npt.NDArray[np.float64] | None = None


class RenderedRooms(PairList):
    """A folder of ``train.synthetic``: exact depth, a lens for each frame, a number for each room.

    ``number`` is the room's, so that ranges cut whole rooms.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        super().__init__(path / INDEX)
        with open(path / INDEX, newline='') as file:
            frames = {path / row['image']: RenderedFrame(
                int(row['room']), float(row['height']), row.get('kind'), _down(row))
                for row in csv.DictReader(file)}
        self._frames = [frames[pair.image] for pair in self.pairs]

    def number(self, i: int) -> int:
        return self._frames[i].room

    def height(self, i: int) -> float | None:
        return self._frames[i].height

    def down(self, i: int) -> npt.NDArray[np.float64] | None:
        return self._frames[i].down

    def kind(self, i: int) -> str | None:
        return self._frames[i].kind


def _down(row: Mapping[str, str]) -> npt.NDArray[np.float64] | None:
    """Gravity in the optical frame, where the index tells how the camera is held."""
    if not row.get('pitch') or not row.get('roll'):
        return None
    pitch, roll = (math.radians(float(row[name])) for name in ('pitch', 'roll'))
    return np.asarray(-rotation(0.0, pitch, roll)[2])
