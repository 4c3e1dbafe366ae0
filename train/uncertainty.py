"""Teach a network how far its depth may be off: ``python -m train.uncertainty --data PATH …``.

Depth stays as it is: only the head that gives log σ is trained, by the likelihood of the errors
under a Laplace distribution. It learns from images that depth was not trained on: those of the
first --data that --held-out names, and the other --data. On images that a network knows by heart
it is hardly ever wrong, and σ would be too small everywhere else.

The held-out images also say how honest σ is: one head after the other is trained without one of
their ranges, and judged on it. Then σ is multiplied by one number, so that 68 % of the errors lie
within one σ there and on --calibrate, every set with equal weight; the head that is written has
learnt from all. The scores lie beside OUT, in a .json that docs/uncertainty_image.py draws. Where
the weights have an int8 graph, the head is added to it. Then run :mod:`train.unfamiliarity`.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import tqdm

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error, user_path
from hybrid_depth_ros.files import file_digest, write_bytes_atomically
from hybrid_depth_ros.metrics import UncertaintyScores, format_uncertainty
from hybrid_depth_ros.models.hybrid import INT8_SUFFIX, HybridModel
from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.runtimes.export import read_graph
from hybrid_depth_ros.uncertainty_head import MIN_DEPTH, UncertaintyHead
from hybrid_depth_ros.weights import HELD_OUT, load_network, save_network
from train.arguments import add_training_arguments, check_shares
from train.configuration import AugmentationConfig, TrainingConfig, load_config
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
from train.quantise import add_uncertainty
from train.split import hold_out

WITHIN_ONE = 0.683   # of a normal distribution within one standard deviation
SAMPLED = 4000       # pixels of an image that calibrate
DROPPED = 0.05       # probability that a feature is left out while the head learns


def with_uncertainty(network: HybridDepthNet) -> HybridDepthNet:
    """The same network with a fresh uncertainty head where it has none."""
    if network.uncertainty is None:
        quarter = network.up_projections[2].main_conv.out_channels
        eighth = network.up_projections[1].main_conv.out_channels
        network.uncertainty = UncertaintyHead(network.reduction.out_channels, eighth, quarter)
    return network


class DepthAndSigma(NamedTuple):
    """Depth, its standard deviation and true depth (0: unknown), float32 h×w, metres."""

    depth: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]


Features = list[list[torch.Tensor]]  # of each sample: what the head sees, depth, true depth


@torch.inference_mode()
def collect_features(network: HybridDepthNet, loader: Iterable[LoadedBatch],
                     sister: HybridDepthNet | None = None) -> Features:
    """What the head sees of each sample, its depth and its true depth; half precision.

    The network is frozen, so each image goes through it once, however often the head sees it.

    Args:
        network: The network.
        loader: Batches.
        sister: Another network. The true depth is then such that `network` errs as this one does:
            for images that `network` was trained on and `sister` was not.
    """
    network.eval()
    samples: Features = []
    for loaded in tqdm.tqdm(loader, unit='batch'):
        batch = require_batch(loaded)
        inputs = to_input(batch.rgb, batch.gain).contiguous(memory_format=torch.channels_last)
        depth, features = network.depth_and_features(inputs)
        truth = batch.depth
        if sister is not None:
            other = sister.depth_and_features(inputs)[0]
            truth = truth * (depth / other.clamp_min(MIN_DEPTH))
        samples += [[part.half() for part in parts] for parts in zip(*features, depth, truth)]
    return samples


def train_head(head: UncertaintyHead, sets: Sequence[Features], steps: int, rate: float,
               batch: int = 8, shares: Sequence[float] | None = None) -> float:
    """Train the head alone; returns the mean loss of the last tenth of the steps.

    Args:
        head: It is changed.
        sets: Samples of :func:`collect_features`.
        steps, rate, batch: Of the training.
        shares: How often each set is drawn, relative; by default by their sizes.
    """
    head.train()
    optimiser = torch.optim.AdamW(head.parameters(), rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps,
                                                   pct_start=0.1)
    rng, losses = np.random.default_rng(0), []
    weights = np.array(shares or [len(samples) for samples in sets], float)
    for _ in tqdm.trange(steps, unit='step'):
        which = rng.choice(len(sets), batch, p=weights / weights.sum())
        chosen = [sets[k][rng.integers(len(sets[k]))] for k in which]
        *features, depth, target = (torch.stack(parts).float() for parts in zip(*chosen))
        features = [F.dropout2d(feature, DROPPED) for feature in features]
        loss = laplace(depth, head(*features, depth), target, target > 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    head.eval()
    return float(np.mean(losses[-max(1, len(losses) // 10):]))


@torch.inference_mode()
def predict_head(head: UncertaintyHead, samples: Features) -> list[DepthAndSigma]:
    """Depth, σ and true depth of samples, float32 h×w, metres."""
    predictions = []
    for sample in samples:
        *features, depth, truth = (part[None].float() for part in sample)
        sigma = head(*features, depth).exp() * depth
        predictions.append(DepthAndSigma(*(part[0, 0].numpy() for part in (depth, sigma, truth))))
    return predictions


def score(predictions: Iterable[DepthAndSigma], factor: float = 1.0) -> UncertaintyScores:
    """Scores of predictions, σ multiplied by a factor."""
    scores = UncertaintyScores()
    for depth, sigma, truth in predictions:
        scores.add(depth, factor * sigma, truth)
    return scores


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


def calibrate(network: HybridDepthNet, datasets: Mapping[str, RgbdDataset],
              held_out: Sequence[DepthAndSigma] = ()) -> tuple[float, str]:
    """Multiply σ by one factor, in the head's last bias.

    Args:
        network: It is changed.
        datasets: Sets that calibrate.
        held_out: Predictions that calibrate too.

    Returns:
        The factor, and a table.
    """
    predictor = DepthPredictor(network)
    ratios = {name: error_ratios(predictor, dataset) for name, dataset in datasets.items()}
    if held_out:
        ratios['held out'] = np.concatenate([
            np.abs(truth - depth)[truth > 0] / np.maximum(sigma[truth > 0], 1e-6)
            for depth, sigma, truth in held_out])
    factor = calibration_factor(list(ratios.values()))
    network.unfuse()
    head = network.uncertainty
    assert head is not None and head.last.bias is not None
    with torch.no_grad():
        head.last.bias += math.log(factor)
    lines = [f'σ was multiplied by {factor:.3f}', f'{"":24}{"within 1 σ":>11}{"2 σ":>8}']
    lines += [f'{name[-24:]:24}{np.mean(one < factor):11.3f}{np.mean(one < 2 * factor):8.3f}'
              for name, one in ratios.items()]
    return factor, '\n'.join(lines)


def fresh_head(network: HybridDepthNet) -> UncertaintyHead:
    """The network's head with fresh weights, of which the seed alone decides."""
    torch.manual_seed(0)
    network.uncertainty = None
    head = with_uncertainty(network).uncertainty
    assert head is not None
    return head


