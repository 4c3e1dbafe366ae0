"""Score weights on RGB-D pairs: ``python -m train.evaluate --weights W --data PATH``."""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import json

import cv2
import numpy as np
import torch
import tqdm

from hybrid_depth_ros.arguments import argument_parser, exit_on_error, user_path
from hybrid_depth_ros.evaluate_bag import add_arguments
from hybrid_depth_ros.files import check_writable, result_file
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.metrics import (
    METRIC_NAMES,
    DepthErrors,
    OutlineScores,
    RecordingScores,
    align_depth,
    format_metrics,
)
from hybrid_depth_ros.models import hybrid
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH, DepthPredictor
from hybrid_depth_ros.recordings.evaluation import best_median_worst, plot_distances
from hybrid_depth_ros.visualization import side_by_side
from hybrid_depth_ros.weights import load_network
from train.arguments import add_data_arguments, open_data
from train.data import normalise
from train.datasets.pairs import parse_ranges, read_checked

# The 320×256 crop of the 352×264 image covers this much of the 640×480 original.
PAPER_WIDTH, PAPER_HEIGHT = 582, 466
# Eigen et al. 2014: what of a 640×480 image is scored (rows, columns), and which depths.
EIGEN_CROP = np.s_[45:471, 41:601]
EIGEN_RANGE = (1e-3, 10.0)
BORDER = 12  # pixels at each side of whole pictures that are not scored: NYU's white frame
HEIGHT_EDGES = (0.25, 0.45, 0.8, 1.2)  # m, between the bands of camera heights
PROTOCOLS = ('paper', 'eigen', 'whole')
# Metres; the per-distance errors are those of the true depths in each band.
DISTANCE_EDGES = (0, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10)

# NYU Depth v2, the 654 test images, as each paper reports its own network.
PUBLISHED = (
    ('Liu et al. 2015', 0.824, 0.230, 0.095, 0.614, 0.883, 0.971),
    ('Eigen and Fergus 2015', 0.641, 0.158, None, 0.769, 0.950, 0.988),
    ('Laina et al. 2016', 0.573, 0.127, 0.055, 0.811, 0.953, 0.988),
    ('Harsányi et al. 2018, the paper', 0.593, 0.130, 0.057, 0.833, 0.960, 0.989),
)


def centre_crop(rgb):
    """The paper's test-time input: resize to 352×264, centre crop to 320×256; uint8."""
    size = hybrid.NETWORK_WIDTH, hybrid.NETWORK_HEIGHT
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return hybrid.centre(small, hybrid.CROP_WIDTH, hybrid.CROP_HEIGHT)


class Scores(RecordingScores):
    """Errors over a set: pooled over all pixels, for each image, for each band of distance."""

    def __init__(self):
        super().__init__(edges=DISTANCE_EDGES)
        self.images = []

    def add(self, predicted, truth):
        """Add one image: float arrays of one shape, metres, truth 0 where there is none."""
        self.images.append(super().add(predicted, truth))

    def report(self):
        """The six metrics, ``pixels``, ``images``, ``rel_per_image``, ``per_image`` (means of
        each image's own metrics), ``bands``."""
        scored = [m for m in self.images if np.isfinite(m['rel'])]
        return {
            **self._pooled.metrics(), 'pixels': self._pooled.pixels, 'images': len(self.images),
            'rel_per_image': [metrics['rel'] for metrics in self.images],
            'per_image': {name: float(np.mean([m[name] for m in scored])) if scored else
                          float('nan') for name in METRIC_NAMES},
            'bands': self._bands.report()}


@torch.inference_mode()
def evaluate_paper(network, dataset, batch=8, progress=False, flip=False):
    """The paper's protocol (Harsányi et al. 2018, section 4) over a dataset of 640×480 pairs.

    Resize to 352×264, centre crop 320×256, predict 160×128, enlarge to 582×466 and compare
    with the centre-cropped ground truth. flip: the mean of the prediction and that of the
    mirrored image. A camera unlike NYU's is corrected for. Returns :meth:`Scores.report`.
    """
    scores, weight = Scores(), next(network.parameters())
    for first in tqdm.tqdm(range(0, len(dataset), batch), disable=not progress, unit='batch'):
        indices = range(first, min(first + batch, len(dataset)))
        pairs = [dataset.read(i) for i in indices]
        inputs = np.stack([normalise(centre_crop(rgb).astype(np.float32) / 255)
                           for rgb, _ in pairs])
        inputs = torch.from_numpy(inputs).to(weight, memory_format=torch.channels_last)
        predicted = network(inputs).float()
        if flip:
            predicted = (predicted + network(inputs.flip(3)).float().flip(3)) / 2
        for depth, i, (_, truth) in zip(predicted.cpu().numpy()[:, 0], indices, pairs):
            height, width = truth.shape
            width, height = round(width * PAPER_WIDTH / 640), round(height * PAPER_HEIGHT / 480)
            scores.add(cv2.resize(depth, (width, height)) * (dataset.focal(i) / NYU_FX_PER_WIDTH),
                       hybrid.centre(truth, width, height))
    return scores.report()


