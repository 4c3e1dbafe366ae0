"""Light in the virtual room; what does not change is painted into floor, ceiling and walls."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.virtual_room.shapes import Shape
from hybrid_depth_ros.virtual_room.textures import Painter, Texture

AMBIENT, LAMP = 0.62, 0.5
FACE_AXES = ((1, 2), (0, 2), (0, 1))  # across and down a face, by the axis it is square to


class Light:
    """One lamp below the middle of the ceiling. size: of the room, 3, metres."""

    def __init__(self, size: npt.NDArray[np.float64]) -> None:
        self.size = size
        self._lamp = np.array([*(size[:2] / 2), size[2] - 0.35])

    def share(self, points: npt.NDArray[np.floating],
              normals: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Share of the full light that 3×N points with 3×N normals get."""
        to_lamp = self._lamp[:, None] - points
        square = (to_lamp ** 2).sum(0)
        facing = np.maximum((to_lamp * normals).sum(0) / np.sqrt(square + 1e-9), 0)
        return AMBIENT + LAMP * facing / (1 + 0.07 * square)

    def bake(self, paint: Painter, objects: Sequence[Shape]) -> list[Texture]:
        """Textures of the six faces that close the room: by axis, the near one, then the far.

        Args:
            paint: Whose generator decides.
            objects: What takes light from the faces.
        """
        rng, depth = paint.rng, self.size[1]
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
                light = self.share(point.reshape(3, -1), normal[:, None]).reshape(rows, rows)
                for other in (across, down):  # corners get less light
                    for edge in (point[other], self.size[other] - point[other]):
                        light *= 1 - 0.22 * np.exp(-edge / 0.18)
                light *= 1 - self._shadow(objects, axis, far, across, down, rows)
                image = np.clip(image * light[..., None], 0, 255).astype(np.float32)
                faces.append(Texture(image, (self.size[across], self.size[down])))
        return faces

    def _shadow(self, objects: Sequence[Shape], axis: int, far: int, across: int, down: int,
                rows: int) -> npt.NDArray[np.float32]:
        """What the furniture takes of the light, 0…1, soft."""
        dark = np.zeros((rows, rows), np.float32)
        if axis == 2 and far:
            return dark
        for item in objects:
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
