"""Room after room, in processes of their own: a Blender that dies costs a room, not the night."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from train.synthetic import frames
from train.synthetic.kinds import HALLS
from train.synthetic.rooms import compose
from train.synthetic.views import Lenses, any_views, develop, lit

Report = Callable[[int, int, float, Exception | None], None]
ROOMS_PER_PROCESS = 40  # Blender keeps some memory of each room


def hall_share(shares: dict[str, float]) -> float:
    """Which share of the rooms is to be halls."""
    return shares['hall'] / sum(shares.values())


def draw_kinds(rng: np.random.Generator, room_kind: str, shares: dict[str, float],
               count: int) -> list[str]:
    """The kind of each view of a room: halls in halls, all others in other rooms."""
    if room_kind in HALLS:
        return ['hall'] * count
    others = {kind: share for kind, share in shares.items() if kind != 'hall' and share}
    if not others:
        return ['room'] * count
    chances = np.array(list(others.values())) / sum(others.values())
    return [str(kind) for kind in rng.choice(list(others), count, p=chances)]


def make_room(number: int, options: dict[str, Any]) -> tuple[int, int, float]:
    """Compose, render and write one room; returns its number, frames and seconds."""
    from train.synthetic.assets import Assets
    from train.synthetic.scene import build, caster, prepare
    started = time.monotonic()
    out, size = Path(options['out']), options['size']
    # the furniture grows with the rooms, so that the first ones need not wait for all of it
    assets = Assets(options['assets'], min(options['variants'], 3 + number // 12),
                    options['seed'])
    seed = [options['seed'], number]
    room = compose(seed, assets, halls=hall_share(options['kinds']))
    rng = np.random.default_rng([*seed, 1])
    bpy = build(room, assets, rng)
    views = any_views(rng, room, draw_kinds(rng, room.kind, options['kinds'], options['views']),
                      Lenses(**options['lenses']), caster(bpy), size[0] / size[1])
    made = []
    with tempfile.TemporaryDirectory() as folder:
        render = prepare(bpy, size, options['samples'], Path(folder))
        for view in views:
            light, depth = render(view)
            if (depth > 0).mean() > 0.5:
                image, quality = develop(light, rng), int(rng.integers(70, 97))
                if lit(image):
                    made.append((image, depth, view, quality))
    frames.write_room(out, number, room.kind, made)
    return number, len(made), time.monotonic() - started


def _start_worker(log: str) -> None:
    """Blender talks a lot: into a file. A worker ends with the process that started it."""
    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)


def make_rooms(numbers: Iterable[int], options: dict[str, Any], processes: int,
               report: Report) -> list[int]:
    """Make rooms in several processes. A room whose process dies twice is given up.

    report(number, frames, seconds, error) is called for each. Returns the numbers given up.
    """
    todo, lost = list(numbers), []
    tries: dict[int, int] = {}
    log = str(Path(options['out']) / 'blender.log')
    while todo:
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context('spawn'), _start_worker,
                                   (log,), max_tasks_per_child=ROOMS_PER_PROCESS)
        running: dict[Any, int] = {}
        try:
            while todo or running:
                while todo and len(running) < processes:
                    number = todo.pop(0)
                    tries[number] = tries.get(number, 0) + 1
                    running[pool.submit(make_room, number, options)] = number
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    try:
                        _, count, seconds = future.result()
                        report(number, count, seconds, None)
                    except BrokenProcessPool:
                        running[future] = number
                        raise
                    except Exception as error:
                        lost.append(number)
                        report(number, 0, 0.0, error)
        except BrokenProcessPool:
            for number in running.values():
                if tries[number] < 2:
                    todo.append(number)
                else:
                    lost.append(number)
                    report(number, 0, 0.0, OSError('Blender ended without a word'))
        finally:
            pool.shutdown(wait=not sys.exc_info()[0], cancel_futures=True)
    return lost
