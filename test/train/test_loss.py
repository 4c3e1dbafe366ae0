"""Training losses by hand."""

import numpy as np
import pytest
import torch

from train.configuration import TrainingConfig
from train.loss import (
    berhu,
    log_gradient,
    log_l1,
    log_scale,
    scale_free,
    sparse_loss,
    total_loss,
)


def test_losses_by_hand():
    predicted = torch.tensor([[[[1.0, 2.0], [3.0, 9.0]]]])
    target = torch.tensor([[[[1.5, 2.0], [8.0, 0.0]]]])
    valid = target > 0
    # errors 0.5, 0, 5 → c = 1
    assert berhu(predicted, target, valid).item() == pytest.approx((0.5 + 0 + (25 + 1) / 2) / 3)
    logs = [abs(np.log(1 / 1.5)), 0, abs(np.log(3 / 8))]
    assert log_l1(predicted, target, valid).item() == pytest.approx(sum(logs) / 3)
    # same shape at another scale: no gradient error
    wall = torch.rand(1, 1, 16, 16) + 1
    assert log_gradient(2 * wall, wall, wall > 0).item() == pytest.approx(0, abs=1e-6)
    assert log_gradient(wall.square(), wall, wall > 0).item() > 0.01
    nothing = torch.zeros_like(target)
    for loss in (berhu, log_l1, log_gradient):
        assert loss(predicted, nothing, nothing > 0).item() == 0


def test_scale_free_knows_no_scale():
    target = torch.rand(2, 1, 8, 10) + 1
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[0, :, :3] = False
    scaled = target * torch.tensor([1.7, 0.4]).view(2, 1, 1, 1)  # each picture by its own
    scaled[0, :, :3] = 99
    assert scale_free(scaled, target, valid) == pytest.approx(0, abs=1e-6)
    # half of the second picture's pixels off by a factor e²: each is off by 1 from its mean
    target[:] = 1
    half = target.clone()
    half[1, :, :4] = np.e ** 2
    pixels = valid.sum().item()
    assert scale_free(half, target, valid) == pytest.approx(80 / pixels)
    assert scale_free(half, target, torch.zeros_like(valid)) == 0


def test_log_scale_is_each_images_own():
    """Two images that are off in opposite directions are not right on average."""
    target = torch.rand(3, 1, 8, 10) + 1
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[0, :, :3], valid[2] = False, False  # the third has no depth
    scaled = target * torch.tensor([np.e, np.e ** -0.5, 9.0]).float().view(3, 1, 1, 1)
    assert log_scale(scaled, target, valid).item() == pytest.approx((1 + 0.5) / 2, rel=1e-5)
    assert log_scale(scaled, target, torch.zeros_like(valid)) == 0
    skewed = target.clone()
    skewed[..., :5], skewed[..., 5:] = target[..., :5] * 2, target[..., 5:] / 2  # shape alone
    assert log_scale(skewed[1:2], target[1:2], valid[1:2]).item() == pytest.approx(0, abs=1e-6)


def test_an_image_with_few_measured_pixels_counts_as_much_as_a_whole_one():
    """160 beams beside 20,000 pixels of a depth image hardly moved the network."""
    config = TrainingConfig(berhu=0.0, log_l1=1.0)
    predicted, target = torch.ones(2, 1, 40, 40), torch.full((2, 1, 40, 40), np.e ** 0.1)
    target[1] = 0
    target[1, 0, 7, :8] = np.e ** 0.5
    valid = target > 0
    assert total_loss(config, predicted, target, valid).item() == pytest.approx(0.102, abs=1e-3)
    assert sparse_loss(config, predicted, target, valid).item() == pytest.approx(0.3)
    whole = predicted[:1], target[:1], valid[:1]
    assert sparse_loss(config, *whole).item() == pytest.approx(total_loss(config, *whole).item())
