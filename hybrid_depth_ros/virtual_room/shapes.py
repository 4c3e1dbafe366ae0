"""What the virtual room is made of: boxes, cylinders and spheres that rays can hit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.virtual_room.textures import Texture

NEAREST = 0.05        # m; nothing nearer is drawn
Floats = npt.NDArray[np.floating]


class Shape:
    """A shape that rays can hit.

    Attributes:
        centre: 3 metres.
        half: 3 metres, from the centre to the sides.
        corners: 8×3 metres, of the box around it.
        texture: Of its surface.
        lit: Whether the lamp lights it; a window shines by itself.
    """

    centre: npt.NDArray[np.float64]
    half: npt.NDArray[np.float64]
    corners: npt.NDArray[np.float64]
    texture: Texture
    lit = True

    def hit(self, eye: npt.NDArray[np.float64],
            rays: Sequence[npt.NDArray[np.float32]]) -> Floats:
        """Distance along the rays (their z, as rays have z 1), inf where they miss."""
        raise NotImplementedError

    def surface(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Where 3×N hits lie on the texture (u, v) and their outward normals, 3×N."""
        raise NotImplementedError


class Box(Shape):
    """A box, turned about the vertical.

    Args:
        centre: 3 metres.
        size: 3 metres.
        texture: Of all its faces.
        yaw: Radians.
        lit: Whether the lamp lights it.
    """

    def __init__(self, centre: npt.ArrayLike, size: npt.ArrayLike, texture: Texture,
                 yaw: float = 0.0, lit: bool = True) -> None:
        self.centre, self.half = np.asarray(centre, float), np.asarray(size, float) / 2
        self.texture, self.lit = texture, lit
        c, s = np.cos(yaw), np.sin(yaw)
        self.turn = np.array([[c, -s], [s, c]])  # local → world
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        corners = signs * self.half
        corners[:, :2] = corners[:, :2] @ self.turn.T
        self.corners = corners + self.centre

    def _local(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        if self.turn[0, 0] == 1:
            return x, y
        (a, _), (b, _) = self.turn.tolist()  # plain floats keep float32 arrays float32
        return a * x + b * y, a * y - b * x

    def hit(self, eye: npt.NDArray[np.float64],
            rays: Sequence[npt.NDArray[np.float32]]) -> Floats:
        ex, ey, ez = (eye - self.centre).tolist()
        ex, ey = self._local(ex, ey)
        dx, dy = self._local(rays[0], rays[1])
        near: Floats | float = -np.inf
        far: Floats | float = np.inf
        for origin, ray, half in zip((ex, ey, ez), (dx, dy, rays[2]), self.half.tolist(),
                                     strict=True):
            inverse = 1 / (ray + 1e-12)  # never 1 / 0
            middle, reach = -origin * inverse, half * np.abs(inverse)
            near, far = np.maximum(near, middle - reach), np.minimum(far, middle + reach)
        return np.where((near <= far) & (near > NEAREST), near, np.inf)

    def surface(self, points: Floats) -> tuple[Floats, Floats, Floats]:
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


class Cylinder(Shape):
    """An upright cylinder. centre: 3, radius and height: metres."""

    def __init__(self, centre: npt.ArrayLike, radius: float, height: float,
                 texture: Texture) -> None:
        self.centre, self.texture = np.asarray(centre, float), texture
        self.radius, self.half = radius, np.array([radius, radius, height / 2])
        self.corners = Box(centre, 2 * self.half, texture).corners

    def hit(self, eye: npt.NDArray[np.float64],
            rays: Sequence[npt.NDArray[np.float32]]) -> Floats:
        dx, dy, dz = (ray.astype(np.float64) for ray in rays)
        ex, ey, ez = eye - self.centre
        a, b = dx * dx + dy * dy, ex * dx + ey * dy
        root = b * b - a * (ex * ex + ey * ey - self.radius ** 2)
        half_chord = np.sqrt(np.maximum(root, 0)) / a
        bottom, top = (-self.half[2] - ez) / dz, (self.half[2] - ez) / dz
        near = np.maximum(-b / a - half_chord, np.minimum(bottom, top))
        far = np.minimum(-b / a + half_chord, np.maximum(bottom, top))
        return np.where((root > 0) & (near <= far) & (near > NEAREST), near, np.inf)

    def surface(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        x, y, z = (p - c for p, c in zip(points, self.centre.tolist(), strict=True))
        cap = np.hypot(x, y) < self.radius - np.abs(np.abs(z) - self.half[2])
        u = np.where(cap, x, np.arctan2(y, x) * self.radius)
        v = np.where(cap, y, self.half[2] - z)
        radial = np.stack((x, y, np.zeros_like(x))) / self.radius
        return u, v, np.where(cap, np.sign(z) * np.array([[0], [0], [1]]), radial)


class Sphere(Shape):
    """A sphere. centre: 3, radius: metres."""

    def __init__(self, centre: npt.ArrayLike, radius: float, texture: Texture) -> None:
        self.centre, self.radius, self.texture = np.asarray(centre, float), radius, texture
        self.half = np.full(3, radius, np.float64)
        self.corners = Box(centre, 2 * self.half, texture).corners

    def hit(self, eye: npt.NDArray[np.float64],
            rays: Sequence[npt.NDArray[np.float32]]) -> Floats:
        dx, dy, dz = (ray.astype(np.float64) for ray in rays)
        ex, ey, ez = eye - self.centre
        a, b = dx * dx + dy * dy + dz * dz, ex * dx + ey * dy + ez * dz
        root = b * b - a * (ex * ex + ey * ey + ez * ez - self.radius ** 2)
        near = (-b - np.sqrt(np.maximum(root, 0))) / a
        return np.where((root > 0) & (near > NEAREST), near, np.inf)

    def surface(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        normal = (points - self.centre[:, None]) / self.radius
        u = np.arctan2(normal[1], normal[0]) * self.radius
        return u, -np.arcsin(np.clip(normal[2], -1, 1)) * self.radius, normal
