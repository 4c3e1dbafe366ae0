"""A furnished virtual room, ray-cast in numpy: pictures with exact depth, no camera needed.

World frame (REP 103): x and y along the walls, z up, metres, the floor at z = 0, the room's
corner at the origin. Everything in it is a box turned about the vertical, an upright cylinder
or a sphere, with a texture painted from the seed.
"""

import zlib

import cv2
import numpy as np

from hybrid_depth_ros.virtual_room.furniture import furnish
from hybrid_depth_ros.virtual_room.light import FACE_AXES, Light
from hybrid_depth_ros.virtual_room.shapes import NEAREST
from hybrid_depth_ros.virtual_room.textures import Painter

WALK_SECONDS = 60.0   # one round
EYE_HEIGHT = 1.4      # m


def upright_camera_pose(eye, yaw, pitch):
    """Pose of a camera that is held upright: 4×4 float64, optical frame (REP 103) → world.

    eye: x, y, z in metres. yaw, pitch: radians that it looks to the left of x, and up.
    """
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    pose = np.eye(4)
    pose[:3] = np.column_stack((right, np.cross(forward, right), forward, eye))
    return pose


class Room:
    """A room furnished by its seed, and a walk through it.

    ``size``: width, depth and height in metres (x, y, z). Two rooms of one seed are equal,
    pixel by pixel.
    """

    def __init__(self, seed=0):
        rng = np.random.default_rng([seed, 7])
        paint = Painter(rng)
        self.size = np.array([rng.uniform(4.6, 5.6), rng.uniform(4.0, 4.6),
                              rng.uniform(2.45, 2.75)])
        self._start, self._turn = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
        self.objects, self._light = furnish(paint, self.size), Light(self.size)
        self._shell = self._light.bake(paint, self.objects)
        self._noise = np.random.default_rng([seed, 8]).standard_normal(
            1 << 20).astype(np.float32) * 2.0

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
        return upright_camera_pose(eye, yaw, np.deg2rad(-11 + 5 * np.sin(3 * phase + 1)))

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

    def scan(self, pose, angles):
        """What a 2-D lidar measures: float32 N metres along rays at `angles` (rad) in its plane.

        pose: 4×4, its frame (x forward, y left, z up) → world, inside the room. Exact.
        """
        eye = pose[:3, 3]
        rays = (pose[:3, :3] @ np.stack((np.cos(angles), np.sin(angles), np.zeros_like(angles)))
                ).astype(np.float32)
        rays[np.abs(rays) < 1e-7] = 1e-7
        walls = np.where(rays > 0, self.size[:, None] - eye[:, None], -eye[:, None]) / rays
        return np.min([walls.min(0), *(item.hit(eye, list(rays)) for item in self.objects)],
                      0).astype(np.float32)

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
                colour = colour * self._light.share(points, normals)[:, None]
            rgb[pixels] = colour
        return rgb.reshape(*depth.shape, 3)


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
