"""evaluate_bag: scores, files, warnings, interruptions."""

import csv
import json
import random
import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from small_recordings import (
    CAMERA,
    COUNT,
    DEPTH,
    IMAGE,
    INFO,
    PREDICTED,
    START,
    STEP,
    compressed,
    image,
    png,
    predict,
    recording,
    seen_by,
    small_bag,
    write,
)

from hybrid_depth_ros import evaluate_bag
from hybrid_depth_ros.metrics import METRIC_NAMES, DepthErrors
from hybrid_depth_ros.predictor import Prediction
from hybrid_depth_ros.virtual_room import Room, upright_camera_pose


@pytest.mark.parametrize('depth', ['32FC1', '16UC1; compressedDepth png'])
def test_frames_that_changed_their_kind_are_counted(frames, tmp_path, capsys, depth):
    """Depth of the wrong type, colour of one that is unknown, a bomb, a partner that is gone."""
    rgb, true = frames[0]
    messages, late = list(recording(frames * 2, depth=depth)), 3_000_000
    topic = messages[2][0]
    messages[7] = IMAGE, image(START + 2 * STEP, true, '64FC1')
    stamps = [START + i * STEP + late for i in (1, 3)]
    if depth == '32FC1':
        messages[5] = topic, image(stamps[0], rgb, 'rgb8')
        messages[11] = topic, image(stamps[1], true, '32FC1')
        messages[11][1].height = 2**31
    else:
        messages[5] = topic, compressed(stamps[0], 'rgb8; jpeg', png(rgb))
        messages[11] = topic, compressed(stamps[1], depth, (
            bytes(12) + b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + b'IHDR' + struct.pack(
                '>IIBB', 60_000, 60_000, 16, 0) + bytes(20) + b'IEND'))
    del messages[14]  # the fifth frame's depth
    path = write(tmp_path / 'bag', messages)
    report = tmp_path / 'o.json'
    assert evaluate_bag.main([str(path), '--json', str(report)], predict) == 0
    assert json.loads(report.read_text())['damaged'] == 3
    assert json.loads(report.read_text())['frames'] == 4
    printed = capsys.readouterr()
    assert '7 pairs of' in printed.out
    assert f'3 frames left out; the first: {path}: {topic}: ' in printed.err


@pytest.mark.parametrize(('plugin', 'name'), [(StoragePlugin.MCAP, 'bag.mcap'),
                                              (StoragePlugin.SQLITE3, 'bag.db3')])
def test_any_bytes_changed(frames, tmp_path, plugin, name, capsys):
    """The table, with what was left out counted, or one sentence."""
    small = [(rgb[::8, ::8], true[::8, ::8]) for rgb, true in frames[:2]]
    file = write(tmp_path / 'bag', recording(small), plugin) / name
    whole, rng, ends = file.read_bytes(), random.Random(0), []
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3, 30])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
        start = time.monotonic()
        try:
            ends.append(evaluate_bag.main([str(file)], predict))
        except SystemExit as end:
            ends.append(end.code)
            assert end.code.startswith('evaluate_bag: ') and '\n' not in end.code
        assert time.monotonic() - start < 5
    assert len(set(map(str, ends))) > 3


@pytest.mark.parametrize(('metres', 'said'), [
    (3110.0, 'median depth is 3110 m: millimetres read as metres?'),
    (200.0, 'centimetres or millimetres'), (0.003, 'metres read as millimetres?'),
    (0.05, '8-bit levels or metres'), (2.0, None), (25.0, None), (0.3, None)])
def test_a_mistaken_unit_is_said(tmp_path, capsys, metres, said):
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 2,
                     truth=np.full((30, 40), metres, np.float32))
    evaluate_bag.main([str(path)], predict)
    found = capsys.readouterr().err
    assert found.count('the median depth is') == bool(said)
    assert (said or '') in found


