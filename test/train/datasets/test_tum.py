"""TUM's RGB-D sequences, the layout in which most RGB-D recordings are passed on."""

import cv2
import numpy as np
import pytest

from train.datasets import open_dataset
from train.datasets.tum import TumSequence


@pytest.fixture
def sequence(tmp_path):
    """Three frames, depth 10 ms after colour; a fourth colour image without depth."""
    for folder in ('rgb', 'depth'):
        (tmp_path / folder).mkdir()
    lists = {'rgb': ['# color images', '# timestamp filename'], 'depth': ['# depth maps']}
    for i in range(4):
        for folder, time in (('rgb', 100 + i / 10), ('depth', 100.01 + i / 10)):
            if folder == 'depth' and i == 3:
                continue
            name = f'{folder}/{time:.6f}.png'
            values = (np.full((30, 40, 3), 60 + i, np.uint8) if folder == 'rgb' else
                      np.full((30, 40), 5000 * (i + 1), np.uint16))
            assert cv2.imwrite(str(tmp_path / name), values)
            lists[folder].append(f'{time:.6f} {name}')
    for folder, lines in lists.items():
        (tmp_path / f'{folder}.txt').write_text('\n'.join(lines) + '\n')
    return tmp_path


@pytest.mark.parametrize('named', ['', 'rgb.txt', 'depth.txt'])
def test_colour_and_depth_in_two_lists_are_paired_by_time(sequence, named):
    """The folder was "no RGB-D data known here", rgb.txt a list without images."""
    data = open_dataset(sequence / named)
    assert isinstance(data, TumSequence) and len(data) == 3
    for i in range(3):
        rgb, depth = data.read(i)
        assert np.abs(rgb.astype(int) - 60 - i).max() == 0
        assert depth == pytest.approx(i + 1.0)
    assert data.name(0) == 'rgb/100.000000.png'
    assert data.assumptions == [
        "depth is taken to be TUM's: 5000 units are a metre (--depth-scale)"]


@pytest.mark.parametrize('depth_first', [False, True])
def test_associations(sequence, depth_first):
    """Its four columns were read as image and depth: the times."""
    pairs = [(f'{100 + i / 10:.6f} rgb/{100 + i / 10:.6f}.png',
              f'{100.01 + i / 10:.6f} depth/{100.01 + i / 10:.6f}.png') for i in range(4)]
    (sequence / 'associations.txt').write_text(''.join(
        ' '.join(reversed(pair) if depth_first else pair) + '\n' for pair in pairs))
    data = open_dataset(sequence / 'associations.txt', depth_scale=1000)
    assert len(data) == 3 and len(data.left_out) == 1
    assert data.read(2).depth == pytest.approx(15.0) and not data.assumptions
    for name in ('rgb.txt', 'depth.txt'):
        (sequence / name).unlink()
    assert len(open_dataset(sequence)) == 3


def test_a_list_that_is_none_is_named(sequence):
    (sequence / 'rgb.txt').write_text('100.0 rgb/100.000000.png\nnonsense\n')
    with pytest.raises(OSError, match=r"rgb\.txt: row 2 is 'nonsense'; it must be a time and a"):
        open_dataset(sequence)
    (sequence / 'rgb.txt').write_text('900.0 rgb/100.000000.png\n')
    with pytest.raises(OSError, match=r'no colour within 0\.02 s of a depth'):
        open_dataset(sequence)
