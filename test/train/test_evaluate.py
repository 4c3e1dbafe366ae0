"""Evaluation protocols by hand, and the command."""

import cv2
import numpy as np
import pytest
import torch
from rgbd_files import HeightWalls

from hybrid_depth_ros.anchors.floor import down_from_pitch
from train import average, evaluate, prepare, protocols, throughput
from train.datasets import rendered_rooms
from train.datasets.pairs import Subset
from train.datasets.raycast_rooms import VirtualRooms


def test_what_cannot_be_written_is_said_before_the_work(tree, tmp_path, capsys):
    for option in ('--json', '--plot'):
        with pytest.raises(SystemExit, match=r'^train\.evaluate: \S+none/out\.png: No such file'):
            evaluate.main(['--data', str(tree), option, str(tmp_path / 'none' / 'out.png')])
    (tmp_path / 'file').write_text('')
    with pytest.raises(SystemExit, match='file: File exists; remove it'):
        evaluate.main(['--data', str(tree), '--pictures', str(tmp_path / 'file')])
    assert not capsys.readouterr().out


@pytest.mark.parametrize(('main', 'arguments', 'said'), [
    (evaluate.main, ('--ranges', '[1,2]'), 'is no list of ranges; write it like [[0,9],[20,29]]'),
    (evaluate.main, ('--depth-scale', '0'), "'0' is not a number above 0"),
    (prepare.main, ('--out', 'store', '--count', '-1'), '--count is -1'),
    (average.main, ('lite-nyu', '--out', 'mean', '--batches', '0'), '--batches is 0'),
    (throughput.main, ('--rounds', '0'), '--rounds is 0')])
def test_arguments_that_make_no_sense_are_refused(main, arguments, said, tree, capsys):
    with pytest.raises(SystemExit, match='2'):
        main([*arguments, '--data', str(tree)])
    assert said in capsys.readouterr().err


def test_scores_by_hand():
    scores = protocols.Scores()
    scores.add(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]))   # right; nothing to score
    scores.add(np.array([[3.0, 3.0, 5.0]]), np.array([[2.0, 3.0, 4.0]]))
    report = scores.evaluation()
    assert (report.pixels, report.images) == (4, 2)
    assert report.metrics['rel'] == pytest.approx((0 + 0.5 + 0 + 0.25) / 4)
    assert report.rel_per_image == pytest.approx([0, 0.25])
    assert report.per_image['rel'] == pytest.approx(0.125)
    assert report.per_image['rmse'] == pytest.approx(np.sqrt(2 / 3) / 2)
    bands = {(band['from'], band['to']): band for band in report.bands}
    assert bands[(0, 1)]['pixels'] == 1
    assert bands[(1.5, 2)]['rel'] == pytest.approx(0.5)
    assert bands[(3.5, 4)]['delta1'] == 0  # 5/4 is not below 1.25
    assert sum(band['pixels'] for band in report.bands) == 4


class Wall:
    """A dataset of one wall at 3 m, with garbage outside Eigen's crop and beyond 10 m."""

    def __len__(self):
        return 1

    def read(self, i):
        depth = np.full((480, 640), 99.0, np.float32)
        depth[45:471, 41:601] = 3.0
        depth[100:110, 100:110] = 12.0
        return np.zeros((480, 640, 3), np.uint8), depth

    def focal(self, i):
        return 518.858 / 640


