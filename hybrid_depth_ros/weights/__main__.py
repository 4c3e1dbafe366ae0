"""Which networks have a name here; download them before a robot goes where no network is.

``ros2 run hybrid_depth_ros weights`` or ``python -m hybrid_depth_ros.weights``: lists them.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import sys

from hybrid_depth_ros.arguments import argument_parser
from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.models.base import HUB
from hybrid_depth_ros.models.hub import hub_folder, kept_folder
from hybrid_depth_ros.models.registry import HUB_NAMES
from hybrid_depth_ros.weights import REGISTRY, weights_path

OWN = {  # licence, what it was trained on, figures; docs/accuracy.md has them all
    'lite-nyu': ('MIT', 'NYU Depth v2, rendered and virtual rooms',
                 'REL 0.157, δ1 0.772 on 61 images, measured here'),
    'paper-nyu': ("its authors'", 'NYU Depth v2', 'NYU: REL 0.130, δ1 0.833, as published')}


def rows():
    """(name, what it gives, where it is, MB, licence, trained on, figures) of all names."""
    for name, entry in REGISTRY.items():
        licence, trained, figures = OWN[name]
        here = entry.path.exists()
        yield (name, 'metres', 'here' if here else 'to download',
               f'{entry.path.stat().st_size / 1e6:.0f}' if here else '', licence, trained, figures)
    for name, entry in HUB_NAMES.items():
        yield (name, 'no metres' if entry.relative else 'metres',
               'here' if kept_folder(entry.address) else 'to download',
               str(entry.size or ''), entry.licence + (' (not commercial)' if entry.note
                                                       else ''),
               entry.trained, f'{entry.published}, as published' if entry.published else '')


def print_table():
    """All names, one a line."""
    table = [('name', 'gives', '', 'MB', 'licence', 'trained on', 'figures'), *rows()]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print('  '.join(f'{text:{width}}' for text, width in zip(row, widths)).rstrip())
    print(f'\nBesides: {HUB}ORG/NAME on the hub, a folder in transformers\' format, an .onnx file, '
          'your own .safetensors (docs/models.md).')


def download(name, fresh=False):
    """Bring a name's weights here; returns where they are."""
    if name in HUB_NAMES or name.startswith(HUB):
        entry = HUB_NAMES.get(name)
        if entry and entry.note:
            print(f'{name}: {entry.note}')
        return hub_folder(entry.address if entry else name, fresh)
    return weights_path(name)


def check(name):
    """Load a network and look through it; returns a sentence."""
    model = open_model(name)
    model.trial()
    if 'torch' in model.runtimes:
        model.module()
    return (f'{name}: {model.path} is whole and gives '
            + ('no metres: it needs anchors' if model.relative else 'metres')
            + f' (sha256 {model.digest[:16]}…)')


def main(argv=None):
    parser = argument_parser(__doc__, prog='weights')
    parser.add_argument('--download', nargs='+', default=[], metavar='NAME',
                        help='bring these here, and check them')
    parser.add_argument('--fresh', action='store_true', help='ask the hub for what is new')
    parser.add_argument('--check', nargs='+', default=[], metavar='NAME',
                        help='load these and look through them, without a network')
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
