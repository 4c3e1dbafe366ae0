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
    Returns the six metrics and ``pixels``, ``images``.
    """
    errors = DepthErrors()
    device = next(network.parameters()).device
    for first in tqdm.tqdm(range(0, len(dataset), batch), disable=not progress, unit='batch'):
        pairs = [dataset.read(i) for i in range(first, min(first + batch, len(dataset)))]
        inputs = np.stack([normalise(centre_crop(rgb).astype(np.float32) / 255)
                           for rgb, _ in pairs])
        inputs = torch.from_numpy(inputs).to(device, memory_format=torch.channels_last)
        predicted = network(inputs).float().cpu().numpy()[:, 0]
        for depth, (_, truth) in zip(predicted, pairs):
            errors.add(cv2.resize(depth, (PAPER_WIDTH, PAPER_HEIGHT)),
                       centre(truth, PAPER_WIDTH, PAPER_HEIGHT))
    return {**errors.metrics(), 'pixels': errors.pixels, 'images': len(dataset)}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--weights', default='lite-nyu', help='registered name or file')
    parser.add_argument('--data', required=True, help='folder of rgb_*.jpg, sync_depth_*.png')
    parser.add_argument('--ranges', type=json.loads, default=None, metavar='[[A,B],…]',
                        help='keep only frames numbered A to B')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write the figures here too')
    args = parser.parse_args(argv)
    try:
        dataset = SyncTree(args.data, args.ranges)
        network = load_network(args.weights)
    except (OSError, ValueError) as error:
        sys.exit(f'evaluate: {error}')
    metrics = evaluate_paper(network, dataset, progress=True)
    print(f'{args.weights} on {metrics["images"]} images: {format_metrics(metrics)}')
    if args.json:
        args.json.write_text(json.dumps(
            {'metrics': metrics, 'protocol': 'paper', 'weights': args.weights}, indent=2))


if __name__ == '__main__':
    main()
