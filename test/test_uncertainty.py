"""How far depth may be off: the head, its files and graphs, what the predictor makes of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hybrid_depth_ros.files import file_digest
from hybrid_depth_ros.metrics import UncertaintyScores, format_uncertainty
from hybrid_depth_ros.models.hybrid import INT8_SUFFIX, HybridModel
from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.runtimes.export import read_graph
from hybrid_depth_ros.uncertainty_head import USUAL_LOG_SIGMA, mean_and_spread
from hybrid_depth_ros.weights import load_network, save_network
from train.configuration import TrainingConfig
from train.data import Batch, LoadedBatch, to_input
from train.datasets import open_dataset
from train.datasets.pairs import Subset
from train.evaluate import height_table
from train.loss import laplace
from train.networks import make_network
from train.protocols import evaluate_whole
from train.quantise import add_uncertainty
from train.uncertainty import (
    WITHIN_ONE,
    calibrate,
    calibration_factor,
    collect_features,
    train_head,
    with_uncertainty,
)
from train.uncertainty import main as train_uncertainty
from train.unfamiliarity import HELD_OUT_KIND, Described, cross_validate, fit
from train.unfamiliarity import main as train_unfamiliarity


@pytest.fixture(scope='module')
def network():
    """A small network whose head says different things at different places."""
    torch.manual_seed(0)
    network = HybridDepthNet('efficientnet_lite0', uncertainty=True).eval()
    with torch.no_grad():
        network.head.bias.fill_(2.0)
        network.uncertainty.last.weight.normal_(0, 0.5)
    return network


def save(network, path):
    save_network(network, path)
    return path


@pytest.fixture(scope='module')
def image():
    return np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)


def test_depth_is_the_same_with_and_without_the_head(network):
    plain = HybridDepthNet('efficientnet_lite0').eval()
    plain.load_state_dict({name: tensor for name, tensor in network.state_dict().items()
                           if not name.startswith('uncertainty.')})
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        both, depth = network(inputs), plain(inputs)
    assert both.shape == (1, 2, 32, 48) and depth.shape == (1, 1, 32, 48)
    torch.testing.assert_close(both[:, :1], depth)
    assert both[:, 1].std() > 0
    fresh = with_uncertainty(plain)
    with torch.no_grad():
        assert (fresh(inputs)[:, 1] == USUAL_LOG_SIGMA).all()
        torch.testing.assert_close(fresh(inputs)[:, :1], depth)


def test_depth_does_not_pay_for_the_uncertainty(network):
    network.zero_grad()
    network(torch.randn(1, 3, 64, 64))[:, 1].sum().backward()
    taught = {name.split('.')[0] for name, parameter in network.named_parameters()
              if parameter.grad is not None and parameter.grad.abs().sum() > 0}
    network.zero_grad()
    assert taught == {'uncertainty'}


def test_weights_keep_the_head_and_older_ones_load_without(network, tmp_path):
    save_network(network, tmp_path / 'with.safetensors')
    again = load_network(tmp_path / 'with.safetensors')
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(inputs), network(inputs), rtol=0.02, atol=0.02)
    save_network(HybridDepthNet('efficientnet_lite0'), tmp_path / 'without.safetensors')
    assert load_network(tmp_path / 'without.safetensors').uncertainty is None


def test_a_strange_image_is_unsure_as_a_whole(network, tmp_path):
    """Depth and the order of the pixels stay, and so do files without this part."""
    again = load_network(save(network, tmp_path / 'before.safetensors'))
    assert again.uncertainty.unfamiliarity is None
    rng = torch.Generator().manual_seed(0)
    familiar, strange = (torch.randn(8, 3, 64, 64, generator=rng) * size for size in (1, 8))
    with torch.no_grad():
        _, features = again.depth_and_features(familiar)
        before = again(strange)
        part = again.uncertainty.add_unfamiliarity()
        part.learn_familiar(torch.cat([mean_and_spread(one) for one in features], dim=1))
        part.factor.weight.copy_(torch.tensor([[0.5, 0.5, 0.0, 0.0]]))
        part.factor.bias.zero_()
        loaded = load_network(save(again, tmp_path / 'after.safetensors'))
        after = loaded(strange)
        less = (loaded(familiar) - load_network(tmp_path / 'before.safetensors')(familiar))[:, 1]
    torch.testing.assert_close(after[:, 0], before[:, 0], rtol=0.01, atol=0.01)
    added = (after - before)[:, 1]
    assert added.std((1, 2)).max() < 0.01 and added.mean() > less.mean() + 0.5
    with torch.no_grad():
        part.factor.bias.fill_(-9.0)
        surest = again(strange) - before  # images that seemed all too familiar had too small a σ
        torch.testing.assert_close(surest[:, 1], torch.full_like(surest[:, 1], -0.1))
    source = make_network(TrainingConfig('efficientnet_lite0', uncertainty=True),
                          str(tmp_path / 'after.safetensors'))
    assert source.uncertainty.unfamiliarity is None  # training changes the features


def test_the_factor_makes_familiar_and_strange_images_honest():
    rng = np.random.default_rng(0)
    distance = np.repeat([0.0, 1.0, 2.0], 40) + 0.1 * rng.standard_normal(120)
    numbers = np.column_stack((distance, *rng.standard_normal((3, 120)))).astype(np.float32)
    errors = np.abs(rng.standard_normal((120, 200))) * np.exp(0.8 * distance + 0.5)[:, None]
    kinds = np.repeat([HELD_OUT_KIND, 'hall', 'near'], 40)
    described = Described(torch.from_numpy(numbers), torch.from_numpy(errors.astype(np.float32)),
                          kinds, np.arange(120) % 2, torch.ones(120), [])
    weight, bias = fit(described, np.ones(120, bool))
    assert weight[0] == pytest.approx(0.8, abs=0.1) and weight[1] >= 0
    assert weight[1:].abs().max() < 0.1 and bias == pytest.approx(0.5, abs=0.15)
    table, added = cross_validate(described)
    for kind in set(kinds):
        one, two = described.judge(kinds == kind, added)
        assert one == pytest.approx(WITHIN_ONE, abs=0.05) and two > 0.9
    hall = table.splitlines()[1].split()  # between the other two
    assert hall[0] == 'hall' and 0.6 < float(hall[-2]) < 0.76


@pytest.mark.parametrize(('runtime', 'fit'), [
    ('torch', 'full'), ('torch', 'paper'), ('openvino', 'full'), ('onnxruntime', 'full')])
def test_the_prediction_has_a_standard_deviation_in_metres(network, image, tmp_path, fit, runtime):
    path = tmp_path / 'with.safetensors'
    save_network(network, path)
    predictor = DepthPredictor(str(path), runtime=runtime, precision='fp32', fit=fit)
    prediction = predictor.predict(image)
    known = np.isfinite(prediction.depth)
    assert prediction.sigma.shape == image.shape[:2] and prediction.sigma.dtype == np.float32
    assert (np.isfinite(prediction.sigma) == known).all() and (prediction.sigma[known] > 0).all()
    torch_says = DepthPredictor(str(path), runtime='torch', fit=fit).predict(image)
    np.testing.assert_allclose(prediction.sigma[known], torch_says.sigma[known], rtol=2e-2)
    np.testing.assert_allclose(predictor(image)[known], prediction.depth[known], rtol=1e-5)
    without = predictor.predict(image, options=replace(predictor.options, sigma=False))
    assert without.sigma is None
    # through a lens of twice the focal length all is twice as far, and may be off by twice as much
    fx = 160 * 518.858 / 640
    near, far = (predictor.predict(image, fx=factor * fx) for factor in (1, 2))
    np.testing.assert_allclose(far.sigma[known], 2 * near.sigma[known], rtol=1e-4)


def test_a_network_without_the_head_gives_none(image, tmp_path):
    save_network(HybridDepthNet('efficientnet_lite0'), tmp_path / 'without.safetensors')
    assert DepthPredictor(str(tmp_path / 'without.safetensors'),
                          runtime='torch').predict(image).sigma is None


def test_a_wild_estimate_stays_a_number(image):
    view = HybridModel('', HybridDepthNet('efficientnet_lite0')).preprocess(image)
    output = np.full((2, view.pixels.shape[0] // 2, view.pixels.shape[1] // 2), 90, np.float32)
    assert np.isfinite(view.restore_sigma(output)).all()


def test_the_likelihood_is_best_where_sigma_is_the_error():
    depth = torch.full((1, 1, 40, 40), 2.0)
    torch.manual_seed(1)
    error = torch.distributions.Laplace(0.0, 0.1).sample(depth.shape)
    target = depth * (1 + error)
    target[0, 0, :4] = 0  # unknown
    losses = [laplace(depth, torch.full_like(depth, log), target, target > 0).item()
              for log in np.log([0.05, 0.1, 0.1414, 0.2, 0.4])]
    assert np.argmin(losses) == 2


def test_the_head_learns_where_errors_are_large():
    torch.manual_seed(2)
    network = HybridDepthNet('efficientnet_lite0', uncertainty=True)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(2.0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()
              if not name.startswith('uncertainty.')}
    rng = np.random.default_rng(0)

    def batch():
        rgb = np.full((2, 64, 64, 3), 128, np.uint8)
        rgb[1] = rng.integers(0, 255, (64, 64, 3))           # noise: depth is anything there
        depth = np.full((2, 1, 32, 32), 2.0, np.float32) * (
            1 + np.array([0.02, 0.5]).reshape(2, 1, 1, 1) * rng.standard_normal((2, 1, 32, 32)))
        return LoadedBatch(Batch(torch.from_numpy(rgb), torch.ones(2, 3),
                                 torch.from_numpy(depth.clip(0.1).astype(np.float32))), [])
    samples = collect_features(network, [batch() for _ in range(10)])
    assert len(samples) == 20
    train_head(network.uncertainty, [samples], 80, 2e-2)
    after = network.state_dict()
    assert all((after[name] == tensor).all() for name, tensor in before.items())
    rgb, gain, _ = batch().batch
    with torch.no_grad():
        sure, unsure = network.eval()(to_input(rgb, gain))[:, 1].exp().mean((1, 2)).tolist()
    assert sure < 0.15 < 0.25 < unsure


def test_calibration_makes_sigma_honest(tmp_path):
    rng = np.random.default_rng(0)
    ratios = [np.abs(rng.standard_normal(20000)) * scale for scale in (1.5, 3.0)]
    factor = calibration_factor(ratios)
    assert np.mean([np.mean(one < factor) for one in ratios]) == pytest.approx(WITHIN_ONE, abs=1e-3)

    class Wall:
        """Images of one depth that the network takes for another."""

        def __len__(self):
            return 3

        def read(self, i):
            return np.full((96, 128, 3), 40 * i, np.uint8), np.full((96, 128), 3.0, np.float32)

        def focal(self, i):
            return 518.858 / 640

        def name(self, i):
            return str(i)
    network = HybridDepthNet('efficientnet_lite0', uncertainty=True).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(2.0)
    factor, table = calibrate(network, {'wall': Wall()})
    assert factor > 0
    sigma = DepthPredictor(network).predict(Wall().read(0)[0]).sigma
    assert np.median(sigma) == pytest.approx(1.0, rel=0.05) and 'wall' in table


def test_scores_of_perfect_and_of_useless_sigma():
    rng = np.random.default_rng(0)
    truth = np.full((60, 80), 2.0)
    true_sigma = np.exp(rng.uniform(-3, -1, truth.shape))
    depth = truth * (1 + true_sigma * rng.standard_normal(truth.shape))
    scores = UncertaintyScores()
    scores.add(depth, np.abs(depth) * true_sigma, truth)
    honest = scores.report()
    assert honest['within_1'] == pytest.approx(0.683, abs=0.03)
    assert honest['within_2'] == pytest.approx(0.954, abs=0.03)
    assert honest['aurg'] > 0.03 and honest['ause'] > 0
    assert sum(part['share'] for part in honest['reliability']) == pytest.approx(1)
    perfect, useless = UncertaintyScores(), UncertaintyScores()
    perfect.add(depth, np.abs(depth - truth) * depth / 2, truth)
    useless.add(depth, depth * rng.uniform(0.1, 0.2, truth.shape), truth)
    assert perfect.report()['ause'] == pytest.approx(0, abs=1e-9)
    assert abs(useless.report()['aurg']) < 0.01 < perfect.report()['aurg']
    by_sigma, by_error, by_chance = perfect.curves()
    np.testing.assert_allclose(by_sigma, by_error)
    assert by_sigma[0] == pytest.approx(by_chance[0]) and (np.diff(by_error) <= 1e-12).all()
    assert np.isnan(UncertaintyScores().report()['ause'])
    assert 'AUSE 0.000' in format_uncertainty(perfect.report())


def test_whole_images_are_judged_by_kind_and_uncertainty(network):
    report = evaluate_whole(DepthPredictor(network),
                            open_dataset('room:700:any').numbered([[700, 700]]))
    kinds = {entry.kind: entry.images for entry in report.kinds}
    assert kinds['near'] >= 3 and sum(kinds.values()) == 12
    assert 0 <= report.uncertainty['within_1'] <= report.uncertainty['within_2'] <= 1
    table = height_table(report)
    assert '\nnear ' in table and 'AUSE' in table
    plain = evaluate_whole(DepthPredictor(HybridDepthNet('efficientnet_lite0')),
                           Subset(open_dataset('room:700'), [0, 1]))
    assert plain.uncertainty is None and 'AUSE' not in height_table(plain)


def test_the_int8_graph_keeps_its_depth_and_gets_the_head(tmp_path, image):
    plain = HybridModel('lite-nyu')
    lite = load_network('lite-nyu')
    with torch.no_grad():
        lite.uncertainty.last.bias += 0.5
    path = tmp_path / 'with.safetensors'
    save_network(lite, path)
    (tmp_path / f'with{INT8_SUFFIX}').write_bytes(add_uncertainty(
        read_graph(plain.int8_graph, plain.digest), lite, file_digest(path)))
    before, after, exact = (
        DepthPredictor(weights, runtime=runtime, precision=precision, device='cpu').predict(image)
        for weights, runtime, precision in (('lite-nyu', 'openvino', 'int8'),
                                            (str(path), 'openvino', 'int8'),
                                            (str(path), 'torch', 'fp32')))
    np.testing.assert_array_equal(after.depth, before.depth)
    np.testing.assert_allclose(after.sigma, before.sigma * np.exp(0.5), rtol=1e-2)
    known = np.isfinite(exact.sigma)
    ratio = np.log((after.sigma / after.depth)[known] / (exact.sigma / exact.depth)[known])
    assert np.abs(ratio).mean() < 0.1
    shares = [np.log(one.sigma / one.depth)[known] for one in (after, exact)]
    assert np.corrcoef(*shares)[0, 1] > 0.95 and shares[1].std() > 0.05


def test_the_command_judges_each_range_by_a_head_that_did_not_see_it(tmp_path, capsys):
    torch.manual_seed(0)
    network = HybridDepthNet('efficientnet_lite0')
    with torch.no_grad():
        network.head.bias.fill_(2.0)
    save_network(network, tmp_path / 'depth.safetensors')
    train_uncertainty(['--weights', str(tmp_path / 'depth.safetensors'), '--data', 'room:700-702',
                       '--held-out', '[[700, 700], [701, 701]]', '--images', '4', '--steps', '2',
                       '--sister', str(tmp_path / 'depth.safetensors'), '--sister-held-out',
                       '[[702, 702]]', '--set', 'precision=fp32', 'workers=0',
                       '--out', str(tmp_path / 'sigma.safetensors')])
    said = capsys.readouterr().out
    assert 'held-out range [700, 700]: AUSE' in said and 'held-out range [701, 701]: AUSE' in said
    scores = json.loads((tmp_path / 'sigma.json').read_text())
    assert scores['within_1'] == pytest.approx(WITHIN_ONE, abs=0.01)
    assert len(scores['curves']) == 3
    again = load_network(tmp_path / 'sigma.safetensors')
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(inputs)[:, :1], network.eval()(inputs), rtol=0.01,
                                   atol=0.01)
    train_unfamiliarity(['--weights', str(tmp_path / 'sigma.safetensors'), '--data', 'room:700-702',
                         'room:703-704', '--held-out', '[[700, 700], [701, 701]]', '--images', '4',
                         '--out', str(tmp_path / 'factor.safetensors')])
    said = capsys.readouterr().out
    assert 'kind not seen' in said and '\nroom ' in said and '\nheld out ' in said
    assert len(json.loads((tmp_path / 'factor.json').read_text())['curves']) == 3
    honest = load_network(tmp_path / 'factor.safetensors')
    with torch.no_grad():
        torch.testing.assert_close(honest(inputs)[:, 0], again(inputs)[:, 0], rtol=1e-4, atol=1e-4)
        assert (honest(inputs) - again(inputs))[0, 1].std() < 1e-3
    with pytest.raises(SystemExit, match='estimates no uncertainty'):
        train_unfamiliarity(['--weights', str(tmp_path / 'depth.safetensors'), '--data',
                             'room:700-702', '--held-out', '[[700, 700]]', '--images', '2',
                             '--out', str(tmp_path / 'none.safetensors')])
