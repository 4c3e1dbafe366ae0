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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import tqdm

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error, user_path
from hybrid_depth_ros.encodings import depth_to_millimetres
from hybrid_depth_ros.errors import explain
from train.arguments import add_data_arguments, open_data
from train.datasets import open_dataset
from train.datasets.nyu import LabeledMat
from train.datasets.nyu_raw import RawScenes
from train.datasets.pairs import RgbdDataset, RgbdPair, Subset, equally_spaced, read_checked

PAPER_COUNT = 48_000  # equally spaced training pairs (Harsányi et al. 2018, section 4)
WIDTH, HEIGHT = 352, 264  # pixels; what the paper resizes to before anything else
MAX_SQUEEZE = 0.03        # of a side, which nobody sees
PAIRS_PER_TASK = 32       # of one process
TODO, DONE, UNREADABLE = 0, 1, 2  # states of a pair in state.npy


def without_test_scenes(path: str | Path, labeled: str | Path) -> RawScenes:
    """The raw scenes at a path, less every scene that one of the 654 test images shows.

    Recordings of one scene differ by a letter (``office_0001a``), and all of them are left out.

    Args:
        path: A folder of raw scenes.
        labeled: ``nyu_depth_v2_labeled.mat``, with ``splits.mat`` beside it.
    """
    tested = {re.sub(r'[a-z]$', '', scene) for scene in LabeledMat(labeled, 'test').scenes()}
    folders = [folder.name for folder in Path(path).iterdir() if folder.is_dir()]
    return RawScenes(path, [name for name in folders
                            if re.sub(r'[a-z]$', '', name.split('_part')[0]) in tested])


def resize_pair(rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32], width: int,
                height: int) -> RgbdPair:
    """Colour by area, depth by nearest neighbour: no depth between two surfaces is invented."""
    if rgb.shape[:2] != (height, width):
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    if depth.shape != (height, width):
        depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    return RgbdPair(rgb, depth)


def has_aspect(rgb: npt.NDArray[np.uint8], width: int, height: int) -> bool:
    """Whether an image becomes width×height without being squeezed."""
    return abs(rgb.shape[1] * height / (rgb.shape[0] * width) - 1) < MAX_SQUEEZE


def default_size(dataset: RgbdDataset) -> tuple[int, int]:
    """(WIDTH, height) with the aspect of the first image that can be read."""
    for i in range(len(dataset)):
        with suppress(OSError):
            rgb = read_checked(dataset, i).rgb
            return WIDTH, max(1, round(WIDTH * rgb.shape[0] / rgb.shape[1]))
    return WIDTH, HEIGHT


def _arrays(folder: Path, mode: Literal['r', 'r+'] = 'r+') -> Iterator[np.memmap]:
    """rgb, depth and state of a store that is being written, memory-mapped."""
    return (np.load(folder / f'{name}.npy', mmap_mode=mode) for name in ('rgb', 'depth', 'state'))


def _begin(dataset: RgbdDataset, folder: Path, width: int, height: int) -> None:
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


_job: tuple[RgbdDataset, Path]  # of a process


def _start_worker(dataset: RgbdDataset, folder: Path) -> None:
    """What each process keeps: the dataset and the folder of the store."""
    global _job
    cv2.setNumThreads(1)
    _job = dataset, folder


