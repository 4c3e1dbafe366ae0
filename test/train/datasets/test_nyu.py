"""NYU Depth v2 as it is passed around."""

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from rgbd_files import COUNT, assert_reads, plane_depth, write_labeled, write_sync

from hybrid_depth_ros.image_files import read_colour
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from train.datasets import nyu, open_dataset
from train.datasets.nyu import H5Tree, LabeledMat, SyncTree
from train.datasets.pairs import read_checked, split_readable


@pytest.mark.parametrize('flat', [True, False])
def test_sync_tree(frames, tmp_path, flat):
    write_sync(tmp_path if flat else tmp_path / 'bedroom_0001', frames, first=7)
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, SyncTree)
    assert_reads(dataset, frames, 0.00051, colour_step=6)
    assert [dataset.number(i) for i in range(COUNT)] == [7, 8, 9]
    assert dataset.focal(0) == pytest.approx(NYU_FX_PER_WIDTH)


def test_a_folder_says_which_camera_it_is_of(frames, tmp_path):
    """Another camera's images were scored with NYU's focal length, a tenth off or more."""
    write_sync(tmp_path / 'hall', frames)
    (tmp_path / 'hall' / 'camera.txt').write_text('fx fy cx cy\n600.0 601.0 320.0 240.0\n')
    write_sync(tmp_path / 'kitchen', frames)
    dataset = open_dataset(tmp_path)
    focals = [dataset.focal(i) for i in range(2 * COUNT)]
    width = frames[0][0].shape[1]
    assert focals == pytest.approx([600 / width] * COUNT + [NYU_FX_PER_WIDTH] * COUNT)
    (tmp_path / 'camera.txt').write_text('500 501 320 240')  # of all other folders
    focals = [dataset.focal(i) for i in range(2 * COUNT)]
    assert focals == pytest.approx([600 / width] * COUNT + [500 / width] * COUNT)


@pytest.mark.parametrize(('text', 'count'), [
    ('', 0), ('fx fy cx cy\n', 0), ('600 600\n', 2), ('600 600 320 240 0.1', 5),
    ('600 600 x 240', 2), ('\xff', 0)])
def test_a_camera_that_is_none_is_refused(frames, tmp_path, text, count):
    """It was told of in Python's words: "not enough values to unpack"."""
    write_sync(tmp_path, frames)
    (tmp_path / 'camera.txt').write_text(text, encoding='latin-1')
    with pytest.raises(OSError, match=rf'camera\.txt holds no camera: .* with {count} numbers, not '
                                      'with four; write fx fy cx cy'):
        open_dataset(tmp_path).focal(0)


def test_an_image_is_decoded_once_for_its_camera(frames, tmp_path, monkeypatch):
    """Its width is that of the image just read; it was decoded again for it."""
    write_sync(tmp_path, frames)
    (tmp_path / 'camera.txt').write_text('600 601 320 240')
    decoded = []
    monkeypatch.setattr(nyu, 'read_colour', lambda path: decoded.append(path) or read_colour(path))
    pair = read_checked(open_dataset(tmp_path), 1)
    assert pair.focal == pytest.approx(600 / pair.rgb.shape[1]) and len(decoded) == 1


def test_frames_of_a_sync_tree_have_numbers(tree):
    rgb, depth = SyncTree(tree).read(0)
    assert rgb.shape == (480, 640, 3)
    np.testing.assert_allclose(depth, plane_depth()[0], atol=1e-3)
    assert len(SyncTree(tree).numbered([[2, 4]])) == 3
    assert len(SyncTree(tree).numbered([[2, 4]], keep=False)) == 5
    with pytest.raises(OSError, match='sync_depth'):
        SyncTree(tree / 'nothing')
    (tree / 'rgb_00000.jpg').write_bytes(b'')
    with pytest.raises(OSError, match='rgb_00000'):
        SyncTree(tree).read(0)


def test_labeled_mat(frames, tmp_path):
    write_labeled(tmp_path / 'nyu_depth_v2_labeled.mat', frames,
                  ['kitchen_0004', 'office_0001', 'bedroom_0010'])
    assert_reads(open_dataset(tmp_path, 'all'), frames, 0)
    with pytest.raises(OSError, match=r'splits\.mat is not there'):
        open_dataset(tmp_path)
    # MATLAB counts from 1
    scipy.io.savemat(tmp_path / 'splits.mat', {'trainNdxs': [[3], [1]], 'testNdxs': [[2]]})
    train = open_dataset(tmp_path / 'nyu_depth_v2_labeled.mat')
    assert isinstance(train, LabeledMat)
    assert_reads(train, [frames[0], frames[2]], 0)
    assert [train.number(i) for i in range(2)] == [0, 2]
    test = open_dataset(tmp_path, 'test')
    assert_reads(test, [frames[1]], 0)
    assert test.scenes() == ['office_0001']


