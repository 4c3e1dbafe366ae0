"""Depth that many cameras write where they measured nothing: it is no measurement."""

from types import SimpleNamespace

import numpy as np
import pytest
from rgbd_files import stored_depth, write_bag
from rosbags.rosbag2 import StoragePlugin

from hybrid_depth_ros import evaluate_bag
from hybrid_depth_ros.encodings import image_to_depth, is_depth
from train.datasets.custom_pairs import BagPairs

WALL = 2.0  # m


class Predictor:
    """Sees 2.2 m everywhere."""

    def __call__(self, rgb, fx=None):
        return np.full(rgb.shape[:2], 1.1 * WALL, np.float32)


def depth_with_holes():
    depth = np.full((480, 640), WALL, np.float32)
    depth[:, :200] = np.nan
    return depth


def image_of(depth, encoding):
    pixels = stored_depth(depth, encoding)
    return SimpleNamespace(encoding=encoding, width=640, height=480, step=640 * pixels.itemsize,
                           is_bigendian=0, data=pixels.tobytes())


@pytest.mark.parametrize('encoding', ['16UC1', '32SC1', '32FC1', '64FC1'])
def test_the_largest_number_is_unknown_depth(encoding):
    """65535 was read as 65.5 m; 64FC1 and 32SC1 were taken for colour."""
    message = image_of(depth_with_holes(), encoding)
    assert is_depth(message)
    assert np.array_equal(image_to_depth(message), depth_with_holes(), equal_nan=True)


@pytest.mark.parametrize('encoding', ['16UC1', '32SC1', '32FC1', '64FC1'])
def test_unknown_depth_of_a_recording_is_not_scored(tmp_path, capsys, encoding):
    """65535 counted in every pixel: an RMSE of 34 m. It is said once."""
    frames = [(np.full((480, 640, 3), 90, np.uint8), depth_with_holes())] * 2
    write_bag(tmp_path / 'bag', frames, StoragePlugin.MCAP, encoding)
    assert evaluate_bag.main([str(tmp_path / 'bag')], Predictor()) == 0
    out, err = capsys.readouterr()
    rmse = float(next(line for line in out.splitlines() if 'all distances' in line).split()[3])
    pixels = int(next(line for line in out.splitlines() if 'all distances' in line).split()[2])
    assert rmse == pytest.approx(0.1 * WALL, abs=0.001)
    assert pixels == 2 * 480 * 440
    said = err.count('is taken for unknown depth')
    assert said == (1 if encoding in ('16UC1', '32SC1') else 0)


def test_training_is_told_of_unknown_depth(tmp_path):
    """It learnt walls at 65.5 m."""
    frames = [(np.full((480, 640, 3), 90, np.uint8), depth_with_holes())] * 2
    write_bag(tmp_path / 'bag', frames, StoragePlugin.MCAP, '16UC1')
    pairs = BagPairs(tmp_path / 'bag')
    assert set(np.unique(pairs.read(0).depth)) == {0, np.float32(WALL)}
    assert sum('is taken for unknown depth' in sentence for sentence in pairs.assumptions) == 1
