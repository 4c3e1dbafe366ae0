"""Image files: as stored, whole or refused."""

import contextlib
import struct

import cv2
import numpy as np
import pytest
from rgbd_files import millimetres, write_bgr

from hybrid_depth_ros.image_files import read_colour
from train.datasets.depth_files import read_depth


def with_orientation(jpeg, orientation):
    """A JPEG's bytes with an EXIF entry of orientation (0x0112), 1…8."""
    block = b'Exif\0\0' + struct.pack('<2sHIHHHIHHI', b'II', 42, 8, 1, 0x0112, 3, 1, orientation,
                                      0, 0)
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(block) + 2) + block + jpeg[2:]


def test_colour_is_read_as_stored(tmp_path):
    """EXIF turned colour, but not its depth."""
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    data = cv2.imencode('.jpg', rgb)[1].tobytes()
    plain, *turned = (tmp_path / f'{i}.jpg' for i in range(9))
    plain.write_bytes(data)
    for orientation, path in enumerate(turned, 1):
        path.write_bytes(with_orientation(data, orientation))
        assert np.array_equal(read_colour(path), read_colour(plain))


def tiff(pixels, orientation, order):
    """An H×W picture as a TIFF of one strip."""
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    entries = [(256, pixels.shape[1]), (257, pixels.shape[0]), (258, 8 * pixels.itemsize),
               (259, 1), (262, 1), (273, 8), (274, orientation), (277, 1),
               (278, pixels.shape[0]), (279, len(data))]
    return ((b'II*\0' if order == '<' else b'MM\0*') + struct.pack(f'{order}I', 8 + len(data))
            + data + struct.pack(f'{order}H', len(entries))
            + b''.join(struct.pack(f'{order}HHIHH', tag, 3, 1, value, 0) for tag, value in entries)
            + bytes(4))


@pytest.mark.parametrize('order', ['<', '>'])
def test_a_tiff_is_read_as_stored(tmp_path, order):
    """OpenCV turns a TIFF whatever it is asked for: colour was turned against depth."""
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for orientation in (1, 3, 6):
        (tmp_path / 'a.tif').write_bytes(tiff(grey, orientation, order))
        (tmp_path / 'd.tif').write_bytes(tiff(grey.astype(np.uint16) * 100, orientation, order))
        assert np.array_equal(read_colour(tmp_path / 'a.tif')[..., 0], grey)
        assert np.allclose(read_depth(tmp_path / 'd.tif', 100), grey)
    whole = (tmp_path / 'a.tif').read_bytes()
    for size in range(len(whole)):
        (tmp_path / 'a.tif').write_bytes(whole[:size])
        with contextlib.suppress(OSError):
            read_colour(tmp_path / 'a.tif')


@pytest.mark.parametrize('name', ['colour.jpg', 'colour.png', 'depth.png', 'depth.npy'])
def test_a_file_cut_anywhere_is_named(frames, tmp_path, monkeypatch, name):
    """OpenCV 4, unlike 5, fills up with grey what is not there and says nothing."""
    path, (rgb, depth) = tmp_path / name, frames[0]
    if name.startswith('colour'):
        write_bgr(path, rgb)
    elif name == 'depth.npy':
        np.save(path, depth)
    else:
        cv2.imwrite(str(path), millimetres(depth))

    def read():
        return read_colour(path) if name.startswith('colour') else read_depth(path, 1000)
    read()
    whole = path.read_bytes()
    for size in (0, 1, 10, 300, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(OSError, match=name.replace('.', r'\.')):
            read()
    path.unlink()
    with pytest.raises(OSError, match=name.replace('.', r'\.')):
        read()
    if name != 'depth.npy':
        monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.zeros((480, 640, 3), np.uint8))
        for size in (300, len(whole) // 2, len(whole) - 30):
            path.write_bytes(whole[:size])
            with pytest.raises(OSError, match='not a readable image'):
                read()
