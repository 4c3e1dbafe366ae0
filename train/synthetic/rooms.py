"""Furnished rooms, decided by a seed. Nothing here needs Blender: a catalogue knows the sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from train.synthetic.clutter import EVERYWHERE, OBJECTS, PRINTS, SCREENS
from train.synthetic.furnish import Composer
from train.synthetic.kinds import FLOORS, HALLS, KINDS, ON_TABLES, USUAL_HEIGHT, WALLS
from train.synthetic.parts import FurnishedRoom, Lamp, Surface
from train.synthetic.shell import add_shell, lamp_colour


def _lamps(composer: Composer, rng: np.random.Generator) -> None:
    """Lamps below the ceiling, so bright that the room is neither black nor burnt out."""
    room = composer.room
    width, depth, height = room.size
    fixture = composer.draw('CeilingLight') if rng.random() < 0.4 else None
    count = min(24, max(1, round(width * depth / 12 * rng.uniform(0.5, 1.6))))
    power = width * depth * rng.uniform(2.5, 9.0) / count
    across = math.ceil(math.sqrt(count * width / depth))
    for k in range(count):
        rows = math.ceil(count / across)
        x = (k % across + 0.5) / across * width
        y = (k // across + 0.5) / rows * depth
        below = 0.02
        if fixture:
            piece, low, high = fixture
            composer.hang(replace(piece), low, high, x, y)
            below += (high - low)[2]
        room.lamps.append(Lamp((x, y, height - below), power, float(rng.uniform(0.1, 0.9)),
                               lamp_colour(rng)))
    if room.panes and rng.random() < 0.4:
        pane = room.panes[int(rng.integers(len(room.panes)))]
        azimuth, down = pane.yaw + rng.uniform(-0.9, 0.9), rng.uniform(0.3, 1.0)
        room.sun = ((math.cos(azimuth) * math.cos(down), math.sin(azimuth) * math.cos(down),
                     -math.sin(down)), float(rng.uniform(2, 12)))


def _surfaces(kind: str, rng: np.random.Generator, variants: int) -> dict[str, Surface]:
    """Which floor, paint and wood a room has: name → (kind of surface, number)."""
    def some(*kinds: str) -> Surface:
        return str(rng.choice(kinds)), int(rng.integers(variants))
    wet = kind in ('bathroom', 'kitchen')
    chosen = {
        'floor': some(*(FLOORS if not wet else ('floor_tile', 'floor_tile', 'floor_wood'))),
        'wall': some(*(WALLS if kind != 'bathroom' else ('wall_tile', 'paint'))),
        'ceiling': some('paint', 'plaster'),
        'trim': some('paint', 'wood'), 'door': some('wood', 'paint'),
        'window frame': some('paint', 'paint', 'wood'), 'curtain': some('fabric'),
        'cupboard': some('paint', 'wood'), 'cupboard door': some('paint', 'wood'),
        'worktop': some('wood', 'marble', 'paint'), 'metal': some('metal'),
        'accent': some(*WALLS), 'dado': some('wood', 'paint', 'wall_tile'),
        'beam': some('wood', 'paint'), 'blanket': some('fabric'),
        'cardboard': some('cardboard'), 'floor beyond': some(*FLOORS),
        'wall beyond': some('paint', 'plaster'), 'rack': some('paint', 'metal')}
    chosen |= {name: some('plastic', 'plastic', 'paint', 'fabric') for name in OBJECTS}
    chosen |= {name: some('print') for name in PRINTS}
    chosen |= {name: some('screen') for name in SCREENS}
    if rng.random() < 0.6:
        chosen['skirting'] = chosen['trim'] if rng.random() < 0.5 else some('paint', 'wood')
    return chosen


def compose(seed: int | Sequence[int], catalogue: Any, kind: str | None = None,
            halls: float = 0.0) -> FurnishedRoom:
    """The room of a seed (an int or a list of ints).

    catalogue: sizes of the furniture, see :class:`Composer`; ``surface_variants``: how many
    numbers each kind of surface has. kind: of ``KINDS``; None: drawn by their shares. halls: the
    share of rooms that are ``HALLS``.
    """
    rng = np.random.default_rng(seed)
    names = HALLS if rng.random() < halls else tuple(name for name in KINDS if name not in HALLS)
    shares = np.array([KINDS[name]['share'] for name in names], float)
    drawn = str(rng.choice(names, p=shares / shares.sum()))
    kind = kind or drawn
    recipe = KINDS[kind]
    sides = [float(rng.uniform(*side)) for side in recipe['sides']]
    if rng.random() < 0.5:
        sides.reverse()
    room = FurnishedRoom(kind, (*sides, float(rng.uniform(*recipe.get('high', USUAL_HEIGHT)))))
    room.surfaces = _surfaces(kind, rng, catalogue.surface_variants)
    composer = Composer(room, catalogue, rng)
    add_shell(composer, rng)
    for (least, most), name in recipe['sets']:
        for _ in range(composer.count(least, most)):
            getattr(composer, f'set_{name}')()
    for (least, most), kinds in recipe['wall']:
        for _ in range(composer.count(least, most)):
            placed = composer.against_wall(str(rng.choice(kinds)))
            if placed and 0.3 < (placed[2] - placed[1])[2] < 1.4 and rng.random() < 0.6:
                composer.on_top(ON_TABLES, composer.count(1, 3), *placed[:3])
                composer.scatter(EVERYWHERE, *placed[:3])
    (least, most), kinds = recipe['middle']
    for _ in range(composer.count(least, most)):
        composer.anywhere(str(rng.choice(kinds)))
    composer.clutter(composer.count(*recipe['clutter']))
    composer.on_walls(composer.count(0, min(14, max(4, round(sum(sides) / 2)))))
    if rng.random() < recipe['rug']:
        composer.rug()
    _lamps(composer, rng)
    return room
