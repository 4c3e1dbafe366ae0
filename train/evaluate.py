"""Score weights on RGB-D pairs: ``python -m train.evaluate --weights W --data PATH``."""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import tqdm

from hybrid_depth_ros.metrics import DepthErrors, format_metrics
from hybrid_depth_ros.pictures import picture, save_picture
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.weights import load_network
from train.data import SyncTree, centre_crop, normalise

# The 320×256 crop of the 352×264 image covers this much of the 640×480 original.
PAPER_WIDTH, PAPER_HEIGHT = 582, 466


def centre(depth, width, height):
    """The middle height × width of an H × W array."""
    y, x = (depth.shape[0] - height) // 2, (depth.shape[1] - width) // 2
    return depth[y:y + height, x:x + width]


@torch.inference_mode()
def evaluate_paper(network, dataset, batch=8, progress=False):
    """The paper's protocol (Harsányi et al. 2018, section 4) over a dataset of 640×480 pairs.

    Resize to 352×264, centre crop 320×256, predict 160×128, enlarge to 582×466 and compare
    with the centre-cropped ground truth; errors pooled over all pixels of the set.
    Returns the six metrics, ``pixels``, ``images``, and ``rel_per_image``, a list.
    """
    errors, rel_per_image = DepthErrors(), []
    device = next(network.parameters()).device
    for first in tqdm.tqdm(range(0, len(dataset), batch), disable=not progress, unit='batch'):
        pairs = [dataset.read(i) for i in range(first, min(first + batch, len(dataset)))]
        inputs = np.stack([normalise(centre_crop(rgb).astype(np.float32) / 255)
                           for rgb, _ in pairs])
        inputs = torch.from_numpy(inputs).to(device, memory_format=torch.channels_last)
        predicted = network(inputs).float().cpu().numpy()[:, 0]
        for depth, (_, truth) in zip(predicted, pairs):
            pair = (cv2.resize(depth, (PAPER_WIDTH, PAPER_HEIGHT)),
                    centre(truth, PAPER_WIDTH, PAPER_HEIGHT))
            errors.add(*pair)
            alone = DepthErrors()
            alone.add(*pair)
            rel_per_image.append(alone.metrics()['rel'])
    return {**errors.metrics(), 'pixels': errors.pixels, 'images': len(dataset),
            'rel_per_image': rel_per_image}


def save_gallery(network, dataset, rel_per_image, out):
    """Write RGB | depth | true depth of the best, median and worst image into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    order, predictor = np.argsort(rel_per_image), DepthPredictor(network)
    for name, i in (('best', order[0]), ('median', order[len(order) // 2]), ('worst', order[-1])):
        rgb, truth = dataset.read(i)
        truth = np.where(truth > 0, truth, np.nan)
        save_picture(out / f'{name}.png', picture(rgb, predictor(rgb), truth))
        print(f'{out / name}.png: {dataset.pairs[i][0].name}, REL {rel_per_image[i]:.3f}')


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--weights', default='lite-nyu', help='registered name or file')
    parser.add_argument('--data', required=True, help='folder of rgb_*.jpg, sync_depth_*.png')
    parser.add_argument('--ranges', type=json.loads, default=None, metavar='[[A,B],…]',
                        help='keep only frames numbered A to B')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write the figures here too')
    parser.add_argument('--pictures', type=Path, metavar='FOLDER',
                        help='draw the best, median and worst image')
    args = parser.parse_args(argv)
    try:
        dataset = SyncTree(args.data, args.ranges)
        network = load_network(args.weights)
    except (OSError, ValueError) as error:
        sys.exit(f'evaluate: {error}')
    metrics = evaluate_paper(network, dataset, progress=True)
    rel_per_image = metrics.pop('rel_per_image')
    print(f'{args.weights} on {metrics["images"]} images: {format_metrics(metrics)}')
    if args.json:
        args.json.write_text(json.dumps(
            {'metrics': metrics, 'rel_per_image': rel_per_image,
             'protocol': 'paper', 'weights': args.weights}, indent=2))
    if args.pictures:
        save_gallery(network, dataset, rel_per_image, args.pictures)


if __name__ == '__main__':
    main()
