"""A training killed at 20 random moments reaches the very weights of one left alone.

``python test/soak/training.py [--kills 20] [--seed 0] [--minutes 20]``. It trains a small network
on the virtual room, then again, killing all of it (SIGKILL) again and again, while starting, while
it steps, validates or writes; and then fills a small disk, where it may mount one.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ground import ROOT, arguments

# isort: split
import cv2
import numpy as np
import torch

from train.throughput import RoomWalk

EPOCHS, STEPS = 12, 96
CONFIG = '''
encoder: efficientnet_lite0
epochs: 12
epoch_images: 16
batch: 2
mix: 0.5
dropout: 0.3
drop_path: 0.3
clip: 1.0
validation: [[0, 1]]
validate_every: 1
ema: 0.9
ema_start: 0.2
log_l1: 1.0
log_gradient: 0.5
head_bias: 2.5
precision: bf16
fused: true
augment: {gamma: 0.3, saturation: 0.5, noise: 0.5, blur: 0.5, tilt: 5.0}
'''


def write_data(folder):
    """Ten pairs of the virtual room in the sync layout."""
    folder.mkdir()
    walk = RoomWalk(10)
    for i in range(len(walk)):
        rgb, depth = walk.read(i)
        cv2.imwrite(str(folder / f'rgb_{i:05d}.jpg'), rgb[..., ::-1])
        cv2.imwrite(str(folder / f'sync_depth_{i:05d}.png'), (1000 * depth).astype(np.uint16))


def start(folder, out, *more):
    return subprocess.Popen(
        [sys.executable, '-m', 'train.nyu', '--config', folder / 'config.yaml', '--data',
         folder / 'data', '--out', out, '--from-scratch', '--checkpoint-every', '1', *more],
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)


def finish(process, seconds):
    _, said = process.communicate(timeout=seconds)
    if process.returncode:
        sys.exit(f'training ended with {process.returncode}: {said[-2000:]}')


def steps_of(out):
    """Steps that the checkpoint in a folder has; 0 without one."""
    last = out / 'last.pt'
    return torch.load(last, weights_only=True)['step'] if last.exists() else 0


def wait_for_checkpoint(process, last):
    """Until a running training writes its next checkpoint."""
    def written():
        return last.stat().st_mtime_ns if last.exists() else 0
    before = written()
    while written() == before and process.poll() is None:
        time.sleep(0.002)


def full_disk(folder):
    """Train into 250 MB, filled once a checkpoint is there; it stays whole, as training says."""
    disk = folder / 'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=250m', 'tmpfs', disk],
                             capture_output=True)
    if mounted.returncode:
        return 'not tried: only root may mount a small disk'
    try:
        process = start(folder, disk / 'out')
        wait_for_checkpoint(process, disk / 'out' / 'last.pt')
        with open(disk / 'filler', 'wb', buffering=0) as filler:
            try:
                while filler.write(bytes(1 << 16)) == 1 << 16:
                    pass
            except OSError:
                pass
        _, said = process.communicate(timeout=600)
        assert process.returncode == 1, said
        assert 'could not be written' in said, said
        assert 'Traceback' not in said, said
        steps = steps_of(disk / 'out')
        assert steps > 0
        (disk / 'filler').unlink()
        finish(start(folder, disk / 'out', '--resume'), 600)
        return f'training on a full disk kept its checkpoint of step {steps} and went on from it'
    finally:
        subprocess.run(['umount', '-l', disk], check=True)


def same(one, two, name='state'):
    """Whether two checkpoints hold the same, down to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(
            same(one[key], two[key], key) for key in one if key not in ('seconds', 'log_size'))
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def main():
    # it gives up after the minutes
    args = arguments(__doc__, minutes=20, kills=20, seed=0).parse_args()
    rng, deadline = random.Random(args.seed), time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_data(folder / 'data')
        (folder / 'config.yaml').write_text(CONFIG)
        began = time.monotonic()
        whole = start(folder, folder / 'whole')
        wait_for_checkpoint(whole, folder / 'whole' / 'last.pt')
        first = time.monotonic() - began
        finish(whole, 600)
        total = time.monotonic() - began
        print(f'left alone: {total:.0f} s, {first:.1f} s to the first checkpoint', flush=True)
        cut, kills, reached = folder / 'cut', 0, []
        while kills < args.kills:
            resume = ['--resume'] if (cut / 'last.pt').exists() else []
            process = start(folder, cut, *resume)
            # one in four while it starts, the others up to some steps after it has gone on
            if rng.random() < 0.25:
                time.sleep(rng.uniform(0, first))
            else:
                wait_for_checkpoint(process, cut / 'last.pt')
                time.sleep(rng.uniform(0, 4 * (total - first) / STEPS))
            if process.poll() is not None:
                _, said = process.communicate()
                sys.exit(f'ended by itself after {kills} kills: {said[-2000:]}')
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stderr.close()
            kills += 1
            reached.append(steps_of(cut))
            if time.monotonic() > deadline:
                sys.exit(f'{args.minutes:g} minutes were not enough: {kills} kills')
        finish(start(folder, cut, *(['--resume'] if reached[-1] else [])), 600)
        print(f'killed {kills} times, at the checkpoints of steps {reached}', flush=True)
        one, two = (torch.load(folder / out / 'last.pt', weights_only=True)
                    for out in ('whole', 'cut'))
        identical = same(one, two)
        epochs = [line.split()[1] for line in (cut / 'log.txt').read_text().splitlines()]
        print(f'weights, averages, optimiser: {"bit-identical" if identical else "NOT THE SAME"}; '
              f'epochs logged: {" ".join(epochs)}')
        print(full_disk(folder))
        if not identical or epochs != [str(i + 1) for i in range(EPOCHS)]:
            sys.exit('failed')


if __name__ == '__main__':
    main()
