"""The raw NYU recordings: synchronised, registered."""

import cv2
import numpy as np
import pytest
from rgbd_files import NYU, write_pgm

from train.datasets import nyu_raw, open_dataset
from train.datasets.nyu_raw import RawScenes


def test_raw_scenes(room, raw_scenes):
    dataset = open_dataset(raw_scenes)
    assert isinstance(dataset, RawScenes)
    assert len(dataset) == 4
    for i, seconds in enumerate((1.0, 9.0, 31.0, 39.0)):
        rgb, depth = dataset.read(i)
        ideal_rgb, ideal = room.render(NYU, room.camera_pose(seconds))
        known = depth > 0
        assert known[40:-40, 60:-60].mean() > 0.95
        # half a step of disparity is z²/351.3/2
        error = np.abs(depth - ideal)[known]
        step = (ideal ** 2 / 351.3)[known]
        assert np.median(error / step) < 0.5
        assert np.mean(error < step + 0.01) > 0.93  # the rest are edges
        inner = np.s_[40:-40, 40:-40]
        assert np.median(np.abs(rgb[inner].astype(int) - ideal_rgb[inner])) < 8


def test_the_wrong_calibration_would_be_noticed(room, raw_scenes, monkeypatch):
    def agreement():
        _, depth = RawScenes(raw_scenes / 'bedroom_0001').read(0)
        _, ideal = room.render(NYU, room.camera_pose(1.0))
        known = depth > 0
        return np.mean(np.abs(depth - ideal)[known] < ideal[known] ** 2 / 351.3 + 0.01)
    right = agreement()
    monkeypatch.setattr(nyu_raw, 'TRANSLATION', -nyu_raw.TRANSLATION)
    assert agreement() < right - 0.03


def test_disparity_by_hand(tmp_path):
    depth = nyu_raw.disparity_to_metres(np.array([2047, 977, 1092, 1093, 400]))
    assert depth == pytest.approx([0, 351.3 / 115.5, 0, 0, 351.3 / 692.5], rel=1e-6)
    disparity = np.full((480, 640), 977)
    disparity[0, 0] = 2047
    write_pgm(tmp_path / 'd.pgm', disparity)
    assert (tmp_path / 'd.pgm').read_bytes()[-2 * 640 * 480:][:2] == b'\x07\xff'
    assert np.array_equal(nyu_raw.read_disparity(tmp_path / 'd.pgm'), disparity)
    (tmp_path / 'swapped.pgm').write_bytes(b'P5 640 480 65535\n'
                                           + disparity.astype('<u2').tobytes())
    assert np.array_equal(nyu_raw.read_disparity(tmp_path / 'swapped.pgm'), disparity)
    for bad in (b'', b'P6 2 2 255\n' + bytes(12), b'P5\n640 480\n65535\n' + bytes(100)):
        (tmp_path / 'bad.pgm').write_bytes(bad)
        with pytest.raises(OSError, match=r'bad\.pgm'):
            nyu_raw.read_disparity(tmp_path / 'bad.pgm')


def test_the_genuine_raw_pair(nyu):
    """A recorded pair: where depth jumps, there is an edge in the registered colour image."""
    folder = nyu.parent / 'nyu_raw_sample'
    disparity = nyu_raw.read_disparity(folder / 'NYU_depth.pgm')
    assert disparity[0, 0] == 2047
    depth = nyu_raw.disparity_to_metres(disparity)
    rgb = nyu_raw.undistort_colour(cv2.imread(str(folder / 'NYU_color.ppm'))[..., ::-1].copy())
    edges = cv2.Canny(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 60, 120)
    to_edge = cv2.distanceTransform(255 - edges, cv2.DIST_L2, 3)

    def distance(picture):
        smooth = cv2.medianBlur(picture, 5)
        whole = cv2.erode((smooth > 0).astype(np.uint8), np.ones((5, 5))) > 0
        return to_edge[whole & (np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0)) > 0.3 * smooth)].mean()
    assert distance(nyu_raw.register(depth)) < 2.0
    assert distance(depth) > 3.0
