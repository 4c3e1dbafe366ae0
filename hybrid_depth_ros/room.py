"""A furnished virtual room, ray-cast in numpy: pictures with exact depth, no camera needed.

World frame (REP 103): x and y along the walls, z up, metres, the floor at z = 0, the room's
corner at the origin. Everything in it is a box turned about the vertical, an upright cylinder
or a sphere, with a texture painted from the seed.
"""

import zlib

import cv2
import numpy as np

WALK_SECONDS = 60.0   # one round
EYE_HEIGHT = 1.4      # m
NEAREST = 0.05        # m; nothing nearer is drawn
AMBIENT, LAMP = 0.62, 0.5
FACE_AXES = ((1, 2), (0, 2), (0, 1))  # across and down a face, by the axis it is square to


class Texture:
    """A picture of `size` metres, repeated, with its half-size copies for distant surfaces.

    image: float32 H×W×3 in 0…255, H and W powers of two.
    """

    def __init__(self, image, size):
        height, width = image.shape[:2]
        self.size, self.texel = size, max(size[0] / width, size[1] / height)
        levels = [image]
        while min(levels[-1].shape[:2]) > 1:
            levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5,
                                     interpolation=cv2.INTER_AREA))
        self._shape = image.shape[:2]
        starts = np.cumsum([0] + [level.shape[0] * level.shape[1] for level in levels[:-1]])
        self._starts = starts.astype(np.int32)
        self._pixels = np.concatenate([level.reshape(-1, 3) for level in levels])

    def look_up(self, u, v, footprint):
        """Colours float32 N×3 at u (right) and v (down) metres; footprint: m seen per pixel."""
        height, width = self._shape
        column = np.floor(u * (width / self.size[0])).astype(np.int32) & (width - 1)
        row = np.floor(v * (height / self.size[1])).astype(np.int32) & (height - 1)
        level = np.log2(np.maximum(footprint / self.texel, 1.0)).astype(np.int32)
        level = np.minimum(level, len(self._starts) - 1)
        index = (self._starts[level] + (row >> level) * (width >> level)
                 + (column >> level))
        return self._pixels[index]


def _rectangle(corners, eye, camera, intrinsics):
    """Rows and columns that the corners (N×3) may cover; None: none of them."""
    x, y, z = ((corners - eye) @ camera).T
    if (z < NEAREST).all():
        return None
    if (z < NEAREST).any():
        return slice(0, intrinsics.height), slice(0, intrinsics.width)
    columns = intrinsics.fx * x / z + intrinsics.cx
    rows = intrinsics.fy * y / z + intrinsics.cy
    left, right = max(0, int(columns.min())), min(intrinsics.width, int(columns.max()) + 2)
    top, bottom = max(0, int(rows.min())), min(intrinsics.height, int(rows.max()) + 2)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


class Box:
    """centre: 3, size: 3 (m), yaw: turn about the vertical (rad)."""

    def __init__(self, centre, size, texture, yaw=0.0, lit=True):
        self.centre, self.half = np.asarray(centre, float), np.asarray(size, float) / 2
        self.texture, self.lit = texture, lit
        c, s = np.cos(yaw), np.sin(yaw)
        self.turn = np.array([[c, -s], [s, c]])  # local → world
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        corners = signs * self.half
        corners[:, :2] = corners[:, :2] @ self.turn.T
        self.corners = corners + self.centre

    def _local(self, x, y):
        if self.turn[0, 0] == 1:
            return x, y
        (a, _), (b, _) = self.turn.tolist()  # plain floats keep float32 arrays float32
        return a * x + b * y, a * y - b * x

    def hit(self, eye, rays):
        """Distance along the rays (their z, as rays have z 1), inf where they miss."""
        ex, ey, ez = (eye - self.centre).tolist()
        ex, ey = self._local(ex, ey)
        dx, dy = self._local(rays[0], rays[1])
        near, far = None, None
        for origin, ray, half in zip((ex, ey, ez), (dx, dy, rays[2]), self.half.tolist(),
                                     strict=True):
            inverse = 1 / (ray + 1e-12)  # never 1 / 0
            middle, reach = -origin * inverse, half * np.abs(inverse)
            near = middle - reach if near is None else np.maximum(near, middle - reach)
            far = middle + reach if far is None else np.minimum(far, middle + reach)
        return np.where((near <= far) & (near > NEAREST), near, np.inf)

    def surface(self, points):
        """Where 3×N hits lie on the texture (u, v) and their outward normals, 3×N."""
        x, y, z = (p - c for p, c in zip(points, self.centre.tolist(), strict=True))
        x, y = self._local(x, y)
        local = np.stack((x, y, z))
        face = np.argmax(np.abs(local) / self.half[:, None], axis=0)
        hx, hy, hz = self.half
        u = np.where(face == 0, y + hy, x + hx)
        v = np.where(face == 2, hy - y, hz - z)
        normal = (face == np.arange(3)[:, None]) * np.sign(local)
        normal[:2] = self.turn @ normal[:2]
        return u, v, normal