@pytest.mark.parametrize(('times', 'said'), [(4.0, True), (0.1, True), (1.5, False)])
def test_a_unit_is_doubted_beside_what_is_predicted(tmp_path, capsys, times, said):
    """Some cameras count in 0.25 or 0.1 mm: depth is four or ten times too far."""
    path = small_bag(tmp_path / 'bag', [seen_by(35.0)] * 2,
                     truth=np.full((30, 40), 2.0 * times, np.float32))
    evaluate_bag.main([str(path)], lambda rgb, fx=None: np.full(rgb.shape[:2], 2.0, np.float32))
    assert (f'is {times:.2g} times what is predicted: is its unit right?'
            in capsys.readouterr().err) == said


def straight(frames, bands=()):
    """Errors of the predictions, on the arrays themselves."""
    errors = DepthErrors()
    for rgb, true in frames:
        predicted = predict(rgb, CAMERA.fx)
        errors.add(predicted, true, (true > bands[0]) & (true <= bands[1]) if bands else None)
    return errors


def test_evaluate_bag(frames, tmp_path, capsys):
    path = write(tmp_path / 'bag', recording(frames))
    out = tmp_path / 'out'
    arguments = [str(path), '--json', str(tmp_path / 'o.json'), '--csv', str(tmp_path / 'o.csv'),
                 '--plots', str(out), '--align', 'median', 'scale-shift']
    assert evaluate_bag.main(arguments, predict) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / 'o.json').read_text())
    errors = straight(frames)
    assert report['metrics'] == errors.metrics()
    assert (report['frames'], report['pixels']) == (COUNT, errors.pixels)
    for band, edges in zip(report['bands'], ((0, 1), (1, 2), (2, 4), (4, 10)), strict=True):
        alone = straight(frames, edges)
        assert (band['from'], band['to'], band['pixels']) == (*edges, alone.pixels)
        if alone.pixels:
            assert {name: band[name] for name in METRIC_NAMES} == alone.metrics()
        else:
            assert band['rel'] is None
    assert f'{report["metrics"]["rmse"]:9.3f}{report["metrics"]["rel"]:9.3f}' in printed
    with (tmp_path / 'o.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['stamp'] for row in rows] == [
        f'1700000000.{100_000_000 * i + 123:09d}' for i in range(COUNT)]
    for row, frame in zip(rows, frames, strict=True):
        alone = straight([frame])
        assert {name: float(row[name]) for name in METRIC_NAMES} == alone.metrics()
        assert int(row['pixels']) == alone.pixels
    for name in ('errors', 'best', 'median', 'worst'):
        assert cv2.imread(str(out / f'{name}.png')).size
    ranked = sorted(rows, key=lambda row: float(row['rel']))
    assert f'worst.png: the frame of {ranked[-1]["stamp"]} s' in printed

    fitted = {how: DepthErrors() for how in ('median', 'scale-shift')}
    for rgb, true in frames:
        d = predict(rgb, CAMERA.fx).astype(float)
        fitted['median'].add(d * np.median(true) / np.median(d), true)
        columns = np.stack((d.ravel(), np.ones(d.size)), axis=1)
        solution = np.linalg.lstsq(columns, true.ravel().astype(float), rcond=None)[0]
        fitted['scale-shift'].add((columns @ solution).reshape(d.shape), true)
    for how, errors in fitted.items():
        assert report['aligned'][how] == pytest.approx(errors.metrics(), rel=1e-4)


def test_uncertainty_is_scored_where_it_is_estimated(frames, tmp_path, capsys):
    class Predictor:
        def predict(self, rgb, fx):
            depth = predict(rgb, fx)
            return Prediction(depth, True, 10 * depth)
    path = write(tmp_path / 'bag', recording(frames))
    for predictor in (Predictor(), predict):
        assert evaluate_bag.main([str(path), '--json', str(tmp_path / 'o.json')], predictor) == 0
        report = json.loads((tmp_path / 'o.json').read_text())
        assert report['metrics'] == straight(frames).metrics()
        estimated = predictor is not predict
        assert ('AUSE' in capsys.readouterr().out) == ('uncertainty' in report) == estimated
        if estimated:
            assert report['uncertainty']['within_1'] == 1


