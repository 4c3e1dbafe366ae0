"""Rooms that ``python -m train.synthetic`` rendered."""

import csv
from pathlib import Path
from typing import NamedTuple

from train.datasets.custom_pairs import PairList

INDEX = 'frames.csv'


class RenderedFrame(NamedTuple):
    """A row of INDEX: the room's number, the camera's height (m), the kind of view."""

    room: int
    height: float
    kind: str | None


class RenderedRooms(PairList):
    """A folder of ``train.synthetic``: exact depth, a lens for each frame, a number for each room.

    ``number`` is the room's, so that ranges cut whole rooms.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        super().__init__(path / INDEX)
        with open(path / INDEX, newline='') as file:
            frames = {path / row['image']: RenderedFrame(
                int(row['room']), float(row['height']), row.get('kind'))
                for row in csv.DictReader(file)}
        self._frames = [frames[pair.image] for pair in self.pairs]

    def number(self, i: int) -> int:
        return self._frames[i].room

    def height(self, i: int) -> float | None:
        return self._frames[i].height

    def kind(self, i: int) -> str | None:
        return self._frames[i].kind
