"""How the seed furnishes the virtual room: what stands at each wall and in the middle."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.virtual_room.shapes import Box, Cylinder, Shape, Sphere
from hybrid_depth_ros.virtual_room.textures import Painter, Texture


def furnish(paint: Painter, size: npt.NDArray[np.float64]) -> list[Shape]:
    """All shapes of a room. paint: whose generator decides; size: 3 metres."""
    furniture, rng = _Furniture(paint, size), paint.rng
    walls = (furniture.sofa_wall, furniture.shelf_wall, furniture.window_wall,
             furniture.door_wall)
    first = int(rng.integers(4))
    for side in range(4):
        walls[(first + side) % 4](rng, side)
    furniture.middle(rng)
    furniture.skirting_boards()
    return furniture.objects


class _Furniture:
    def __init__(self, paint: Painter, size: npt.NDArray[np.float64]) -> None:
        self._paint, self.size = paint, size
        self.objects: list[Shape] = []

    def _length(self, side: int) -> float:
        return float(self.size[side % 2])

    def _place(self, texture: Texture, side: int, along: float, out: float,
               size: Sequence[float], z: float, yaw: float = 0.0, lit: bool = True) -> None:
        """A box at a wall: `along` it, `out` from it, size (along, out, up), middle at z."""
        turn = side * np.pi / 2
        centre = self._at_wall(side, along, out, z)
        self.objects.append(Box(centre, size, texture, turn + yaw, lit))

    def _at_wall(self, side: int, along: float, out: float, z: float) -> npt.NDArray[np.float64]:
        width, depth = self.size[:2]
        return np.array({0: (along, out), 1: (width - out, along),
                         2: (width - along, depth - out), 3: (out, depth - along)}[side] + (z,))

    def sofa_wall(self, rng: np.random.Generator, side: int) -> None:
        paint, length = self._paint, self._length(side)
        wide, middle = rng.uniform(1.6, 2.1), length / 2 + rng.uniform(-0.3, 0.3)
        cover, depth = paint.fabric(), 0.85
        self._place(cover, side, middle, depth / 2, (wide, depth, 0.3), 0.27)
        self._place(cover, side, middle, 0.12, (wide, 0.22, 0.5), 0.6)
        for end in (-1, 1):
            self._place(cover, side, middle + end * (wide / 2 - 0.1), depth / 2,
                        (0.2, depth - 0.02, 0.6), 0.31)
            self._place(paint.fabric(), side, middle + end * rng.uniform(0.3, 0.55),
                        0.3, (0.42, 0.14, 0.38), 0.61, yaw=rng.uniform(-0.5, 0.5))
        for end in rng.permutation([-0.45, 0.45])[:rng.integers(1, 3)]:
            size = rng.uniform(0.45, 0.75, 2)
            self._place(paint.picture(size), side, middle + end, 0.015,
                        (size[0], 0.03, size[1]), 1.6)
        x, y, _ = self._at_wall(side, length - 0.35, 0.35, 0)
        metal = paint.plain(np.array([70, 66, 62]))
        self.objects += [Cylinder((x, y, 0.015), 0.14, 0.03, metal),
                         Cylinder((x, y, 0.75), 0.014, 1.5, metal),
                         Cylinder((x, y, 1.58), 0.2, 0.3, paint.plain(np.array([238, 226, 196])))]

    def shelf_wall(self, rng: np.random.Generator, side: int) -> None:
        paint, length = self._paint, self._length(side)
        wide, high, depth = rng.uniform(1.1, 1.6), rng.uniform(1.7, 2.1), 0.32
        middle, wood = wide / 2 + rng.uniform(0.25, 0.6), paint.wood()
        for end in (-1, 1):
            self._place(wood, side, middle + end * (wide / 2 - 0.0125), depth / 2,
                        (0.025, depth, high), high / 2)
        self._place(wood, side, middle, 0.005, (wide, 0.01, high), high / 2)
        shelves = int(rng.integers(4, 6))
        for i in range(shelves + 1):
            z = 0.06 + i * (high - 0.09) / shelves
            self._place(wood, side, middle, depth / 2, (wide - 0.05, depth - 0.01, 0.025), z)
            left = -wide / 2 + 0.04
            while i < shelves and left < wide / 2 - 0.25:
                row = rng.uniform(0.18, 0.5)
                row = min(row, wide / 2 - 0.04 - left)
                tall = rng.uniform(0.19, 0.3)
                if rng.random() < 0.8:
                    self._place(paint.books((row, tall)), side, middle + left + row / 2, 0.13,
                                (row, rng.uniform(0.17, 0.24), tall), z + 0.0125 + tall / 2)
                left += row + rng.uniform(0.02, 0.2)
        wide, high = rng.uniform(1.2, 1.5), rng.uniform(0.45, 0.75)
        middle = length - wide / 2 - rng.uniform(0.4, 0.6)
        wood = paint.wood()
        self._place(wood, side, middle, 0.22, (wide, 0.44, high), high / 2)
        for door in (-1, 1):
            self._place(wood, side, middle + door * wide / 4, 0.445,
                        (wide / 2 - 0.03, 0.015, high - 0.08), high / 2)
            self._place(paint.plain(np.array([60, 60, 60])), side, middle + door * 0.06, 0.46,
                        (0.015, 0.02, 0.12), high / 2)
        if rng.random() < 0.6:
            self._place(paint.plain(np.array([22, 22, 25]), 0.05), side, middle, 0.15,
                        (0.95, 0.05, 0.55), high + 0.33)
            self._place(paint.plain(np.array([30, 30, 30])), side, middle, 0.17,
                        (0.3, 0.2, 0.06), high + 0.03)
        else:
            for along in (-0.3, 0.25):
                radius = rng.uniform(0.09, 0.14)
                self.objects.append(Sphere(self._at_wall(side, middle + along, 0.22,
                                                         high + radius), radius, paint.fabric()))
            size = rng.uniform(0.5, 0.7, 2)
            self._place(paint.picture(size), side, middle, 0.015, (size[0], 0.03, size[1]), 1.65)

    def window_wall(self, rng: np.random.Generator, side: int) -> None:
        paint, length = self._paint, self._length(side)
        wide, high = rng.uniform(1.2, 1.8), rng.uniform(1.1, 1.3)
        middle, z = length / 2 + rng.uniform(-0.2, 0.2), 1.5
        self._place(paint.window((wide, high)), side, middle, 0.01, (wide, 0.02, high), z,
                    lit=False)
        self._place(paint.plain(np.array([232, 230, 226])), side, middle, 0.08,
                    (wide + 0.16, 0.16, 0.03), z - high / 2 - 0.02)
        curtain = paint.fabric()
        for end in (-1, 1):
            for fold in range(4):
                self._place(curtain, side, middle + end * (wide / 2 + 0.02 + 0.075 * fold), 0.09,
                            (0.07, 0.05 + 0.03 * (fold % 2), high + 0.45), z - 0.02,
                            yaw=0.3 * (-1) ** fold)
        self.objects.append(Cylinder(self._at_wall(side, middle - wide / 2 - 0.2, 0.4, 0.14),
                                     0.13, 0.28, paint.plain(paint.colour())))
        if rng.random() < 0.5:
            top, wood = rng.uniform(0.72, 0.76), paint.wood()
            self._place(wood, side, middle, 0.4, (1.4, 0.65, 0.035), top)
            for end in (-1, 1):
                self._place(wood, side, middle + end * 0.66, 0.4, (0.04, 0.6, top), top / 2)
            self._place(paint.plain(np.array([26, 27, 30])), side, middle + 0.2, 0.25,
                        (0.55, 0.04, 0.34), top + 0.3, yaw=rng.uniform(-0.3, 0.3))
            self._place(paint.plain(np.array([40, 40, 42])), side, middle + 0.2, 0.26,
                        (0.18, 0.16, 0.16), top + 0.09)
            self._place(paint.books((0.3, 0.05)), side, middle - 0.4, 0.4, (0.22, 0.3, 0.09),
                        top + 0.06, yaw=rng.uniform(-0.5, 0.5))
            self._chair(self._at_wall(side, middle, 0.85, 0)[:2],
                        side * np.pi / 2 + rng.uniform(-0.4, 0.4))
        else:
            sheet, wood = paint.fabric(paint.colour(120, 220)), paint.wood()
            self._place(wood, side, middle, 0.5, (2.0, 0.98, 0.28), 0.16)
            self._place(sheet, side, middle, 0.5, (1.96, 0.94, 0.2), 0.38)
            self._place(paint.fabric(), side, middle - 0.25, 0.51, (1.4, 0.98, 0.16), 0.43)
            self._place(wood, side, middle + 0.99, 0.5, (0.05, 1.0, 0.85), 0.43)
            self._place(paint.fabric(np.array([214, 212, 206])), side, middle + 0.75, 0.5,
                        (0.35, 0.6, 0.13), 0.54, yaw=rng.uniform(-0.15, 0.15))

    def door_wall(self, rng: np.random.Generator, side: int) -> None:
        paint, length = self._paint, self._length(side)
        door, middle = paint.wood(), rng.uniform(0.8, 1.1)
        frame = paint.plain(np.array([222, 218, 210]))
        self._place(door, side, middle, 0.02, (0.86, 0.04, 2.02), 1.01)
        for panel in (0.55, 1.5):
            self._place(door, side, middle, 0.045, (0.56, 0.012, 0.7), panel)
        for end in (-1, 1):
            self._place(frame, side, middle + end * 0.48, 0.03, (0.1, 0.06, 2.12), 1.06)
        self._place(frame, side, middle, 0.03, (0.86, 0.06, 0.1), 2.07)
        self.objects.append(Sphere(self._at_wall(side, middle + 0.36, 0.09, 1.02), 0.03,
                                   paint.plain(np.array([180, 160, 110]))))
        wide, high = rng.uniform(0.9, 1.2), rng.uniform(1.75, 2.05)
        at, wood = middle + 0.75 + wide / 2 + rng.uniform(0, 0.25), paint.wood()
        self._place(wood, side, at, 0.28, (wide, 0.56, high), high / 2)
        for leaf in (-1, 1):
            self._place(wood, side, at + leaf * wide / 4, 0.565,
                        (wide / 2 - 0.02, 0.012, high - 0.12), high / 2)
        pot = self._at_wall(side, length - 0.5, 0.45, 0.17)
        self.objects.append(Cylinder(pot, 0.17, 0.34, paint.plain(np.array([170, 96, 66]))))
        leaves = Texture((np.array([66, 112, 52], np.float32) * paint.grain(64, 64, 16, 0.3)
                          ).clip(8, 200).astype(np.float32), (0.2, 0.2))
        self.objects.append(Cylinder(pot + [0, 0, 0.35], 0.025, 0.5, paint.wood()))
        for _ in range(9):
            offset = rng.uniform((-0.2, -0.2, 0.35), (0.2, 0.2, 1.0))
            self.objects.append(Sphere(pot + offset, rng.uniform(0.08, 0.16), leaves))
        size = rng.uniform(0.35, 0.5, 2)
        self._place(paint.picture(size), side, length - 0.55, 0.015, (size[0], 0.03, size[1]), 1.65)

    def _chair(self, at: npt.NDArray[np.float64], yaw: float) -> None:
        """`yaw`: where it looks, from +y."""
        wood, turn = self._paint.wood(), np.array([[np.cos(yaw), -np.sin(yaw)],
                                                   [np.sin(yaw), np.cos(yaw)]])

        def part(x: float, y: float, z: float, size: Sequence[float]) -> None:
            self.objects.append(Box((*(at + turn @ (x, y)), z), size, wood, yaw))
        part(0, 0, 0.44, (0.42, 0.42, 0.04))
        for x in (-0.18, 0.18):
            part(x, -0.19, 0.45, (0.04, 0.04, 0.9))
            part(x, 0.19, 0.21, (0.04, 0.04, 0.42))
        for z in (0.62, 0.74, 0.86):
            part(0, -0.19, z, (0.34, 0.025, 0.07))

    def middle(self, rng: np.random.Generator) -> None:
        """A rug, a table, what lies on it, and chairs around it."""
        paint, middle, yaw = self._paint, self.size[:2] / 2, rng.uniform(-0.4, 0.4)
        self.objects.append(Box((*middle, 0.006), (*rng.uniform(1.5, 2.3, 2), 0.012),
                                paint.fabric(), yaw))
        wood = paint.wood()
        if rng.random() < 0.5:
            top, wide = 0.74, 0.45
            self.objects += [Cylinder((*middle, top), wide, 0.035, wood),
                             Cylinder((*middle, top / 2), 0.05, top - 0.03, wood),
                             Cylinder((*middle, 0.03), 0.26, 0.04, wood)]
        else:
            top, wide = rng.choice([0.45, 0.74]), 0.36
            c, s = np.cos(yaw), np.sin(yaw)
            self.objects.append(Box((*middle, top), (1.1, 0.7, 0.035), wood, yaw))
            for x, y in ((-0.5, -0.3), (0.5, -0.3), (-0.5, 0.3), (0.5, 0.3)):
                self.objects.append(Box((middle[0] + c * x - s * y, middle[1] + s * x + c * y,
                                         top / 2), (0.05, 0.05, top - 0.03), wood, yaw))
        above = top + 0.018
        self.objects += [
            Sphere((*(middle + [0.05, 0.12]), above + 0.1), 0.1, paint.plain(paint.colour())),
            Cylinder((*(middle + [-0.2, -0.1]), above + 0.05), 0.04, 0.1,
                     paint.plain(paint.colour())),
            Box((*(middle + [0.2, -0.12]), above + 0.03), (0.24, 0.17, 0.06),
                paint.picture((0.24, 0.17)), rng.uniform(-1, 1))]
        start = rng.uniform(0, np.pi)
        for i in range(int(rng.integers(2, 4))):
            angle = start + i * 2 * np.pi / 3
            self._chair(middle + (wide + 0.28) * np.array([np.cos(angle), np.sin(angle)]),
                        angle + np.pi / 2)

    def skirting_boards(self) -> None:
        white = self._paint.plain(np.array([226, 224, 218]), 0.01)
        for side in range(4):
            self._place(white, side, self._length(side) / 2, 0.008,
                        (self._length(side), 0.016, 0.09), 0.045)
