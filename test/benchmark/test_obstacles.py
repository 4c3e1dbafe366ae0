"""The obstacles' benchmark: what its directions count."""

import pytest
from test_obstacles import CAMERA, DOWN, HEIGHT, scene

from hybrid_depth_ros.benchmark.obstacles import ProductScores, product_table

PRODUCTS = ['all points', 'depth/points', 'depth/obstacles', 'depth/scan']


@pytest.fixture
def truth():
    """A box 1.5 m ahead, 0.4 m wide, before a wall at 3.5 m."""
    return scene([(1.5, 0.2, -0.2, 0.5)], far=3.5)


def scores(depth, truth):
    made = ProductScores()
    made.add(depth, truth, CAMERA, HEIGHT, DOWN)
    return made.report()


def test_exact_depth_has_no_fault_and_each_direction_counts_once(truth):
    report = scores(truth, truth)
    assert list(report) == PRODUCTS
    for name, row in report.items():
        assert row['near'] + row['free'] == 64 and 14 <= row['near'] <= 18, name
        assert (row['too far'], row['missed'], row['false']) == (0, 0, 0), name
    assert '16 directions with an obstacle, 48 free ones' in product_table(report)


def test_a_lost_box_and_one_that_is_not_there_are_counted(truth):
    free = scene(far=3.5)
    for row in scores(free, truth).values():
        assert (row['too far'], row['missed'], row['false']) == (1, 1, 0)
    for row in scores(truth, free).values():
        assert row['near'] == 0 and 0.15 < row['false'] < 0.3
