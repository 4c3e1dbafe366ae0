"""The field that follows details, and its sparse solver."""

import numpy as np
import pytest

from hybrid_depth_ros.anchors import multigrid, random_field


def system(rng, rows=64, columns=96):
    right, below = (np.exp(rng.normal(4, 2, (rows, columns))).astype(np.float32) for _ in range(2))
    right[:, -1] = below[-1] = 0
    precision = np.full((rows, columns), 1e-3, np.float32)
    information = np.zeros_like(precision)
    places = rng.integers(0, rows, 80), rng.integers(0, columns, 80)
    precision[places] = 4000
    information[places] = 4000 * rng.normal(0, 0.2, 80)
    return multigrid.Links(right, below), precision, information


def exact(links, precision, information):
    nodes = np.arange(precision.size).reshape(precision.shape)
    matrix = np.diag(precision.ravel().astype(float))
    for first, second, values in ((nodes[:, :-1], nodes[:, 1:], links.right[:, :-1]),
                                  (nodes[:-1], nodes[1:], links.below[:-1])):
        i, j, values = first.ravel(), second.ravel(), values.ravel()
        matrix[i, j] -= values
        matrix[j, i] -= values
        np.add.at(matrix, (i, i), values)
        np.add.at(matrix, (j, j), values)
    return np.linalg.solve(matrix, information.ravel()).reshape(precision.shape)


def test_the_solution_is_near_after_a_few_steps_and_exact_after_many():
    links, precision, information = system(np.random.default_rng(0), 32, 64)
    true = exact(links, precision, information)
    grids = multigrid.pyramid(links)
    few, many = (multigrid.solve(grids, precision, information, None, steps) for steps in (8, 60))
    assert np.abs(few - true).mean() < 0.2 * np.abs(true).mean()
    np.testing.assert_allclose(many, true, atol=2e-3)
    again = multigrid.solve(grids, precision, information, many, 1)
    np.testing.assert_allclose(again, true, atol=2e-3)


def test_no_information_is_no_field():
    links, precision, _ = system(np.random.default_rng(1))
    nothing = np.zeros_like(precision)
    assert not multigrid.solve(multigrid.pyramid(links), precision, nothing, None, 3).any()


def samples(residual, rng, shape=(120, 160)):
    size = residual.size
    return random_field.Samples(rng.integers(0, shape[1], size), rng.integers(0, shape[0], size),
                                residual.astype(np.float32), np.zeros(size, np.float32),
                                np.ones(size, np.float32))


@pytest.mark.parametrize('share', [0, 0.05, 0.3])
def test_outliers_are_told_from_small_things_by_how_many_there_are(share):
    rng = np.random.default_rng(2)
    residual = 0.005 * rng.standard_normal(400)
    residual[:3] = 0.3  # small things
    gross = np.zeros(400, bool)
    gross[20:20 + int(400 * share)] = True
    residual[gross] = rng.choice([-1, 1], gross.sum()) * rng.uniform(0.4, 1.2, gross.sum())
    flat = np.zeros((120, 160), np.float32)
    field, outliers = random_field.fit(flat, None, samples(residual, rng))
    assert outliers[gross].mean() > 0.9 if share else not outliers.any()
    assert outliers[~gross].mean() < 0.05
    assert np.median(np.abs(field)) < 0.01 and field.dtype == np.float32


def test_a_step_of_depth_ends_what_is_followed():
    stepped = np.zeros((120, 160), np.float32)
    stepped[:, 80:] = 1
    rng = np.random.default_rng(3)
    anchors = samples(np.zeros(300), rng)
    anchors = anchors._replace(residual=np.where(anchors.column < 80, 0.2, 0).astype(np.float32))
    field, outliers = random_field.fit(stepped, None, anchors)
    assert not outliers.any()
    np.testing.assert_allclose(field[:, :76], 0.2, atol=0.02)
    np.testing.assert_allclose(field[:, 84:], 0, atol=0.02)
