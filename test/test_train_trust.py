"""``python -m train.trust``: what it notes of pictures, and what a fit learns of that."""

import numpy as np
import pytest

pytest.importorskip('tqdm')
pytest.importorskip('torch')

from hybrid_depth_ros.anchors import trust
from train import trust as training
from train.datasets.pairs import Subset
from train.datasets.virtual import VirtualRooms


class TakesForFarther:
    """A predictor that sees the last picture's truth, too far by a factor."""

    def __init__(self, dataset, factor):
        self.dataset, self.factor = dataset, np.float32(factor)

    def __len__(self):
        return len(self.dataset)

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def read(self, i):
        rgb, self.truth = self.dataset.read(i)
        self.first = rgb
        return rgb, self.truth

    def __call__(self, rgb, fx):
        truth = self.truth if rgb is self.first else self.truth[:, ::-1]
        return np.ascontiguousarray(truth) * self.factor


def test_samples_are_of_what_is_true():
    dataset = TakesForFarther(Subset(VirtualRooms('room:3'), [2, 9]), 1.3)
    found = training.samples(dataset, dataset)
    count = 2 * training.DRAWS
    assert found['each'].shape == (count, training.CELLS, trust.EACH)
    assert found['whole'].shape == (count, trust.WHOLE)
    assert found['wanted'].shape == (count, training.CELLS)
    # the mean of most draws says what is wanted: the right scale
    said = found['whole'][:, 1]
    wanted = np.nanmedian(found['wanted'].astype(float), axis=1)
    assert np.median(np.abs(said - wanted)) < 0.05
    as_given = np.abs(wanted + np.log(1.3)) < 0.01
    assert count / 2 <= as_given.sum() < count  # the others were at another scale


def sample(rng, count, truthful):
    """Pictures where the mean tells the truth where column 3, log of the variance, is low."""
    each = rng.normal(0, 1, (count, training.CELLS, trust.EACH))
    mean = rng.normal(0, 0.3, (count, 1)) + np.zeros((count, training.CELLS))
    each[..., 0], each[..., 1] = mean, np.abs(mean)
    right = each[..., 3] < 0 if truthful else np.zeros(mean.shape, bool)
    return {'each': each.astype(np.float16), 'whole': rng.normal(0, 1, (count, trust.WHOLE)),
            'wanted': np.where(right, mean, -mean).astype(np.float16)}


def test_a_fit_learns_where_anchors_tell_the_truth(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(training, 'LOSS', 2.0)
    found = training.fit([sample(rng, 200, True)], steps=300)
    assert {name: values.shape for name, values in found.items()} == {
        name: values.shape for name, values in np.load(trust.FILE).items()}
    monkeypatch.setattr(trust, '_LAYERS', [found[name] for name in (
        'each', 'whole', 'bias', 'out', 'out_bias')])
    new = sample(rng, 20, True)
    each, whole = np.float32(new['each']), np.float32(new['whole'])
    made = np.stack([trust.share(one.T[:, None], other)[0] for one, other in zip(each, whole)])
    low = each[..., 3] < -0.5
    assert made[low].mean() > 0.6 and made[each[..., 3] > 0.5].mean() < 0.2
    nothing = training.fit([sample(rng, 200, False)], steps=300)
    monkeypatch.setattr(trust, '_LAYERS', list(nothing.values()))
    assert trust.share(each[0].T[:, None], whole[0]).max() < 0.2


def test_command_writes_what_it_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, 'DepthPredictor', lambda network: lambda rgb, fx: np.full(
        rgb.shape[:2], 2, np.float32))
    monkeypatch.setattr(training, 'STEPS', 2)
    samples, out = tmp_path / 'samples.npz', tmp_path / 'trust.npz'
    training.main(['--data', 'room:3', '--every', '15', '--out', str(samples)])
    assert 'samples of' in capsys.readouterr().out
    training.main(['--fit', str(samples), '--out', str(out)])
    with np.load(out) as found, np.load(trust.FILE) as shipped:
        assert sorted(found) == sorted(shipped)


@pytest.mark.parametrize('arguments, said', (
    (['--out', 'x.npz'], 'say --data PATH, or --fit SAMPLES'),
    (['--fit', __file__, '--out', 'x.npz'], 'holds no samples'),
    (['--fit', str(trust.FILE), '--out', 'x.npz'], 'holds no samples'),
    (['--fit', 'nowhere.npz', '--out', 'x.npz'], 'nowhere.npz'),
    (['--data', 'room:3', '--out', 'nowhere/x.npz'], 'nowhere'),
))
def test_what_cannot_be_is_told(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        training.main(arguments)
    assert said in f'{ended.value}{capsys.readouterr().err}'
    assert not list(tmp_path.iterdir())
