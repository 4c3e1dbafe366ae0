"""Arguments that the commands share: the data, and the configuration they are trained by."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.arguments import number, user_path
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.predictor import DepthPredictor
from train.datasets import is_recording, open_dataset
from train.datasets.anchored_bag import KINDS, AnchoredBag
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


def add_anchor_arguments(parser: ArgumentParser) -> None:
    """From which sensors of a recording depth is learnt."""
    parser.add_argument('--anchors', nargs='+', type=anchor_topic, metavar='KIND[=TOPIC]',
                        help='learn from what these sensors measured in the images of a '
                        'recording: ' + ', '.join(KINDS) + ' (or depth, as without this)')
    parser.add_argument('--anchor-pose', nargs='+', default=[''], metavar='"X Y Z ROLL PITCH YAW"',
                        help='of these sensors seen from the camera (m, degrees), one for all or '
                        'one for each; empty: by /tf')


def anchor_topic(text: str) -> tuple[str, str | None]:
    """``scan=/front/scan`` → the kind and its topic, ``scan`` → None; ArgumentTypeError if not."""
    kind, _, topic = text.partition('=')
    if kind not in (*KINDS, 'depth'):
        raise ArgumentTypeError(f'{kind!r} is no kind of anchors; use {", ".join(KINDS)} or depth')
    return kind, topic or None


def open_anchored(args: Namespace, path: str) -> RgbdDataset:
    """:func:`open_data`; a recording with the depth of its sensors, where --anchors names some."""
    topics = dict(args.anchors or ())
    if not topics or 'depth' in topics or not is_recording(Path(expand_user(path))):
        return open_data(args, path)
    predict = None
    if 'range' in topics:  # what an ultrasound hears is the nearest thing in its cone
        predictor = DepthPredictor(args.init or 'lite-nyu')

        def predict(rgb: npt.NDArray[np.uint8], fx: float) -> npt.NDArray[np.float32]:
            return predictor(rgb, fx=fx)
    dataset = AnchoredBag(path, topics, args.image_topic,
                          [read_pose(text) for text in args.anchor_pose], predict)
    for sentence in dataset.assumptions:
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