def test_obstacles_are_scored_where_the_cameras_height_is_known(tmp_path, capsys):
    room = Room(600)
    pose = upright_camera_pose([2.5, 1.2, 0.7], np.pi / 2, -np.deg2rad(8))
    path = write(tmp_path / 'bag', recording([room.render(CAMERA, pose)], predicted=True))
    arguments = [str(path), '--predicted', PREDICTED, '--obstacles', '--depth', DEPTH,
                 '--camera-info', INFO]
    with pytest.raises(SystemExit, match='--obstacles needs the height of the camera'):
        evaluate_bag.main(arguments)
    assert evaluate_bag.main([*arguments, '--camera-height', '0.7', '--camera-pitch', '8',
                              '--json', str(tmp_path / 'o.json')]) == 0
    report = json.loads((tmp_path / 'o.json').read_text())['obstacles']
    assert report['images'] == 1 and set(report['recall']) == {'1', '2', '3'}
    assert 'directions with an obstacle: found' in capsys.readouterr().out


def test_predicted_depth_scores_as_the_network_does(frames, tmp_path):
    path = write(tmp_path / 'bag', recording(frames, predicted=True))
    reports = []
    for options, predictor in ((['--depth', DEPTH], predict), (['--predicted', PREDICTED], None)):
        assert evaluate_bag.main([str(path), *options, '--json', str(tmp_path / 'o.json')],
                                 predictor) == 0
        reports.append(json.loads((tmp_path / 'o.json').read_text()))
    for key in ('metrics', 'bands', 'frames', 'pixels'):
        assert reports[0][key] == reports[1][key]


def test_an_interruption_keeps_what_was_scored(frames, tmp_path, capsys):
    path, seen = write(tmp_path / 'bag', recording(frames)), []

    def interrupted(rgb, fx):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(rgb)
        return predict(rgb, fx)
    arguments = [str(path), '--json', str(tmp_path / 'o.json'), '--csv', str(tmp_path / 'o.csv')]
    assert evaluate_bag.main(arguments, interrupted) == 130
    assert '2 of 4 frames were scored' in capsys.readouterr().err
    report = json.loads((tmp_path / 'o.json').read_text())
    assert report['metrics'] == straight(frames[:2]).metrics()
    assert len((tmp_path / 'o.csv').read_text().splitlines()) == 3


def test_ros_is_not_needed():
    done = subprocess.run(
        [sys.executable, '-c', 'import sys\n'
         'for name in ("rclpy", "sensor_msgs", "std_msgs"): sys.modules[name] = None\n'
         'from hybrid_depth_ros.evaluate_bag import main\nmain(["nowhere", "--device", "cpu"])'],
        capture_output=True, text=True)
    assert done.stderr.startswith('evaluate_bag: nowhere: there is no such')


def test_errors_are_one_sentence(frames, known_runtime, tmp_path):
    path = write(tmp_path / 'bag', recording(frames))
    for arguments, said in ((['nowhere'], 'evaluate_bag: nowhere: there is no such'),
                            ([str(path), '--json', str(tmp_path / 'no' / 'o.json')], 'o.json'),
                            ([str(path), '--weights', 'no-such'], 'no-such')):
        with pytest.raises(SystemExit, match=said):
            evaluate_bag.main(arguments)


def test_ranges_that_hold_nothing_are_named(capsys):
    with pytest.raises(SystemExit):
        evaluate_bag.main(['bag', '--anchor-min-range', '5', '--anchor-max-range', '3'])
    assert '--anchor-max-range 3 m is not above --anchor-min-range 5 m' in capsys.readouterr().err
