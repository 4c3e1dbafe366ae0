"""``python -m train.anchors``: its sensors, and its tables where the network's error is known."""

import re

import numpy as np
import pytest

pytest.importorskip('tqdm')

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import Room, upright_camera_pose
from train import anchors, completion
from train.datasets.pairs import Subset
from train.datasets.raycast_rooms import VirtualRooms


class Wrong:
    """A dataset that is looked at, and a predictor that sees the last picture's truth, wrong."""

    def __init__(self, factor, dataset=None):
        self.factor, self.dataset = np.float32(factor), dataset

    def __len__(self):
        return len(self.dataset)

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def read(self, i):
        rgb, self.truth = self.dataset.read(i)
        return rgb, self.truth

    def render(self, camera, pose):
        rgb, self.truth = self.dataset.render(camera, pose)
        return rgb, self.truth

    def __call__(self, rgb, fx):
        return self.truth * self.factor


def test_the_table_of_sensors_says_what_they_bring():
    wrong = Wrong(1.4, Subset(VirtualRooms('room:3'), [2, 9]))
    first, *lines = anchors.sensors_table(wrong, wrong).split('\n')
    assert first == 'the network alone: δ1 0.0000 on 2 images'
    assert len(lines) == len(anchors.SENSORS) * len(anchors.CASES)
    for line in lines:
        brought = float(re.search(r'\(([+-][\d.]+)\)', line)[1])
        assert brought > 0.75 and '0 images lose' in line, line
    harmed = Wrong(1, wrong.dataset)
    harmed.factor = np.ones((264, 352), np.float32)
    alone, *_ = anchors.sensors_table(harmed, harmed).split('\n')
    assert alone == 'the network alone: δ1 1.0000 on 2 images'


def test_the_table_of_completion_says_what_each_kind_brings(monkeypatch):
    monkeypatch.setattr(completion, 'KINDS', {name: completion.KINDS[name] for name in (
        '5 points', '500 points', 'a tilted scan', '8×8 zones', '500 points, 10 % outliers',
        '500 points, pose off by 2°')})
    wrong = Wrong(1.4, Subset(VirtualRooms('room:3'), [2, 9]))
    first, *lines = completion.completion_table(wrong, wrong, baseline=True).split('\n')
    assert first.startswith('2 images of 304×228; the network alone: RMSE ')
    alone = float(re.search(r'RMSE ([\d.]+)', first)[1])
    errors = {}
    for line, name in zip(lines, completion.KINDS, strict=True):
        assert line.startswith(f'{name} ')
        smooth, errors[name] = (float(re.search(rf'{column} ([\d.]+) m', line)[1])
                                for column in ('smooth', 'completed'))
        assert errors[name] < 0.6 * alone and smooth < alone, line
    assert errors['500 points'] < errors['5 points'] + 0.02


def test_the_table_of_holes_says_what_fills_them():
    wrong = Wrong(1.4, Subset(VirtualRooms('room:3'), [2]))
    first, *lines = completion.holes_table(wrong, wrong).split('\n')
    assert first.startswith('holes in 1 depth images of ') and '60% measured' in first
    assert [line.split()[0] for line in lines] == [*completion.DEPTH_CAMERAS, 'blocks']
    for line in lines:
        alone, cloud, filled = map(float, re.findall(r'([\d.]+) m,', line))
        assert filled < 0.4 * alone and cloud < alone, line


def test_kinds_of_completion_measure_where_they_look():
    truth = np.full((228, 304), 2, np.float32)
    truth[114] = 3
    view = completion.View(np.zeros((228, 304, 3), np.uint8), truth, truth, 260)
    rng = np.random.default_rng(0)
    for name, kind in completion.KINDS.items():
        found = completion.measure(kind, view, rng)
        count = re.match(r'([\d,]+) points', name)
        assert len(found) == (int(count[1].replace(',', '')) if count else
                              64 if 'zones' in name else 225)
        gross = np.abs(found.depth / 2 - 1) > 0.51
        assert gross.mean() == pytest.approx(0.8 * kind.outliers, abs=0.06), name
        if name == 'a line of 225':
            assert (found.depth == 3).all()
        if name == '5 points':
            assert found.u.max() < 304 and (found.u == found.u.round()).all()
    assert len(set(zip(*completion.scattered(30_000)(truth, rng)))) == 30_000


def test_sensors_measure_where_they_look():
    depth = np.full((480, 640), 2, np.float32)
    depth[240] = 3
    depth[312] = 4
    rng = np.random.default_rng(0)
    for name, true, count in (('scan, middle row', 3, 160), ('scan, a sixth below', 4, 160)):
        measured = anchors.measured(anchors.SENSORS[name], depth, rng, 0, 5)
        assert len(measured) == count and (np.diff(measured.u) > 0).all()
        np.testing.assert_allclose(measured.depth, true, rtol=5 * anchors.NOISE)
    depth[:60] = 0  # unknown: zones of it measure nothing
    u, v, zones = anchors.zones(depth, rng)
    assert (zones[:8] == 0).all() and zones[8] == 2 and (u[8], v[8]) == (39.5, 89.5)
    assert len(anchors.measured(anchors.zones, depth, rng, 0, 0)) == 56
    gross = anchors.measured(anchors.points, np.full((480, 640), 2, np.float32), rng, 0.3, 0)
    assert 0.2 < (np.abs(gross.depth - 2) > 0.2).mean() < 0.4


