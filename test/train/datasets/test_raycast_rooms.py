"""Virtual rooms as training data."""

import numpy as np
import pytest

from train.datasets import open_dataset
from train.datasets.pairs import read_checked


def test_virtual_rooms_at_robots_heights():
    rooms = open_dataset('room:3-4')
    assert len(rooms) == 24 and {rooms.number(i) for i in range(24)} == {3, 4}
    heights = [rooms.height(i) for i in range(12)]
    assert heights == sorted(heights) and 0.2 <= heights[0] < 0.3 and heights[-1] > 1.3
    rgb, depth, focal = read_checked(rooms, 5)
    assert rgb.shape == (264, 352, 3) and depth.shape == (264, 352)
    assert 0.5 < focal < 1.08
    again = read_checked(open_dataset('room:3-4'), 5)
    assert (again[0] == rgb).all() and (again[1] == depth).all()
    assert len(rooms.numbered([[4, 4]])) == 12


def test_virtual_rooms_have_views_of_every_kind():
    rooms = open_dataset('room:700:any')
    kinds = [rooms.kind(i) for i in range(len(rooms))]
    assert {'near', 'plain', 'high', 'steep', 'rolled'} <= set(kinds)
    i = kinds.index('near')
    rgb, depth = rooms.read(i)
    assert rgb.shape == (264, 352, 3) and rgb.std() > 3
    assert 0.1 < np.median(depth) < 1.6 and rooms.height(i) < 2.8 and rooms.number(i) == 700
    again = open_dataset('room:700:any').read(i)
    assert (again[0] == rgb).all() and (again[1] == depth).all()
    with pytest.raises(ValueError, match='room:100-149:any'):
        open_dataset('room:700:near')


def test_virtual_halls():
    halls = open_dataset('room:700:hall')
    assert len(halls) == 12 and halls.kind(3) == 'hall' and halls.number(3) == 700
    rgb, depth, _ = read_checked(halls, 0)
    assert rgb.std() > 3 and np.median(depth) > 2.2 and depth.max() > 5.7
