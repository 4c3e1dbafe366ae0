"""Scores of obstacles: found, missed, too far, false; cells of the floor plane."""

import numpy as np
import pytest
from test_obstacles import CAMERA, DOWN, HEIGHT, scene

from hybrid_depth_ros.obstacle_metrics import ObstacleScores

BOX = (1.5, 0.3, -0.3, 0.5)


def scored(predicted, truth):
    scores = ObstacleScores()
    scores.add(predicted, truth, CAMERA, HEIGHT, DOWN)
    return scores.report(), scores.table()


def test_the_truth_is_perfect():
    report, table = scored(scene([BOX]), scene([BOX]))
    assert report['recall'] == {'1': None, '2': 1.0, '3': 1.0}
    assert report['false']['2'] < 0.03 and report['distance_error_90'] < 0.02
    assert report['cells_missed'] == report['cells_false'] == 0
    assert report['free_cells_blocked'] < 0.01
    assert 'found' in table and '–' in table


def test_a_missed_obstacle():
    report, _ = scored(scene(), scene([BOX]))
    assert report['recall']['2'] == 0
    assert report['cells_missed'] == 1
    assert report['free_cells_blocked'] > 0


def test_a_false_obstacle():
    report, _ = scored(scene([BOX]), scene())
    assert report['recall']['2'] is None
    assert 0.2 < report['false']['2'] < 0.5
    assert report['cells_false'] == 1


def test_an_obstacle_too_far():
    report, _ = scored(scene([(2.0, 0.4, -0.4, 0.7)]), scene([BOX]))
    assert report['recall']['2'] < 0.1
    assert report['distance_error_median'] == pytest.approx(1 / 3, abs=0.03)
    report, _ = scored(scene([(1.7, 0.34, -0.34, 0.6)]), scene([BOX]))
    assert report['recall']['2'] > 0.95


def test_unknown_depth_finds_nothing_and_is_not_free():
    report, _ = scored(np.full((480, 640), np.nan, np.float32), scene([BOX]))
    assert report['without_floor'] == 1
    assert report['recall']['2'] == 0
    assert report['free_cells_blocked'] is None
