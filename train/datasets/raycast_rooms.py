"""Images of the package's own virtual room: several a second, never the same.

``room:100-149`` are the rooms of fifty seeds, seen by robots. ``room:100-149:any`` are views of
every kind of :mod:`train.synthetic.views`, most of them near, in rooms full of small things.
``room:100-149:hall`` are views of halls. Seed 0 is the demo's: leave it to the demo.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import WALK_SECONDS, Room, shapes
from hybrid_depth_ros.virtual_room.textures import Painter, Texture
from train.datasets.pairs import RgbdDataset, RgbdPair
from train.synthetic import clutter, parts
from train.synthetic.drawn import draw_page
from train.synthetic.views import Cast, Lenses, View, any_views

PREFIX = 'room:'
VIEWS = 12                     # of each room
HEIGHTS = 0.2, 1.6             # m
WIDTH, HEIGHT = 352, 264
# the kinds of the views of one room
ANY_KINDS = (*['near'] * 6, 'plain', 'plain', 'high', 'steep', 'steep', 'rolled')
HALL_SIZES = (7.0, 5.0, 2.6), (26.0, 16.0, 5.5)  # m, smallest and largest


@lru_cache(maxsize=4)
def _room(seed: int) -> Room:
    return Room(seed)


class VirtualRooms(RgbdDataset):
    """``room:FIRST-LAST``: VIEWS images of each seed's room; ``number`` is the seed.

    Heights are spread evenly on a logarithmic scale, fields of view are 50° to 90°. With ``:any``
    behind, the views are of ``ANY_KINDS``, with ``:hall`` of halls. Raises ValueError for another
    name.
    """

    def __init__(self, name: str) -> None:
        match = re.fullmatch(r'room:(\d{1,9})(?:-(\d{1,9}))?(:any|:hall)?', name)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f'{name!r} names no rooms: write room:FIRST-LAST, like room:100-149, '
                             'room:100-149:any or room:100-149:hall')
        self.first, self.last = int(match[1]), int(match[2] or match[1])
        self.furnished = {':any': _cluttered, ':hall': _hall}.get(match[3])

    def __len__(self) -> int:
        return (self.last - self.first + 1) * VIEWS

    def view(self, i: int) -> tuple[Room, Intrinsics, npt.NDArray[np.float64]]:
        """Room, camera and pose (4×4, optical frame → world) of image i."""
        if self.furnished:
            room, views = self.furnished(self.number(i))
            view = views[i % VIEWS % len(views)]
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = view.rotation, view.position
            # landscape also where the view is portrait: a store holds images of one size
            return room, Intrinsics.from_horizontal_fov(WIDTH, HEIGHT, view.fov), pose
        seed, rng = self.first + i // VIEWS, np.random.default_rng([i // VIEWS + self.first, i, 5])
        share = (i % VIEWS + rng.random()) / VIEWS
        height = HEIGHTS[0] * (HEIGHTS[1] / HEIGHTS[0]) ** share
        camera = Intrinsics.from_horizontal_fov(WIDTH, HEIGHT, rng.uniform(50, 90))
        pose = _room(seed).camera_pose(rng.uniform(0, WALK_SECONDS))
        pose[2, 3] = height
        pitch = np.deg2rad(rng.normal(4, 6))  # up from the walk's own 11° down
        c, s = np.cos(pitch), np.sin(pitch)
        pose[:3, :3] = pose[:3, :3] @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        return _room(seed), camera, pose

    def read(self, i: int) -> RgbdPair:
        room, camera, pose = self.view(i)
        return RgbdPair(*room.render(camera, pose))

    def name(self, i: int) -> str:
        return f'room {self.number(i)}, view {i % VIEWS}'

    def number(self, i: int) -> int:
        return self.first + i // VIEWS

    def focal(self, i: int) -> float:
        camera = self.view(i)[1]
        return camera.fx / camera.width

    def height(self, i: int) -> float | None:
        return float(self.view(i)[2][2, 3])

    def down(self, i: int) -> npt.NDArray[np.float64] | None:
        return np.asarray(-self.view(i)[2][2, :3])

    def kind(self, i: int) -> str | None:
        """The view's kind, of ``VIEW_KINDS``."""
        if not self.furnished:
            return 'room'
        views = self.furnished(self.number(i))[1]
        return views[i % VIEWS % len(views)].kind


@lru_cache(maxsize=2)
def _cluttered(seed: int) -> tuple[Room, list[View]]:
    """A room full of small things, and where it is looked at from."""
    rng = np.random.default_rng([seed, 21])
    room, paint = Room(seed), Painter(rng)
    textures = _palette(paint, rng)
    targets: list[tuple[float, ...]] = []
    for support in _supports(room, paint, rng):
        targets += _scatter(room, support, textures, paint, rng)
    about = parts.FurnishedRoom('virtual room', tuple(room.size), targets=targets)
    views = any_views(rng, about, list(ANY_KINDS), Lenses(fov=(45.0, 90.0)), _caster(room))
    if not views:
        raise ValueError(f'room {seed} has no place for a camera; leave it out')
    return room, views


@lru_cache(maxsize=2)
def _hall(seed: int) -> tuple[Room, list[View]]:
    """A hall, and where it is looked at from."""
    rng = np.random.default_rng([seed, 22])
    room = Room(seed, np.exp(rng.uniform(*np.log(HALL_SIZES))).tolist())
    about = parts.FurnishedRoom('virtual hall', tuple(room.size))
    views = any_views(rng, about, ['hall'] * VIEWS, Lenses(), _caster(room))
    if not views:
        raise ValueError(f'hall {seed} has no place for a camera; leave it out')
    return room, views


