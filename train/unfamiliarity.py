"""Teach σ to grow in strange places: ``python -m train.unfamiliarity --data PATH … --out OUT``.

A network errs in scale where an image is unlike those that it was trained on, and a head that
:mod:`train.uncertainty` trained on some places does not know that of others. So σ of a whole image
is multiplied by a factor that grows with the distance of the image's features from those of
familiar images: the first --data without --held-out, and --familiar. Depth stays as it is, and so
does the order of the pixels within an image.

The factor is learnt from the held-out images and the other --data, weighted by --shares, such that
68 % of the errors lie within one σ. It makes σ a tenth smaller at most. It has five numbers only,
so that it holds in places of kinds that it has not seen. The table says whether it does: each kind
is judged by a factor that learnt from the other half of all sets, and by one that learnt from the
other kinds.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error, user_path
from hybrid_depth_ros.metrics import format_uncertainty
from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from hybrid_depth_ros.uncertainty_head import MIN_DEPTH, SUREST, Unfamiliarity, mean_and_spread
from hybrid_depth_ros.weights import HELD_OUT, load_network
from train.arguments import add_training_arguments, check_shares
from train.augment import augment
from train.configuration import TrainingConfig, load_config
from train.data import LoadedBatch, LoadedSample, collate
from train.datasets import open_dataset
from train.datasets.pairs import RgbdDataset, Subset, parse_ranges, read_checked
from train.split import hold_out
from train.uncertainty import (
    WITHIN_ONE,
    DepthAndSigma,
    collect_features,
    score,
    write_network,
    write_scores,
)

PIXELS = 200            # of an image, that the factor learns from
SMALLEST_RATIO = 0.03   # |error| / σ; less counts as this
MOST_ERROR = 2.0        # |error| / depth; more counts as this
SHRINKAGE = 1e-3        # of the weights
HELD_OUT_KIND = 'held out'


class Described(NamedTuple):
    """Images as the factor sees them.

    numbers: float32 N×4, of :meth:`Unfamiliarity.describe`; ratios: float32 N×PIXELS, |true depth −
    depth| / σ without the factor; kinds: N names; halves: N, 0 or 1, which half of its set an image
    is of; weights: float32 N; predictions: N, without the factor.
    """

    numbers: torch.Tensor
    ratios: torch.Tensor
    kinds: npt.NDArray[np.str_]
    halves: npt.NDArray[np.int64]
    weights: torch.Tensor
    predictions: list[DepthAndSigma]

    def judge(self, chosen: npt.NDArray[np.bool_], added: torch.Tensor) -> tuple[float, float]:
        """The shares within one σ and two of chosen images, with what is added to log σ."""
        ratios = self.ratios[chosen] / added[chosen, None].exp()
        return float((ratios <= 1).float().mean()), float((ratios <= 2).float().mean())


def spread_over(dataset: RgbdDataset, count: int) -> list[int]:
    """`count` pairs from all over a dataset, in order, so that each virtual room is made once."""
    return np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()


def augmented(dataset: RgbdDataset, config: TrainingConfig, count: int) -> Iterator[LoadedBatch]:
    """The pairs of :func:`spread_over`, augmented, one in each batch."""
    for n, i in enumerate(spread_over(dataset, count)):
        rgb, depth, focal = read_checked(dataset, i)
        rng = np.random.default_rng([config.seed, n])
        yield collate([LoadedSample(augment(
            rgb, depth * np.float32(NYU_FX_PER_WIDTH / focal), rng, config.augment, focal=focal),
            [])])


@torch.no_grad()
def learn_familiar(network: HybridDepthNet, config: TrainingConfig, datasets: Sequence[RgbdDataset],
                   count: int) -> Unfamiliarity:
    """Set what is familiar from `count` images of all sets, by their sizes; the factor is 1 then.

    Raises:
        ValueError: The network has no uncertainty head.
    """
    head = network.uncertainty
    if head is None:
        raise ValueError('the network estimates no uncertainty: run train.uncertainty first')
    total = sum(map(len, datasets))
    described = [torch.cat([mean_and_spread(one[None].float()) for one in features], dim=1)
                 for dataset in datasets for *features, _, _ in collect_features(
                     network, augmented(dataset, config, -(-count * len(dataset) // total)))]
    part = head.add_unfamiliarity()
    part.learn_familiar(torch.cat(described))
    return part


@torch.no_grad()
def describe(network: HybridDepthNet, config: TrainingConfig, sets: Sequence[Sequence[RgbdDataset]],
             count: int, shares: Sequence[float]) -> Described:
    """`count` images of each set, of its two halves. The first set is of HELD_OUT_KIND.

    shares: how much each set weighs.
    """
    head, rng = network.uncertainty, np.random.default_rng(0)
    assert head is not None and head.unfamiliarity is not None
    numbers, ratios, kinds, halves, weights, predictions = [], [], [], [], [], []
    for which, dataset in enumerate(sets):
        for half, part in enumerate(dataset):
            each = -(-count // 2)
            for i, sample in zip(spread_over(part, each),
                                 collect_features(network, augmented(part, config, each))):
                *features, depth, truth = (one[None].float() for one in sample)
                log_depth = F.avg_pool2d(depth.clamp_min(MIN_DEPTH), 2).log()
                relative = head(*features, depth).exp()
                known = np.flatnonzero((truth > 0).numpy())
                if not known.size:
                    continue
                error = ((truth - depth).abs() / depth.clamp_min(MIN_DEPTH)).clamp_max(MOST_ERROR)
                ratios.append((error / relative).flatten()[rng.choice(known, PIXELS)])
                numbers.append(head.unfamiliarity.describe(features, log_depth))
                kinds.append((part.kind(i) or f'set {which + 1}') if which else HELD_OUT_KIND)
                halves.append(half)
                weights.append(shares[which] / each)
                predictions.append(DepthAndSigma(*(
                    one[0, 0].numpy() for one in (depth, relative * depth, truth))))
    return Described(torch.cat(numbers), torch.stack(ratios), np.array(kinds), np.array(halves),
                     torch.tensor(weights), predictions)


def fit(described: Described, chosen: npt.NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (4) and bias of the factor's logarithm, from chosen images.

    Least pinball loss of log |error| / σ, whose best value is the logarithm of the quantile
    WITHIN_ONE. Distances only ever raise σ.

    Source: Koenker and Bassett, *Regression Quantiles*, Econometrica 1978.
    """
    numbers, weights = described.numbers[chosen], described.weights[chosen, None]
    logs = described.ratios[chosen].clamp_min(SMALLEST_RATIO).log()
    centre, spread = numbers.mean(0), numbers.std(0).clamp_min(1e-6)
    free = torch.zeros(5, requires_grad=True)

    def slopes() -> torch.Tensor:
        return torch.cat((F.softplus(free[:2]), free[2:4]))

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        beyond = logs - ((numbers - centre) / spread @ slopes() + free[4])[:, None]
        pinball = torch.maximum(WITHIN_ONE * beyond, (WITHIN_ONE - 1) * beyond)
        total = ((pinball * weights).mean() / weights.mean()
                 + SHRINKAGE * slopes().square().sum())
        total.backward()
        return total
    optimiser = torch.optim.LBFGS([free], max_iter=100, line_search_fn='strong_wolfe')
    optimiser.step(loss)
    with torch.no_grad():
        return slopes() / spread, free[4] - slopes() / spread @ centre


