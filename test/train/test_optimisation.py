"""Learning rate."""

import pytest

from train import optimisation
from train.configuration import TrainingConfig


def test_learning_rate_curve():
    cycle = TrainingConfig(lr=2.0, warmup=0.1)
    assert optimisation.learning_rate(cycle, 0.0) == pytest.approx(0.08)
    assert optimisation.learning_rate(cycle, 0.1) == 2
    assert optimisation.learning_rate(cycle, 0.55) == pytest.approx(1)
    assert optimisation.learning_rate(cycle, 1.0) == pytest.approx(0)
