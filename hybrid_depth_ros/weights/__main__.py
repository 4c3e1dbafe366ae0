"""List the networks that have a name here; download them; check them.

``ros2 run hybrid_depth_ros weights`` or ``python -m hybrid_depth_ros.weights`` lists them. Download
them before a robot goes where there is no internet.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hybrid_depth_ros.arguments import argument_parser
from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room
from hybrid_depth_ros.weights import REGISTRY, weights_path
from hybrid_depth_ros.weights.hub import cached_hub_folder, hub_folder
from hybrid_depth_ros.weights.registry import HUB, HUB_NAMES

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.0)

OWN = {  # licence, what it was trained on, figures; docs/accuracy.md has them all
    'lite-nyu': ('MIT', 'NYU Depth v2, rendered and virtual rooms',
                 'REL 0.157, δ1 0.772 on 61 images, measured here'),
    'paper-nyu': ("its authors'", 'NYU Depth v2', 'NYU: REL 0.130, δ1 0.833, as published')}


def rows() -> Iterator[tuple[str, ...]]:
    """Yield the table's rows: name, gives, where, MB, licence, trained on, figures."""
    for name, entry in REGISTRY.items():
        licence, trained, figures = OWN[name]
        here = entry.path.exists()
        yield (name, 'metres', 'here' if here else 'to download',
               f'{entry.path.stat().st_size / 1e6:.0f}' if here else '', licence, trained, figures)
    for name, hub in HUB_NAMES.items():
        yield (name, 'no metres' if hub.relative else 'metres',
               'here' if cached_hub_folder(hub.address) else 'to download',
               str(hub.size or ''), hub.licence + (' (not commercial)' if hub.note else ''),
               hub.trained, f'{hub.published}, as published' if hub.published else '')


def print_table() -> None:
    """Print all names, one a line."""
    table = [('name', 'gives', '', 'MB', 'licence', 'trained on', 'figures'), *rows()]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print('  '.join(f'{text:{width}}' for text, width in zip(row, widths)).rstrip())
    print(f'\nBesides: {HUB}ORG/NAME on the hub, a folder in transformers\' format, an .onnx file, '
          'your own .safetensors (docs/models.md).')


def download(name: str, fresh: bool = False) -> Path:
    """Download the weights of a name, and return where they are.

    Args:
        name: A registered name or ``hf:ORG/NAME``.
        fresh: Whether to ask the hub for a newer version.
    """
    if name in HUB_NAMES or name.startswith(HUB):
        entry = HUB_NAMES.get(name)
        if entry and entry.note:
            print(f'{name}: {entry.note}')
        return hub_folder(entry.address if entry else name, fresh)
    return weights_path(name)


def check(name: str) -> str:
    """Show a network one image, in the runtime that will run it; return what it saw.

    Raises:
        OSError: The weights are not there.
        ValueError: The network can't be loaded or run, or what it gives is no depth.
    """
    problems: list[str] = []
    predictor = DepthPredictor(name, relative=True, warn=problems.append)
    room = Room(0)
    image = room.render(CAMERA, room.camera_pose(0.0))[0]
    prediction = predictor.predict(image, fx=CAMERA.fx)
    depth = prediction.depth[np.isfinite(prediction.depth)]
    if problems:
        raise ValueError(problems[0])
    if not depth.size or np.ptp(depth) == 0:
        raise ValueError(f'{name} gives no depth: in an image of a virtual room every pixel is '
                         f'{depth[0] if depth.size else "NaN"}')
    low, median, high = np.percentile(depth, (2, 50, 98))
    gives = (f'metres: {low:.2g} to {high:.2g} m, median {median:.2g} m,' if prediction.metric else
             'no metres (it needs anchors), but different depth')
    return (f'{name}: {predictor.model.path} runs in {predictor.runtime.name} '
            f'{predictor.runtime.precision} and gives {gives} in an image of a virtual room '
            f'(sha256 {predictor.model.digest[:16]}…)')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argument_parser(__doc__, prog='weights')
    parser.add_argument('--download', nargs='+', default=[], metavar='NAME',
                        help='download these, and check them')
    parser.add_argument('--fresh', action='store_true', help='ask the hub for what is new')
    parser.add_argument('--check', nargs='+', default=[], metavar='NAME',
                        help='load and check these, without the internet')
    args, _ = parser.parse_known_args(argv)  # ros2 run may add --ros-args
    failed = False
    for name in [*args.download, *args.check]:
        try:
            if name in args.download:
                print(f'{name}: {download(name, args.fresh)}', flush=True)
            print(check(name), flush=True)
        except (OSError, ValueError) as error:
            print(f'weights: {explain(error)}', file=sys.stderr)
            failed = True
        except KeyboardInterrupt:
            return 130
    if not args.download and not args.check:
        print_table()
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
