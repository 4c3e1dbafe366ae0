"""One compact store from any form of RGB-D data: ``python -m train.prepare --data PATH --out S``.

Training reads the store fastest: two arrays on disk, decoded, registered, at one size. The raw
NYU recordings are synchronised and registered on the way. Stopped, it goes on where it was.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

import cv2
import numpy as np
import tqdm

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error, user_path
from hybrid_depth_ros.encodings import depth_to_millimetres
from hybrid_depth_ros.errors import explain
from train.arguments import add_data_arguments, open_data
from train.datasets import open_dataset
from train.datasets.nyu import LabeledMat
from train.datasets.nyu_raw import RawScenes
from train.datasets.pairs import Subset, equally_spaced, read_checked

PAPER_COUNT = 48_000  # equally spaced training pairs (Harsányi et al. 2018, section 4)
WIDTH, HEIGHT = 352, 264  # what the paper resizes to before anything else
SQUASHED = 0.03           # of a side, which nobody sees
TODO, DONE, BROKEN = 0, 1, 2


def without_test_scenes(path, labeled):
    """The raw scenes at a path, less every scene that one of the 654 test images shows.

    labeled: ``nyu_depth_v2_labeled.mat``, with ``splits.mat`` beside it. Recordings of one
    scene differ by a letter (``office_0001a``), and all of them are left out.
    """
    tested = {re.sub(r'[a-z]$', '', scene) for scene in LabeledMat(labeled, 'test').scenes()}
    folders = [folder.name for folder in Path(path).iterdir() if folder.is_dir()]
    return RawScenes(path, [name for name in folders
                            if re.sub(r'[a-z]$', '', name.split('_part')[0]) in tested])


def resize_pair(rgb, depth, width, height):
    """Colour by area, depth by nearest neighbour: no depth between two surfaces is invented."""
    if rgb.shape[:2] != (height, width):
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    if depth.shape != (height, width):
        depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    return rgb, depth


def fits(rgb, width, height):
    """Whether a picture becomes width×height by being shrunk, not squashed."""
    return abs(rgb.shape[1] * height / (rgb.shape[0] * width) - 1) < SQUASHED


def own_size(dataset):
    """(WIDTH, height) of the same shape as the first picture that can be read."""
    for i in range(len(dataset)):
        with suppress(OSError):
            rgb, _, _ = read_checked(dataset, i)
            return WIDTH, max(1, round(WIDTH * rgb.shape[0] / rgb.shape[1]))
    return WIDTH, HEIGHT


def _arrays(folder, mode='r+'):
    return (np.load(folder / f'{name}.npy', mmap_mode=mode) for name in ('rgb', 'depth', 'state'))


def _begin(dataset, folder, width, height):
    """Make the arrays, or find those of an earlier run with the same pairs and size."""
    plan = {'size': [width, height], 'names': [dataset.name(i) for i in range(len(dataset))]}
    if (folder / 'plan.json').is_file():
        if json.loads((folder / 'plan.json').read_text()) != plan:
            raise OSError(f'{folder} holds the start of a store of other pairs or another size; '
                          'remove it or choose another --out')
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    count = len(dataset)
    for name, kind, shape in (('rgb', np.uint8, (count, height, width, 3)),
                              ('depth', np.uint16, (count, height, width)),
                              ('state', np.uint8, (count,))):
        np.lib.format.open_memmap(folder / f'{name}.npy', 'w+', kind, shape)
    (folder / 'plan.json').write_text(json.dumps(plan))  # last: the arrays are there


def _start_worker(dataset, folder):
    global _job
    cv2.setNumThreads(1)
    _job = dataset, folder


def _fill(share):
    """Read and write one share of the pairs; returns its size and what could not be read."""
    dataset, folder = _job
    rgbs, depths, states = _arrays(folder)
    height, width = depths.shape[1:]
    broken = []
    for i in share:
        try:
            rgb, depth, _ = read_checked(dataset, i)
            if not fits(rgb, width, height):
                raise OSError(f'{dataset.name(i)} is {rgb.shape[1]}×{rgb.shape[0]}, the store '
                              f'{width}×{height}: --size of its shape, in a store of its own')
            rgb, depth = resize_pair(rgb, depth, width, height)
        except OSError as error:
            states[i] = BROKEN
            broken.append(explain(error))
            continue
        rgbs[i], depths[i] = rgb, depth_to_millimetres(depth)
        states[i] = DONE
    for array in (rgbs, depths, states):
        array.flush()
    return len(share), broken


@contextmanager
def _interrupts_for_us_alone():
    """Processes that are started inside stay deaf to Ctrl-C; here it is raised at the end."""
    asked = []
    resource_tracker.ensure_running()  # which would let it through again
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def prepare(dataset, out, width=WIDTH, height=HEIGHT, workers=None):
    """Write a dataset as a store; returns how many pairs could not be read (left out, named).

    So are pairs of another shape: squashed, they would be seen through a lens that is none. The
    store appears at `out` when it is whole; until then its parts lie in ``OUT.partial``, and
    another call goes on there.
    Raises OSError where `out` exists or nothing could be read.
    """
    out = Path(out)
    if out.exists():
        raise OSError(f'{out} is there already; remove it or choose another --out')
    folder = out.with_name(out.name + '.partial')
    _begin(dataset, folder, width, height)
    *_, states = _arrays(folder)
    todo = np.flatnonzero(states == TODO)
    shares = [share.tolist()
              for share in np.array_split(todo, max(1, len(todo) // 32)) if share.size]
    context = multiprocessing.get_context('spawn')  # forked HDF5 and OpenCV threads hang
    workers = workers or os.cpu_count() or 1
    with tqdm.tqdm(total=len(dataset), initial=len(dataset) - len(todo), unit='pair') as bar:
        pool = None
        try:
            if workers > 1 and len(shares) > 1:
                with _interrupts_for_us_alone():
                    pool = context.Pool(workers, _start_worker, (dataset, folder))
            else:
                _start_worker(dataset, folder)
            for count, broken in (pool.imap_unordered if pool else map)(_fill, shares):
                bar.update(count)
                for line in broken:
                    bar.write(f'left out: {line}', file=sys.stderr)
        finally:
            if pool:
                pool.terminate()
    return _finish(dataset, folder, out)


def _finish(dataset, folder, out):
    rgbs, depths, states = _arrays(folder, 'r')
    good = np.flatnonzero(states == DONE)
    if not good.size:
        raise OSError(f'not one of {len(dataset)} pairs could be read; the reasons stand above. '
                      f'Mend them, remove {folder} and run this again')
    whole = folder
    if good.size < len(dataset):
        whole = out.with_name(out.name + '.packed')
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir()
        for name, array in (('rgb', rgbs), ('depth', depths)):
            packed = np.lib.format.open_memmap(whole / f'{name}.npy', 'w+', array.dtype,
                                               (good.size, *array.shape[1:]))
            for to, index in enumerate(good):
                packed[to] = array[index]
            packed.flush()
    chosen = Subset(dataset, good.tolist())
    (whole / 'store.json').write_text(json.dumps({
        key: [function(i) for i in range(len(chosen))] for key, function in (
            ('names', chosen.name), ('numbers', chosen.number), ('focals', chosen.focal))}))
    os.replace(whole, out)
    if whole is folder:
        for name in ('plan.json', 'state.npy'):
            (out / name).unlink()
    else:
        shutil.rmtree(folder)
    return len(dataset) - good.size


def main(argv=None):
    parser = argument_parser(__doc__, prog='train.prepare')
    parser.add_argument('--data', type=user_path, required=True, help='any form of RGB-D data')
    parser.add_argument('--out', type=user_path, required=True, help='the store, a new folder')
    add_data_arguments(parser, 'train')
    parser.add_argument('--count', type=int, help='keep this many, equally spaced '
                        f'(raw NYU: {PAPER_COUNT:,}, the paper\'s; others: all)')
    parser.add_argument('--size', metavar='WxH', help=f'default: {WIDTH} pixels wide, in the shape '
                        'of the first picture; others are left out')
    parser.add_argument('--workers', type=int, help='processes; default: one for each core')
    parser.add_argument('--labeled', type=user_path, metavar='MAT',
                        help='nyu_depth_v2_labeled.mat: leave out raw scenes that a test image '
                        'shows')
    args = parser.parse_args(argv)
    size = re.fullmatch(r'(\d+)[x×](\d+)', args.size or f'{WIDTH}x{HEIGHT}')
    if not size or not all(int(side) for side in size.groups()):
        parser.error(f'--size is {args.size!r}; it must be like {WIDTH}x{HEIGHT}')
    check_minimum(parser, args, count=1, workers=1)
    with exit_on_error('train.prepare', 'stopped; the same command goes on from here'):
        dataset = open_data(args, args.data)
        for sentence in dataset.left_out:
            print(f'left out: {sentence}', file=sys.stderr)
        count = args.count
        if isinstance(dataset, RawScenes):
            count = count or PAPER_COUNT
            if args.labeled:
                dataset = without_test_scenes(args.data, args.labeled)
        elif args.labeled:
            raise ValueError(f'--labeled is for raw scenes, which {args.data} is not; leave it out')
        chosen = equally_spaced(dataset, count)
        width, height = (own_size(chosen) if not args.size and not isinstance(dataset, RawScenes)
                         else map(int, size.groups()))
        lost = prepare(chosen, args.out, width, height, args.workers)
    print(f'{args.out}: {len(open_dataset(args.out))} pairs'
          + (f', {lost} left out' if lost else ''))


if __name__ == '__main__':
    main()
