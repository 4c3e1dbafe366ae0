"""Teach a network how far its depth may be off: ``python -m train.uncertainty --data PATH …``.

Depth stays as it is: only the head that gives log σ is trained, by the likelihood of the errors
under a Laplace distribution. Then one number makes it honest: σ is multiplied by what lets 68 % of
the errors lie within one σ on data that were held out (--calibrate), every set with equal weight.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import tqdm

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error, user_path
from hybrid_depth_ros.network import HybridDepthNet, UncertaintyHead
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.weights import HELD_OUT, load_network, save_network
from train.arguments import add_training_arguments, check_shares
from train.configuration import load_config
from train.data import (
    LoadedBatch,
    make_loader,
    make_samples,
    require_batch,
    to_input,
)
from train.datasets import open_dataset
from train.datasets.pairs import RgbdDataset, equally_spaced, parse_ranges, read_checked
from train.loss import laplace
from train.protocols import BORDER

WITHIN_ONE = 0.683   # of a normal distribution within one standard deviation
SAMPLED = 4000       # pixels of an image that calibrate


def with_uncertainty(network: HybridDepthNet) -> HybridDepthNet:
    """The same network with a fresh uncertainty head where it has none."""
    if network.uncertainty is None:
        quarter = network.up_projections[2].main_conv.out_channels
        eighth = network.up_projections[1].main_conv.out_channels
        network.uncertainty = UncertaintyHead(network.reduction.out_channels, eighth, quarter)
    return network


@torch.inference_mode()
def collect_features(network: HybridDepthNet, loader: Iterable[LoadedBatch]
                     ) -> list[list[torch.Tensor]]:
    """What the head sees of each sample, its depth and its true depth; half precision.

    The network is frozen, so each image goes through it once, however often the head sees it.
    """
    network.eval()
    samples: list[list[torch.Tensor]] = []
    for loaded in tqdm.tqdm(loader, unit='batch'):
        batch = require_batch(loaded)
        inputs = to_input(batch.rgb, batch.gain).contiguous(memory_format=torch.channels_last)
        depth, features = network.depth_and_features(inputs)
        samples += [[part.half() for part in parts]
                    for parts in zip(*features, depth, batch.depth)]
    return samples


def train_head(head: UncertaintyHead, samples: list[list[torch.Tensor]], steps: int, rate: float,
               batch: int = 16) -> float:
    """Train the head alone; returns the mean loss of the last tenth of the steps."""
    head.train()
    optimiser = torch.optim.AdamW(head.parameters(), rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps,
                                                   pct_start=0.1)
    rng, losses = np.random.default_rng(0), []
    for _ in tqdm.trange(steps, unit='step'):
        chosen = [samples[i] for i in rng.choice(len(samples), min(batch, len(samples)), False)]
        *features, depth, target = (torch.stack(parts).float() for parts in zip(*chosen))
        loss = laplace(depth, head(*features, depth), target, target > 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    head.eval()
    return float(np.mean(losses[-max(1, len(losses) // 10):]))


def error_ratios(predictor: DepthPredictor, dataset: RgbdDataset) -> npt.NDArray[np.float32]:
    """|true − predicted depth| / σ of pixels from all over a dataset."""
    rng, ratios = np.random.default_rng(0), []
    for i in range(len(dataset)):
        rgb, truth, focal = read_checked(dataset, i)
        prediction = predictor.predict(rgb, fx=focal * rgb.shape[1])
        truth[:BORDER], truth[-BORDER:], truth[:, :BORDER], truth[:, -BORDER:] = 0, 0, 0, 0
        if prediction.depth.shape != truth.shape:
            raise ValueError(f'{dataset.name(i)}: depth is {truth.shape}, the image '
                             f'{rgb.shape[:2]}; give pairs of one size to calibrate with')
        known = np.flatnonzero((truth > 0) & np.isfinite(prediction.depth))
        known = rng.choice(known, min(SAMPLED, known.size), replace=False)
        assert prediction.sigma is not None
        ratios.append(np.abs(truth - prediction.depth).ravel()[known]
                      / np.maximum(prediction.sigma.ravel()[known], 1e-6))
    return np.concatenate(ratios)


def calibration_factor(ratios: Sequence[npt.NDArray[np.float32]]) -> float:
    """What σ is to be multiplied by so that WITHIN_ONE of the errors lie within it.

    Args:
        ratios: |error| / σ of each set; all sets weigh the same.
    """
    low, high = -5.0, 5.0
    for _ in range(50):
        middle = (low + high) / 2
        share = np.mean([np.mean(one < math.exp(middle)) for one in ratios])
        low, high = (middle, high) if share < WITHIN_ONE else (low, middle)
    return math.exp((low + high) / 2)


def calibrate(network: HybridDepthNet, datasets: dict[str, RgbdDataset]) -> str:
    """Multiply σ by one factor, in the head's last bias; returns a table."""
    predictor = DepthPredictor(network)
    ratios = {name: error_ratios(predictor, dataset) for name, dataset in datasets.items()}
    factor = calibration_factor(list(ratios.values()))
    network.unfuse()
    head = network.uncertainty
    assert head is not None and head.last.bias is not None
    with torch.no_grad():
        head.last.bias += math.log(factor)
    lines = [f'σ was multiplied by {factor:.3f}', f'{"":24}{"within 1 σ":>11}{"2 σ":>8}']
    lines += [f'{name[-24:]:24}{np.mean(one < factor):11.3f}{np.mean(one < 2 * factor):8.3f}'
              for name, one in ratios.items()]
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, prog='train.uncertainty')
    parser.add_argument('--weights', default='lite-nyu', help='registered name or .safetensors')
    parser.add_argument('--images', type=int, default=1600, help='samples to train on')
    parser.add_argument('--steps', type=int, default=800, help='0: calibrate what is there')
    parser.add_argument('--lr', type=float, default=3e-3)
    parser.add_argument('--held-out', type=parse_ranges, default=HELD_OUT, metavar='[[A,B],…]',
                        help='frames of the first --data that calibrate, and do not train')
    parser.add_argument('--calibrate', nargs='*', default=[], metavar='PATH',
                        help='other data that were held out')
    parser.add_argument('--count', type=int, default=120, help='images of each that calibrate')
    parser.add_argument('--out', type=user_path, required=True, help='.safetensors to write')
    add_training_arguments(parser)
    args = parser.parse_args(argv)
    check_shares(parser, args)
    check_minimum(parser, args, count=1, images=1)
    with exit_on_error('train.uncertainty', 'stopped; nothing is written'):
        config = load_config(args.config, args.set)
        data = [open_dataset(path) for path in args.data]
        held = {args.data[0]: data[0].numbered(args.held_out, option='--held-out [[A,B]]'),
                **{path: open_dataset(path) for path in args.calibrate}}
        data[0] = data[0].numbered(args.held_out, keep=False, option='--held-out [[A,B]]')
        torch.manual_seed(config.seed)
        network = with_uncertainty(load_network(args.weights))
        if args.steps:
            network.to(memory_format=torch.channels_last)
            samples = make_samples(config, data, args.images, args.shares)
            loader = make_loader(samples, range(len(samples)), config.batch, config.workers)
            head = network.uncertainty
            assert head is not None
            loss = train_head(head, collect_features(network, loader), args.steps, args.lr,
                              config.batch)
            print(f'loss at the end: {loss:.4f}')
        print(calibrate(network, {name: equally_spaced(dataset, args.count)
                                  for name, dataset in held.items()}))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        save_network(network, args.out)
    print(args.out)


if __name__ == '__main__':
    main()
