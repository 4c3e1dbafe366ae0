"""Training losses: the paper's BerHu, and the log-depth terms that lite adds.

Each is a mean over the valid pixels of the whole batch. Where several processes train, each
holds a part of the batch and gets its share of that mean: the shares add up to it.
"""

import torch
import torch.distributed
import torch.nn.functional as F

from train.distributed import all_reduce


def berhu(predicted, target, valid):
    """Reverse Huber loss (Harsányi et al. 2018, section 3; Laina et al. 2016, equation 1).

    |e| up to c, (e² + c²) / 2c beyond, with c = max|e| / 5 over the batch's valid pixels;
    the mean over valid pixels. Tensors of one shape, metres; valid: bool.
    """
    error = (predicted - target).abs() * valid
    c = (all_reduce(error.max(), torch.distributed.ReduceOp.MAX) / 5).clamp_min(1e-6)
    loss = torch.where(error <= c, error, (error ** 2 + c ** 2) / (2 * c))
    return loss.sum() / all_reduce(valid.sum()).clamp_min(1)


def _log_error(predicted, target, valid):
    error = predicted.clamp_min(0.05).log() - target.clamp_min(0.05).log()
    return torch.where(valid, error, torch.zeros_like(error))


def log_l1(predicted, target, valid):
    """Mean |log d − log t| over valid pixels: the same weight for near and far."""
    return (_log_error(predicted, target, valid).abs().sum()
            / all_reduce(valid.sum()).clamp_min(1))


def scale_free(predicted, target, valid):
    """Mean |log d − log t| once each picture's own mean error is taken out: shape, not scale.

    What a single picture can tell, whatever its scale (after Eigen et al. 2014, section 3.2);
    pictures of rendered rooms teach shape by it without pulling the scale of real ones.
    """
    error = _log_error(predicted, target, valid)
    count = valid.sum((1, 2, 3), keepdim=True).clamp_min(1)
    free = (error - error.sum((1, 2, 3), keepdim=True) / count) * valid
    return free.abs().sum() / all_reduce(valid.sum()).clamp_min(1)


def log_gradient(predicted, target, valid, scales=4):
    """Mean difference of the gradients of log depth, at `scales` halvings.

    It rewards flat surfaces and sharp edges whatever the overall scale (the multi-scale
    gradient term of Li and Snavely, *MegaDepth*, CVPR 2018, section 4).
    """
    error, total = _log_error(predicted, target, valid), 0
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


# their weights in a configuration have their names
TERMS = (berhu, log_l1, scale_free, log_gradient)


def total_loss(config, predicted, target, valid):
    """The sum of the TERMS, weighted as the configuration says."""
    return sum(config[term.__name__] * term(predicted, target, valid)
               for term in TERMS if config[term.__name__])
