"""A room's shell: walls with doorways and windows, floor, ceiling, and what lies behind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from train.synthetic.furnish import Composer, footprint
from train.synthetic.parts import Block, Lamp, Pane

DOOR, SILL = 2.05, 0.9      # m: height of a doorway, usual height of a window's lower edge
THICK = 0.16                # m, walls


def lamp_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    warm = rng.uniform(0, 1)
    return (1.0, 0.78 + 0.2 * warm, 0.52 + 0.45 * warm)


def add_shell(composer: Composer, rng: np.random.Generator) -> None:
    """Walls with doorways and windows, floor, ceiling, skirting; what lies behind the doorways."""
    room = composer.room
    width, depth, height = room.size
    for _ in range(1 + (rng.random() < 0.35)):
        wall = int(rng.integers(4))
        opening = rng.uniform(0.75, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.8)
        if opening < composer.length(wall) - 0.3:
            start = rng.uniform(0.1, composer.length(wall) - opening - 0.1)
            if not composer.hides_opening(wall, start - 0.2, start + opening + 0.2, 2.0):
                _doorway(composer, rng, wall, start, start + opening)
    windows = []
    for _ in range(int(rng.choice([0, 1, 1, 2, 3], p=[.15, .3, .25, .2, .1]))):
        wall = int(rng.integers(4))
        wide = rng.uniform(0.6, 2.2)
        if wide > composer.length(wall) - 0.5:
            continue
        start = rng.uniform(0.25, composer.length(wall) - wide - 0.25)
        lower = SILL * rng.uniform(0.8, 1.15) if rng.random() < 0.85 else 0.12
        upper = min(height - 0.15, lower + rng.uniform(1.0, 1.5) + (lower < 0.5) * 0.8)
        if not composer.hides_opening(wall, start - 0.15, start + wide + 0.15, 3.0):
            windows.append((wall, start, start + wide, lower, upper))
            composer.openings.append((wall, start, start + wide, lower))
    accent = int(rng.integers(4)) if rng.random() < 0.3 else None
    strips = [(0.0, 0.09, 0.014, 'skirting')] if 'skirting' in room.surfaces else []
    if rng.random() < 0.2:
        strips.append((0.0, rng.uniform(0.8, 1.3), 0.011, 'dado'))
    if rng.random() < 0.25:
        strips.append((height - rng.uniform(0.05, 0.12), height, rng.uniform(0.03, 0.1), 'trim'))
    for wall in range(4):
        holes = sorted([(first, last, 0.0, DOOR) for other, first, last, lower in composer.openings
                        if other == wall and lower == 0.0]
                       + [(first, last, lower, upper) for other, first, last, lower, upper
                          in windows if other == wall])
        _wall(composer, wall, holes, height, 'accent' if wall == accent else 'wall', strips)
    for window in windows:
        _window(composer, rng, *window)
    room.boxes.append(Block((width / 2, depth / 2, -0.05), (width + 2 * THICK, depth + 2 * THICK,
                                                         0.1), 'floor'))
    room.boxes.append(Block((width / 2, depth / 2, height + 0.05),
                          (width + 2 * THICK, depth + 2 * THICK, 0.1), 'ceiling'))
    if rng.random() < 0.3 and min(width, depth) > 3:  # a corner built in: an L, or a chimney
        block = rng.uniform(0.15, 0.42, 2) * (width, depth)
        corner = np.array([rng.integers(2), rng.integers(2)])
        centre = np.where(corner, (width, depth) - block / 2, block / 2)
        outline = footprint(centre[0], centre[1], 0.0, -block / 2, block / 2)
        doors = [np.array(composer.at_wall(wall, (first + last) / 2, 0.4)[0])
                 for wall, first, last, _ in composer.openings]
        if all((np.abs(door - centre) > block / 2 + 0.7).any() for door in doors):
            composer.taken.append(outline)
            room.boxes.append(Block((*centre, height / 2), (*block, height), 'wall'))
    _inner(composer, rng)


def _wall(composer: Composer, wall: int, holes: Sequence[tuple[float, float, float, float]],
          height: float, surface: str, strips: Sequence[tuple[float, float, float, str]]) -> None:
    """Boxes of a wall around its holes (from, to, lower, upper), and what runs along it.

    strips: (bottom, top, thickness, surface) of skirting boards and the like, cut by the holes.
    """
    end = composer.length(wall)
    reached = 0.0
    for first, last, lower, upper in holes:
        composer.slab(wall, reached, first - reached, THICK, 0, height, surface, -THICK)
        composer.slab(wall, first, last - first, THICK, 0, lower, surface, -THICK)
        composer.slab(wall, first, last - first, THICK, upper, height, surface, -THICK)
        reached = last
    composer.slab(wall, reached, end - reached, THICK, 0, height, surface, -THICK)
    for bottom, top, thick, name in strips:
        reached = 0.0
        for first, last, lower, upper in holes:
            if lower < top and upper > bottom:
                composer.slab(wall, reached, first - reached, thick, bottom, top, name)
                reached = last
        composer.slab(wall, reached, end - reached, thick, bottom, top, name)


def _inner(composer: Composer, rng: np.random.Generator) -> None:
    """What stands in large rooms and hangs below high ceilings: columns and beams."""
    room = composer.room
    width, depth, height = room.size
    if min(width, depth) > 4.5 and rng.random() < 0.35:
        half = rng.uniform(0.12, 0.25)
        for _ in range(int(rng.integers(1, 4))):
            centre = rng.uniform((1.0, 1.0), (width - 1.0, depth - 1.0))
            outline = footprint(centre[0], centre[1], 0.0, (-half, -half), (half, half))
            if composer.free(outline):
                composer.taken.append(outline)
                room.boxes.append(Block((*centre, height / 2), (2 * half, 2 * half, height),
                                      'wall' if rng.random() < 0.6 else 'beam'))
    if rng.random() < (0.5 if height > 2.9 else 0.1):
        apart, thick, drop = rng.uniform((0.7, 0.08, 0.08), (2.0, 0.22, 0.3))
        across = int(width > depth)  # beams take the shorter way
        for at in np.arange(apart / 2, room.size[1 - across], apart):
            middle, size = (at, depth / 2), (thick, depth)
            if not across:
                middle, size = (width / 2, at), (width, thick)
            room.boxes.append(Block((*middle, height - drop / 2), (*size, drop), 'beam'))


def _doorway(composer: Composer, rng: np.random.Generator, wall: int, first: float,
             last: float) -> None:
    """A doorway with its frame: shut by a door, or open to a piece of another room."""
    composer.openings.append((wall, first, last, 0.0))
    clear = composer.at_wall(wall, (first + last) / 2, 0.4)
    composer.taken.append(footprint(*clear[0], clear[1], (-0.4, -(last - first) / 2),
                                    (0.4, (last - first) / 2)))
    middle, wide = (first + last) / 2, last - first
    # 5 mm proud of the wall's ends: faces that coincide render black
    for along, bottom, top, across in ((first - 0.025, 0, DOOR, .06), (last + 0.025, 0, DOOR, .06),
                                       (middle, DOOR - 0.03, DOOR + 0.04, wide + 0.12)):
        (x, y), yaw = composer.at_wall(wall, along, -THICK / 2)
        composer.room.boxes.append(Block((x, y, (bottom + top) / 2),
                                       (THICK + 0.03, across, top - bottom), 'trim', yaw))
    if rng.random() < 0.45:
        for off, surface in ((-0.03, 'door'), (-THICK, 'trim')):  # and nothing to see below it
            (x, y), yaw = composer.at_wall(wall, middle, off)
            composer.room.boxes.append(Block((x, y, DOOR / 2 - 0.01), (0.04, wide, DOOR - 0.03),
                                           surface, yaw))
        (x, y), yaw = composer.at_wall(wall, first + 0.07, 0.02)
        composer.room.boxes.append(Block((x, y, 1.0), (0.05, 0.12, 0.02), 'metal', yaw))
        return
    beyond, side = rng.uniform(1.0, 4.5), rng.uniform(0.1, 1.5)
    tall = composer.room.size[2]
    for along, off, size in (
            (middle, -THICK - beyond, (0.1, wide + 2 * side, tall)),
            (first - side, -THICK - beyond / 2, (beyond, 0.1, tall)),
            (last + side, -THICK - beyond / 2, (beyond, 0.1, tall))):
        (x, y), yaw = composer.at_wall(wall, along, off)
        composer.room.boxes.append(Block((x, y, tall / 2), size, 'wall beyond', yaw))
    (x, y), yaw = composer.at_wall(wall, middle, -THICK - beyond / 2)
    for z, surface in ((-0.05, 'floor beyond'), (tall + 0.05, 'ceiling')):
        composer.room.boxes.append(Block((x, y, z), (beyond, wide + 2 * side, 0.1), surface, yaw))
    composer.room.lamps.append(Lamp((x, y, tall - 0.03), float(rng.uniform(5, 60)), 0.4,
                                    lamp_colour(rng)))
    if rng.random() < 0.5:  # the door, ajar
        (x, y), yaw = composer.at_wall(wall, first, 0.0)
        swing = rng.uniform(0.9, 1.7)
        leaf = footprint(x, y, yaw + swing, (-0.02, 0.0), (0.02, wide - 0.02))
        if rng.random() < 0.6:
            centre = leaf.mean(axis=0)
            composer.room.boxes.append(Block((*centre, DOOR / 2), (0.04, wide - 0.02, DOOR - 0.06),
                                           'door', yaw + swing))
            composer.taken.append(leaf)


def _window(composer: Composer, rng: np.random.Generator, wall: int, first: float, last: float,
            lower: float, upper: float) -> None:
    """Pane, frame and sill; often a blind or curtains."""
    room, middle = composer.room, (first + last) / 2
    (x, y), yaw = composer.at_wall(wall, middle, -THICK * 0.7)
    tint = rng.uniform(0, 1)
    room.panes.append(Pane((x, y, (lower + upper) / 2), (last - first, upper - lower), yaw,
                           float(rng.uniform(1.5, 9.0)),
                           (0.7 + 0.3 * tint, 0.85 + 0.1 * tint, 1.0)))
    bars = int(rng.integers(1, 4))
    for along in np.linspace(first, last, bars + 1):
        composer.slab(wall, along - 0.025, 0.05, 0.06, lower, upper, 'window frame', -THICK * 0.65)
    for z in (lower, upper, *((lower + upper) / 2,) * int(rng.integers(2))):
        composer.slab(wall, first, last - first, 0.06, z - 0.03, z + 0.03, 'window frame',
                       -THICK * 0.65)
    composer.slab(wall, first - 0.03, last - first + 0.06, 0.18, lower - 0.03, lower, 'trim',
                   -0.12)
    chance = rng.random()
    if chance < 0.3:   # curtains: folds of thin boxes at both sides
        for start, stop in ((first - 0.25, first + 0.15), (last - 0.15, last + 0.25)):
            edges = np.arange(max(0.02, start), min(composer.length(wall) - 0.02, stop), 0.035)
            for k, along in enumerate(edges):
                composer.slab(wall, along, 0.036, 0.02, 0.04, min(upper + 0.2, room.size[2] - .02),
                               'curtain', 0.05 + 0.025 * math.sin(k * 1.3))
    elif chance < 0.5:  # a blind, let down part of the way
        drop = rng.uniform(0.15, 0.95) * (upper - lower)
        for z in np.arange(upper - drop, upper, 0.05):
            composer.slab(wall, first + 0.01, last - first - 0.02, 0.035, z, z + 0.006,
                           'window frame', -0.06)
    if lower > 0.6 and rng.random() < 0.5:  # a radiator below
        wide = min(last - first, rng.uniform(0.6, 1.4))
        outline = footprint(*composer.at_wall(wall, middle, 0.07)[0], yaw, (-0.07, -wide / 2),
                            (0.07, wide / 2))
        if composer.free(outline, 0.0):
            composer.taken.append(outline)
            for along in np.arange(middle - wide / 2, middle + wide / 2, 0.06):
                composer.slab(wall, along, 0.045, 0.07, 0.12, 0.68, 'window frame', 0.04)
