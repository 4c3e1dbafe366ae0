"""The benchmark: its numbers agree with each other, and nothing is left out silently."""

import json
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.benchmark import networks, stages
from hybrid_depth_ros.benchmark.__main__ import main
from hybrid_depth_ros.benchmark.stages import ANCHOR_STAGES, CONSUMER_STAGES
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.metrics import DepthErrors
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room


@pytest.fixture
def frames(tmp_path):
    """Two held-out frames in the sync layout, of the virtual room; and one that isn't held out."""
    room, camera = Room(0), Intrinsics.from_horizontal_fov(640, 480, 63.3)
    for number in (129, 1383, 7):
        rgb, depth = room.render(camera, room.camera_pose(number))
        cv2.imwrite(str(tmp_path / f'rgb_{number:05}.jpg'), rgb[..., ::-1])
        cv2.imwrite(str(tmp_path / f'sync_depth_{number:05}.png'),
                    np.nan_to_num(1000 * depth).astype(np.uint16))
    return tmp_path


@pytest.mark.slow
def test_the_numbers_agree(frames, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(networks, 'installed', lambda name: name == 'torch')
    monkeypatch.setattr(networks, 'available_precisions', lambda *_: ('fp32', 'fp64'))
    out = tmp_path / 'out'
    main(['--weights', 'lite-nyu', '--data', str(frames), '--seconds', '4', '--skip-nodes',
          '--out', str(out)])
    printed, results = capsys.readouterr().out, json.loads((out / 'bench.json').read_text())
    rows = {(row['runtime'], row['precision']): row for row in results['rows']}
    plain, fast = rows['plain', 'fp32'], rows['torch', 'fp32']
    for row in (plain, fast):
        assert row['ratio'] == pytest.approx(plain['forward_ms'] / row['forward_ms'])
        assert row['predictor_ratio'] == pytest.approx(
            plain['predictor_ms'] / row['predictor_ms'])
        assert row['fps'] == pytest.approx(1000 / row['predictor_ms'])
        assert row['gflops'] == pytest.approx(1000 * plain['gflop'] / row['forward_ms'])
        assert row['peak_share'] == pytest.approx(
            row['gflops'] / results['machine']['peak_gflops']['cpu']['fp32'])
        assert row['forward_ms'] <= row['forward_p95_ms']
        assert row['forward_ms'] < row['predictor_ms']
        assert f'{row["forward_ms"]:.1f}' in printed
    assert plain['gflop'] == pytest.approx(4.12, rel=0.01)  # of the unfused network
    assert plain['max_difference_mm'] == 0 < fast['max_difference_mm'] < 1  # of the same weights
    errors, images = DepthErrors(), stages.held_out_images(frames)
    assert len(images) == fast['scored'] == 2
    for rgb, truth in images:
        depth = DepthPredictor(runtime='torch', precision='fp32')(rgb, fx=518.858)
        errors.add(depth[12:-12, 12:-12], truth[12:-12, 12:-12])
    assert fast['delta1'] == pytest.approx(errors.metrics()['delta1'], abs=1e-6)
    assert fast['delta1_change'] == pytest.approx(fast['delta1'] - plain['delta1'], abs=1e-9)
    # what could not be measured says why
    assert 'fp64' in rows['torch', 'fp64']['status']
    for runtime in ('openvino', 'onnxruntime'):
        assert rows[runtime, '']['status'].startswith('not installed: pip install')
    assert printed.count('not installed') >= 2
    assert 'skipped' in printed
    assert set(results['stages']) == {'320×240', '640×480', '1280×720', '1920×1080'}
    assert set(results['stages']['640×480']) >= {
        'resize', 'forward', 'restore', 'cloud', *ANCHOR_STAGES, *CONSUMER_STAGES}
    assert set(results['batch_ms']) == {'1', '2', '4'}
    assert not find_spec('matplotlib') or cv2.imread(str(out / 'bench.png')) is not None


@pytest.mark.parametrize(('arguments', 'named'), [
    (['--seconds', '0'], '--seconds is 0'),
    (['--weights', 'nowhere.safetensors'], 'nowhere.safetensors'),
    (['--data', 'nowhere'], 'nowhere'),
    (['--out', __file__], 'test_main.py')])
def test_bad_arguments_are_named(arguments, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=rf'^benchmark: .*{named}'):
        main(['--seconds', '1', '--skip-nodes', *arguments])
