"""Rooms that ``python -m train.synthetic`` rendered."""

from __future__ import annotations

import csv
from pathlib import Path

from train.datasets.custom_pairs import PairList

INDEX = 'frames.csv'


class RenderedRooms(PairList):
    """A folder of ``train.synthetic``: exact depth, a lens for each frame, a number for each room.

    ``number`` is the room's, so that ranges cut whole rooms.
    """

    def __init__(self, path):
        path = Path(path)
        super().__init__(path / INDEX)
        with open(path / INDEX, newline='') as file:
            about = {path / row['image']: (int(row['room']), float(row['height']), row['kind'])
                     for row in csv.DictReader(file)}
        self._about = [about[row[0]] for row in self.pairs]

    def number(self, i):
        return self._about[i][0]

    def height(self, i):
        return self._about[i][1]

    def kind(self, i: int) -> str | None:
        return self._about[i][2]