def test_h5_tree(frames, tmp_path):
    for place, (rgb, depth) in zip(('train/bedroom_0001/00001', 'train/bedroom_0001/00011',
                                    'val/official/00001'), frames, strict=True):
        path = tmp_path / f'{place}.h5'
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, 'w') as file:
            file['rgb'], file['depth'] = rgb.transpose(2, 0, 1), depth
    assert isinstance(open_dataset(tmp_path), H5Tree)
    assert_reads(open_dataset(tmp_path), frames[:2], 0)
    assert_reads(open_dataset(tmp_path, 'test'), frames[2:], 0)
    assert_reads(open_dataset(tmp_path, 'all'), frames, 0)
    (tmp_path / 'train/bedroom_0001/00001.h5').write_bytes(b'no HDF5')
    with pytest.raises(OSError, match=r'00001\.h5 does not hold'):
        open_dataset(tmp_path).read(0)


def test_hdf5_of_other_types_is_named(frames, tmp_path):
    rgb, depth = frames[0]
    bad = depth.copy()
    bad[0], bad[1] = np.nan, -1
    for number, (colour, metres, named) in enumerate((
            (rgb, bad, None),
            (rgb, np.full(depth.shape, b'far'), r'depth is \|S3'),
            (rgb, depth[None], r'depth is float32 of shape \(1, 480, 640\)'),
            (rgb.astype(np.float32), depth, 'rgb is float32'),
            (rgb[..., :1], depth, r'rgb is uint8 of shape \(480, 640, 1\)'))):
        path = tmp_path / f'{number}.h5'
        with h5py.File(path, 'w') as file:
            file['rgb'], file['depth'] = colour.transpose(2, 0, 1), metres
        dataset = H5Tree(tmp_path)
        if named:
            with pytest.raises(OSError, match=rf'{number}\.h5: {named}'):
                dataset.read(number)
        else:
            _, got = dataset.read(0)
            assert np.array_equal(got, np.maximum(np.nan_to_num(bad), 0))
    with h5py.File(tmp_path / '5.h5', 'w') as file:  # a group where an array is wanted
        file['depth'] = depth
        file.create_group('rgb')
    with pytest.raises(OSError, match=r'5\.h5 does not hold'):
        H5Tree(tmp_path).read(5)
    chosen, lost = split_readable(H5Tree(tmp_path))
    assert (chosen.chosen, len(lost)) == ([0], 5)


def test_an_hdf5_with_broken_chunks_is_named(frames, tmp_path):
    path = tmp_path / 'nyu_depth_v2_labeled.mat'
    with h5py.File(path, 'w') as file:
        for name, arrays in (('images', [f[0].transpose(2, 1, 0) for f in frames]),
                             ('depths', [f[1].T for f in frames])):
            file.create_dataset(name, data=np.stack(arrays), compression='gzip', chunks=(
                1, *arrays[0].shape))
        offset = file['images'].id.get_chunk_info(1).byte_offset
    with open(path, 'r+b') as damaged:
        damaged.seek(offset)
        damaged.write(bytes(1000))
    dataset = LabeledMat(path, 'all')
    dataset.read(0)
    with pytest.raises(OSError, match=r'labeled\.mat\[1\] cannot be read'):
        dataset.read(1)


def test_sync_pictures_as_png_and_without_a_number(tmp_path):
    for name in ('00001', 'x'):
        cv2.imwrite(str(tmp_path / f'rgb_{name}.png'), np.full((30, 40, 3), 60, np.uint8))
        cv2.imwrite(str(tmp_path / f'sync_depth_{name}.png'), np.full((30, 40), 2000, np.uint16))
    data = open_dataset(tmp_path)
    assert [data.number(i) for i in range(2)] == [1, 1]
    assert data.read(1)[1] == pytest.approx(2.0)


def test_hdf5_with_colour_last(tmp_path):
    h5py = pytest.importorskip('h5py')
    colour = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    for name, rgb in (('a', colour), ('b', np.moveaxis(colour, -1, 0))):
        with h5py.File(tmp_path / f'{name}.h5', 'w') as file:
            file['rgb'], file['depth'] = rgb, np.ones((30, 40), np.float32)
    data = open_dataset(tmp_path, 'all')
    for i in range(2):
        np.testing.assert_array_equal(data.read(i)[0], colour)
