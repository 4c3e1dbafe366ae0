"""Which pairs are fit for use, and what is at a path."""

import numpy as np
import pytest
from rgbd_files import tiny_pairs, write_sync

from train.datasets import open_dataset
from train.datasets.pairs import read_checked


@pytest.mark.parametrize('fx', ['0.81', '1e7'])
def test_a_focal_length_that_no_lens_has(tmp_path, fx):
    """Of the picture's width, or in thousandths of a millimetre."""
    table = tiny_pairs(tmp_path, np.full((48, 64), 2000, np.uint16), fx)
    with pytest.raises(OSError, match=r'a\.png: its focal length is .* fx in pixels'):
        read_checked(open_dataset(table), 0)


def test_what_is_not_recognised_is_named(tmp_path):
    with pytest.raises(OSError, match='nowhere does not exist'):
        open_dataset(tmp_path / 'nowhere')
    (tmp_path / 'holiday.jpg').write_bytes(b'')
    with pytest.raises(OSError, match=r'Looked for: nyu_depth_v2_labeled\.mat.*rosbag2.*csv'):
        open_dataset(tmp_path)
    (tmp_path / 'nyu_depth_v2_labeled.mat').write_bytes(b'no HDF5')
    with pytest.raises(OSError, match='not a whole HDF5'):
        open_dataset(tmp_path)


def test_pairs_without_their_other_half(frames, tmp_path):
    write_sync(tmp_path / 'sync', frames)
    (tmp_path / 'sync' / 'sync_depth_00000.png').unlink()
    (tmp_path / 'sync' / 'rgb_00002.jpg').unlink()
    dataset = open_dataset(tmp_path / 'sync')
    assert len(dataset) == 1
    assert [sentence.split('/')[-1] for sentence in dataset.left_out] == [
        'rgb_00000.jpg has no sync_depth_00000.png beside it',
        'sync_depth_00002.png has no rgb_00002.jpg beside it']
    assert dataset.numbered([[1, 1]]).left_out == dataset.left_out
    table = tmp_path / 'pairs.csv'
    table.write_text('sync/rgb_00001.jpg,sync/sync_depth_00001.png\nsync/rgb_00001.jpg,gone.png\n')
    dataset = open_dataset(table)
    assert len(dataset) == 1
    assert 'gone.png is not there' in dataset.left_out[0]


def test_colour_and_depth_of_other_shapes_are_no_pair(frames, tmp_path):
    rgb, depth = frames[0]
    for name, colour, metres in (('half', rgb, depth[::2, ::2]), ('tall', rgb, depth[:, :400]),
                                 ('none', rgb, 0 * depth)):
        folder = tmp_path / name
        write_sync(folder, [(colour, metres)])
    read_checked(open_dataset(tmp_path / 'half'), 0)
    with pytest.raises(OSError, match=r'rgb_00000\.jpg: colour is 640×480, depth 400×480'):
        read_checked(open_dataset(tmp_path / 'tall'), 0)
    with pytest.raises(OSError, match=r'rgb_00000\.jpg has no depth'):
        read_checked(open_dataset(tmp_path / 'none'), 0)


@pytest.mark.parametrize(('name', 'said'), [
    ('my old.bag', "convert it by rosbags-convert --src '.*/my old.bag' --dst '.*my old'"),
    ('new.mcap.zstd', r'unpack it by zstd -d \S+/new.mcap.zstd -o \S+/new.mcap$')])
def test_recordings_of_another_form_name_what_converts_them(tmp_path, name, said):
    (tmp_path / name).write_bytes(b'x')
    with pytest.raises(OSError, match=said):
        open_dataset(tmp_path / name)
