"""Putting furniture into a room: against walls, around tables, on top, nowhere twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.synthetic import clutter
from train.synthetic.clutter import Maker
from train.synthetic.kinds import ON_COUNTERS, ON_DESKS, ON_FLOORS, ON_TABLES
from train.synthetic.parts import Block, FurnishedRoom, Outline, Piece, Vector


def footprint(x: float, y: float, yaw: float, low: Sequence[float] | Vector,
              high: Sequence[float] | Vector) -> Outline:
    """Corners 4×2 of a thing's outline on the floor; low, high: its bounds in its own frame."""
    c, s = math.cos(yaw), math.sin(yaw)
    corners = np.array([(low[0], low[1]), (high[0], low[1]), (high[0], high[1]),
                        (low[0], high[1])])
    return corners @ np.array([[c, s], [-s, c]]) + (x, y)


def place_of(piece: Piece, ahead: float, aside: float) -> tuple[float, float]:
    """x, y of the point `ahead` m in front of a piece's origin and `aside` m to its left."""
    c, s = math.cos(piece.yaw), math.sin(piece.yaw)
    x, y, _ = piece.position
    return x + c * ahead - s * aside, y + s * ahead + c * aside


def overlap(a: Outline, b: Outline) -> bool:
    """Whether two convex outlines (N×2 corners in order) share more than a border."""
    for corners in (a, b):
        for start, end in zip(corners, np.roll(corners, -1, axis=0)):
            normal = np.array([end[1] - start[1], start[0] - end[0]])
            one, other = a @ normal, b @ normal
            slack = 1e-6 * max(1.0, np.abs(normal).max())
            if one.max() <= other.min() + slack or other.max() <= one.min() + slack:
                return False
    return True


