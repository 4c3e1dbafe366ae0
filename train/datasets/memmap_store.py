"""The store that training reads fastest."""

import json
from pathlib import Path

import numpy as np

from hybrid_depth_ros.errors import reason
from train.datasets.depth_files import to_metres
from train.datasets.pairs import RgbdDataset, RgbdPair


class MemmapStore(RgbdDataset):
    """What ``python -m train.prepare`` writes: two memory-mapped arrays of one image size.

    ``rgb.npy`` uint8 N×H×W×3, ``depth.npy`` uint16 N×H×W in millimetres (0: none) and
    ``store.json``: names, numbers and focal lengths per width.
    """

    def __init__(self, path: str | Path) -> None:
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

    def __len__(self) -> int:
        return len(self.rgb)

    def read(self, i: int) -> RgbdPair:
        return RgbdPair(np.array(self.rgb[i]), to_metres(self.depth[i], 1000))

    def name(self, i: int) -> str:
        return self.index['names'][i]

    def number(self, i: int) -> int:
        return self.index['numbers'][i]

    def focal(self, i: int) -> float:
        return self.index['focals'][i]
