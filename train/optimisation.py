"""Down the gradient: learning rate, optimiser, precision, the weight average."""

import math

import torch
import torch.distributed


def learning_rate(config, progress):
    """The rate at progress 0…1 of the run.

    Either ``lr_steps``, as the paper (section 4): each rate holds from its epoch on. Or a linear
    rise from 4 % of ``lr`` over ``warmup``, then half a cosine down to 0.
    """
    if config['lr_steps']:
        epoch = progress * config['epochs'] + 1e-6
        return [rate for first, rate in config['lr_steps'] if first <= epoch][-1]
    if progress < config['warmup']:
        return config['lr'] * (0.04 + 0.96 * progress / config['warmup'])
    falling = (progress - config['warmup']) / (1 - config['warmup'])
    return config['lr'] * (0.5 + 0.5 * math.cos(math.pi * falling))


def make_optimiser(config, network):
    """AdamW or SGD; groups carry ``share``, their part of the learning rate."""
    encoder = [p for p in network.encoder.parameters() if p.requires_grad]
    decoder = [p for n, p in network.named_parameters() if not n.startswith('encoder.')]
    groups = [{'params': encoder, 'share': config['encoder_lr']},
              {'params': decoder, 'share': 1.0}]
    groups = [group for group in groups if group['params']]
    if config['optimiser'] == 'sgd':
        return torch.optim.SGD(groups, lr=1e-3, momentum=config['momentum'],
                               weight_decay=config['weight_decay'], fused=True)
    return torch.optim.AdamW(groups, lr=1e-3, weight_decay=config['weight_decay'], fused=True)


def make_autocast(config, device):
    """The context in which the network's forward pass runs: mixed precision, or nothing."""
    kind = {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(config['precision'])
    return torch.autocast(device.type, kind, enabled=kind is not None)


def make_scaler(config, device):
    """What keeps float16's small gradients from vanishing; for the other precisions nothing."""
    return torch.amp.GradScaler(device.type, enabled=config['precision'] == 'fp16')


def backward_and_step(config, network, optimiser, scaler, loss):
    """One step down the gradient of the loss."""
    optimiser.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    if config['clip']:
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(network.parameters(), config['clip'])
    scaler.step(optimiser)
    scaler.update()


@torch.no_grad()
def follow(average, network, decay):
    """Move the averaged weights towards the network's; decay 0: they become the network's."""
    pairs = list(zip(average.state_dict().values(), network.state_dict().values()))
    moving = [pair for pair in pairs if decay and pair[0].is_floating_point()]
    if moving:
        torch._foreach_lerp_(*map(list, zip(*moving)), 1 - decay)
    still = [pair for pair in pairs if not (decay and pair[0].is_floating_point())]
    torch._foreach_copy_(*map(list, zip(*still)))
