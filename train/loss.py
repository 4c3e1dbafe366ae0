"""Training losses: the paper's BerHu, and the log-depth terms that lite adds.

Each is a mean over the valid pixels of the whole batch. Where several processes train, each
holds a part of the batch and gets its share of that mean: the shares add up to it.

All take predicted and target depth, float N×1×H×W in metres, and which target pixels are valid,
bool of that shape.
"""

import math

import torch
import torch.distributed
import torch.nn.functional as F

from hybrid_depth_ros.uncertainty_head import MIN_DEPTH
from train.configuration import TrainingConfig
from train.distributed import all_reduce

MOST_ERROR = 2.0  # of the depth; a larger error counts as this: one wrong hall is not all of it


def berhu(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Reverse Huber loss: |e| up to c, (e² + c²) / 2c beyond, with c = max|e| / 5 of the batch.

    Source: Harsányi et al. 2018, section 3; Laina et al. 2016, equation 1.
    """
    error = (predicted - target).abs() * valid
    c = (all_reduce(error.max(), torch.distributed.ReduceOp.MAX) / 5).clamp_min(1e-6)
    loss = torch.where(error <= c, error, (error ** 2 + c ** 2) / (2 * c))
    return loss.sum() / all_reduce(valid.sum()).clamp_min(1)


def _log_error(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """log(predicted / target); 0 where it is not valid."""
    error = predicted.clamp_min(MIN_DEPTH).log() - target.clamp_min(MIN_DEPTH).log()
    return torch.where(valid, error, torch.zeros_like(error))


def log_l1(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean |log d − log t|: near and far pixels weigh the same."""
    return (_log_error(predicted, target, valid).abs().sum()
            / all_reduce(valid.sum()).clamp_min(1))


def log_scale(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """|mean of log d − log t| of each image, its mean over the images: scale, not shape."""
    count = valid.sum((1, 2, 3))
    scale = _log_error(predicted, target, valid).sum((1, 2, 3)) / count.clamp_min(1)
    return scale.abs().sum() / all_reduce((count > 0).sum()).clamp_min(1)


def scale_free(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean |log d − log t|, with each image's mean error subtracted: shape, not scale.

    Images of rendered rooms teach shape by it, and do not pull the scale of real ones.

    Source: after Eigen et al. 2014, section 3.2.
    """
    error = _log_error(predicted, target, valid)
    count = valid.sum((1, 2, 3), keepdim=True).clamp_min(1)
    free = (error - error.sum((1, 2, 3), keepdim=True) / count) * valid
    return free.abs().sum() / all_reduce(valid.sum()).clamp_min(1)


def log_gradient(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor,
                 scales: int = 4) -> torch.Tensor:
    """Mean difference of the gradients of log depth, at `scales` halvings of the resolution.

    It rewards flat surfaces and sharp edges, whatever the overall scale.

    Source: the multi-scale gradient term of Li and Snavely, *MegaDepth*, CVPR 2018, section 4.
    """
    error, total = _log_error(predicted, target, valid), predicted.new_zeros(())
    for _ in range(scales):
        both_x = valid[..., :, 1:] & valid[..., :, :-1]
        both_y = valid[..., 1:, :] & valid[..., :-1, :]
        step_x = (error[..., :, 1:] - error[..., :, :-1]).abs() * both_x
        step_y = (error[..., 1:, :] - error[..., :-1, :]).abs() * both_y
        total = total + (step_x.sum() / all_reduce(both_x.sum()).clamp_min(1)
                         + step_y.sum() / all_reduce(both_y.sum()).clamp_min(1))
        if min(error.shape[-2:]) < 2:
            break
        weight = F.avg_pool2d(valid.float(), 2)
        error = F.avg_pool2d(error, 2) / weight.clamp_min(0.25)
        valid = weight > 0
    return total / scales


def laplace(predicted: torch.Tensor, log_sigma: torch.Tensor, target: torch.Tensor,
            valid: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood of |target − depth| / depth under a Laplace distribution.

    Depth does not pay for it: only what gives `log_sigma` learns.

    Args:
        predicted, target, valid: As everywhere here.
        log_sigma: log of the standard deviation / depth, of that shape.

    Source: Kendall and Gal, *What Uncertainties Do We Need in Bayesian Deep Learning for Computer
    Vision?*, NeurIPS 2017, equation 8, with the absolute error.
    """
    depth = predicted.detach().clamp_min(MIN_DEPTH)
    error = ((target - depth).abs() / depth).clamp_max(MOST_ERROR)
    # the standard deviation of a Laplace distribution is √2 times its scale
    loss = math.sqrt(2) * error * (-log_sigma).exp() + log_sigma
    return (loss * valid).sum() / all_reduce(valid.sum()).clamp_min(1)


SPARSE_SHARE = 0.05  # of an image's pixels
# Their weights in a configuration have their names.
TERMS = (berhu, log_l1, log_scale, scale_free, log_gradient)


def total_loss(config: TrainingConfig, predicted: torch.Tensor, target: torch.Tensor,
               valid: torch.Tensor) -> torch.Tensor:
    """The sum of the TERMS, weighted as the configuration says."""
    weighted = [(getattr(config, term.__name__), term) for term in TERMS]
    return sum((weight * term(predicted, target, valid) for weight, term in weighted if weight),
               start=predicted.new_zeros(()))


def sparse_loss(config: TrainingConfig, predicted: torch.Tensor, target: torch.Tensor,
                valid: torch.Tensor) -> torch.Tensor:
    """:func:`total_loss` where some images have depth in a few pixels only.

    Those with less than SPARSE_SHARE of their pixels are a group of their own. Each group weighs
    as many images as it has, so that 160 beams count as much as a whole depth image.
    """
    sparse = valid.float().mean((1, 2, 3), keepdim=True) < SPARSE_SHARE
    images = all_reduce(torch.tensor(len(valid), device=valid.device))
    return sum((all_reduce(group.sum()) / images
                * total_loss(config, predicted, target, valid & group)
                for group in (~sparse, sparse)), start=predicted.new_zeros(()))
