"""Draw how honest the standard deviation is: ``python docs/uncertainty_image.py NYU OUT``.

On the held-out images of NYU Depth v2's labelled set: left which share of the pixels that say ±10 %
are off by less than that, and so on; right the REL of what is left when the least certain pixels
are left out. ``--data`` takes other data.
"""

from argparse import ArgumentParser
from pathlib import Path

import cv2
import tqdm

from hybrid_depth_ros.metrics import SPARSIFICATION_STEPS, UncertaintyScores, format_uncertainty
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.weights import HELD_OUT, load_network
from train.datasets import open_dataset
from train.datasets.pairs import read_checked
from train.evaluate import BORDER


def score(weights: str, path: str, held_out: bool) -> UncertaintyScores:
    """Scores of a network on a dataset, whole images."""
    dataset, predictor = open_dataset(path), DepthPredictor(load_network(weights))
    if held_out:
        dataset = dataset.numbered(HELD_OUT)
    scores = UncertaintyScores()
    for i in tqdm.trange(len(dataset)):
        rgb, truth, focal = read_checked(dataset, i)
        prediction = predictor.predict(rgb, fx=focal * rgb.shape[1])
        if prediction.sigma is None:
            raise SystemExit(f'{weights} estimates no standard deviation')
        truth[:BORDER], truth[-BORDER:], truth[:, :BORDER], truth[:, -BORDER:] = 0, 0, 0, 0
        depth, sigma = (cv2.resize(array, truth.shape[::-1])
                        for array in (prediction.depth, prediction.sigma))
        scores.add(depth, sigma, truth)
    return scores


def draw(scores: UncertaintyScores, out: Path) -> None:
    """Write both diagrams into one image file."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 3.8), layout='constrained')
    reliability, sparsification = figure.subplots(1, 2)
    bins = scores.report()['reliability']
    names = [f'{entry["from"]:.0%} to {entry["to"]:.0%}' if entry['to'] < 1 else
             f'above {entry["from"]:.0%}' for entry in bins]
    reliability.bar(names, [entry['within_1'] for entry in bins], width=0.7)
    reliability.axhline(0.683, color='black', linestyle='--', label='an honest σ: 68 %')
    for x, entry in enumerate(bins):
        reliability.text(x, 0.02, f'{entry["share"]:.0%} of\npixels', ha='center', fontsize=7,
                         color='white')
    reliability.set(xlabel='σ / depth', ylabel='share of the pixels within one σ', ylim=(0, 1))
    reliability.tick_params('x', labelsize=7)
    reliability.legend()
    share = [100 * i / SPARSIFICATION_STEPS for i in range(SPARSIFICATION_STEPS)]
    for values, name in zip(scores.curves(), ('by σ', 'by the true error', 'by chance')):
        sparsification.plot(share, values, label=name)
    sparsification.set(xlabel='pixels left out (%)', ylabel='REL of the others', ylim=(0, None))
    sparsification.legend()
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('nyu', help="folder of NYU's labelled training images")
    parser.add_argument('out', type=Path, help='the image')
    parser.add_argument('--weights', default='lite-nyu')
    parser.add_argument('--data', help='score these in place of the held-out images')
    args = parser.parse_args()
    scores = score(args.weights, args.data or args.nyu, held_out=not args.data)
    print(f'{scores.images} images: {format_uncertainty(scores.report())}')
    draw(scores, args.out)


if __name__ == '__main__':
    main()