class Constant(torch.nn.Module):
    """Sees 2.4 m everywhere, and 3.6 m when asked a second time."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.encoder_name, self.calls = 'resnet50', 0

    def forward(self, x):
        self.calls += 1
        return torch.full((len(x), 1, x.shape[2] // 2, x.shape[3] // 2), 1.2 * (self.calls + 1))


def test_eigen_protocol():
    report = protocols.evaluate_eigen(Constant(), Wall())
    assert report.pixels == 426 * 560 - 100
    assert report.metrics['rel'] == pytest.approx(0.2, rel=1e-5)
    flipped = protocols.evaluate_eigen(Constant(), Wall(), flip=True)
    assert flipped.metrics['rel'] == pytest.approx(0.0, abs=1e-3)  # the mean of 2.4 and 3.6


def test_paper_protocol():
    report = protocols.evaluate_paper(Constant(), Wall(), flip=True)
    assert report.pixels == 582 * 466
    assert report.metrics['rel'] > 0.1  # this one does look at the pixels outside Eigen's crop


def test_whole_images_by_height():
    report = protocols.evaluate_whole(
        lambda rgb, fx: np.full(rgb.shape[:2], 2.4 * fx / (518.858 / 640 * 80), np.float32),
        HeightWalls())
    assert report.images == 6 and report.pixels == 6 * 36 * 56
    low, high = report.heights
    assert (low.lowest, low.highest, low.images) == (0.25, 0.45, 3)
    assert low.metrics['delta1'] == 1 and low.ratio == pytest.approx(1)
    assert high.metrics['delta1'] == 0 and high.scaled == 1 and high.ratio == pytest.approx(0.5)
    assert report.aligned['rel'] == pytest.approx(0, abs=1e-6)
    table = evaluate.height_table(report)
    assert '0.25 to 0.45 m' in table and '0.80 to 1.20 m' in table and 'outlines' in table


def test_whole_images_of_the_virtual_room(capsys):
    evaluate.main(['--data', 'room:7', '--protocol', 'whole'])
    printed = capsys.readouterr().out
    assert '12 images, whole protocol' in printed and '0.25 to 0.45 m' in printed
    with pytest.raises(SystemExit):
        evaluate.main(['--data', 'room:7', '--protocol', 'whole', '--flip'])
    assert '--flip is of the protocols paper and eigen' in capsys.readouterr().err
    for name in ('room:', 'room:9-3', 'room:x'):
        with pytest.raises(SystemExit, match='names no rooms: write room:FIRST-LAST'):
            evaluate.main(['--data', name, '--protocol', 'whole'])


def test_obstacles_where_cameras_are_known(tree, capsys):
    rooms = VirtualRooms('room:7')
    truths = iter([rooms.read(i).depth for i in (4, 8)])
    report = protocols.evaluate_whole(lambda rgb, fx: next(truths), Subset(rooms, (4, 8)),
                                      obstacles=True)
    assert report.obstacles['images'] == 2 and report.obstacles['cells_missed'] < 0.05
    assert report.obstacles['recall']['3'] > 0.85
    assert report.to_json()['obstacles'] == report.obstacles
    with pytest.raises(SystemExit, match='does not tell how high its cameras are'):
        evaluate.main(['--data', str(tree), '--protocol', 'whole', '--obstacles'])
    with pytest.raises(SystemExit):
        evaluate.main(['--data', str(tree), '--obstacles'])
    assert 'give --protocol whole' in capsys.readouterr().err


def test_rendered_frames_know_gravity():
    down = rendered_rooms._down({'pitch': '-12.00', 'roll': '0.00'})
    np.testing.assert_allclose(down, down_from_pitch(12), atol=1e-9)
    down = rendered_rooms._down({'pitch': '0', 'roll': '5'})
    np.testing.assert_allclose(down, down_from_pitch(0, 5), atol=1e-9)
    assert rendered_rooms._down({'room': '3'}) is None


def test_evaluation_draws(tree, tmp_path, capsys):
    evaluate.main(['--data', str(tree), '--ranges', '[[0, 3]]', '--protocol', 'eigen',
                   '--plot', str(tmp_path / 'plot.png'), '--pictures', str(tmp_path / 'pictures')])
    assert cv2.imread(str(tmp_path / 'plot.png')).std() > 10
    assert sorted(file.name for file in (tmp_path / 'pictures').iterdir()) == [
        'best.png', 'median.png', 'worst.png']
    assert 'eigen protocol' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='frame numbers from 0 to 7'):
        evaluate.main(['--data', str(tree), '--ranges', '[[90, 99]]'])