def _fill(indices: list[int]) -> tuple[int, list[str]]:
    """Read and write some of the pairs.

    Returns:
        How many they were; a sentence for each that could not be read.
    """
    dataset, folder = _job
    rgbs, depths, states = _arrays(folder)
    height, width = depths.shape[1:]
    unreadable = []
    for i in indices:
        try:
            rgb, depth, _ = read_checked(dataset, i)
            if not has_aspect(rgb, width, height):
                raise OSError(f'{dataset.name(i)} is {rgb.shape[1]}×{rgb.shape[0]}, the store '
                              f'{width}×{height}: --size of its shape, in a store of its own')
            rgb, depth = resize_pair(rgb, depth, width, height)
        except OSError as error:
            states[i] = UNREADABLE
            unreadable.append(explain(error))
            continue
        rgbs[i], depths[i] = rgb, depth_to_millimetres(depth)
        states[i] = DONE
    for array in (rgbs, depths, states):
        array.flush()
    return len(indices), unreadable


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Processes that are started inside ignore Ctrl-C; here it is raised at the end."""
    received: list[int] = []
    resource_tracker.ensure_running()  # which would let it through again
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


def prepare(dataset: RgbdDataset, out: str | Path, width: int = WIDTH, height: int = HEIGHT,
            workers: int | None = None) -> int:
    """Write a dataset as a store.

    Pairs of another aspect are left out too: squeezed, they would have a focal length of their
    own in each direction. The store appears at `out` when it is whole. Until then its parts lie
    in ``OUT.partial``, and another call goes on there.

    Args:
        dataset: Any form of RGB-D data.
        out: The store, a new folder.
        width, height: Pixels.
        workers: Processes; by default one for each core.

    Returns:
        How many pairs were left out; each is named.

    Raises:
        OSError: `out` exists, or nothing could be read.
    """
    out = Path(out)
    if out.exists():
        raise OSError(f'{out} is there already; remove it or choose another --out')
    folder = out.with_name(out.name + '.partial')
    _begin(dataset, folder, width, height)
    *_, states = _arrays(folder)
    todo = np.flatnonzero(states == TODO)
    tasks = [task.tolist() for task in np.array_split(
        todo, max(1, len(todo) // PAIRS_PER_TASK)) if task.size]
    context = multiprocessing.get_context('spawn')  # forked HDF5 and OpenCV threads hang
    workers = workers or os.cpu_count() or 1
    with tqdm.tqdm(total=len(dataset), initial=len(dataset) - len(todo), unit='pair') as bar:
        pool = None
        try:
            if workers > 1 and len(tasks) > 1:
                with _children_ignore_interrupts():
                    pool = context.Pool(workers, _start_worker, (dataset, folder))
            else:
                _start_worker(dataset, folder)
            for count, unreadable in (pool.imap_unordered if pool else map)(_fill, tasks):
                bar.update(count)
                for line in unreadable:
                    bar.write(f'left out: {line}', file=sys.stderr)
        finally:
            if pool:
                pool.terminate()
    return _finish(dataset, folder, out)


def _finish(dataset: RgbdDataset, folder: Path, out: Path) -> int:
    """Move the store to `out`, without the pairs that could not be read; how many these are."""
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


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argument_parser(__doc__, prog='train.prepare')
    parser.add_argument('--data', type=user_path, required=True, help='any form of RGB-D data')
    parser.add_argument('--out', type=user_path, required=True, help='the store, a new folder')
    add_data_arguments(parser, 'train')
    parser.add_argument('--count', type=int, help='keep this many, equally spaced '
                        f'(raw NYU: {PAPER_COUNT:,}, the paper\'s; others: all)')
    parser.add_argument('--size', metavar='WxH', help=f'default: {WIDTH} pixels wide, in the shape '
                        'of the first image; others are left out')
    parser.add_argument('--workers', type=int, help='processes; default: one for each core')
    parser.add_argument('--labeled', type=user_path, metavar='MAT',
                        help='nyu_depth_v2_labeled.mat: leave out raw scenes that a test image '
                        'shows')
    args = parser.parse_args(argv)
    size = re.fullmatch(r'(\d+)[x×](\d+)', args.size or f'{WIDTH}x{HEIGHT}')
    width, height = map(int, size.groups()) if size else (0, 0)
    if not width or not height:
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
        if not args.size and not isinstance(dataset, RawScenes):
            width, height = default_size(chosen)
        lost = prepare(chosen, args.out, width, height, args.workers)
    print(f'{args.out}: {len(open_dataset(args.out))} pairs'
          + (f', {lost} left out' if lost else ''))


if __name__ == '__main__':
    main()
