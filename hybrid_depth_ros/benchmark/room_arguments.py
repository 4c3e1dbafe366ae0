"""The arguments that benchmarks in virtual rooms share, and the file that they write."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.arguments import argument_parser, user_path
from hybrid_depth_ros.files import result_file
from hybrid_depth_ros.virtual_room import WALK_SECONDS


def room_parser(description: str | None, prog: str, last: int) -> ArgumentParser:
    """A parser of ``--weights``, ``--rooms`` (by default 600 to `last`) and ``--json``."""
    parser = argument_parser(description, prog=prog)
    parser.add_argument('--weights', default='lite-nyu')
    parser.add_argument('--rooms', nargs=2, type=int, default=(600, last), metavar='SEED',
                        help='first and last (default: %(default)s)')
    parser.add_argument('--json', type=user_path, metavar='OUT')
    return parser


def room_seeds(args: Namespace) -> range:
    """The seeds of ``--rooms``."""
    return range(args.rooms[0], args.rooms[1] + 1)


def walk_stops(seed: int, places: int) -> npt.NDArray[np.float64]:
    """Seconds of the walk through a room at which a camera looks, other ones in each room."""
    return np.asarray(WALK_SECONDS / places * np.arange(places) + seed % 7)


def write_report(args: Namespace, report: Any) -> None:
    """Write a report to ``--json``, if it was given."""
    if args.json:
        with result_file(args.json) as file:
            file.write_text(json.dumps(report, indent=1) + '\n')
