"""People's own lists and recordings."""

import argparse

import cv2
import numpy as np
import pytest
from rgbd_files import COUNT, assert_reads, millimetres, tiny_pairs, write_bag, write_bgr
from rosbags.rosbag2 import StoragePlugin

from train.arguments import open_data
from train.datasets import open_dataset
from train.datasets.custom_pairs import BagPairs, PairList


def test_pair_list(frames, tmp_path):
    for i, (rgb, depth) in enumerate(frames):
        write_bgr(tmp_path / f'{i}.png', rgb)
        cv2.imwrite(str(tmp_path / f'{i}.pgm'), millimetres(depth * 5))
    table = tmp_path / 'pairs.csv'
    table.write_text(''.join(f'{i}.png,{i}.pgm\n' for i in range(COUNT)))
    assert_reads(open_dataset(table, depth_scale=5000), frames, 0.00011)
    np.save(tmp_path / '0.npy', frames[0][1])
    table.write_text('depth,fx,image\n0.npy,800,0.png\n')
    dataset = open_dataset(table, depth_scale=1)
    assert isinstance(dataset, PairList)
    assert_reads(dataset, frames[:1], 0)
    assert dataset.focal(0) == 800 / 640
    for text, named in (('image,depth\n0.png,9.pgm\n', r'9\.pgm'), ('image,depth\n', 'no row'),
                        ('image,depth,fx\n0.png,0.pgm,wide\n', 'wide'), ('0.png\n', 'row 1')):
        table.write_text(text)
        with pytest.raises(OSError, match=named):
            open_dataset(table)
    write_bgr(tmp_path / 'colour_depth.png', frames[0][0])
    table.write_text('0.png,colour_depth.png\n')
    with pytest.raises(OSError, match='one channel'):
        open_dataset(table).read(0)


@pytest.mark.parametrize('fx', ['nan', 'inf', '-250', '0', '1e400'])
def test_a_focal_length_that_cannot_be_is_refused_by_row(tmp_path, fx):
    """An epoch at loss 0.0000, then a crash."""
    table = tmp_path / 'pairs.csv'
    table.write_text(f'image,depth,fx\n0.png,0.pgm,260\n0.png,0.pgm,{fx}\n')
    with pytest.raises(OSError, match=rf"pairs\.csv: row 2: fx is '{fx}'; it must be a number of"):
        open_dataset(table)


@pytest.mark.parametrize(('depth', 'suffix', 'scale', 'said'), [
    (np.full((48, 64), 2.5, np.float32), '.npy', 1000, 'metres read as millimetres?'),
    (np.full((48, 64), 60, np.uint8), '.png', 1000, '8-bit levels'),
    (np.full((48, 64), 200, np.uint8), '.png', 1000, '8-bit levels'),
    (np.full((48, 64), 2500, np.uint16), '.png', 1, 'millimetres read as metres?'),
    (np.full((48, 64), 2500, np.uint16), '.png', 1000, None),
    (np.full((48, 64), 2.5, np.float32), '.npy', 1, None)])
def test_a_mistaken_unit_is_said(tmp_path, capsys, depth, suffix, scale, said):
    table = tiny_pairs(tmp_path, depth, suffix=suffix)
    open_data(argparse.Namespace(split='train', depth_scale=scale, image_topic=None,
                                 depth_topic=None), table)
    found = capsys.readouterr().err
    assert (said or '') in found
    assert ('--depth-scale' in found) == bool(said)


@pytest.mark.parametrize(('plugin', 'encoding'), [
    (StoragePlugin.SQLITE3, '16UC1'), (StoragePlugin.MCAP, '32FC1')])
def test_bag(frames, tmp_path, plugin, encoding):
    write_bag(tmp_path / 'bag', frames, plugin, encoding)
    dataset = open_dataset(tmp_path / 'bag')
    assert isinstance(dataset, BagPairs)
    assert_reads(dataset, frames, 0.00051 if encoding == '16UC1' else 0)
    assert dataset.focal(0) == 600 / 640
    with pytest.raises(OSError, match=r'no images on /depth.*/camera/depth/image \(depth\)'):
        open_dataset(tmp_path / 'bag', depth_topic='/depth')
    with pytest.raises(OSError, match=r'within 0\.001 s'):
        BagPairs(tmp_path / 'bag', slop=0.001)
    (tmp_path / 'bag' / 'metadata.yaml').write_text('nothing')
    with pytest.raises(OSError, match='bag'):
        open_dataset(tmp_path / 'bag')


def test_a_list_that_names_files_elsewhere(tmp_path):
    """Absolute paths outside the CSV's folder broke train.prepare."""
    from train.prepare import prepare
    there, lists = tmp_path / 'there', tmp_path / 'lists'
    there.mkdir()
    lists.mkdir()
    for i in range(3):
        cv2.imwrite(str(there / f'{i}.png'), np.full((30, 40, 3), 60, np.uint8))
        cv2.imwrite(str(there / f'd{i}.png'), np.full((30, 40), 2000, np.uint16))
    (there / '1.png').write_bytes(b'no picture')
    (lists / 'pairs.csv').write_text(''.join(
        f'{folder}/{i}.png,{folder}/d{i}.png\n' for i, folder in enumerate(
            (there, there, '../there'))))
    data = open_dataset(lists / 'pairs.csv')
    assert [data.name(i) for i in range(3)] == [
        f'{there}/0.png', f'{there}/1.png', '../there/2.png']
    assert prepare(data, tmp_path / 'store', 40, 30, workers=1) == 1
    assert len(open_dataset(tmp_path / 'store')) == 2