def train_on(network: HybridDepthNet, config: TrainingConfig, args: argparse.Namespace
             ) -> list[DepthAndSigma]:
    """Train the network's head as the command says.

    Returns:
        Of the held-out images, each by a head that did not see its range; σ is not calibrated yet.
    """
    data, option = [open_dataset(path) for path in args.data], '--held-out [[A,B]]'
    first, (_, *others) = data[0], hold_out(data, args.held_out, option)[0]
    network.to(memory_format=torch.channels_last)
    plain = replace(config, augment=AugmentationConfig(scale=(1.0, 1.0), rotation=0.0, flip=0.0,
                                                       colour=(1.0, 1.0)))

    def features(dataset: RgbdDataset, count: int, config: TrainingConfig = config,
                 sister: HybridDepthNet | None = None) -> Features:
        samples = make_samples(config, [dataset], count)
        return collect_features(network, make_loader(samples, range(count), config.batch,
                                                     config.workers), sister)

    shares = np.array(args.shares or [1.0] * len(args.data)) / np.sum(args.shares or len(args.data))
    counts = np.maximum(1, np.rint(args.images * shares)).astype(int).tolist()
    ranges = [first.numbered([one], option=option) for one in args.held_out]
    held_out = [features(one, max(1, round(counts[0] * len(one) / sum(map(len, ranges)))))
                for one in ranges]
    sets = [features(dataset, count) for dataset, count in zip(others, counts[1:])]
    weights = shares[1:].tolist()
    if args.sister:
        known = first.numbered(args.sister_held_out, option='--sister-held-out [[A,B]]')
        sets.append(features(known, counts[0], sister=load_network(args.sister).eval()))
        weights, shares[0] = [*weights, shares[0] / 2], shares[0] / 2
    judged: list[DepthAndSigma] = []
    for k, dataset in enumerate(ranges if len(ranges) > 1 else ()):
        rest = [sample for other in held_out[:k] + held_out[k + 1:] for sample in other]
        head = fresh_head(network)
        train_head(head, [rest, *sets], args.steps, args.lr, shares=[shares[0], *weights])
        predictions = predict_head(head, features(dataset, len(dataset), plain))
        print(f'held-out range {args.held_out[k]}: '
              f'{format_uncertainty(score(predictions).report())}')
        judged += predictions
    everything = [sample for samples in held_out for sample in samples]
    loss = train_head(fresh_head(network), [everything, *sets], args.steps, args.lr,
                      shares=[shares[0], *weights])
    print(f'loss at the end: {loss:.4f}')
    return judged


