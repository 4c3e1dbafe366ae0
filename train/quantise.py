"""Quantise a network's graph to int8: ``python -m train.quantise --data NYU --weights lite-nyu``.

NNCF watches the activations of training pictures, and chooses a scale for each. Where δ1 or REL on
held-out pictures of any kind suffer by it, the network is trained in int8 to give the depth that it
gives in float32; labels are not needed. The result, an OpenVINO graph, lies beside the weights, and
`runtime: openvino` with `precision: int8` (or auto) takes it. It is kept only where δ1 and REL
stay.
"""

import copy
import io
import math
import sys

import numpy as np

from hybrid_depth_ros.arguments import check_least, command, told, user_path
from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.files import file_digest, write_whole
from hybrid_depth_ros.metrics import format_metrics
from hybrid_depth_ros.models.hybrid import INT8
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.runtimes.exports import openvino_model, pack_model, read_graph
from hybrid_depth_ros.runtimes.openvino import OpenVinoRuntime, library
from hybrid_depth_ros.weights import HELD_OUT, weights_path
from train.cut import hold_out
from train.datasets import open_dataset
from train.datasets.pairs import equally_spaced, ranges

HELD_OUT_OPTION = '--held-out [[A,B]]'
MOST_LOSS, MOST_RISE = 0.005, 0.01  # of δ1 and of REL that int8 may cost, on each set
OUTLIERS = 1e-3  # share of a layer's numbers in a picture that may lie outside of its range
RATE, BATCH = 5e-5, 8  # of the training in int8
GRADIENT = 0.5   # of its loss, what gradients of log depth count


def quantise(network, views):
    """A network from pixels to depth in int8: torch's float32 numbers, rounded where int8 is.

    network: a Model's module; it stays as it is. views: uint8 1×H×W×3 pictures as the predictor
    shows them to the network.
    """
    library()  # NNCF telephones home too, by the same package
    import nncf
    import torch
    # the widest range that any picture has, but for OUTLIERS of its numbers: a mean of ranges cuts
    # off what is rare, such as a thing close to the camera, and its depth trebles
    of = nncf.quantization.range_estimator
    ends = [of.StatisticsCollectorParameters(statistics_type=of.StatisticsType.QUANTILE,
                                             aggregator_type=widest, quantile_outlier_prob=OUTLIERS)
            for widest in (of.AggregatorType.MIN, of.AggregatorType.MAX)]
    # activations after a ReLU start at 0, those after a batch norm don't: MIXED has both
    return nncf.quantize(copy.deepcopy(network), nncf.Dataset(views, torch.from_numpy),
                         subset_size=len(views), preset=nncf.QuantizationPreset.MIXED,
                         advanced_parameters=nncf.AdvancedQuantizationParameters(
                             activations_range_estimator_params=of.RangeEstimatorParameters(*ends)))


def train_quantised(network, teacher, views):
    """Train what :func:`quantise` gives to give the teacher's depth; it is changed.

    teacher(view) → depth, float32 1×h×w. views: uint8 1×H×W×3, of any sizes; half of them are
    turned into their mirror images.
    """
    import torch

    from train.loss import log_gradient, log_l1
    network.eval()  # batch norms keep what they have measured
    parameters = [parameter for name, parameter in network.named_parameters()
                  if parameter.is_floating_point() and not name.endswith('_num_bits')]
    for parameter in parameters:
        parameter.requires_grad_()
    optimiser = torch.optim.Adam(parameters)
    for n, view in enumerate(views, 1):
        if n % 2:
            view = np.ascontiguousarray(view[:, :, ::-1])
        wanted = torch.from_numpy(teacher(view))[:, None]
        predicted, valid = network(torch.from_numpy(view))[:, None], wanted > 0
        loss = (log_l1(predicted, wanted, valid)
                + GRADIENT * log_gradient(predicted, wanted, valid))
        (loss / BATCH).backward()
        if n % BATCH == 0 or n == len(views):
            for group in optimiser.param_groups:
                group['lr'] = RATE * (0.5 + 0.5 * math.cos(math.pi * n / len(views)))
            optimiser.step()
            optimiser.zero_grad()


