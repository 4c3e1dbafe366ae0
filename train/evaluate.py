"""Score weights on RGB-D pairs: ``python -m train.evaluate --weights W --data PATH``."""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torch import nn

from hybrid_depth_ros.arguments import argument_parser, exit_on_error, user_path
from hybrid_depth_ros.evaluate_bag import add_arguments
from hybrid_depth_ros.files import check_writable, result_file
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.metrics import (
    METRIC_NAMES,
    format_metrics,
    format_uncertainty,
)
from hybrid_depth_ros.obstacle_metrics import format_obstacles
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.recordings.evaluation import best_median_worst, plot_distances
from hybrid_depth_ros.visualization import side_by_side
from hybrid_depth_ros.weights import load_network
from train.arguments import add_data_arguments, open_data
from train.datasets.pairs import RgbdDataset, parse_ranges
from train.protocols import (
    DatasetEvaluation,
    WholeImageEvaluation,
    evaluate_eigen,
    evaluate_paper,
    evaluate_whole,
)

PROTOCOLS = ('paper', 'eigen', 'whole')

# NYU Depth v2, the 654 test images, as each paper reports its own network.
PUBLISHED = (
    ('Liu et al. 2015', 0.824, 0.230, 0.095, 0.614, 0.883, 0.971),
    ('Eigen and Fergus 2015', 0.641, 0.158, None, 0.769, 0.950, 0.988),
    ('Laina et al. 2016', 0.573, 0.127, 0.055, 0.811, 0.953, 0.988),
    ('Harsányi et al. 2018, the paper', 0.593, 0.130, 0.057, 0.833, 0.960, 0.989),
)


def height_table(evaluation: WholeImageEvaluation) -> str:
    """What :func:`evaluate_whole` adds: outlines, the right scale, heights, kinds, uncertainty."""
    lines = [f'at the right scale: {format_metrics(evaluation.aligned)}',
             'outlines: {found:.3f} of the true ones found, {right:.3f} of those found are '
             'true'.format(**evaluation.outlines)]
    if evaluation.uncertainty:
        lines.append(f'uncertainty: {format_uncertainty(evaluation.uncertainty)}')
    bands = [(f'{band.lowest:5.2f} to {band.highest or 9:4.2f} m', band)
             for band in evaluation.heights]
    for title, groups in (('camera height', bands),
                          ('view', [(kind.kind, kind) for kind in evaluation.kinds])):
        if groups:
            lines.append(f'{title:16}{"images":>7}{"δ1":>8}{"REL":>8}{"RMSE":>8}'
                         f'{"δ1 scaled":>11}{"ratio":>8}')
        lines += [f'{name:15} {group.images:7}{group.metrics["delta1"]:8.3f}'
                  f'{group.metrics["rel"]:8.3f}{group.metrics["rmse"]:8.3f}{group.scaled:11.3f}'
                  f'{group.ratio:8.2f}' for name, group in groups]
    return '\n'.join(lines)


def comparison_table(name: str, metrics: Mapping[str, float]) -> str:
    """The paper's Table 1: what networks were reported to reach, and ours below."""
    lines = [f'{"":34}{"RMSE":>7}{"REL":>7}{"log10":>7}{"δ1":>7}{"δ2":>7}{"δ3":>7}']
    for row in (*PUBLISHED, (f'{name}, measured here', *(metrics[key] for key in METRIC_NAMES))):
        cells = ''.join('      –' if value is None else f'{value:7.3f}' for value in row[1:])
        lines.append(f'{row[0]:34}{cells}')
    return '\n'.join(lines)


