"""Small things on tables, shelves and floors, made of boxes: what a close camera sees.

Each maker returns the boxes of one thing in a frame of its own: x to the back, y to the left, z up
from what it lies on, the middle of its outline at the origin. Surfaces are names of
``FurnishedRoom.surfaces``; ``object 0`` to ``object 7`` are plain colours, drawn for each room.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from train.synthetic.parts import Block

OBJECTS = tuple(f'object {i}' for i in range(8))
PRINTS = ('print 0', 'print 1', 'print 2')
SCREENS = ('screen 0', 'screen 1')
Maker = Callable[[np.random.Generator], list[Block]]


def surface(rng: np.random.Generator, *others: str) -> str:
    """A plain colour of the room, or one of the other surfaces."""
    names = OBJECTS + others
    return names[int(rng.integers(len(names)))]


def carton(rng: np.random.Generator) -> list[Block]:
    """A cardboard box, a packet, a block."""
    size = rng.uniform((0.03, 0.04, 0.02), (0.24, 0.3, 0.24)) * rng.uniform(0.5, 1.2)
    name = surface(rng, 'cardboard', 'cardboard', 'cardboard', *PRINTS)
    boxes = [Block((0.0, 0.0, size[2] / 2), tuple(size), name)]
    if name == 'cardboard' and rng.random() < 0.5:  # its adhesive tape
        boxes.append(Block((0.0, 0.0, size[2] + 5e-4), (size[0], 0.05, 0.001), surface(rng)))
    return boxes


def papers(rng: np.random.Generator) -> list[Block]:
    """Sheets of paper, not quite on top of each other."""
    boxes, height = [], 0.0
    for _ in range(int(rng.integers(1, 6))):
        thick = 0.001 if rng.random() < 0.7 else rng.uniform(0.003, 0.012)
        x, y = rng.normal(0, 0.02, 2)
        boxes.append(Block((x, y, height + thick / 2), (0.21, 0.297, thick),
                         PRINTS[int(rng.integers(3))], rng.normal(0, 0.2)))
        height += thick
    return boxes


def books(rng: np.random.Generator) -> list[Block]:
    """A row of standing books, or a pile of lying ones."""
    boxes, at = [], 0.0
    standing = rng.random() < 0.6
    count = int(rng.integers(2, 12 if standing else 6))
    for _ in range(count):
        wide, deep, thick = rng.uniform((0.11, 0.16, 0.008), (0.19, 0.27, 0.05))
        name = surface(rng, *PRINTS)
        if standing:
            boxes.append(Block((rng.normal(0, 0.006), at + thick / 2, deep / 2),
                             (wide, thick - 0.001, deep), name))
        else:
            boxes.append(Block((*rng.normal(0, 0.01, 2), at + thick / 2), (deep, wide, thick),
                             name, rng.normal(0, 0.15)))
        at += thick
    if standing:
        for box in boxes:
            box.centre = (box.centre[0], box.centre[1] - at / 2, box.centre[2])
    return boxes


def keyboard(rng: np.random.Generator) -> list[Block]:
    """A keyboard, and often a mouse beside it."""
    body, key = surface(rng), surface(rng)
    columns, pitch = int(rng.integers(12, 21)), 0.019
    wide = columns * pitch + 0.016
    boxes = [Block((0.0, 0.0, 0.009), (0.125, wide, 0.018), body)]
    boxes += [Block((x, (column - (columns - 1) / 2) * pitch, 0.02), (0.0155, 0.0155, 0.005), key)
              for x in (-0.04, -0.02, 0.0, 0.02, 0.04) for column in range(columns)]
    if rng.random() < 0.7:
        boxes.append(Block((rng.normal(0, 0.03), -wide / 2 - 0.08, 0.015), (0.11, 0.06, 0.03),
                         surface(rng), rng.normal(0, 0.3)))
    return boxes


def monitor(rng: np.random.Generator) -> list[Block]:
    """A screen on its foot, looking to the front."""
    wide = rng.uniform(0.42, 0.72)
    high, lift = wide * rng.uniform(0.52, 0.65), rng.uniform(0.06, 0.2)
    case = surface(rng)
    return [Block((0.02, 0.0, 0.01), (0.2, 0.24, 0.02), case),
            Block((0.05, 0.0, lift), (0.03, 0.05, 2 * lift), case),
            Block((0.02, 0.0, lift + high / 2), (0.035, wide, high), case),
            Block((0.0, 0.0, lift + high / 2), (0.006, wide - 0.03, high - 0.03),
                SCREENS[int(rng.integers(2))])]


def laptop(rng: np.random.Generator) -> list[Block]:
    """A laptop, opened."""
    wide, deep, case = rng.uniform(0.3, 0.38), rng.uniform(0.21, 0.26), surface(rng)
    lean = rng.uniform(0.05, 0.5)
    back = np.array([math.sin(lean), math.cos(lean)])
    middle = np.array([deep / 2, 0.018]) + back * deep / 2
    screen = middle + np.array([-math.cos(lean), math.sin(lean)]) * 0.005
    key = surface(rng)
    return [Block((0.0, 0.0, 0.009), (deep, wide, 0.018), case),
            Block((0.02, 0.0, 0.019), (0.11, wide - 0.04, 0.003), key),
            Block((-0.07, 0.0, 0.0185), (0.06, 0.1, 0.002), key),
            Block((middle[0], 0.0, middle[1]), (0.008, wide, deep), case, tilt=lean),
            Block((screen[0], 0.0, screen[1]), (0.002, wide - 0.02, deep - 0.03),
                SCREENS[int(rng.integers(2))], tilt=lean)]


def flat_thing(rng: np.random.Generator) -> list[Block]:
    """A telephone, a tablet, a note, a ruler."""
    sizes = ((0.15, 0.07, 0.009), (0.24, 0.17, 0.008), (0.076, 0.076, 0.004), (0.03, 0.3, 0.003),
             (0.008, 0.14, 0.008))
    size = sizes[int(rng.integers(len(sizes)))]
    boxes = [Block((0.0, 0.0, size[2] / 2), size, surface(rng))]
    if size[1] > 0.06 and size[0] > 0.1:
        boxes.append(Block((0.0, 0.0, size[2] + 5e-4), (size[0] - 0.01, size[1] - 0.01, 0.001),
                         SCREENS[int(rng.integers(2))]))
    return boxes


def cable(rng: np.random.Generator) -> list[Block]:
    """A cable that winds."""
    thick, step = rng.uniform(0.003, 0.009), 0.02
    name, turn, bend = surface(rng), rng.uniform(-3, 3), 0.0
    place, boxes = np.zeros(2), []
    for _ in range(int(rng.integers(12, 45))):
        bend = 0.85 * bend + rng.normal(0, 0.12)
        turn += bend
        ahead = np.array([math.cos(turn), math.sin(turn)])
        place = place + step * ahead
        boxes.append(Block((*place, thick / 2), (step * 1.1, thick, thick), name, turn))
    middle = np.mean([box.centre for box in boxes], axis=0)
    for box in boxes:
        box.centre = (box.centre[0] - middle[0], box.centre[1] - middle[1], box.centre[2])
    return boxes


def can(rng: np.random.Generator) -> list[Block]:
    """Something round and upright: a can, a jar, a pot of pens."""
    radius, high, name = rng.uniform(0.025, 0.06), rng.uniform(0.06, 0.2), surface(rng, *PRINTS)
    side = 2 * radius * math.tan(math.pi / 12)
    boxes = [Block((0.0, 0.0, high / 2), (2 * radius, side, high - 1e-4 * k), name, k * math.pi / 6)
             for k in range(6)]
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(2, 7))):
            x, y = rng.uniform(-0.6, 0.6, 2) * radius
            boxes.append(Block((x, y, high + 0.03), (0.007, 0.007, 0.1), surface(rng),
                             rng.uniform(0, 1), rng.normal(0, 0.15)))
    return boxes


def tray(rng: np.random.Generator) -> list[Block]:
    """An open box or tray, with something in it."""
    deep, wide, high = rng.uniform((0.12, 0.15, 0.03), (0.3, 0.4, 0.16))
    name, thick = surface(rng, 'cardboard', 'cardboard'), 0.006
    boxes = [Block((0.0, 0.0, thick / 2), (deep, wide, thick), name)]
    for sign in (-1, 1):
        boxes.append(Block((sign * deep / 2, 0.0, high / 2), (thick, wide, high), name))
        boxes.append(Block((0.0, sign * wide / 2, high / 2), (deep, thick, high), name))
    for _ in range(int(rng.integers(0, 6))):
        size = rng.uniform(0.02, 0.45) * np.array([deep, wide, high])
        x, y = rng.uniform(-0.25, 0.25, 2) * (deep, wide)
        boxes.append(Block((x, y, thick + size[2] / 2), tuple(size), surface(rng, *PRINTS),
                         rng.uniform(-1, 1)))
    return boxes


def tools(rng: np.random.Generator) -> list[Block]:
    """Long thin things that lie crosswise: pens, tools, cutlery."""
    boxes = []
    for k in range(int(rng.integers(1, 6))):
        long, thick = rng.uniform(0.08, 0.28), rng.uniform(0.005, 0.022)
        x, y = rng.uniform(-0.06, 0.06, 2)
        boxes.append(Block((x, y, thick / 2 + 0.002 * k), (long, thick, thick),
                         surface(rng, 'metal'), rng.uniform(-math.pi, math.pi)))
    return boxes


EVERYWHERE: tuple[Maker, ...] = (carton, carton, papers, books, flat_thing, cable, can, can, tray,
                                 tools)
AT_A_DESK: tuple[Maker, ...] = (keyboard, laptop, papers, papers, cable, cable, flat_thing,
                                *EVERYWHERE)
IN_SHELVES: tuple[Maker, ...] = (books, books, carton, carton, can, tray)
ON_A_FLOOR: tuple[Maker, ...] = (carton, carton, cable, papers, tray, tools)


def extent(boxes: list[Block]) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of some boxes, 3 each, m, in their common frame."""
    corners = np.vstack([box.corners() for box in boxes])
    return corners.min(axis=0), corners.max(axis=0)


def put(boxes: list[Block], x: float, y: float, z: float, yaw: float, scale: float) -> list[Block]:
    """A thing's boxes, made larger by scale, turned, and put at a place in the room."""
    c, s = math.cos(yaw), math.sin(yaw)
    return [Block((x + scale * (c * box.centre[0] - s * box.centre[1]),
                 y + scale * (s * box.centre[0] + c * box.centre[1]), z + scale * box.centre[2]),
                tuple(scale * side for side in box.size), box.surface, box.yaw + yaw, box.tilt)
            for box in boxes]