def evaluate_eigen(network, dataset, progress=False, flip=False):
    """The protocol of Eigen et al. 2014 as today's literature uses it, over 640×480 pairs.

    The whole picture through :class:`DepthPredictor`, depth clipped to 1e-3…10 m; scored where
    the truth is in that range, rows 45–471 and columns 41–601. Other sizes are scored in the
    same share of the picture. Returns :meth:`Scores.report`.
    """
    scores, predictor = Scores(), DepthPredictor(network)
    for i in tqdm.trange(len(dataset), disable=not progress, unit='image'):
        rgb, truth = dataset.read(i)
        fx = dataset.focal(i) * rgb.shape[1]
        depth = predictor(rgb, fx=fx)
        if flip:
            mirrored = np.ascontiguousarray(rgb[:, ::-1])
            depth = (depth + predictor(mirrored, fx=fx)[:, ::-1]) / 2
        height, width = truth.shape
        rows, columns = (slice(round(part.start * size / full), round(part.stop * size / full))
                         for part, size, full in zip(EIGEN_CROP, (height, width), (480, 640)))
        cropped = np.zeros_like(truth)
        cropped[rows, columns] = truth[rows, columns]
        cropped[(cropped <= EIGEN_RANGE[0]) | (cropped > EIGEN_RANGE[1])] = 0
        scores.add(np.clip(depth, *EIGEN_RANGE), cropped)
    return scores.report()


def evaluate_whole(predictor, dataset, progress=False):
    """Whole pictures as a user's, through a :class:`DepthPredictor`, for any camera and size.

    Returns :meth:`Scores.report`, and ``outlines`` (:class:`OutlineScores`), ``aligned`` (the six
    metrics at each picture's right scale) and, where cameras' heights are known, ``heights``: for
    each band ``from``, ``to``, ``images``, the six metrics, ``scaled`` (δ1 at the right scale) and
    ``ratio`` (median of predicted / true depth).
    """
    scores, outlines, aligned = Scores(), OutlineScores(), DepthErrors()
    heights: dict[int, tuple] = {}
    for i in tqdm.trange(len(dataset), disable=not progress, unit='image'):
        rgb, truth, focal = read_checked(dataset, i)
        depth = predictor(rgb, fx=focal * rgb.shape[1])
        depth = cv2.resize(depth, truth.shape[::-1])
        truth[:BORDER], truth[-BORDER:], truth[:, :BORDER], truth[:, -BORDER:] = 0, 0, 0, 0
        known = truth > 0
        scores.add(depth, truth)
        outlines.add(depth, np.where(known, truth, np.nan))
        fitted = align_depth(depth[known], truth[known], 'median')
        aligned.add(fitted, truth[known])
        if dataset.height(i) is not None:
            band = int(np.searchsorted(HEIGHT_EDGES, dataset.height(i)))
            errors, scaled, ratios = heights.setdefault(band, (DepthErrors(), DepthErrors(), []))
            errors.add(depth, truth)
            scaled.add(fitted, truth[known])
            ratios.append(float(np.median(depth[known] / truth[known])))
    return {**scores.report(), 'outlines': outlines.report(), 'aligned': aligned.metrics(),
            'heights': [{'from': (0, *HEIGHT_EDGES)[band], 'to': (*HEIGHT_EDGES, None)[band],
                         'images': len(ratios), **errors.metrics(),
                         'scaled': scaled.metrics()['delta1'], 'ratio': float(np.median(ratios))}
                        for band, (errors, scaled, ratios) in sorted(heights.items())]}


def height_table(report):
    """What :func:`evaluate_whole` adds: outlines, the right scale, a line for each height."""
    lines = [f'at the right scale: {format_metrics(report["aligned"])}',
             'outlines: {found:.3f} of the true ones found, {right:.3f} of those found are '
             'true'.format(**report['outlines'])]
    if report['heights']:
        lines.append(f'{"camera height":16}{"images":>7}{"δ1":>8}{"REL":>8}{"RMSE":>8}'
                     f'{"δ1 scaled":>11}{"ratio":>8}')
    lines += [f'{band["from"]:5.2f} to {band["to"] or 9:4.2f} m {band["images"]:7}'
              f'{band["delta1"]:8.3f}{band["rel"]:8.3f}{band["rmse"]:8.3f}{band["scaled"]:11.3f}'
              f'{band["ratio"]:8.2f}' for band in report['heights']]
    return '\n'.join(lines)