class Cylinder:
    """Upright. centre: 3, radius and height: m."""

    lit = True

    def __init__(self, centre, radius, height, texture):
        self.centre, self.texture = np.asarray(centre, float), texture
        self.radius, self.half = radius, np.array([radius, radius, height / 2])
        self.corners = Box(centre, 2 * self.half, texture).corners

    def hit(self, eye, rays):
        """As Box.hit."""
        dx, dy, dz = (ray.astype(np.float64) for ray in rays)
        ex, ey, ez = eye - self.centre
        a, b = dx * dx + dy * dy, ex * dx + ey * dy
        root = b * b - a * (ex * ex + ey * ey - self.radius ** 2)
        half_chord = np.sqrt(np.maximum(root, 0)) / a
        bottom, top = (-self.half[2] - ez) / dz, (self.half[2] - ez) / dz
        near = np.maximum(-b / a - half_chord, np.minimum(bottom, top))
        far = np.minimum(-b / a + half_chord, np.maximum(bottom, top))
        return np.where((root > 0) & (near <= far) & (near > NEAREST), near, np.inf)

    def surface(self, points):
        """As Box.surface."""
        x, y, z = (p - c for p, c in zip(points, self.centre.tolist(), strict=True))
        cap = np.hypot(x, y) < self.radius - np.abs(np.abs(z) - self.half[2])
        u = np.where(cap, x, np.arctan2(y, x) * self.radius)
        v = np.where(cap, y, self.half[2] - z)
        radial = np.stack((x, y, np.zeros_like(x))) / self.radius
        return u, v, np.where(cap, np.sign(z) * np.array([[0], [0], [1]]), radial)


class Sphere:
    """centre: 3, radius: m."""

    lit = True

    def __init__(self, centre, radius, texture):
        self.centre, self.radius, self.texture = np.asarray(centre, float), radius, texture
        self.half = np.full(3, radius)
        self.corners = Box(centre, 2 * self.half, texture).corners

    def hit(self, eye, rays):
        """As Box.hit."""
        dx, dy, dz = (ray.astype(np.float64) for ray in rays)
        ex, ey, ez = eye - self.centre
        a, b = dx * dx + dy * dy + dz * dz, ex * dx + ey * dy + ez * dz
        root = b * b - a * (ex * ex + ey * ey + ez * ez - self.radius ** 2)
        near = (-b - np.sqrt(np.maximum(root, 0))) / a
        return np.where((root > 0) & (near > NEAREST), near, np.inf)

    def surface(self, points):
        """As Box.surface."""
        normal = (points - self.centre[:, None]) / self.radius
        u = np.arctan2(normal[1], normal[0]) * self.radius
        return u, -np.arcsin(np.clip(normal[2], -1, 1)) * self.radius, normal


