"""Make training data for a robot's camera: ``python -m train.synthetic --out FOLDER``.

Photoreal furnished rooms, rendered from cameras at the robot's heights, through its lenses, with
exact depth along the optical axis; no depth camera is needed. Windows' panes have no depth, as
for a depth camera; glass and mirrors have that of their surface. Killed at any moment, the same
command goes on. Then: ``python -m train.nyu --init lite-nyu --data NYU FOLDER …``.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import argparse
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import tqdm

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error
from train.synthetic import frames
from train.synthetic.generate import make_rooms
from train.synthetic.views import VIEW_KINDS, Lenses

INSTALL = ("Infinigen and Blender are not installed: with Python 3.11, pip install -e "
           "'.[synthetic]' in a virtual environment of its own (2.3 GB, 8 minutes)")
BETWEEN = ('LOW', 'HIGH')


def view_share(text: str) -> tuple[str, float]:
    """``near=0.3`` → ('near', 0.3); ArgumentTypeError for anything else."""
    kind, _, share = text.partition('=')
    try:
        if kind in VIEW_KINDS and 0 <= float(share) < float('inf'):
            return kind, float(share)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'{text!r} is no KIND=SHARE, such as near=0.3; kinds: '
                                     f'{", ".join(VIEW_KINDS)}')


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = argument_parser(__doc__, prog='train.synthetic')
    parser.add_argument('--out', type=Path, required=True, help='folder of the data set')
    parser.add_argument('--rooms', type=int, default=400)
    parser.add_argument('--views', type=int, default=10, help='of each room')
    parser.add_argument('--kinds', nargs='+', type=view_share, metavar='KIND=SHARE',
                        help='what views show, like near=2 room=1; kinds: '
                        f'{", ".join(VIEW_KINDS)}; default: room=1')
    parser.add_argument('--height', nargs=2, type=float, default=Lenses.height, metavar=BETWEEN,
                        help='of the camera above the floor, m')
    parser.add_argument('--pitch', nargs=2, type=float, default=Lenses.pitch, metavar=BETWEEN,
                        help='degrees up')
    parser.add_argument('--roll', type=float, default=Lenses.roll,
                        help='standard deviation, degrees')
    parser.add_argument('--fov', nargs=2, type=float, default=Lenses.fov, metavar=BETWEEN,
                        help='horizontal field of view, degrees')
    parser.add_argument('--size', nargs=2, type=int, default=(352, 264), metavar=('W', 'H'))
    parser.add_argument('--samples', type=int, default=4, help='light paths of a pixel')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--variants', type=int, default=24, help='of each kind of furniture')
    parser.add_argument('--assets', type=Path, help='folder of furniture; default: OUT/assets')
    parser.add_argument('--processes', type=int, default=max(1, (os.cpu_count() or 2) - 1))
    args = parser.parse_args(argv)
    check_minimum(parser, args, rooms=1, views=1, samples=1, variants=1, processes=1)
    for name, least, most in (('height', 0.05, 2.2), ('pitch', -80, 80), ('fov', 20, 140)):
        low, high = getattr(args, name)
        if not least <= low <= high <= most:
            parser.error(f'--{name} is {low} {high}; it must be two numbers from {least} to '
                         f'{most}, the lower first')
    if not all(32 <= side <= 4096 for side in args.size):
        parser.error(f'--size is {args.size[0]} {args.size[1]}; sides must be 32 to 4096 pixels')
    if not 0 <= args.roll <= 45 or args.seed < 0:
        parser.error('--roll must be 0 to 45, --seed at least 0')
    args.kinds = {**dict.fromkeys(VIEW_KINDS, 0.0), **dict(args.kinds)} if args.kinds else dict(
        VIEW_KINDS)
    if not sum(args.kinds.values()):
        parser.error('--kinds has no share above 0')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if not (find_spec('bpy') and find_spec('infinigen')):
        sys.exit(f'train.synthetic: {INSTALL}')
    lenses = Lenses(tuple(args.height), tuple(args.pitch), args.roll, tuple(args.fov))
    settings = {'views': args.views, 'kinds': args.kinds, 'lenses': asdict(lenses),
                'size': list(args.size), 'samples': args.samples, 'seed': args.seed,
                'variants': args.variants}
    settings['lenses'] = {key: list(value) if isinstance(value, tuple) else value
                          for key, value in settings['lenses'].items()}
    options = {**settings, 'out': str(args.out),
               'assets': str(args.assets or args.out / 'assets')}
    with exit_on_error('train.synthetic', 'stopped; the same command goes on from here'):
        frames.claim(args.out, settings)
        todo = frames.missing(args.out, args.rooms)
        bar = tqdm.tqdm(total=args.rooms, initial=args.rooms - len(todo), unit='room')
        spent = []

        def report(number: int, count: int, seconds: float, error: Exception | None) -> None:
            if error:
                bar.write(f'room {number} is left out: {type(error).__name__}: {error}')
            spent.append((count, seconds))
            bar.update()
        lost = make_rooms(todo, options, args.processes, report)
        bar.close()
        rows = frames.gather(args.out)
        if not rows and lost:
            raise OSError(f'not one room could be made; {args.out / "blender.log"} says why')
        if not rows:
            raise OSError('no room has a view with something to see in it for a camera at --height '
                          '{:g} {:g} and --pitch {:g} {:g}: let it stand higher or look less '
                          'steeply, in another --out'.format(*args.height, *args.pitch))
        frames.contact_sheet(args.out, rows)
        table = frames.distribution(args.out, rows)
        (args.out / 'distribution.txt').write_text(table + '\n')
    print(table)
    count, seconds = (sum(column) for column in zip(*spent)) if spent else (0, 0)
    if count:
        print(f'{seconds / count:.1f} s of one core for a frame')
    print(f'{args.out / "frames.csv"}; {args.out / "contact.png"} shows them'
          + (f'; {len(lost)} rooms were left out' if lost else ''))


if __name__ == '__main__':
    main()
