"""A room furnished by its seed, a walk through it, and what a camera and a lidar see there."""

import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room.furniture import furnish
from hybrid_depth_ros.virtual_room.light import FACE_AXES, Light
from hybrid_depth_ros.virtual_room.raycast import Hits, camera_rays, cast_rays, without_zeros
from hybrid_depth_ros.virtual_room.textures import Painter

WALK_SECONDS = 60.0   # one round
EYE_HEIGHT = 1.4      # m
BLUR = 0.6            # pixels, of the sensor
PIXEL_FOOTPRINT = 1.3  # pixels that one covers of a texture, for the choice of its detail
NOISE_LEVEL = 2.0     # of 255, of the sensor
NOISE_SAMPLES = 1 << 20


def upright_camera_pose(eye: Sequence[float] | npt.NDArray[np.float64], yaw: float,
                        pitch: float) -> npt.NDArray[np.float64]:
    """Pose of a camera that is held upright: 4×4, optical frame (REP 103) → world.

    Args:
        eye: x, y, z in metres.
        yaw: Radians to the left of x.
        pitch: Radians up.
    """
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    pose = np.eye(4)
    pose[:3] = np.column_stack((right, np.cross(forward, right), forward, eye))
    return pose


class Room:
    """A room furnished by its seed, and a walk through it.

    Two rooms of one seed are equal, pixel by pixel.

    Args:
        seed: Not negative.
        size: Width, depth and height in metres; None: of a living room, by the seed.

    Attributes:
        size: Width, depth and height in metres (x, y, z).
        objects: The shapes of the furniture.
    """

    def __init__(self, seed: int = 0, size: Sequence[float] | None = None) -> None:
        rng = np.random.default_rng([seed, 7])
        paint = Painter(rng)
        usual = rng.uniform(4.6, 5.6), rng.uniform(4.0, 4.6), rng.uniform(2.45, 2.75)
        self.size = np.array(size or usual)
        self._start, self._turn = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
        self.objects, self._light = furnish(paint, self.size), Light(self.size)
        self._shell = self._light.bake(paint, self.objects)
        self._noise = np.random.default_rng([seed, 8]).standard_normal(
            NOISE_SAMPLES).astype(np.float32) * NOISE_LEVEL

    def camera_pose(self, seconds: float) -> npt.NDArray[np.float64]:
        """The camera on its closed walk: 4×4, optical frame (REP 103) → world, metres.

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

    def mounted_camera_pose(self, seconds: float, height: float,
                            pitch: float) -> npt.NDArray[np.float64]:
        """The walk of a camera so many metres above the floor, which looks down by `pitch` degrees.

        Returns:
            4×4, optical frame (REP 103) → world, metres.
        """
        walk = self.camera_pose(seconds)
        return upright_camera_pose([*walk[:2, 3], height], np.arctan2(walk[1, 2], walk[0, 2]),
                                   -np.deg2rad(pitch))

    def render(self, intrinsics: Intrinsics, pose: npt.NDArray[np.float64]
               ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """What a pinhole camera sees.

        Args:
            intrinsics: Of the camera.
            pose: 4×4, optical frame → world, inside the room.

        Returns:
            rgb uint8 H×W×3, with a sensor's blur and noise, and depth float32 H×W in metres. Depth
            is z, exact at the pixel's centre.
        """
        eye = pose[:3, 3]
        rays = camera_rays(intrinsics, pose)
        hits = cast_rays(self.size, self.objects, intrinsics, pose, rays)
        rgb = self._shade(eye, rays, hits, PIXEL_FOOTPRINT / intrinsics.fx)
        rgb = cv2.GaussianBlur(rgb, (3, 3), BLUR).astype(np.float32, copy=False)
        offset = zlib.crc32(np.ascontiguousarray(pose).tobytes()) % (len(self._noise) // 2)
        rgb += np.resize(self._noise[offset:], rgb.size).reshape(rgb.shape)
        return np.clip(rgb, 0, 255).astype(np.uint8), hits.depth

    def scan(self, pose: npt.NDArray[np.float64],
             angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """What a 2-D lidar measures, exactly.

        Args:
            pose: 4×4, the lidar's frame (x forward, y left, z up) → world, inside the room.
            angles: N radians, of rays in its plane.

        Returns:
            N metres along the rays.
        """
        eye = pose[:3, 3]
        rays = without_zeros((pose[:3, :3] @ np.stack(
            (np.cos(angles), np.sin(angles), np.zeros_like(angles)))).astype(np.float32))
        walls = np.where(rays > 0, self.size[:, None] - eye[:, None], -eye[:, None]) / rays
        return np.min([walls.min(0), *(item.hit(eye, list(rays)) for item in self.objects)],
                      0).astype(np.float32)

    def _shade(self, eye: npt.NDArray[np.float64], rays: list[npt.NDArray[np.float32]],
               hits: Hits, footprint: float) -> npt.NDArray[np.float32]:
        """float32 H×W×3, 0…255; footprint: metres per pixel at 1 m."""
        rgb = np.empty((hits.depth.size, 3), np.float32)
        flat_depth, flat_rays = hits.depth.ravel(), [ray.ravel() for ray in rays]
        order = np.argsort(hits.surface.ravel(), kind='stable')
        numbers, starts = np.unique(hits.surface.ravel()[order], return_index=True)
        for number, pixels in zip(numbers, np.split(order, starts[1:]), strict=True):
            z = flat_depth[pixels]
            points = np.stack([origin + z * ray[pixels] for origin, ray
                               in zip(eye.tolist(), flat_rays, strict=True)])
            if number < len(self._shell):
                across, down = FACE_AXES[number // 2]
                rgb[pixels] = self._shell[number].look_up(
                    points[across], self.size[down] - points[down], z * footprint)
                continue
            item = self.objects[number - len(self._shell)]
            u, v, normals = item.surface(points)
            colour = item.texture.look_up(u, v, z * footprint)
            if item.lit:
                colour = colour * self._light.share(points, normals)[:, None]
            rgb[pixels] = colour
        return rgb.reshape(*hits.depth.shape, 3)
