"""Arguments that the commands share: the data, and the configuration they are trained by."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybrid_depth_ros.arguments import number, user_path
from train.datasets import open_dataset
from train.datasets.nyu_raw import RawScenes
from train.datasets.pairs import SPLIT_NAMES, RgbdDataset, unit_warnings

RECIPES = Path(__file__).parent.parent / 'config' / 'training'


def add_data_arguments(parser: ArgumentParser, split: str, splits: Sequence[str] = SPLIT_NAMES
                       ) -> None:
    """How data are read, whatever form they have. split: the default."""
    parser.add_argument('--split', choices=splits, default=split,
                        help='of data that know the official split: the 795 training images, the '
                        '654 test images, or all; others are taken whole')
    parser.add_argument('--depth-scale', type=number(above=0),
                        help="depth units in a metre, of a list of pairs (default: 1000) or TUM's "
                        'folders (5000)')
    parser.add_argument('--image-topic', '--image', help="a bag's colour topic")
    parser.add_argument('--depth-topic', '--depth', help="a bag's depth topic")


def open_data(args: Namespace, path: str | Path) -> RgbdDataset:
    """The dataset at a path, read as the arguments say; raises what open_dataset raises.

    Prints what is assumed about it, and depths that can hardly be.
    """
    dataset = open_dataset(path, args.split, depth_scale=args.depth_scale,
                           image_topic=args.image_topic, depth_topic=args.depth_topic)
    # raw scenes hold no metres yet: these are made here
    warnings = [] if isinstance(dataset, RawScenes) else unit_warnings(dataset)
    # assumptions after warnings: what was read for these may add one
    for sentence in [*dataset.assumptions, *warnings]:
        print(f'{path}: {sentence}', file=sys.stderr)
    return dataset


def config_path(text: str) -> Path:
    """``lite`` → that of RECIPES; any other text is the path of a file."""
    recipe = RECIPES / f'{text}.yaml'
    return recipe if recipe.is_file() else user_path(text)


def add_training_arguments(parser: ArgumentParser, **data: Any) -> None:
    """Which samples a network is trained on: --config, --set, --data, --shares.

    data: options of --data that differ.
    """
    parser.add_argument('--config', type=config_path, default='lite', metavar='RECIPE',
                        help='a YAML file, or the name of one of config/training: lite (the '
                        'default), paper')
    parser.add_argument('--set', nargs='*', default=[], metavar='KEY=VALUE',
                        help='change keys of the configuration')
    parser.add_argument('--data', nargs='+', metavar='PATH', **{
        'required': True, 'help': 'RGB-D data in any form (train/datasets), or a store of '
        'train.prepare; validation is cut from the first', **data})
    parser.add_argument('--shares', nargs='+', type=number(above=0), help='how often each is drawn')


def check_shares(parser: ArgumentParser, args: Namespace) -> None:
    """End with a sentence where there is not one share for each set."""
    if args.shares and len(args.shares) != len(args.data):
        parser.error('--shares needs one number for each --data')
