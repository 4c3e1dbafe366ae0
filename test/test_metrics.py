"""The six error measures, against values worked by hand and another computation."""

import math

import numpy as np
import pytest

from hybrid_depth_ros.metrics import DepthErrors, OutlineScores, outlines


def test_by_hand():
    errors = DepthErrors()
    # ratios 1, 1.25 (not below 1.25), 2, 4
    assert errors.add(np.array([[1.0, 2.5], [4.0, 1.0]]), np.array([[1.0, 2.0], [2.0, 4.0]])) == 4
    metrics = errors.metrics()
    assert metrics['rmse'] == pytest.approx(math.sqrt((0 + 0.25 + 4 + 9) / 4), abs=1e-15)
    assert metrics['rel'] == pytest.approx((0 + 0.25 + 1 + 0.75) / 4, abs=1e-15)
    assert metrics['log10'] == pytest.approx(
        (math.log10(1.25) + math.log10(2) + math.log10(4)) / 4, abs=1e-15)
    assert (metrics['delta1'], metrics['delta2'], metrics['delta3']) == (0.25, 0.5, 0.5)


def test_pooled_over_pixels_and_agrees_with_another_computation():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.5, 10, (5, 30, 40)).astype(np.float32)
    predicted = (truth * rng.uniform(0.6, 1.6, truth.shape)).astype(np.float32)
    truth[rng.random(truth.shape) < 0.1] = 0
    truth[0, :5] = np.nan
    predicted[1, :7] = np.nan
    errors = DepthErrors()
    for d, t in zip(predicted, truth):
        errors.add(d, t)
    pairs = [(float(d), float(t)) for d, t in zip(predicted.ravel(), truth.ravel())
             if t > 0 and d == d]
    assert errors.pixels == len(pairs)
    n, got = len(pairs), errors.metrics()
    wanted = {
        'rmse': math.sqrt(math.fsum((d - t) ** 2 for d, t in pairs) / n),
        'rel': math.fsum(abs(d - t) / t for d, t in pairs) / n,
        'log10': math.fsum(abs(math.log10(d) - math.log10(t)) for d, t in pairs) / n,
        **{f'delta{k}': sum(max(d / t, t / d) < 1.25 ** k for d, t in pairs) / n
           for k in (1, 2, 3)}}
    assert got == pytest.approx(wanted, abs=1e-12)


def test_nothing_to_score_and_wrong_shapes():
    errors = DepthErrors()
    errors.add(np.ones((2, 2)), np.zeros((2, 2)))
    assert all(math.isnan(value) for value in errors.metrics().values())
    with pytest.raises(ValueError, match=r'\(2, 2\).*\(2, 3\)'):
        errors.add(np.ones((2, 2)), np.ones((2, 3)))


def test_a_predicted_zero_has_a_logarithm():
    errors = DepthErrors()
    errors.add(np.zeros((1, 1)), np.ones((1, 1)))
    assert errors.metrics()['log10'] == pytest.approx(3)


def step(at, near=1.0, far=2.0):
    """Two walls, the near one on the left, up to column `at`."""
    return np.where(np.arange(40) < at, near, far) * np.ones((30, 1))


def test_outlines_are_where_depth_jumps():
    assert set(np.nonzero(outlines(step(20)))[1]) == {19, 20}
    assert not outlines(step(20, 1.0, 1.08)).any()  # less than a tenth
    assert not outlines(np.linspace(1, 2, 40)[:, None] * np.ones((1, 30))).any()  # a floor
    unknown = step(20)
    unknown[:, 18:22] = np.nan
    assert not outlines(unknown).any()


@pytest.mark.parametrize('off, found, right', [(0, 1.0, 1.0), (2, 1.0, 1.0), (4, 0.0, 0.0)])
def test_an_outline_counts_within_two_pixels(off, found, right):
    scores = OutlineScores()
    scores.add(step(20 + off), step(20))
    report = scores.report()
    assert report['found'] == pytest.approx(found) and report['right'] == pytest.approx(right)


def test_a_blurred_outline_is_not_found():
    scores = OutlineScores()
    scores.add(np.exp(np.interp(np.arange(40), (8, 32), (0, np.log(2)))) * np.ones((30, 1)),
               step(20))
    assert scores.report()['found'] == 0 and math.isnan(scores.report()['right'])
