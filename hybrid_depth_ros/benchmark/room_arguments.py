"""The arguments that benchmarks in virtual rooms share, and the file that they write."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from hybrid_depth_ros.arguments import argument_parser, user_path
from hybrid_depth_ros.files import result_file


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


def write_report(args: Namespace, report: Any) -> None:
    """Write a report to ``--json``, if it was given."""
    if args.json:
        with result_file(args.json) as file:
            file.write_text(json.dumps(report, indent=1) + '\n')
