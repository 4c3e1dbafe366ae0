"""Quantise a network's graph to int8: ``python -m train.quantise --data NYU --weights lite-nyu``.

Post-training: NNCF watches the activations of training pictures in the OpenVINO graph, and
chooses a scale for each. The result lies beside the weights, and `runtime: openvino` with
`precision: int8` (or auto) takes it. It is kept only where δ1 on held-out pictures stays.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np

from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.files import write_whole
from hybrid_depth_ros.metrics import DepthErrors, format_metrics
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.runtimes.exports import (
    INT8,
    openvino_model,
    pack_model,
    read_graph,
    weights_digest,
)
from hybrid_depth_ros.runtimes.openvino import OpenVinoRuntime
from hybrid_depth_ros.weights import HELD_OUT, weights_path
from train.datasets import open_dataset
from train.datasets.pairs import ranges

HELD_OUT_OPTION = '--held-out [[A,B]]'
MOST_LOSS = 0.005  # of δ1 that int8 may cost


def quantise(model, views):
    """An OpenVINO model in int8.

    model: the float32 one. views: uint8 1×H×W×3 pictures as the predictor shows them to the
    network.
    """
    import nncf
    # activations after a ReLU start at 0, those after a batch norm don't: MIXED has both
    return nncf.quantize(model, nncf.Dataset(views, lambda view: [view]),
                         subset_size=len(views), preset=nncf.QuantizationPreset.MIXED)


def errors(predictor, dataset):
    """DepthErrors of a predictor on the whole pictures but for NYU's frame."""
    result = DepthErrors()
    for i in range(len(dataset)):
        rgb, truth = dataset.read(i)
        depth = predictor(rgb, fx=dataset.focal(i) * rgb.shape[1])
        result.add(depth[12:-12, 12:-12], truth[12:-12, 12:-12])
    return result.metrics()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--weights', default='lite-nyu', help='registered name or .safetensors')
    parser.add_argument('--data', required=True, help='training pictures')
    parser.add_argument('--held-out', type=ranges, default=HELD_OUT,
                        metavar='[[A,B],…]', help='frames that δ1 is compared on; the others '
                        'calibrate')
    parser.add_argument('--count', type=int, default=300, help='pictures to calibrate with')
    parser.add_argument('--out', type=Path, help='default: beside the weights')
    args = parser.parse_args(argv)
    if args.count < 1:
        parser.error(f'--count is {args.count}; it must be at least 1')
    try:
        path = weights_path(args.weights)
        out, digest = args.out or path.with_name(path.stem + INT8), weights_digest(path)
        dataset = open_dataset(args.data, 'train')
        held_out = dataset.numbered(args.held_out, option=HELD_OUT_OPTION)
        calibration = dataset.numbered(args.held_out, keep=False, option=HELD_OUT_OPTION)
        exact = DepthPredictor(str(path), runtime='torch', precision='fp32', device='cpu')
        which = np.linspace(0, len(calibration) - 1, min(args.count, len(calibration))).astype(int)
        views = [exact.view(calibration.read(i)[0]).pixels[None] for i in which]
        graph = pack_model(quantise(openvino_model(path, fuse=True), views), digest, halved=True)
        before = errors(exact, held_out)
        exact.runtime = OpenVinoRuntime(read_graph(io.BytesIO(graph), digest), 'int8')
        after = errors(exact, held_out)
        print(f'fp32: {format_metrics(before)}')
        print(f'int8: {format_metrics(after)}')
        if after['delta1'] < before['delta1'] - MOST_LOSS:
            sys.exit(f'train.quantise: δ1 falls by more than {MOST_LOSS}: not kept; calibrate with '
                     'more pictures (--count)')
        write_whole(out, graph)
    except ModuleNotFoundError as error:
        sys.exit(f"train.quantise: {error.name} is not installed: pip install -e '.[quantise]'")
    except (OSError, ValueError) as error:
        sys.exit(f'train.quantise: {explain(error)}')
    print(f'{out}: {out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