def added_to_log_sigma(described: Described, weight: torch.Tensor, bias: torch.Tensor
                       ) -> torch.Tensor:
    """What a factor of this weight (4) and bias adds to log σ of each image: N, SUREST at least."""
    return (described.numbers @ weight + bias).clamp_min(SUREST)


def cross_validate(described: Described) -> tuple[str, torch.Tensor]:
    """A table of the shares within one σ and two by kind, and what is added to log σ of each image
    by a factor that learnt from the other half of the sets."""
    added = torch.zeros(len(described.kinds))
    for half in (0, 1):
        mine = described.halves == half
        added[mine] = added_to_log_sigma(described, *fit(described, ~mine))[mine]
    lines = [f'{"within 1 σ, within 2 σ":24}{"before":>15}{"after":>15}{"kind not seen":>15}']
    for kind in sorted(set(described.kinds)):
        chosen = described.kinds == kind
        columns = [described.judge(chosen, torch.zeros_like(added)),
                   described.judge(chosen, added)]
        if kind != HELD_OUT_KIND and not chosen.all():
            columns.append(described.judge(
                chosen, added_to_log_sigma(described, *fit(described, ~chosen))))
        lines.append(f'{kind:24}' + ''.join(f'{one:9.2f}{two:6.2f}' for one, two in columns))
    return '\n'.join(lines), added


def halves_of(dataset: RgbdDataset, frames: Sequence[Sequence[int]] = ()) -> list[RgbdDataset]:
    """The first half and the second; a set of ranges of frames is cut between two ranges."""
    if len(frames) > 1:
        middle = len(frames) // 2
        return [dataset.numbered(frames[:middle]), dataset.numbered(frames[middle:])]
    numbers = [dataset.number(i) for i in range(len(dataset))]
    middle = numbers[len(numbers) // 2]  # whole rooms
    first = [i for i, number in enumerate(numbers) if number < middle]
    return [Subset(dataset, first), Subset(dataset, range(len(first), len(dataset)))]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, prog='train.unfamiliarity')
    parser.add_argument('--weights', default='lite-nyu', help='registered name or .safetensors')
    parser.add_argument('--images', type=int, default=200,
                        help='of each set, twice as many familiar ones')
    parser.add_argument('--held-out', type=parse_ranges, default=HELD_OUT, metavar='[[A,B],…]',
                        help='frames of the first --data that depth was not trained on')
    parser.add_argument('--familiar', nargs='*', default=[], metavar='PATH',
                        help='other data like those that depth was trained on')
    parser.add_argument('--out', type=user_path, required=True, help='.safetensors to write')
    add_training_arguments(parser)
    args = parser.parse_args(argv)
    check_shares(parser, args)
    check_minimum(parser, args, images=2)
    with exit_on_error('train.unfamiliarity', 'stopped; nothing is written'):
        config = load_config(args.config, args.set)
        first, *others = [open_dataset(path) for path in args.data]
        (rest, *familiar), held_out = hold_out(
            [first, *map(open_dataset, args.familiar)], args.held_out, '--held-out [[A,B]]')
        network = load_network(args.weights).fuse().to(memory_format=torch.channels_last)
        part = learn_familiar(network, config, [rest, *familiar], 2 * args.images)
        described = describe(network, config, [halves_of(held_out, args.held_out),
                                               *map(halves_of, others)], args.images,
                             args.shares or [1.0] * len(args.data))
        table, added = cross_validate(described)
        print(table)
        with torch.no_grad():
            weight, bias = fit(described, np.ones(len(described.kinds), bool))
            part.factor.weight.copy_(weight[None])
            part.factor.bias.fill_(bias)
        write_network(network.unfuse(), args.weights, args.out)
        scores = score(DepthAndSigma(depth, sigma * np.float32(np.exp(more)), truth)
                       for (depth, sigma, truth), more, kind in zip(
                           described.predictions, added.tolist(), described.kinds)
                       if kind == HELD_OUT_KIND)
        print(f'held out: {format_uncertainty(scores.report())}')
        write_scores(scores, args.out)


if __name__ == '__main__':
    main()