class Composer:
    """Furnishes one room: what is where already, and ways to put more into it.

    catalogue: ``bounds(kind, number)`` → (low, high) of a piece in its own frame, m, front along
    +x; ``variants(kind)``: how many numbers there are of a kind.
    """

    def __init__(self, room: FurnishedRoom, catalogue: Any, rng: np.random.Generator) -> None:
        self.room, self.catalogue, self.rng = room, catalogue, rng
        self.taken: list[Outline] = []      # outlines on the floor
        # (wall, from, to, lower edge) that tall things must not hide
        self.openings: list[tuple[int, float, float, float]] = []
        # small things on a square metre: from a tidy room to one that drowns in them
        self.crowded = float(rng.choice([0.0, rng.uniform(2, 9), rng.uniform(9, 30)],
                                        p=[0.1, 0.5, 0.4]))

    # --- choosing

    def draw(self, kind: str) -> tuple[Piece, Vector, Vector]:
        """A piece of a kind that is placed nowhere yet, and its bounds."""
        number = int(self.rng.integers(self.catalogue.variants(kind)))
        low, high = (np.array(side, float) for side in self.catalogue.bounds(kind, number))
        scale = float(self.rng.uniform(0.94, 1.06))
        # mostly the colours that Infinigen chose, seldom a lilac table
        hue = float(self.rng.choice([0.5, self.rng.normal(0.5, 0.04), self.rng.uniform(0, 1)],
                                    p=[0.5, 0.38, 0.12]))
        piece = Piece(kind, number, (0, 0, 0), 0.0, scale, hue, float(self.rng.uniform(0.6, 1.3)))
        return piece, low * scale, high * scale

    def count(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    # --- placing

    def free(self, outline: Outline, margin: float = 0.005) -> bool:
        """Whether an outline lies inside the walls, clear of everything."""
        low, high = outline.min(axis=0), outline.max(axis=0)
        return (min(low) >= margin and high[0] <= self.room.size[0] - margin
                and high[1] <= self.room.size[1] - margin
                and not any(overlap(outline, other) for other in self.taken))

    def stand(self, piece: Piece, low: Vector, high: Vector, x: float, y: float, yaw: float,
              z: float = 0.0, solid: bool = True) -> bool:
        """Put a piece down where it is free; False where it isn't. solid: it takes the floor."""
        outline = footprint(x, y, yaw, low, high)
        if high[2] - low[2] > self.room.size[2] - 0.02 or (solid and not self.free(outline)):
            return False
        piece.position, piece.yaw = (float(x), float(y), float(z - low[2])), float(yaw)
        self.room.pieces.append(piece)
        if solid:
            self.taken.append(outline)
        return True

    def at_wall(self, wall: int, along: float, off: float) -> tuple[tuple[float, float], float]:
        """The point `along` m along a wall and `off` m away from it; the yaw that faces away."""
        width, depth, _ = self.room.size
        return (((along, off), math.pi / 2), ((width - off, along), math.pi),
                ((along, depth - off), -math.pi / 2), ((off, along), 0.0))[wall]

    def length(self, wall: int) -> float:
        return self.room.size[wall % 2]

    def hides_opening(self, wall: int, start: float, end: float, height: float) -> bool:
        return any(wall == other and start < last and end > first and height > lower
                   for other, first, last, lower in self.openings)

    def against_wall(self, kind: str, tries: int = 12,
                     gap: float | None = None) -> tuple[Piece, Vector, Vector, int, float] | None:
        """A piece with its back to some wall; returns (piece, low, high, wall, along) or None."""
        piece, low, high = self.draw(kind)
        half = (high[1] - low[1]) / 2
        for _ in range(tries):
            wall = int(self.rng.integers(4))
            if 2 * half > self.length(wall) - 0.1:
                continue
            along = self.rng.uniform(half + 0.03, self.length(wall) - half - 0.03)
            if self.hides_opening(wall, along - half, along + half, high[2] - low[2]):
                continue
            away = gap if gap is not None else self.rng.choice([0.02, 0.03, 0.06, 0.2],
                                                               p=[0.4, 0.3, 0.2, 0.1])
            (x, y), yaw = self.at_wall(wall, along, away - low[0])
            skew = self.rng.normal(0, 0.06) if self.rng.random() < 0.2 else 0.0
            if self.stand(piece, low, high, x, y, yaw + skew):
                return piece, low, high, wall, along
        return None

    def anywhere(self, kind: str, tries: int = 15) -> tuple[Piece, Vector, Vector] | None:
        """A piece somewhere on the floor, turned anyhow."""
        piece, low, high = self.draw(kind)
        for _ in range(tries):
            x, y = (self.rng.uniform(0.3, side - 0.3) for side in self.room.size[:2])
            if self.stand(piece, low, high, x, y, self.rng.uniform(-math.pi, math.pi)):
                return piece, low, high
        return None

    def ahead(self, kind: str, anchor: Piece, low: Vector, high: Vector, distance: float,
              turned: float = math.pi, aside: float = 0.0,
              solid: bool = True) -> tuple[Piece, Vector, Vector] | None:
        """A piece in front of another, `distance` m from front to front; None: no room there."""
        piece, own_low, own_high = self.draw(kind)
        reach = high[0] + distance + (own_high[0] if turned else -own_low[0])
        x, y = place_of(anchor, reach, aside)
        skew = self.rng.normal(0, 0.15)
        if self.stand(piece, own_low, own_high, x, y, anchor.yaw + turned + skew, solid=solid):
            return piece, own_low, own_high
        return None

    def on_top(self, kinds: Sequence[str], count: int, below: Piece, low: Vector, high: Vector,
               facing: float = 0.0) -> None:
        """Small things on a table's top, apart from each other."""
        spots: list[Outline] = []
        for _ in range(count):
            piece, own_low, own_high = self.draw(str(self.rng.choice(kinds)))
            size = (own_high - own_low)[:2]
            room_for = (high - low)[:2] - size - 0.04
            if (room_for <= 0).any():
                continue
            for _ in range(6):
                centre = (low + high)[:2] / 2 + self.rng.uniform(-0.5, 0.5, 2) * room_for
                outline = footprint(centre[0], centre[1], 0.0, -size / 2, size / 2)
                if not any(overlap(outline, other) for other in spots):
                    spots.append(outline)
                    self.lay(piece, own_low, own_high, below, centre, high[2], facing)
                    break

    def scatter(self, makers: Sequence[Maker], below: Piece, low: Vector, high: Vector,
                facing: float = 0.0) -> None:
        """Small things of :mod:`train.synthetic.clutter` over a top, as crowded as the room is."""
        size = (high - low)[:2]
        spots: list[Outline] = []
        for _ in range(min(40, int(self.rng.poisson(self.crowded * size[0] * size[1])))):
            boxes = makers[int(self.rng.integers(len(makers)))](self.rng)
            scale = float(self.rng.uniform(0.85, 1.15))
            own_low, own_high = (scale * side for side in clutter.extent(boxes))
            yaw = self.rng.normal(0, 0.15) if self.rng.random() < 0.6 else self.rng.uniform(-3, 3)
            for _ in range(5):
                centre = (low + high)[:2] / 2 + self.rng.uniform(-0.48, 0.48, 2) * size
                outline = footprint(centre[0], centre[1], yaw, own_low, own_high)
                if ((outline < low[:2]) | (outline > high[:2])).any() or any(
                        overlap(outline, other) for other in spots):
                    continue
                spots.append(outline)
                x, y = place_of(below, *centre)
                z = below.position[2] + high[2] + 0.001
                # a thing's front is -x, that of what it lies on +x
                self.room.boxes += clutter.put(boxes, x, y, z, below.yaw + facing + math.pi + yaw,
                                               scale)
                self.room.targets.append((x, y, z + (own_high - own_low)[2] / 2))
                break

    def put_at(self, maker: Maker, below: Piece, ahead: float, aside: float, height: float,
               skew: float = 0.2) -> None:
        """One small thing at a place of its own on a piece of furniture."""
        boxes = maker(self.rng)
        x, y = place_of(below, ahead, aside)
        z = below.position[2] + height + 0.001
        self.room.boxes += clutter.put(boxes, x, y, z,
                                       below.yaw + math.pi + self.rng.normal(0, skew), 1.0)
        self.room.targets.append((x, y, z + clutter.extent(boxes)[1][2] / 2))

    def lay(self, piece: Piece, own_low: Vector, own_high: Vector, below: Piece,
            centre: Sequence[float] | Vector, height: float, facing: float = 0.0) -> None:
        """Put a piece onto another, its middle at `centre` in the other's frame."""
        middle = (own_low + own_high)[:2] / 2
        c, s = math.cos(facing), math.sin(facing)
        offset = np.asarray(centre) - (c * middle[0] - s * middle[1],
                                       s * middle[0] + c * middle[1])
        x, y = place_of(below, *offset)
        z = below.position[2] + height + 0.001
        self.stand(piece, own_low, own_high, x, y, below.yaw + facing, z, solid=False)
        if (own_high - own_low).max() < 0.6:
            self.room.targets.append((x, y, z + (own_high - own_low)[2] / 2))

    # --- sets: a table or bed, with what belongs to it

    def set_sofa(self) -> None:
        placed = self.against_wall('Sofa')
        if placed:
            sofa, low, high, *_ = placed
            self.cushions(self.count(0, 3), sofa, (low[0] + high[0]) / 2,
                          0.35 * (high - low)[1], 0.38)
            table = self.rng.choice(['CoffeeTable', 'TableCocktail', 'SideTable'], p=[.6, .2, .2])
            found = self.ahead(str(table), sofa, low, high, self.rng.uniform(0.25, 0.5))
            if found:
                self.on_top(ON_TABLES, self.count(0, 3), *found)
                self.scatter(clutter.EVERYWHERE, *found)

    def cushions(self, count: int, below: Piece, ahead: float, aside: float, height: float) -> None:
        """Cushions on a seat or a bed, `ahead` m from its origin, to both sides by `aside`."""
        for side in ((0.0,), (-1.0, 1.0), (-1.0, 0.0, 1.0))[count - 1] if count else ():
            piece, low, high = self.draw('Pillow')
            piece.scale *= (fit := self.rng.uniform(0.7, 1.0))
            self.lay(piece, low * fit, high * fit, below, (ahead, side * aside), height,
                     self.rng.uniform(-0.3, 0.3))

    def set_television(self) -> None:
        placed = self.against_wall('TVStand')
        if placed:
            stand, low, high, *_ = placed
            piece, own_low, own_high = self.draw('TV')
            self.lay(piece, own_low, own_high, stand, (low + high)[:2] / 2, high[2])

    def set_dining(self, kinds: Sequence[str] = ('Chair',)) -> None:
        placed = self.anywhere('TableDining')
        if placed:
            table, low, high = placed
            chair = str(self.rng.choice(kinds))
            number = int(self.rng.integers(self.catalogue.variants(chair)))
            for side in range(4):
                for aside in ((-0.35, 0.35) if (high - low)[1 - side % 2] > 1.1 else (0.0,)):
                    if self.rng.random() < 0.75:
                        self._chair_at(chair, number, table, low, high, side, aside)
            self.on_top(ON_TABLES, self.count(0, 5), *placed)
            self.scatter(clutter.EVERYWHERE, *placed)
            if self.rng.random() < 0.35:
                lamp, own_low, own_high = self.draw('CeilingClassicLamp')
                self.hang(lamp, own_low, own_high, *table.position[:2])

    def hang(self, piece: Piece, low: Vector, high: Vector, x: float, y: float) -> None:
        """A lamp from the ceiling, where it leaves people room to stand."""
        z = self.room.size[2] - (high - low)[2] - 0.005
        if z > 1.5:
            self.stand(piece, low, high, x, y, 0.0, z, solid=False)

    def _chair_at(self, kind: str, number: int, table: Piece, low: Vector, high: Vector, side: int,
                  aside: float) -> None:
        piece, own_low, own_high = self.draw(kind)
        piece.number = number
        own_low, own_high = (np.array(bound, float) * piece.scale
                             for bound in self.catalogue.bounds(kind, number))
        # the front of the seat ends a little under, or away from, the table's edge
        turn = side * math.pi / 2
        reach = ((high[0], high[1], -low[0], -low[1])[side] + own_high[0]
                 + self.rng.uniform(0.02, 0.35))
        local = (math.cos(turn) * reach - math.sin(turn) * aside,
                 math.sin(turn) * reach + math.cos(turn) * aside)
        self.stand(piece, own_low, own_high, *place_of(table, *local),
                   table.yaw + turn + math.pi + self.rng.normal(0, 0.12))

    def set_meeting(self) -> None:
        self.set_dining(('OfficeChair', 'Chair'))

    def set_desk(self) -> None:
        placed = self.against_wall(str(self.rng.choice(['SimpleDesk', 'SidetableDesk'])))
        if placed:
            desk, low, high, *_ = placed
            chance = self.rng.random()
            if chance < 0.5:
                self.put_at(clutter.monitor, desk, low[0] * 0.75 + high[0] * 0.25,
                            self.rng.uniform(-0.2, 0.2), high[2])
                self.put_at(clutter.keyboard, desk, low[0] * 0.3 + high[0] * 0.7,
                            self.rng.uniform(-0.15, 0.15), high[2], 0.05)
            elif chance < 0.8:
                piece, own_low, own_high = self.draw('Monitor')
                centre = ((low[0] * 0.7 + high[0] * 0.3), self.rng.uniform(-0.2, 0.2))
                self.lay(piece, own_low, own_high, desk, centre, high[2])
            self.on_top(ON_DESKS, self.count(0, 3), desk, low, high)
            self.scatter(clutter.AT_A_DESK, desk, low, high)
            self.ahead(str(self.rng.choice(['OfficeChair', 'Chair'], p=[.8, .2])), desk, low, high,
                       self.rng.uniform(0.0, 0.4))

    def set_bed(self) -> None:
        placed = self.against_wall('BedFrame', tries=25)
        if placed:
            bed, low, high, wall, along = placed
            piece, own_low, own_high = self.draw('Mattress')
            # a mattress as long and wide as the frame
            fit = min(0.96 * (high - low)[0] / (own_high - own_low)[1],
                      0.96 * (high - low)[1] / (own_high - own_low)[0])
            piece.scale *= fit
            self.lay(piece, own_low * fit, own_high * fit, bed, (low + high)[:2] / 2,
                     0.0, facing=math.pi / 2)
            top = fit * (own_high - own_low)[2]
            self.cushions(self.count(0, 2), bed, low[0] + 0.4, 0.25 * (high - low)[1], top)
            self.scatter(clutter.EVERYWHERE, bed, np.append(low[:2] * 0.8, low[2]),
                         np.append(high[:2] * 0.8, top))
            if self.rng.random() < 0.5:  # a blanket, laid over the foot's end
                long, wide = self.rng.uniform(0.3, 0.7) * (high - low)[0], 0.97 * (high - low)[1]
                x, y = place_of(bed, high[0] - 0.51 * long, (low + high)[1] / 2)
                self.room.boxes.append(Block((x, y, bed.position[2] + top - 0.03),
                                           (long, wide, 0.09), 'blanket', bed.yaw))
            for side in (-1, 1):
                if self.rng.random() < 0.6:
                    table, t_low, t_high = self.draw('SideTable')
                    at = along + side * ((high - low)[1] / 2 + (t_high - t_low)[1] / 2 + 0.08)
                    (x, y), yaw = self.at_wall(wall, at, 0.03 - t_low[0])
                    if self.stand(table, t_low, t_high, x, y, yaw):
                        self.on_top(('DeskLamp', 'BookStack', 'Vase', 'Cup'), self.count(0, 2),
                                    table, t_low, t_high)

    def set_counter(self) -> None:
        """A row of cupboards along a wall, a worktop on it, sometimes cupboards above."""
        wall = int(self.rng.integers(4))
        deep, high = self.rng.uniform(0.56, 0.66), self.rng.uniform(0.84, 0.95)
        run = self.rng.uniform(1.2, max(1.3, min(4.0, self.length(wall) - 0.1)))
        start = self.rng.uniform(0.02, max(0.03, self.length(wall) - run - 0.02))
        if run > self.length(wall) - 0.04 or self.hides_opening(wall, start, start + run, high):
            return
        middle, yaw = self.at_wall(wall, start + run / 2, deep / 2)
        outline = footprint(*middle, yaw, (-deep / 2, -run / 2), (deep / 2, run / 2))
        if not self.free(outline, 0.0):
            return
        self.taken.append(outline)
        units = max(1, round(run / 0.6))
        self._cupboards(wall, start, run, units, deep - 0.03, 0.1, high - 0.04)
        self.slab(wall, start, run, deep, high - 0.04, high, 'worktop')
        self.slab(wall, start, run, deep - 0.09, 0.0, 0.1, 'trim')
        top = Piece('counter', 0, (*middle, 0.0), yaw)
        half = np.array([deep / 2, run / 2, 0.0])
        self.on_top(ON_COUNTERS, self.count(1, 5), top, -half, half + (0, 0, high))
        self.scatter(clutter.EVERYWHERE, top, -half, half + (0, 0, high))
        if self.rng.random() < 0.6 and not self.hides_opening(wall, start, start + run, 2.1):
            self._cupboards(wall, start, run, units, 0.33, high + 0.5, min(
                2.2, self.room.size[2] - 0.1))

    def _cupboards(self, wall: int, start: float, run: float, units: int, deep: float,
                   bottom: float, top: float) -> None:
        self.slab(wall, start, run, deep - 0.02, bottom, top, 'cupboard')
        wide = run / units
        for unit in range(units):
            left = start + unit * wide
            self.slab(wall, left + 0.003, wide - 0.006, 0.02, bottom + 0.004, top - 0.004,
                       'cupboard door', off=deep - 0.02)
            self.slab(wall, left + wide - 0.06, 0.015, 0.025, (bottom + top) / 2 - 0.07,
                       (bottom + top) / 2 + 0.07, 'metal', off=deep)

    def slab(self, wall: int, start: float, run: float, deep: float, bottom: float, top: float,
             surface: str, off: float = 0.0) -> None:
        """A box along a wall, `off` m in front of it; none where nothing of it is left."""
        if run < 1e-3 or top - bottom < 1e-3:
            return
        (x, y), yaw = self.at_wall(wall, start + run / 2, off + deep / 2)
        self.room.boxes.append(Block((x, y, (bottom + top) / 2), (deep, run, top - bottom),
                                   surface, yaw))

    def set_island(self) -> None:
        placed = self.anywhere('KitchenIsland')
        if placed:
            self.on_top(ON_COUNTERS, self.count(0, 4), *placed)
            self.scatter(clutter.EVERYWHERE, *placed)

    def set_shelving(self) -> None:
        """Open shelves against a wall, full of small things."""
        wall = int(self.rng.integers(4))
        deep, run = self.rng.uniform(0.25, 0.55), self.rng.uniform(0.7, 2.4)
        high = min(self.rng.uniform(0.9, 2.2), self.room.size[2] - 0.1)
        if run > self.length(wall) - 0.1:
            return
        start = self.rng.uniform(0.04, self.length(wall) - run - 0.04)
        middle, yaw = self.at_wall(wall, start + run / 2, deep / 2 + 0.01)
        outline = footprint(*middle, yaw, (-deep / 2, -run / 2), (deep / 2, run / 2))
        if self.hides_opening(wall, start, start + run, high) or not self.free(outline):
            return
        self.taken.append(outline)
        self._rack(Piece('shelving', 0, (*middle, 0.0), yaw), deep, run, high,
                   self.rng.uniform(0.25, 0.45), clutter.IN_SHELVES, 0.03, 1.0)

    def _rack(self, place: Piece, deep: float, run: float, high: float, apart: float,
              makers: Sequence[Maker], thick: float, larger: float) -> None:
        """Boards one above the other between uprights, things on each. place: its middle."""
        frame = 'cupboard' if larger == 1 else 'rack'
        c, s = math.cos(place.yaw), math.sin(place.yaw)

        def box(x: float, y: float, z: float, size: tuple[float, float, float], name: str) -> None:
            self.room.boxes.append(Block((place.position[0] + c * x - s * y,
                                        place.position[1] + s * x + c * y, z), size, name,
                                       place.yaw))
        uprights = max(2, round(run / (1.1 if larger == 1 else 2.7)) + 1)
        for y in map(float, np.linspace(-run / 2, run / 2, uprights)):
            for x in (-deep / 2, deep / 2):
                box(x, y, high / 2, (1.2 * thick, 1.2 * thick, high), frame)
        first = self.rng.uniform(0.05, 0.3)
        for z in map(float, np.arange(first, high - 0.1, apart)):
            box(0.0, 0.0, z, (deep, run, thick), frame if larger == 1 else 'beam')
            y = -run / 2 + 0.03
            while y < run / 2 - 0.1 * larger:
                boxes = makers[int(self.rng.integers(len(makers)))](self.rng)
                scale = float(self.rng.uniform(0.8, 1.2)) * larger
                own_low, own_high = clutter.extent(boxes)
                size = own_high - own_low
                scale = min(scale, 0.95 * deep / size[0], (apart - thick - 0.01) / size[2])
                wide = scale * size[1]
                if y + wide > run / 2:
                    break
                x_at, y_at = place_of(place, self.rng.uniform(-0.1, 0.1) * deep, y + wide / 2)
                self.room.boxes += clutter.put(boxes, x_at, y_at, z + thick / 2 + 0.001,
                                               place.yaw + math.pi, scale)
                self.room.targets.append((x_at, y_at, z + scale * size[2] / 2))
                y += wide + self.rng.exponential(0.05 + 0.6 / (1 + self.crowded)) * larger

    def set_racks(self) -> None:
        """Rows of tall racks with aisles between them, as in a warehouse."""
        width, depth, height = self.room.size
        deep, aisle = self.rng.uniform(0.8, 1.3), self.rng.uniform(1.6, 4.0)
        high = min(self.rng.uniform(2.2, 7.0), height - 0.4)
        margin = self.rng.uniform(1.5, 3.5)
        along_x = width > depth
        long, across = (width, depth) if along_x else (depth, width)
        run = long - 2 * margin
        at = margin + self.rng.uniform(0, aisle)
        while at < across - deep:
            if self.rng.random() < 0.85:
                start = margin
                while start < long - margin - 2:    # bays, with passages between some of them
                    part = min(run, self.rng.uniform(2.5, 12.0), long - margin - start)
                    middle = ((start + part / 2, at), (at, start + part / 2))[not along_x]
                    yaw = math.pi / 2 if along_x else 0.0
                    outline = footprint(middle[0], middle[1], yaw, (-deep / 2, -part / 2),
                                        (deep / 2, part / 2))
                    if self.free(outline):
                        self.taken.append(outline)
                        self._rack(Piece('rack', 0, (*middle, 0.0), yaw), deep, part, high,
                                   self.rng.uniform(0.7, 1.7), (clutter.carton,), 0.08, 3.5)
                    start += part + (self.rng.random() < 0.4) * self.rng.uniform(1, 3)
            at += deep + aisle

    def set_columns(self) -> None:
        """Columns in rows, as under the roof of a hall."""
        apart, half = self.rng.uniform(3.5, 8.0), self.rng.uniform(0.12, 0.45)
        width, depth, height = self.room.size
        for x in np.arange(apart / 2, width, apart):
            for y in np.arange(apart / 2, depth, apart):
                outline = footprint(x, y, 0.0, (-half, -half), (half, half))
                if self.free(outline):
                    self.taken.append(outline)
                    self.room.boxes.append(Block((x, y, height / 2), (2 * half, 2 * half, height),
                                               'wall'))

    def set_benches(self) -> None:
        """Long benches or rows of lockers along the walls."""
        wall = int(self.rng.integers(4))
        deep, high = self.rng.uniform((0.3, 0.4), (0.6, 2.0))
        run = self.rng.uniform(1.5, 8.0)
        if run > self.length(wall) - 0.2:
            return
        start = self.rng.uniform(0.1, self.length(wall) - run - 0.1)
        middle, yaw = self.at_wall(wall, start + run / 2, deep / 2)
        outline = footprint(*middle, yaw, (-deep / 2, -run / 2), (deep / 2, run / 2))
        if self.free(outline) and not self.hides_opening(wall, start, start + run, high):
            self.taken.append(outline)
            self._cupboards(wall, start, run, max(1, round(run / 0.5)), deep, 0.05, high)

    def set_stack(self) -> None:
        """Large boxes on top of each other on the floor, as goods on a pallet."""
        size = self.rng.uniform((0.6, 0.6, 0.4), (1.3, 1.3, 1.0))
        x, y = (self.rng.uniform(1.0, side - 1.0) for side in self.room.size[:2])
        yaw = self.rng.uniform(-math.pi, math.pi)
        outline = footprint(x, y, yaw, -size / 2, size / 2)
        if self.free(outline):
            self.taken.append(outline)
            for k in range(self.count(1, 3)):
                self.room.boxes.append(Block((x, y, (k + 0.5) * size[2]),
                                           tuple(size * (0.98 ** k, 0.98 ** k, 0.99)),
                                           clutter.surface(self.rng, 'cardboard', 'cardboard'),
                                           yaw + 0.02 * k))

    def set_marks(self) -> None:
        """Lines on the floor, as in a gym or a warehouse."""
        width, depth, _ = self.room.size
        for _ in range(self.count(2, 8)):
            x, y = self.rng.uniform((0.5, 0.5), (width - 0.5, depth - 0.5))
            long, wide = self.rng.uniform((2.0, 0.04), (0.8 * max(width, depth), 0.12))
            size = (long, wide) if self.rng.random() < 0.5 else (wide, long)
            low, high = ((np.clip(np.array((x, y)) + sign * np.array(size) / 2, 0.02,
                                  (width - 0.02, depth - 0.02))) for sign in (-1, 1))
            self.room.boxes.append(Block((*((low + high) / 2), 0.001), (*(high - low), 0.002),
                                       clutter.surface(self.rng)))

    # --- the rest

    def clutter(self, count: int) -> None:
        """Small things on the floor: boxes, a bin, books, pots."""
        if self.rng.random() < 0.6:
            for _ in range(self.count(0, 4) if self.crowded else 0):
                boxes = clutter.ON_A_FLOOR[int(self.rng.integers(len(clutter.ON_A_FLOOR)))](
                    self.rng)
                x, y = (self.rng.uniform(0.2, side - 0.2) for side in self.room.size[:2])
                yaw = self.rng.uniform(-math.pi, math.pi)
                outline = footprint(x, y, yaw, *clutter.extent(boxes))
                if self.free(outline):
                    self.taken.append(outline)
                    self.room.boxes += clutter.put(boxes, x, y, 0.003, yaw, 1.0)
                    self.room.targets.append((x, y, 0.02))
        for _ in range(count):
            kind = str(self.rng.choice(ON_FLOORS))
            if kind in ('box', 'bin'):
                size = self.rng.uniform((0.12, 0.1, 0.06), (0.6, 0.45, 0.45))
                if kind == 'bin':
                    size[:2], size[2] = size[0] * 0.5 + 0.1, self.rng.uniform(0.25, 0.5)
                x, y = (self.rng.uniform(0.2, side - 0.2) for side in self.room.size[:2])
                yaw = self.rng.uniform(-math.pi, math.pi)
                outline = footprint(x, y, yaw, -size / 2, size / 2)
                if self.free(outline):
                    self.taken.append(outline)
                    surface = 'cardboard' if kind == 'box' and self.rng.random() < 0.7 else 'trim'
                    self.room.boxes.append(Block((x, y, size[2] / 2), tuple(size), surface, yaw))
            else:
                self.anywhere(kind, tries=6)

    def on_walls(self, count: int) -> None:
        """Pictures and shelves where a wall is free."""
        for _ in range(count):
            kind = str(self.rng.choice(['WallArt', 'WallArt', 'WallShelf']))
            piece, low, high = self.draw(kind)
            wall = int(self.rng.integers(4))
            half = (high[1] - low[1]) / 2
            if 2 * half > self.length(wall) - 0.4:
                continue
            along = self.rng.uniform(half + 0.2, self.length(wall) - half - 0.2)
            if not self.hides_opening(wall, along - half, along + half, 2.2):
                (x, y), yaw = self.at_wall(wall, along, 0.01 - low[0])
                self.stand(piece, low, high, x, y, yaw,
                           self.rng.uniform(1.25, 1.6) - (high - low)[2] / 2, solid=False)
                self.openings.append((wall, along - half, along + half, 1.2))

    def rug(self) -> None:
        piece, low, high = self.draw('Rug')
        fit = min(1.0, 0.75 * self.room.size[0] / (high - low)[0],
                  0.75 * self.room.size[1] / (high - low)[1])
        piece.scale *= fit
        x, y = (side * self.rng.uniform(0.4, 0.6) for side in self.room.size[:2])
        self.stand(piece, low * fit, high * fit, x, y, 0.0, 0.002, solid=False)
