"""Quantise a network's graph to int8: ``python -m train.quantise --data NYU --weights lite-nyu``.

Post-training: NNCF watches the activations of training images in the OpenVINO graph, and
chooses a scale for each. The first two layers stay in floating point. The result lies beside the
weights, and `runtime: openvino` with `precision: int8` (or auto) takes it. It is kept only where δ1
and REL on held-out images of every kind stay; where they don't, more of the first layers are
left.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import io
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error, user_path
from hybrid_depth_ros.files import file_digest, write_bytes_atomically
from hybrid_depth_ros.metrics import format_metrics
from hybrid_depth_ros.models.hybrid import INT8_SUFFIX
from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.runtimes.export import openvino_model, pack_model, read_graph
from hybrid_depth_ros.runtimes.openvino import OpenVinoRuntime, core, library
from hybrid_depth_ros.weights import HELD_OUT, weights_path
from train.datasets import open_dataset
from train.datasets.pairs import RgbdDataset, equally_spaced, parse_ranges
from train.split import hold_out

HELD_OUT_OPTION = '--held-out [[A,B]]'
# what int8 may cost on each set
MAX_DELTA1_LOSS = 0.005
MAX_REL_RISE = 0.01
# How many of the first convolutions stay in floating point; more are tried where fewer cost too
# much. The first two see the image itself by few weights: their rounding costs more than that of
# all others, and hardly any time is lost by leaving them.
FLOAT_CONVOLUTIONS = (2, 10, 30)
OUTLIERS = 1e-3  # share of a layer's numbers in an image that may lie outside of its range


def quantise(model: Any, views: Sequence[npt.NDArray[np.uint8]], float_convolutions: int = 0
             ) -> Any:
    """An OpenVINO model in int8.

    Args:
        model: The float32 model; it is changed.
        views: uint8 1×H×W×3 images as the predictor shows them to the network.
        float_convolutions: How many of the first convolutions stay in floating point.
    """
    library()  # NNCF telephones home too, by the same package
    import nncf
    convolutions = [operation.get_friendly_name() for operation in model.get_ordered_ops()
                    if operation.get_type_name() in ('Convolution', 'GroupConvolution')]
    # the widest range that any image has, but for OUTLIERS of its numbers: a mean of ranges cuts
    # off what is rare, such as a thing close to the camera, and its depth trebles
    of = nncf.quantization.range_estimator
    ends = [of.StatisticsCollectorParameters(statistics_type=of.StatisticsType.QUANTILE,
                                             aggregator_type=widest, quantile_outlier_prob=OUTLIERS)
            for widest in (of.AggregatorType.MIN, of.AggregatorType.MAX)]
    # activations after a ReLU start at 0, those after a batch norm don't: MIXED has both
    return nncf.quantize(model, nncf.Dataset(views, lambda view: [view]),
                         subset_size=len(views), preset=nncf.QuantizationPreset.MIXED,
                         ignored_scope=nncf.IgnoredScope(names=convolutions[:float_convolutions],
                                                         validate=False),
                         advanced_parameters=nncf.AdvancedQuantizationParameters(
                             activations_range_estimator_params=of.RangeEstimatorParameters(*ends)))


def add_uncertainty(graph: tuple[bytes, bytes], network: HybridDepthNet, digest: str) -> bytes:
    """Add a network's uncertainty head, in floating point, to the int8 graph of its depth.

    Depth stays what it was, bit by bit.

    Args:
        graph: XML and weights of the int8 graph; it has no head, or one that is replaced.
        network: The same network, with a head.
        digest: sha256 of the weights file with the head.

    Returns:
        The bytes of a graph file.
    """
    import torch
    assert network.uncertainty is not None
    openvino, model = library(), core().read_model(*graph)

    def last(prefix: str) -> Any:
        """The output of a part of the network, by the name that its export gave."""
        return [operation.output(0) for operation in model.get_ordered_ops()
                if operation.get_friendly_name().startswith(f'__module.network{prefix}')
                and operation.get_type_name() in ('Add', 'Relu')][-1]
    sources = [last('.reduction_bn/'), last('.laterals.1/aten::add'),
               last('.laterals.2/aten::add'), last('/aten::relu')]
    channels = [source.get_partial_shape()[1].get_length() for source in sources]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch's about how openvino traces
        head = openvino.convert_model(
            network.uncertainty.eval(),
            example_input=tuple(torch.rand(1, count, 8 * size, 8 * size) + 1
                                for count, size in zip(channels, (1, 4, 8, 16))),
            input=[[-1, count, -1, -1] for count in channels])
    for parameter, source in zip(head.get_parameters(), sources):
        parameter.output(0).replace(source)
    operations = openvino.opset13
    log_sigma = head.get_results()[0].input_value(0)
    both = operations.concat([sources[-1], log_sigma], axis=1)
    extended = openvino.Model([operations.result(both)], model.get_parameters(), 'depth and sigma')
    return pack_model(extended, digest, half_precision=True)


def equal_shares(sets: Sequence[RgbdDataset], count: int) -> list[npt.NDArray[np.uint8]]:
    """At most `count` colour images, the same number from all over each set."""
    each = -(-count // len(sets))
    return [pairs.read(i).rgb for dataset in sets for pairs in (equally_spaced(dataset, each),)
            for i in range(len(pairs))]


def _unpack(graph: bytes, digest: str, shape: tuple[int, ...] | None) -> tuple[bytes, bytes]:
    return read_graph(io.BytesIO(graph), digest)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argument_parser(__doc__, prog='train.quantise')
    parser.add_argument('--weights', default='lite-nyu', help='registered name or .safetensors')
    parser.add_argument('--data', nargs='+', required=True, metavar='PATH',
                        help='training images; those to compare on are cut from the first')
    parser.add_argument('--held-out', type=parse_ranges, default=HELD_OUT,
                        metavar='[[A,B],…]', help='frames that δ1 is compared on; the others '
                        'calibrate')
    parser.add_argument('--compare', nargs='*', default=[], metavar='PATH',
                        help='other data that δ1 is compared on too')
    parser.add_argument('--count', type=int, default=300, help='images to calibrate with')
    parser.add_argument('--out', type=user_path, help='default: beside the weights')
    args = parser.parse_args(argv)
    check_minimum(parser, args, count=1)
    try:
        with exit_on_error('train.quantise', 'stopped; nothing is written'):
            from train.protocols import evaluate_whole
            path = weights_path(args.weights)
            out, digest = args.out or path.with_name(path.stem + INT8_SUFFIX), file_digest(path)
            sets, held_out = hold_out([open_dataset(data, 'train') for data in args.data],
                                      args.held_out, HELD_OUT_OPTION)
            compared = {args.data[0]: held_out,
                        **{data: open_dataset(data) for data in args.compare}}
            exact = DepthPredictor(str(path), runtime='torch', precision='fp32', device='cpu')
            views = [exact.preprocess(image).pixels[None]
                     for image in equal_shares(sets, args.count)]
            before = {name: evaluate_whole(exact, dataset).metrics
                      for name, dataset in compared.items()}
            for name, metrics in before.items():
                print(f'fp32 on {name}: {format_metrics(metrics)}')
            for kept in FLOAT_CONVOLUTIONS:
                model = quantise(openvino_model(exact.model, fuse=True), views, kept)
                graph = pack_model(model, digest, half_precision=True)
                exact.runtime = OpenVinoRuntime(partial(_unpack, graph, digest), 'int8')
                after = {name: evaluate_whole(exact, dataset).metrics
                         for name, dataset in compared.items()}
                for name, metrics in after.items():
                    print(f'int8 on {name}, the first {kept} convolutions left in floating point: '
                          f'{format_metrics(metrics)}')
                if all(after[name]['delta1'] >= metrics['delta1'] - MAX_DELTA1_LOSS
                       and after[name]['rel'] <= metrics['rel'] + MAX_REL_RISE
                       for name, metrics in before.items()):
                    break
            else:
                raise ValueError(
                    f'δ1 falls by more than {MAX_DELTA1_LOSS}, or REL rises by more than '
                    f'{MAX_REL_RISE}: not kept; calibrate with more images (--count), or of all '
                    'kinds that are compared (--data)')
            write_bytes_atomically(out, graph)
    except ModuleNotFoundError as error:
        sys.exit(f"train.quantise: {error.name} is not installed: pip install -e '.[quantise]'")
    print(f'{out}: {out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