def comparison_table(name, metrics):
    """The paper's Table 1: what networks were reported to reach, and ours below."""
    lines = [f'{"":34}{"RMSE":>7}{"REL":>7}{"log10":>7}{"δ1":>7}{"δ2":>7}{"δ3":>7}']
    for row in (*PUBLISHED, (f'{name}, measured here', *(metrics[key] for key in METRIC_NAMES))):
        cells = ''.join('      –' if value is None else f'{value:7.3f}' for value in row[1:])
        lines.append(f'{row[0]:34}{cells}')
    return '\n'.join(lines)


def draw_pair(predictor, dataset, i):
    """Colour | depth | true depth of pair i, RGB uint8."""
    rgb, truth = dataset.read(i)
    depth = predictor(rgb, fx=dataset.focal(i) * rgb.shape[1])
    return side_by_side(rgb, depth, np.where(truth > 0, truth, np.nan))


def save_gallery(network, dataset, rel_per_image, out):
    """Write RGB | depth | true depth of the best, median and worst image into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    predictor = DepthPredictor(network)
    for name, i in best_median_worst(rel_per_image):
        save_image(out / f'{name}.png', draw_pair(predictor, dataset, i))
        print(f'{out / name}.png: {dataset.name(i)}, REL {rel_per_image[i]:.3f}')


def save_plot(bands, out, form=None):
    """Draw REL and the share of pixels against true distance. form: png, pdf …; by the name."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 4), layout='constrained')
    plot_distances(figure.add_subplot(), bands)
    figure.savefig(out, format=form)


def main(argv=None):
    parser = argument_parser(__doc__, prog='train.evaluate')
    add_arguments(parser)
    parser.add_argument('--data', required=True, help='RGB-D data in any form that training takes')
    add_data_arguments(parser, 'test')
    parser.add_argument('--ranges', type=parse_ranges, metavar='[[A,B],…]',
                        help='keep only frames numbered A to B')
    parser.add_argument('--protocol', choices=PROTOCOLS, default='paper',
                        help='whole: whole pictures, by camera height too')
    parser.add_argument('--flip', action='store_true', help='mean with the mirrored image')
    parser.add_argument('--plot', type=user_path, metavar='OUT', help='draw error against distance')
    parser.add_argument('--pictures', type=user_path, metavar='FOLDER',
                        help='draw the best, median and worst image')
    args = parser.parse_args(argv)
    if args.flip and args.protocol == 'whole':
        parser.error('--flip is of the protocols paper and eigen; leave it out')
    with exit_on_error('train.evaluate'):
        dataset = open_data(args, args.data)
        if args.ranges:
            dataset = dataset.numbered(args.ranges)
        network = load_network(args.weights)
        # before the long work: what can't be written must not be found out after it
        for file in filter(None, (args.json, args.plot)):
            check_writable(file)
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
        if args.protocol == 'whole':
            report = evaluate_whole(DepthPredictor(network), dataset, progress=True)
        else:
            protocol = evaluate_paper if args.protocol == 'paper' else evaluate_eigen
            report = protocol(network, dataset, progress=True, flip=args.flip)
        if args.json:
            with result_file(args.json) as file:
                file.write_text(json.dumps(
                    {'metrics': {name: report[name] for name in METRIC_NAMES},
                     **{key: value for key, value in report.items() if key not in METRIC_NAMES},
                     'protocol': args.protocol, 'flip': args.flip, 'weights': args.weights,
                     'data': str(args.data)}, indent=2) + '\n')
        print(f'{args.weights} on {report["images"]} images, {args.protocol} protocol, pooled over '
              f'pixels: {format_metrics(report)}')
        print(f'mean over images: {format_metrics(report["per_image"])}')
        if args.protocol == 'whole':
            print(height_table(report))
        else:
            print(comparison_table(args.weights, report))
            if args.protocol != 'paper' or args.split != 'test' or report['images'] != 654:
                print('(The published rows are of the 654 test images and their own protocols.)')
        if args.plot:
            with result_file(args.plot) as file:
                save_plot(report['bands'], file, args.plot.suffix[1:] or None)
        if args.pictures:
            save_gallery(network, dataset, report['rel_per_image'], args.pictures)


if __name__ == '__main__':
    main()