@pytest.mark.parametrize('sign', [',', ';', '\t'])
def test_lists_as_spreadsheets_and_densedepth_have_them(tmp_path, sign):
    """Cells parted otherwise, paths that start in the folder above the list's."""
    folder = tmp_path / 'data' / 'nyu2_train' / 'attic'
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / '1.jpg'), np.full((30, 40, 3), 60, np.uint8))
    cv2.imwrite(str(folder / '1.png'), np.full((30, 40), 51, np.uint8))
    row = sign.join(f'data/nyu2_train/attic/1.{end}' for end in ('jpg', 'png'))
    (tmp_path / 'data' / 'nyu2_train.csv').write_text(f'\ufeffRGB{sign}Depth\n{row}\n')
    assert len(open_dataset(tmp_path / 'data' / 'nyu2_train.csv')) == 1
    (tmp_path / 'data' / 'nyu2_train.csv').write_text(row + '\n')
    data = open_dataset(tmp_path / 'data' / 'nyu2_train.csv')
    rgb, depth = data.read(0)
    assert rgb.shape == (30, 40, 3)
    assert depth == pytest.approx(2.0)
    assert data.assumptions == ["depth of 8 bits is taken to be DenseDepth's: 255 is 10 m"]
    data = open_dataset(tmp_path / 'data' / 'nyu2_train.csv', depth_scale=51)
    assert data.read(0)[1] == pytest.approx(1.0)
    cv2.imwrite(str(folder / '1.png'), np.full((30, 40), 3000, np.uint16))  # its test pictures
    (tmp_path / 'data' / 'nyu2_train.csv').rename(tmp_path / 'data' / 'nyu2_test.csv')
    data = open_dataset(tmp_path / 'data' / 'nyu2_test.csv')
    assert data.read(0)[1] == pytest.approx(3.0)
    assert not data.assumptions


@pytest.mark.parametrize('place', ['bts/train_test_inputs', 'dataset/nyu_depth_v2/sync', 'dataset'])
def test_lists_as_bts_has_them(tmp_path, place):
    """Image, depth and focal length, parted by spaces, paths that begin with /."""
    folder = tmp_path / 'dataset' / 'nyu_depth_v2' / 'sync' / 'attic'
    folder.mkdir(parents=True)
    for name in ('1', '2'):
        cv2.imwrite(str(folder / f'rgb_{name}.jpg'), np.full((30, 40, 3), 60, np.uint8))
        cv2.imwrite(str(folder / f'sync_depth_{name}.png'), np.full((30, 40), 2000, np.uint16))
    path = tmp_path / place / 'nyu.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('/attic/rgb_1.jpg /attic/sync_depth_1.png 32.0\n'
                    '/attic/rgb_2.jpg  None  32.0\n'
                    'attic/rgb_2.jpg attic/sync_depth_2.png 518.8579\n')
    data = open_dataset(path)
    assert len(data) == 2 and len(data.left_out) == 1
    assert data.read(0)[1] == pytest.approx(2.0)
    assert data.focal(0) == 32 / 40
    tree = open_dataset(tmp_path / 'dataset' / 'nyu_depth_v2')
    assert len(tree) == 2 and tree.read(1)[1] == pytest.approx(2.0)


def test_names_that_hold_what_parts_cells(tmp_path):
    """A name with a comma or a space was cut in two."""
    cv2.imwrite(str(tmp_path / 'a, b.png'), np.full((30, 40, 3), 60, np.uint8))
    cv2.imwrite(str(tmp_path / 'a b.png'), np.full((30, 40), 2000, np.uint16))
    for name, row in (('1.csv', 'a, b.png;a b.png'), ('2.csv', '"a, b.png",a b.png'),
                      ('3.tsv', 'a, b.png\ta b.png'), ('4.csv', 'image;depth\na, b.png;a b.png')):
        (tmp_path / name).write_text(row + '\n')
        assert open_dataset(tmp_path / name).read(0)[1] == pytest.approx(2.0)
    (tmp_path / '5.csv').write_text('"' + 200_000 * 'a')
    with pytest.raises(OSError, match=r'5\.csv is not a text file \(Error: field larger'):
        open_dataset(tmp_path / '5.csv')


def test_a_list_with_backslashes(tmp_path):
    """Written on Windows: not one file was there."""
    (tmp_path / 'rgb').mkdir()
    cv2.imwrite(str(tmp_path / 'rgb' / '1.png'), np.full((30, 40, 3), 60, np.uint8))
    cv2.imwrite(str(tmp_path / 'd.png'), np.full((30, 40), 2000, np.uint16))
    (tmp_path / 'pairs.csv').write_text('image,depth\nrgb\\1.png,.\\d.png\n')
    data = open_dataset(tmp_path / 'pairs.csv')
    assert len(data) == 1 and data.read(0).depth == pytest.approx(2.0)


def test_65535_of_a_list_is_unknown_depth(tmp_path, capsys):
    """It was learnt as 65.5 m. It is said once."""
    depth = np.full((48, 64), 2000, np.uint16)
    depth[:, :20] = 65535
    table = tiny_pairs(tmp_path, depth)
    data = open_data(argparse.Namespace(split='train', depth_scale=None, image_topic=None,
                                        depth_topic=None), table)
    assert capsys.readouterr().err.count('(65535 of 16 bits) is taken for unknown depth') == 1
    for i in range(2):
        assert set(np.unique(data.read(i).depth)) == {0, np.float32(2)}