def write_network(network: HybridDepthNet, weights: str, out: Path) -> None:
    """Write a network whose head is new, and the int8 graph with that head where `weights`, the
    network as it was, have one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    save_network(network, out)
    print(out)
    source = HybridModel(weights)
    if source.int8_graph:
        graph = out.with_name(out.stem + INT8_SUFFIX)
        write_bytes_atomically(graph, add_uncertainty(
            read_graph(source.int8_graph, source.digest), network, file_digest(out)))
        print(graph)


def write_scores(scores: UncertaintyScores, out: Path) -> None:
    """Write a .json beside the weights, as docs/uncertainty_image.py reads it."""
    write_bytes_atomically(out.with_suffix('.json'), json.dumps(
        {**scores.report(), 'curves': scores.curves().tolist()}, indent=1).encode())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, prog='train.uncertainty')
    parser.add_argument('--weights', default='lite-nyu', help='registered name or .safetensors')
    parser.add_argument('--images', type=int, default=1600, help='samples to train on')
    parser.add_argument('--steps', type=int, default=1000, help='0: calibrate what is there')
    parser.add_argument('--lr', type=float, default=3e-3)
    parser.add_argument('--held-out', type=parse_ranges, default=HELD_OUT, metavar='[[A,B],…]',
                        help='frames of the first --data that depth was not trained on')
    parser.add_argument('--sister', metavar='WEIGHTS', help='a network of the same kind, trained '
                        'on less of the first --data: how it errs there is learnt too')
    parser.add_argument('--sister-held-out', type=parse_ranges, metavar='[[A,B],…]',
                        help='frames of the first --data that the sister was not trained on')
    parser.add_argument('--calibrate', nargs='*', default=[], metavar='PATH',
                        help='other data that were held out')
    parser.add_argument('--count', type=int, default=120, help='images of each that calibrate')
    parser.add_argument('--out', type=user_path, required=True, help='.safetensors to write')
    add_training_arguments(parser)
    args = parser.parse_args(argv)
    check_shares(parser, args)
    check_minimum(parser, args, count=1, images=1)
    if bool(args.sister) != bool(args.sister_held_out):
        parser.error('--sister and --sister-held-out go together')
    with exit_on_error('train.uncertainty', 'stopped; nothing is written'):
        config = load_config(args.config, args.set)
        sets = {path: equally_spaced(open_dataset(path), args.count) for path in args.calibrate}
        network = load_network(args.weights)
        judged = train_on(network, config, args) if args.steps else []
        if not judged:
            held_out = open_dataset(args.data[0]).numbered(args.held_out,
                                                           option='--held-out [[A,B]]')
            sets = {args.data[0]: equally_spaced(held_out, args.count), **sets}
        factor, table = calibrate(network, sets, judged)
        print(table)
        write_network(network, args.weights, args.out)
        if judged:
            scores = score(judged, factor)
            print(f'held out: {format_uncertainty(scores.report())}')
            write_scores(scores, args.out)


if __name__ == '__main__':
    main()