class Painter:
    """Textures from one random generator; colours are RGB 0…255."""

    def __init__(self, rng):
        self.rng = rng

    def grain(self, height, width, coarse, fine=0.0):
        """Noise around 1, float32 H×W×1, blobs of 1/coarse of the picture plus pixel noise."""
        small = self.rng.standard_normal((max(2, coarse), max(2, coarse)), np.float32)
        noise = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        return (1 + 0.06 * noise + fine * self.rng.standard_normal(
            (height, width), np.float32))[..., None]

    def colour(self, low=40, high=215, vivid=45):
        """A grey level of low…high, each channel off it by up to `vivid`."""
        grey = self.rng.uniform(low, high)
        return np.clip(grey + self.rng.uniform(-vivid, vivid, 3), 12, 240)

    def plain(self, colour, fine=0.03, size=(1.0, 1.0)):
        """Paint or plaster."""
        return Texture(colour * self.grain(128, 128, 6, fine).astype(np.float32), size)

    def wood(self, colour=None):
        """Grain that runs along v, as on upright boards."""
        if colour is None:
            colour = np.array([150, 104, 62]) * self.rng.uniform(0.45, 1.35)
        lines = self.rng.standard_normal((4, 128)).astype(np.float32)
        lines = cv2.resize(lines, (128, 256), interpolation=cv2.INTER_CUBIC)[..., None]
        return Texture((colour * (1 + 0.09 * lines) * self.grain(256, 128, 5, 0.02)
                        ).astype(np.float32), (0.5, 2.0))

    def fabric(self, colour=None):
        """A weave, striped one time in three."""
        colour = self.colour() if colour is None else colour
        weave = 1 + 0.06 * np.sign(np.sin(np.arange(128) * 1.6))
        image = colour * self.grain(128, 128, 12, 0.05) * (weave[:, None] * weave)[..., None]
        if self.rng.random() < 1 / 3:
            image[:, (np.arange(128) // 16) % 2 == 0] *= 0.78
        return Texture(image.astype(np.float32), (0.32, 0.32))

    def picture(self, size):
        """A framed abstract of the size of the face it hangs on."""
        image = np.empty((128, 128, 3), np.float32)
        image[:] = self.colour(80, 220)
        for _ in range(14):
            centre = tuple(int(c) for c in self.rng.integers(0, 128, 2))
            axes = tuple(int(c) for c in self.rng.integers(5, 50, 2))
            cv2.ellipse(image, centre, axes, float(self.rng.uniform(0, 180)), 0, 360,
                        self.colour(20, 240).tolist(), -1)
        image = cv2.GaussianBlur(image, (0, 0), 1.2)
        cv2.rectangle(image, (0, 0), (127, 127), self.colour(20, 200).tolist(), 9)
        return Texture(image, size)

    def books(self, size):
        """A row of spines."""
        image, left = np.empty((64, 256, 3), np.float32), 0
        while left < 256:
            wide = int(self.rng.integers(6, 20))
            image[:, left:left + wide] = self.colour(25, 220)
            image[:, left:left + 1] *= 0.4
            band = int(self.rng.integers(6, 50))
            image[band:band + int(self.rng.integers(2, 9)), left + 1:left + wide] *= 1.25
            left += wide
        return Texture(np.clip(image, 0, 250), size)

    def window(self, size):
        """Sky, trees and glazing bars."""
        rows = np.linspace(0, 1, 128, dtype=np.float32)[:, None, None]
        image = np.broadcast_to((1 - rows) * np.float32([196, 220, 250])
                                + rows * np.float32([236, 240, 240]), (128, 128, 3)).copy()
        edge = 78 + 12 * cv2.resize(self.rng.standard_normal((1, 12)).astype(np.float32),
                                    (128, 1), interpolation=cv2.INTER_CUBIC)[0]
        trees = np.arange(128)[:, None] > edge
        image[trees] = (np.float32([92, 122, 72]) * self.grain(128, 128, 24, 0.1))[trees]
        for bar in (0, 60, 120):
            image[:, bar:bar + 8] = image[bar:bar + 8] = 238
        return Texture(image, size)

    def planks(self, height, width, boards):
        """Floor boards along the rows, float32 H×W×3."""
        colour = np.array([164, 120, 78]) * self.rng.uniform(0.55, 1.2)
        image = np.ones((height, width, 3), np.float32)
        for board in range(boards):
            rows = slice(board * height // boards, (board + 1) * height // boards)
            joints = np.sort(self.rng.integers(0, width, 4))
            for start, end in zip((0, *joints), (*joints, width), strict=True):
                image[rows, start:end] = colour * self.rng.uniform(0.82, 1.15)
                image[rows, max(0, end - 2):end] *= 0.6
            image[rows.start:rows.start + 2] *= 0.6
        streaks = cv2.resize(self.rng.standard_normal((height, 24)).astype(np.float32),
                             (width, height), interpolation=cv2.INTER_LINEAR)
        return image * (1 + 0.05 * streaks[..., None])


class Room:
    """A room furnished by its seed, and a walk through it.

    ``size``: width, depth and height in metres (x, y, z). Two rooms of one seed are equal,
    pixel by pixel.
    """

    def __init__(self, seed=0):
        rng = np.random.default_rng([seed, 7])
        self._paint = paint = Painter(rng)
        self.size = np.array([rng.uniform(4.6, 5.6), rng.uniform(4.0, 4.6),
                              rng.uniform(2.45, 2.75)])
        self._lamp = np.array([*(self.size[:2] / 2), self.size[2] - 0.35])
        self._start, self._turn = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
        self.objects = []
        walls = (self._sofa_wall, self._shelf_wall, self._window_wall, self._door_wall)
        first = int(rng.integers(4))
        for side in range(4):
            walls[(first + side) % 4](rng, side)
        self._middle(rng)
        white = paint.plain(np.array([226, 224, 218]), 0.01)
        for side in range(4):
            self._place(white, side, self._length(side) / 2, 0.008,
                        (self._length(side), 0.016, 0.09), 0.045)
        self._shell = self._bake(rng)
        self._noise = np.random.default_rng([seed, 8]).standard_normal(
            1 << 20).astype(np.float32) * 2.0

    # Furniture

    def _length(self, side):
        return self.size[side % 2]

    def _place(self, texture, side, along, out, size, z, yaw=0.0, lit=True):
        """A box at a wall: `along` it, `out` from it, size (along, out, up), middle at z."""
        turn = side * np.pi / 2
        centre = self._at_wall(side, along, out, z)
        self.objects.append(Box(centre, size, texture, turn + yaw, lit))

    def _at_wall(self, side, along, out, z):
        width, depth = self.size[:2]
        return np.array({0: (along, out), 1: (width - out, along),
                         2: (width - along, depth - out), 3: (out, depth - along)}[side] + (z,))

    def _sofa_wall(self, rng, side):
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

    def _shelf_wall(self, rng, side):
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

    def _window_wall(self, rng, side):
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
            self._chair(rng, self._at_wall(side, middle, 0.85, 0)[:2],
                        side * np.pi / 2 + rng.uniform(-0.4, 0.4))
        else:
            sheet, wood = paint.fabric(paint.colour(120, 220)), paint.wood()
            self._place(wood, side, middle, 0.5, (2.0, 0.98, 0.28), 0.16)
            self._place(sheet, side, middle, 0.5, (1.96, 0.94, 0.2), 0.38)
            self._place(paint.fabric(), side, middle - 0.25, 0.51, (1.4, 0.98, 0.16), 0.43)
            self._place(wood, side, middle + 0.99, 0.5, (0.05, 1.0, 0.85), 0.43)
            self._place(paint.fabric(np.array([214, 212, 206])), side, middle + 0.75, 0.5,
                        (0.35, 0.6, 0.13), 0.54, yaw=rng.uniform(-0.15, 0.15))

    def _door_wall(self, rng, side):
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
        leaves = Texture((np.float32([66, 112, 52]) * paint.grain(64, 64, 16, 0.3)
                          ).clip(8, 200).astype(np.float32), (0.2, 0.2))
        self.objects.append(Cylinder(pot + [0, 0, 0.35], 0.025, 0.5, paint.wood()))
        for _ in range(9):
            offset = rng.uniform((-0.2, -0.2, 0.35), (0.2, 0.2, 1.0))
            self.objects.append(Sphere(pot + offset, rng.uniform(0.08, 0.16), leaves))
        size = rng.uniform(0.35, 0.5, 2)
        self._place(paint.picture(size), side, length - 0.55, 0.015, (size[0], 0.03, size[1]), 1.65)

    def _chair(self, rng, at, yaw):
        """`yaw`: where it looks, from +y."""
        wood, turn = self._paint.wood(), np.array([[np.cos(yaw), -np.sin(yaw)],
                                                   [np.sin(yaw), np.cos(yaw)]])

        def part(x, y, z, size):
            self.objects.append(Box((*(at + turn @ (x, y)), z), size, wood, yaw))
        part(0, 0, 0.44, (0.42, 0.42, 0.04))
        for x in (-0.18, 0.18):
            part(x, -0.19, 0.45, (0.04, 0.04, 0.9))
            part(x, 0.19, 0.21, (0.04, 0.04, 0.42))
        for z in (0.62, 0.74, 0.86):
            part(0, -0.19, z, (0.34, 0.025, 0.07))

    def _middle(self, rng):
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
            self._chair(rng, middle + (wide + 0.28) * np.array([np.cos(angle), np.sin(angle)]),
                        angle + np.pi / 2)

    # Light that does not change is painted into the shell: floor, ceiling and walls

    def _bake(self, rng):
        """Textures of the six faces that close the room: by axis, the near one, then the far."""
        paint, depth = self._paint, self.size[1]
        wall, accent = paint.colour(180, 225, 15), int(rng.integers(4))
        faces = []
        for axis in range(3):
            for far in (0, 1):
                across, down = FACE_AXES[axis]
                rows = 1024 if axis == 2 and not far else 512
                u, v = np.meshgrid((np.arange(rows) + 0.5) / rows * self.size[across],
                                   (1 - (np.arange(rows) + 0.5) / rows) * self.size[down])
                point = np.empty((3, rows, rows))
                point[across], point[down], point[axis] = u, v, far * self.size[axis]
                if axis == 2:
                    image = (paint.grain(rows, rows, 6, 0.012) * np.array([228, 226, 220]) if far
                             else paint.planks(rows, rows, int(depth / 0.13)))
                else:
                    tint = paint.colour(120, 200, 30) if accent == 2 * axis + far else wall
                    image = tint * paint.grain(rows, rows, 5, 0.02)
                    if accent == 2 * axis + far and rng.random() < 0.6:
                        stripes = np.sin(np.arange(rows) / rows * self.size[across] * 40) > 0
                        image = image * np.where(stripes, 1.0, 0.9)[:, None]
                normal = np.eye(3)[axis] * (1 - 2 * far)
                light = self._light(point.reshape(3, -1), normal[:, None]).reshape(rows, rows)
                for other in (across, down):  # corners get less light
                    for edge in (point[other], self.size[other] - point[other]):
                        light *= 1 - 0.22 * np.exp(-edge / 0.18)
                light *= 1 - self._shadow(axis, far, across, down, rows)
                image = np.clip(image * light[..., None], 0, 255).astype(np.float32)
                faces.append(Texture(image, (self.size[across], self.size[down])))
        return faces

    def _shadow(self, axis, far, across, down, rows):
        """What the furniture takes of the light, 0…1, soft."""
        dark = np.zeros((rows, rows), np.float32)
        if axis == 2 and far:
            return dark
        for item in self.objects:
            low, high = item.corners.min(0), item.corners.max(0)
            gap = self.size[axis] - high[axis] if far else low[axis]
            reach = 1.2 if axis == 2 else 0.4
            if gap >= reach:
                continue
            # a turned box covers its own quadrilateral of the floor, not the one around it
            outline = (item.corners[:, :2] if axis == 2 else
                       np.array([(a, d) for a in (low[across], high[across])
                                 for d in (low[down] - 0.03, high[down])]))
            outline = outline / self.size[[across, down]]
            outline[:, 1] = 1 - outline[:, 1]
            layer = np.zeros_like(dark)
            hull = cv2.convexHull((outline * rows).astype(np.float32)).astype(np.int32)
            cv2.fillConvexPoly(layer, hull, 1.0)
            x, y, w, h = cv2.boundingRect(hull)
            spread = (0.035 + 0.12 * gap) / self.size[across] * rows
            pad = int(3 * spread) + 2
            window = (slice(max(0, y - pad), max(0, y + h + pad)),
                      slice(max(0, x - pad), max(0, x + w + pad)))
            soft = cv2.GaussianBlur(layer[window], (0, 0), spread)
            dark[window] = np.maximum(dark[window], 0.5 * (1 - gap / reach) * soft)
        return dark

    def _light(self, points, normals):
        """Share of the full light that 3×N points with 3×N normals get."""
        to_lamp = self._lamp[:, None] - points
        square = (to_lamp ** 2).sum(0)
        facing = np.maximum((to_lamp * normals).sum(0) / np.sqrt(square + 1e-9), 0)
        return AMBIENT + LAMP * facing / (1 + 0.07 * square)

    # Camera

    def camera_pose(self, seconds):
        """The camera on its closed walk: 4×4 float64, optical frame (REP 103) → world, metres.

        One round takes WALK_SECONDS, at eye height, always between furniture and looking
        across the room.
        """
        phase = 2 * np.pi * seconds / WALK_SECONDS
        angle = self._start + self._turn * phase
        reach = self.size[:2] / 2 - 1.05
        stretch = 1 + 0.12 * np.sin(3 * phase)
        eye = [*(self.size[:2] / 2 + reach * stretch * 0.85 * [np.cos(angle), np.sin(angle)]),
               EYE_HEIGHT + 0.04 * np.sin(5 * phase)]
        yaw = angle + np.pi + 0.35 * np.sin(2 * phase)
        pitch = np.deg2rad(-11 + 5 * np.sin(3 * phase + 1))
        forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch),
                            np.sin(pitch)])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0])
        pose = np.eye(4)
        pose[:3] = np.column_stack((right, np.cross(forward, right), forward, eye))
        return pose

    def render(self, intrinsics, pose):
        """What a pinhole camera sees: rgb uint8 H×W×3, depth float32 H×W in metres.

        pose: 4×4, optical frame → world, inside the room. Depth is z, exact at the pixel's
        centre; rgb has a sensor's blur and noise.
        """
        camera, eye = pose[:3, :3], pose[:3, 3]
        height, width = intrinsics.height, intrinsics.width
        x = ((np.arange(width) - intrinsics.cx) / intrinsics.fx)[None]
        y = ((np.arange(height) - intrinsics.cy) / intrinsics.fy)[:, None]
        # world direction of each pixel's ray, with z = 1 in the camera: length along it is z
        rays = [(camera[i, 0] * x + camera[i, 1] * y + camera[i, 2]).astype(np.float32)
                for i in range(3)]
        for ray in rays:
            ray[np.abs(ray) < 1e-7] = 1e-7
        depth, seen = np.full((height, width), np.inf, np.float32), np.empty(
            (height, width), np.int16)
        for axis in range(3):
            walls = np.where(rays[axis] > 0, self.size[axis] - eye[axis], -eye[axis])
            distance = walls.astype(np.float32) / rays[axis]
            nearer = distance < depth
            depth[nearer] = distance[nearer]
            seen[nearer] = (2 * axis + (rays[axis] > 0))[nearer]
        for number, item in enumerate(self.objects, 6):
            where = _rectangle(item.corners, eye, camera, intrinsics)
            if where is None:
                continue
            distance = item.hit(eye, [ray[where] for ray in rays])
            nearer = distance < depth[where]
            depth[where][nearer] = distance[nearer]
            seen[where][nearer] = number
        rgb = self._shade(eye, rays, depth, seen, 1.3 / intrinsics.fx)
        rgb = cv2.GaussianBlur(rgb, (3, 3), 0.6)
        offset = zlib.crc32(np.ascontiguousarray(pose).tobytes()) % (len(self._noise) // 2)
        rgb += np.resize(self._noise[offset:], rgb.size).reshape(rgb.shape)
        return np.clip(rgb, 0, 255).astype(np.uint8), depth

    def _shade(self, eye, rays, depth, seen, footprint):
        """float32 H×W×3, 0…255; footprint: metres per pixel at 1 m."""
        rgb = np.empty((depth.size, 3), np.float32)
        flat_depth, flat_rays = depth.ravel(), [ray.ravel() for ray in rays]
        order = np.argsort(seen.ravel(), kind='stable')
        numbers, starts = np.unique(seen.ravel()[order], return_index=True)
        for number, pixels in zip(numbers, np.split(order, starts[1:]), strict=True):
            z = flat_depth[pixels]
            points = np.stack([origin + z * ray[pixels] for origin, ray
                               in zip(eye.tolist(), flat_rays, strict=True)])
            if number < 6:
                across, down = FACE_AXES[number // 2]
                rgb[pixels] = self._shell[number].look_up(
                    points[across], self.size[down] - points[down], z * footprint)
                continue
            item = self.objects[number - 6]
            u, v, normals = item.surface(points)
            colour = item.texture.look_up(u, v, z * footprint)
            if item.lit:
                colour = colour * self._light(points, normals)[:, None]
            rgb[pixels] = colour
        return rgb.reshape(*depth.shape, 3)