def test_score_is_without_the_frame():
    truth, depth = np.full((60, 80), 2, np.float32), np.full((60, 80), 2, np.float32)
    depth[:12] = depth[:, -12:] = 9
    depth[20:30, 12:68], truth[12:20] = 9, 0
    assert anchors.inner_delta1(depth, truth) == pytest.approx(18 / 28)


def test_the_table_of_the_floor_has_heights_and_tilts(monkeypatch):
    seen = Wrong(1.3)

    def room(seed):
        seen.dataset = Room(seed)
        return seen
    monkeypatch.setattr(anchors, 'Room', room)
    monkeypatch.setattr(anchors, 'HEIGHTS', (0.35, 1.4))
    monkeypatch.setattr(anchors, 'PITCHES', (11,))
    monkeypatch.setattr(anchors, 'CAMERA', Intrinsics.from_horizontal_fov(160, 120, 63.3))
    lines = anchors.floor_table(seen, anchors.seeds('3'), views=1).split('\n')
    for height, line in zip((0.35, 1.4), lines, strict=True):
        found = re.match(rf'{height:.2f} m, 11 degrees down: 1.30 → ([\d.]+);', line)
        assert float(found[1]) == pytest.approx(1, abs=0.08), line


def test_the_table_of_flicker_says_what_smoothing_takes_off(monkeypatch):
    seen, rng = Wrong(1), np.random.default_rng(1)

    def room(seed):
        seen.dataset = Room(3)
        return seen

    def flickering(rgb, fx):
        return seen.truth * np.float32(np.exp(0.03 * rng.standard_normal()))
    monkeypatch.setattr(anchors, 'Room', room)
    monkeypatch.setattr(anchors, 'CAMERA', Intrinsics.from_horizontal_fov(64, 48, 63.3))
    *lines, cuts = anchors.flicker_table(flickering, [3], seconds=4, cuts=3).split('\n')
    for rate, line in zip(anchors.RATES, lines, strict=True):
        assert line.startswith(f'room 3, {rate} frames a second: '), line
        whole, parts = np.array(re.findall(r'0\.\d{4}', line), float).reshape(2, 2)
        for before, after in (whole, parts):
            assert before == pytest.approx(0.03 * 2 ** 0.5, rel=0.3) and after < before / 2, line
    assert re.search('ends smoothing [23] times of 3', cuts)  # the walk goes on where it began


def test_a_camera_looks_where_it_is_told_to():
    pose = upright_camera_pose([1, 2, 0.5], np.pi / 2, -np.deg2rad(30))
    np.testing.assert_allclose(pose[:3, 2], [0, np.cos(np.pi / 6), -0.5], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert pose[:3, 3].tolist() == [1, 2, 0.5]


@pytest.mark.parametrize(('arguments', 'said'), [
    (('--floor', 'x'), 'names no rooms: write room:FIRST-LAST'),
    (('--floor', '9-3'), 'names no rooms'), (('--flicker', ''), 'names no rooms'),
    (('--baseline', '--data', 'x'), '--baseline goes with --completion'),
    (('--completion', '--floor', '3'), '--completion needs --data'),
    ((), 'say --data PATH, --floor FIRST-LAST, --flicker FIRST-LAST, --orientation FIRST-LAST or '
         '--motion WALK')])
def test_what_will_not_do_is_said(arguments, said, capsys):
    with pytest.raises(SystemExit):
        anchors.main(list(arguments))
    told = capsys.readouterr().err
    assert said in told and 'Traceback' not in told
    assert anchors.seeds('600-605') == anchors.seeds('room:600-605') == range(600, 606)


def test_a_lidar_is_withheld_where_it_is_turned():
    """With depth that is right but for its scale."""
    class Room3(Room):
        def render(self, camera, pose):
            rgb, self.truth = super().render(camera, pose)
            predictor.truth = self.truth
            return rgb, self.truth
    predictor = Wrong(1.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchors, 'Room', Room3)
        patch.setattr(anchors, 'CAMERA', Intrinsics.from_horizontal_fov(160, 120, 63.3))
        patch.setattr(anchors, 'WITHHELD_AFTER', (2,))
        lines = anchors.orientation_table(predictor, range(3, 4), 2).split('\n')
    assert lines[0] == 'right: 0% of 1 after 2'
    assert 'turned by 180°: 100% of 1 after 2' in lines