def _palette(paint: Painter, rng: np.random.Generator) -> dict[str, Texture]:
    """A texture for each surface of small things."""
    def page(screen: bool) -> Texture:
        image = cv2.resize(draw_page(int(rng.integers(1 << 31)), screen)[..., ::-1], (512, 512),
                           interpolation=cv2.INTER_AREA)
        size = float(rng.uniform(0.2, 0.6))
        return Texture(image.astype(np.float32), (size, size))

    def plain() -> Texture:
        if rng.random() < 0.2:
            return paint.fabric()
        return paint.plain(paint.colour(10, 235, 70), rng.uniform(0.0, 0.08),
                           tuple(np.exp(rng.uniform(-3, 0.5, 1)).repeat(2)))
    return {**{name: plain() for name in clutter.OBJECTS},
            **{name: page(False) for name in clutter.PRINTS},
            **{name: page(True) for name in clutter.SCREENS},
            'cardboard': paint.plain(np.array([176, 136, 92]) * rng.uniform(0.6, 1.1), 0.04),
            'metal': paint.plain(np.array([150, 150, 152]) * rng.uniform(0.5, 1.2), 0.01)}


def _supports(room: Room, paint: Painter, rng: np.random.Generator) -> list[parts.Piece]:
    """Tops on which things may lie: (piece with its place and yaw; its kind is unused), and some
    desks that are added. A piece's scale holds nothing here; ``hue``, ``shade`` are its half sides.
    """
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform((0.5, 0.9, 0.02), (0.9, 1.8, 0.05))
        top, yaw = rng.uniform(0.45, 0.95), rng.uniform(-math.pi, math.pi)
        x, y = (rng.uniform(0.7, side - 0.7) for side in room.size[:2])
        wood = paint.wood() if rng.random() < 0.6 else paint.plain(paint.colour(30, 240, 25), 0.01)
        room.objects.append(shapes.Box((x, y, top - size[2] / 2), size, wood, yaw))
        for sign in (-1, 1):
            off = sign * (size[1] / 2 - 0.03)
            leg = x - math.sin(yaw) * off, y + math.cos(yaw) * off, (top - size[2]) / 2
            room.objects.append(shapes.Box(
                leg, (size[0] - 0.02, 0.03, top - size[2] - 0.002), wood, yaw))
    tops = [parts.Piece('floor', 0, (room.size[0] / 2, room.size[1] / 2, 0.0), 0.0,
                        hue=room.size[0] / 2 - 0.2, shade=room.size[1] / 2 - 0.2)]
    for item in room.objects:
        if isinstance(item, shapes.Box) and item.half[:2].min() > 0.1:
            yaw = math.atan2(item.turn[1, 0], item.turn[0, 0])
            x, y, z = item.centre
            if z + item.half[2] < 1.3:
                tops.append(parts.Piece('top', 0, (x, y, z + item.half[2]), yaw, hue=item.half[0],
                                        shade=item.half[1]))
    return tops


def _scatter(room: Room, top: parts.Piece, textures: dict[str, Texture], paint: Painter,
             rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Put things onto a top; returns where they are."""
    floor = top.kind == 'floor'
    area = 4 * top.hue * top.shade
    places: list[tuple[float, ...]] = []
    crowded = rng.exponential(0.4 if floor else 12.0)
    for _ in range(min(14, int(rng.poisson(crowded * area)))):
        makers = clutter.ON_A_FLOOR if floor else clutter.AT_A_DESK
        ahead, aside = rng.uniform(-0.9, 0.9, 2) * (top.hue, top.shade)
        c, s = math.cos(top.yaw), math.sin(top.yaw)
        x, y = top.position[0] + c * ahead - s * aside, top.position[1] + s * ahead + c * aside
        z = top.position[2] + 0.001
        if rng.random() < 0.15:
            radius = rng.uniform(0.02, 0.09)
            texture = textures[clutter.surface(rng)]
            item = (shapes.Sphere((x, y, z + radius), radius, texture) if rng.random() < 0.4 else
                    shapes.Cylinder((x, y, z + 1.5 * radius), radius, 3 * radius, texture))
            room.objects.append(item)
            places.append((x, y, z + radius))
            continue
        boxes = clutter.put(makers[int(rng.integers(len(makers)))](rng), x, y, z,
                            rng.uniform(-math.pi, math.pi), rng.uniform(0.85, 1.2))
        for box in boxes[:90]:
            room.objects.append(shapes.Box(box.centre, box.size, textures[box.surface], box.yaw))
        places.append((x, y, z + 0.03))
    return places


def _caster(room: Room) -> Cast:
    """``cast`` of :mod:`train.synthetic.views`; what is round counts as its bounding box."""
    centres = np.array([item.centre for item in room.objects])
    halves = np.array([item.half for item in room.objects])
    turns = np.array([getattr(item, 'turn', np.eye(2)) for item in room.objects])

    def cast(origin: npt.NDArray[np.float64],
             directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        directions = np.where(np.abs(directions) < 1e-9, 1e-9, directions)
        walls = (np.where(directions > 0, room.size, 0.0) - origin) / directions
        start, along = origin - centres, directions[:, None].repeat(len(centres), 1)
        start[:, :2] = np.einsum('nji,nj->ni', turns, start[:, :2])
        along[..., :2] = np.einsum('nji,rnj->rni', turns, along[..., :2])
        along = np.where(np.abs(along) < 1e-9, 1e-9, along)
        one, other = (-halves - start) / along, (halves - start) / along
        enters = np.minimum(one, other).max(2)
        leaves = np.maximum(one, other).min(2)
        hit = np.where((leaves >= np.maximum(enters, 0)), np.maximum(enters, 0), np.inf)
        return np.minimum(walls.min(1), hit.min(1, initial=np.inf))
    return cast