class Views:
    """Pictures as a predictor shows them to its network, uint8 1×H×W×3, in an order by chance.

    At most `count`, the same number from all over each set; each is read when its turn comes, and
    one that can't be is named and left out.
    """

    def __init__(self, predictor, sets, count):
        each = -(-count // len(sets))
        chosen = [(pairs, i) for dataset in sets for pairs in (equally_spaced(dataset, each),)
                  for i in range(len(pairs))]
        self._predictor = predictor
        self._chosen = [chosen[n] for n in np.random.default_rng(count).permutation(len(chosen))]

    def __len__(self):
        return len(self._chosen)

    def __iter__(self):
        for pairs, i in self._chosen:
            try:
                rgb = pairs.read(i)[0]
            except OSError as error:
                print(f'left out: {explain(error)}', file=sys.stderr)
            else:
                yield self._predictor.view(rgb).pixels[None]


def make_graph(path, sets, compared, count, more):
    """The bytes of an int8 graph file of the weights at `path`.

    sets: to calibrate on, `count` pictures, and, where that is not enough, to train on, `more`.
    compared: sets by name, on which δ1 and REL must stay; they are printed. Raises ValueError
    where they don't.
    """
    import tqdm

    from train.evaluate import evaluate_whole
    exact = DepthPredictor(str(path), runtime='torch', precision='fp32', device='cpu')
    rounded, digest = copy.copy(exact), file_digest(path)

    def metrics(predictor, what):
        found = {name: evaluate_whole(predictor, dataset) for name, dataset in compared.items()}
        for name, values in found.items():
            print(f'{what} on {name}: {format_metrics(values)}', flush=True)
        return found
    before = metrics(exact, 'fp32')
    # the unpoolings' uneven padding, computed apart, would keep them from being quantised
    network = quantise(exact.model.module(fuse=True), Views(exact, sets, count))
    for how in ('calibrated', 'trained') if more else ('calibrated',):
        if how == 'trained':
            train_quantised(network, exact.runtime, tqdm.tqdm(Views(exact, sets, more)))
        graph = pack_model(openvino_model(exact.model, network), digest, halved=True)
        rounded.runtime = OpenVinoRuntime(
            lambda _, graph=graph: read_graph(io.BytesIO(graph), digest), 'int8')
        after = metrics(rounded, f'int8, {how},')
        if all(after[name]['delta1'] >= values['delta1'] - MOST_LOSS
               and after[name]['rel'] <= values['rel'] + MOST_RISE
               for name, values in before.items()):
            return graph
    raise ValueError(f'δ1 falls by more than {MOST_LOSS}, or REL rises by more than {MOST_RISE}: '
                     'not kept; train it with more pictures (--train), or with all kinds that are '
                     'compared (--data)')


def main(argv=None):
    parser = command(__doc__, prog='train.quantise')
    parser.add_argument('--weights', default='lite-nyu', help='registered name or .safetensors')
    parser.add_argument('--data', nargs='+', required=True, metavar='PATH',
                        help='training pictures; those to compare on are cut from the first')
    parser.add_argument('--held-out', type=ranges, default=HELD_OUT,
                        metavar='[[A,B],…]', help='frames that δ1 is compared on; the others '
                        'calibrate')
    parser.add_argument('--compare', nargs='*', default=[], metavar='PATH',
                        help='other data that δ1 is compared on too')
    parser.add_argument('--count', type=int, default=300, help='pictures to calibrate with')
    parser.add_argument('--train', type=int, default=800, metavar='N', help='pictures to train '
                        'in int8 with, where calibration is not enough')
    parser.add_argument('--out', type=user_path, help='default: beside the weights')
    args = parser.parse_args(argv)
    check_least(parser, args, count=1, train=0)
    try:
        with told('train.quantise', 'stopped; nothing is written'):
            path = weights_path(args.weights)
            out = args.out or path.with_name(path.stem + INT8)
            sets, held = hold_out([open_dataset(data, 'train') for data in args.data],
                                  args.held_out, HELD_OUT_OPTION)
            compared = {args.data[0]: held, **{data: open_dataset(data) for data in args.compare}}
            write_whole(out, make_graph(path, sets, compared, args.count, args.train))
    except ModuleNotFoundError as error:
        sys.exit(f"train.quantise: {error.name} is not installed: pip install -e '.[quantise]'")
    print(f'{out}: {out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
