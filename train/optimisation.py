"""Learning rate, optimiser, mixed precision."""

import math

import torch
from torch import nn

from hybrid_depth_ros.network import HybridDepthNet
from train.configuration import TrainingConfig

FIRST_RATE = 0.04  # of `lr`, with which the warm-up begins


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """The rate at progress 0…1 of the run.

    Either ``lr_steps``, as in the paper (section 4): each rate holds from its epoch on. Or a
    linear rise from FIRST_RATE of ``lr`` over ``warmup``, then half a cosine down to 0.
    """
    if config.lr_steps:
        epoch = progress * config.epochs + 1e-6
        return [rate for first, rate in config.lr_steps if first <= epoch][-1]
    if progress < config.warmup:
        return config.lr * (FIRST_RATE + (1 - FIRST_RATE) * progress / config.warmup)
    falling = (progress - config.warmup) / (1 - config.warmup)
    return config.lr * (0.5 + 0.5 * math.cos(math.pi * falling))


def make_optimiser(config: TrainingConfig, network: HybridDepthNet) -> torch.optim.Optimizer:
    """AdamW or SGD. Its groups carry ``share``, their part of the learning rate."""
    encoder = [p for p in network.encoder.parameters() if p.requires_grad]
    decoder = [p for n, p in network.named_parameters() if not n.startswith('encoder.')]
    groups = [{'params': parameters, 'share': share} for parameters, share in (
        (encoder, config.encoder_lr), (decoder, 1.0)) if parameters]
    if config.optimiser == 'sgd':
        return torch.optim.SGD(groups, lr=1e-3, momentum=config.momentum,
                               weight_decay=config.weight_decay, fused=True)
    return torch.optim.AdamW(groups, lr=1e-3, weight_decay=config.weight_decay, fused=True)


def make_autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """The context of the network's forward pass: mixed precision, or nothing."""
    dtype = {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(config.precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def make_scaler(config: TrainingConfig, device: torch.device) -> torch.amp.GradScaler:
    """Keeps small float16 gradients from vanishing; does nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=config.precision == 'fp16')


def backward_and_step(config: TrainingConfig, network: nn.Module,
                      optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler,
                      loss: torch.Tensor) -> None:
    """One step down the gradient of the loss."""
    optimiser.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    if config.clip:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
    scaler.step(optimiser)
    scaler.update()
