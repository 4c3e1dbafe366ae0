"""``python -m train.anchors --motion``: walks, and what wrong odometry does to depth along them."""

import re

import cv2
import numpy as np
import pytest

pytest.importorskip('tqdm')

from train import motion, walks


class TwiceAsFar:
    """A predictor that sees the last frame's truth twice as far."""

    def __init__(self, walk):
        self._walk = walk

    def read(self, number):
        rgb, self.truth = self._walk.read(number)
        return rgb, self.truth

    def __call__(self, rgb, fx):
        return 2 * self.truth


def short(walk, frames):
    return walk._replace(poses=walk.poses[:frames])


def test_the_table_says_what_motion_brings_and_what_wrong_odometry_does():
    walk = short(walks.virtual_walks('room:3')[0], 12)
    assert walk.name == 'walk 3'
    predictor = TwiceAsFar(walk)
    line, *said = motion.motion_lines(predictor, [walk._replace(read=predictor.read)])
    alone, known, drift, twice, _, standing = map(float, re.findall(r'(\d\.\d{3})', line))
    assert alone == 0 and known > 0.3 and drift > 0.3 and max(twice, standing) < 0.05, line
    assert any('standing' in text and 'otherwise than the poses' in text for text in said), said


def test_virtual_walks_are_what_they_say():
    walk, turn, phone, desk = walks.virtual_walks('room:3')
    for one, move, angle in ((walk, 0.03, 1.8), (turn, 0.0042, 3.0), (phone, 0.017, 1.2),
                             (desk, 0.01, 5)):
        steps = [np.linalg.inv(a) @ b for a, b in zip(one.poses, one.poses[1:])]
        length = np.mean([np.linalg.norm(step[:3, 3]) for step in steps])
        turned = np.rad2deg(np.mean([np.linalg.norm(cv2.Rodrigues(step[:3, :3])[0])
                                     for step in steps]))
        assert len(one.poses) == walks.FRAMES
        assert length == pytest.approx(move, rel=0.6) and turned == pytest.approx(angle, rel=0.6)
    _, truth = desk.read(0)
    assert np.median(truth) < 1.2


def test_a_recorded_walk_is_read_or_refused(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f'rgb_{number:05}.png'), np.full((12, 16, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / f'sync_depth_{number:05}.png'),
                    np.full((12, 16), 1500, np.uint16))
    (tmp_path / 'camera.txt').write_text('fx fy cx cy\n14 15 7.5 5.5\n')
    pose = np.eye(4)
    pose[0, 3] = 0.1
    lines = [' '.join(map(str, (number, *pose.ravel()))) for number in (0, 2)]
    (tmp_path / 'poses.txt').write_text('\n'.join(lines))
    [walk] = walks.open_walks(str(tmp_path))
    assert (walk.camera.fx, walk.camera.fy, walk.camera.cx) == (14, 15, 7.5)
    assert len(walk.poses) == 2 and (walk.poses[1] == pose).all()
    assert (walk.read(1).depth == 1.5).all()
    (tmp_path / 'poses.txt').write_text('0 1 2\n')
    with pytest.raises(OSError, match='17 numbers a frame'):
        walks.recorded_walk(tmp_path)
    (tmp_path / 'poses.txt').write_text(lines[0])
    with pytest.raises(OSError, match='two are the least'):
        walks.recorded_walk(tmp_path)