def draw_pair(predictor: DepthPredictor, dataset: RgbdDataset, i: int) -> npt.NDArray[np.uint8]:
    """Colour | depth | true depth of pair i, RGB uint8."""
    rgb, truth = dataset.read(i)
    depth = predictor(rgb, fx=dataset.focal(i) * rgb.shape[1])
    truth = cv2.resize(truth, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return side_by_side(rgb, depth, np.where(truth > 0, truth, np.nan))


def save_gallery(network: nn.Module, dataset: RgbdDataset, rel_per_image: Sequence[float],
                 out: Path) -> None:
    """Write RGB | depth | true depth of the best, median and worst image into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    predictor = DepthPredictor(network)
    for name, i in best_median_worst(rel_per_image):
        save_image(out / f'{name}.png', draw_pair(predictor, dataset, i))
        print(f'{out / name}.png: {dataset.name(i)}, REL {rel_per_image[i]:.3f}')


def save_plot(bands: Sequence[Mapping[str, Any]], out: Path, file_format: str | None = None
              ) -> None:
    """Draw REL and the share of pixels against true distance.

    Args:
        bands: As :meth:`BandErrors.report` has them.
        out: A file.
        file_format: png, pdf …; by default what the name ends with.
    """
    from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 4), layout='constrained')
    plot_distances(figure.add_subplot(), bands)
    figure.savefig(out, format=file_format)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argument_parser(__doc__, prog='train.evaluate')
    add_arguments(parser)
    parser.add_argument('--data', required=True, help='RGB-D data in any form that training takes')
    add_data_arguments(parser, 'test')
    parser.add_argument('--ranges', type=parse_ranges, metavar='[[A,B],…]',
                        help='keep only frames numbered A to B')
    parser.add_argument('--protocol', choices=PROTOCOLS, default='paper',
                        help='whole: whole images, by camera height and kind of view too')
    parser.add_argument('--obstacles', action='store_true', help='score obstacles above the floor '
                        'too, with --protocol whole, where the data know how the camera is held')
    parser.add_argument('--flip', action='store_true', help='mean with the mirrored image')
    parser.add_argument('--plot', type=user_path, metavar='OUT', help='draw error against distance')
    parser.add_argument('--pictures', type=user_path, metavar='FOLDER',
                        help='draw the best, median and worst image')
    args = parser.parse_args(argv)
    if args.flip and args.protocol == 'whole':
        parser.error('--flip is of the protocols paper and eigen; leave it out')
    if args.obstacles and args.protocol != 'whole':
        parser.error('--obstacles is of whole images: give --protocol whole')
    with exit_on_error('train.evaluate'):
        dataset = open_data(args, args.data)
        if args.ranges:
            dataset = dataset.numbered(args.ranges)
        if args.obstacles and (dataset.height(0) is None or dataset.down(0) is None):
            raise OSError(f'{args.data} does not tell how high its cameras are and how they are '
                          'held: take rooms (room:600-609) or frames of train.synthetic')
        network = load_network(args.weights)
        # before the long work: what can't be written must not be found out after it
        for file in filter(None, (args.json, args.plot)):
            check_writable(file)
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
        if args.protocol == 'whole':
            evaluation: DatasetEvaluation = evaluate_whole(
                DepthPredictor(network), dataset, progress=True, obstacles=args.obstacles)
        else:
            protocol = evaluate_paper if args.protocol == 'paper' else evaluate_eigen
            evaluation = protocol(network, dataset, progress=True, flip=args.flip)
        if args.json:
            with result_file(args.json) as file:
                file.write_text(json.dumps(
                    {**evaluation.to_json(), 'protocol': args.protocol, 'flip': args.flip,
                     'weights': args.weights, 'data': str(args.data)}, indent=2) + '\n')
        print(f'{args.weights} on {evaluation.images} images, {args.protocol} protocol, pooled '
              f'over pixels: {format_metrics(evaluation.metrics)}')
        print(f'mean over images: {format_metrics(evaluation.per_image)}')
        if isinstance(evaluation, WholeImageEvaluation):
            print(height_table(evaluation))
            if evaluation.obstacles:
                print(format_obstacles(evaluation.obstacles))
        else:
            print(comparison_table(args.weights, evaluation.metrics))
            if args.protocol != 'paper' or args.split != 'test' or evaluation.images != 654:
                print('(The published rows are of the 654 test images and their own protocols.)')
        if args.plot:
            with result_file(args.plot) as file:
                save_plot(evaluation.bands, file, args.plot.suffix[1:] or None)
        if args.pictures:
            save_gallery(network, dataset, evaluation.rel_per_image, args.pictures)


if __name__ == '__main__':
    main()
