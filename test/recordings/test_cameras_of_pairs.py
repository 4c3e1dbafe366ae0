"""Calibrations in recordings: they change, come late, or are of something else."""

import json
import pickle

import numpy as np
import pytest
from small_recordings import (
    DEPTH,
    PREDICTED,
    predict,
    recording,
    seen_by,
    small_bag,
    write,
)

from hybrid_depth_ros import evaluate_bag
from hybrid_depth_ros.recordings.pairs import PairedRecording
from train.datasets.custom_pairs import BagPairs
from train.datasets.pairs import split_readable


def test_a_zoom_in_the_middle_of_a_recording(tmp_path):
    """A lens zooms: each frame takes the calibration of its own stamp, in training too."""
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 2 + [seen_by(70.0)] * 2)
    assert [pair.camera.fx for pair in PairedRecording(path)] == [35, 35, 70, 70]
    dataset = BagPairs(path)
    assert [dataset.focal(i) * 40 for i in (3, 0, 2, 1)] == [70, 35, 70, 35]
    assert [pickle.loads(pickle.dumps(dataset)).focal(i) * 40 for i in (0, 3)] == [35, 70]


def test_a_recording_whose_first_camera_info_is_zero(tmp_path):
    """The first camera_info is all zero: the first calibrated one counts, and for frames before."""
    path = small_bag(tmp_path / 'bag', [seen_by(0)] + [seen_by(35.0)] * 2)
    pairs = PairedRecording(path)
    assert [pair.camera.fx for pair in pairs] == [35] * 3
    assert not pairs.missing_camera_reason
    lost = PairedRecording(small_bag(tmp_path / 'lost', [seen_by(35.0), seen_by(0)]))
    assert [pair.camera and pair.camera.fx for pair in lost] == [35, None]
    assert 'uncalibrated (K is 0)' in lost.missing_camera_reason
    assert '(1 of 2 frames)' in lost.missing_camera_reason


def test_a_camera_info_once_before_all_of_another_clock(tmp_path):
    """camera_info is recorded once; without a stamp its time of recording counts."""
    def unstamped(fx):
        return lambda stamp: seen_by(fx)(0)
    once = PairedRecording(small_bag(tmp_path / 'once', [unstamped(35.0), None, None]))
    assert [pair.camera.fx for pair in once] == [35] * 3
    zoom = PairedRecording(small_bag(tmp_path / 'zoom', [unstamped(35.0), None, unstamped(70.0)]))
    assert [pair.camera.fx for pair in zoom] == [35, 35, 70]


def test_depth_of_another_camera_is_not_stretched(tmp_path, capsys):
    """Depth of 848×480 on colour of 640×480 was stretched to it."""
    wide = np.full((30, 53), 2.0, np.float32)
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 2, truth=wide)
    with pytest.raises(SystemExit, match=r'not one of 2 pairs could be scored; .*depth of 53×30 '
                       r'and an image of 40×30 are not of one view.* no camera_info on '
                       r'/camera/depth/camera_info; record it') as end:
        evaluate_bag.main([str(path)], predict)
    assert '\n' not in end.value.code
    assert not len(split_readable(BagPairs(path))[0])
    known = PairedRecording(small_bag(tmp_path / 'known', [seen_by(35.0)], truth=wide,
                                      depth_info=seen_by(35.0, 53)))
    assert len(list(known)) == 1
    assert not known.assumptions()


@pytest.mark.parametrize('predicted', [False, True])
def test_what_is_assumed_of_depth_is_said(frames, tmp_path, capsys, predicted):
    """Depth of the same shape may be registered, or not: a warning says so, in JSON too."""
    half = [(rgb, depth[::2, ::2]) for rgb, depth in frames]
    path = write(tmp_path / 'bag', recording(half, predicted=predicted))
    options = ['--predicted', PREDICTED, '--depth', DEPTH] if predicted else []
    evaluate_bag.main([str(path), '--json', str(tmp_path / 'o.json'), *options],
                      None if predicted else predict)
    what = f'the depth on {PREDICTED}' if predicted else 'colour'
    said = f'depth on {DEPTH} is taken to be registered to {what}: no camera_info on '
    assert capsys.readouterr().err.count(said) == 1
    assert any(sentence.startswith(said)
               for sentence in json.loads((tmp_path / 'o.json').read_text())['said'])
    if not predicted:
        assert BagPairs(path).assumptions[0].startswith(said)


def test_a_recordings_camera_info_for_another_image(tmp_path, capsys):
    """A calibration for 640×480 beside images of 160×90 is not used."""
    path = small_bag(tmp_path / 'bag', [seen_by(525.0, 640, 360)] * 2)
    assert evaluate_bag.main([str(path)], lambda rgb, fx: (
        np.full(rgb.shape[:2], 2.0, np.float32) if fx is None else 1 / 0)) == 0
    said = capsys.readouterr().err
    assert 'it is for 640×360, the image is 40×30' in said
    assert "like NYU's" in said


@pytest.mark.parametrize(('name', 'bent'), [('image_corrected', True), ('direct', True),
                                            ('image_rect', False), ('image_rect_color', False)])
def test_which_names_say_rectified(tmp_path, name, bent):
    path = small_bag(tmp_path / 'bag', [seen_by(35.0, distortion=(0.4, 0.1, 0, 0, 0))],
                     topic=f'/camera/color/{name}')
    pair, = PairedRecording(path)
    assert (pair.image == 0).any() == bent
