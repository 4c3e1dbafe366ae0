"""What the virtual room is made of: boxes, cylinders and spheres that rays can hit."""

import numpy as np

NEAREST = 0.05        # m; nothing nearer is drawn


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
