"""Draw how honest the standard deviation is: ``python docs/uncertainty_image.py SCORES OUT``.

SCORES is the .json that ``python -m train.uncertainty`` writes beside the weights. Left: which
share of the pixels that say ±10 % are off by less than that, and so on. Right: the REL of what is
left when the least certain pixels are left out.
"""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from hybrid_depth_ros.metrics import SPARSIFICATION_STEPS


def draw(scores: dict[str, Any], out: Path) -> None:
    """Write both diagrams into one image file."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 3.8), layout='constrained')
    reliability, sparsification = figure.subplots(1, 2)
    bins = [entry for entry in scores['reliability'] if entry['share'] >= 0.001]
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
    for values, name in zip(scores['curves'], ('by σ', 'by the true error', 'by chance')):
        sparsification.plot(share, values, label=name)
    sparsification.set(xlabel='pixels left out (%)', ylabel='REL of the others', ylim=(0, None))
    sparsification.legend()
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('scores', type=Path)
    parser.add_argument('out', type=Path, help='the image')
    args = parser.parse_args()
    draw(json.loads(args.scores.read_text()), args.out)


if __name__ == '__main__':
    main()
