"""Anchors: distances that were measured, and where they lie in an image; how they are used."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.geometry import Intrinsics, Rectification

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Anchors:
    """Distances that were measured, and where they lie in an image.

    All are 1-D arrays of one length, stored as float32. An anchor that is not finite, whose depth
    is not above 0, whose sigma is below 0 or that lies outside of the image is not used.

    Args:
        u: columns in pixels, 0 in the centre of the leftmost.
        v: rows in pixels, 0 in the centre of the topmost.
        depth: metres along the optical axis (REP 118).
        sigma: their standard deviations in metres, or None where they are small.

    Raises:
        ValueError: lengths differ, or these are no numbers.
    """

    u: Float32
    v: Float32
    depth: Float32
    sigma: Float32 | None = None

    def __post_init__(self) -> None:
        for name in ('u', 'v', 'depth', 'sigma'):
            given = getattr(self, name)
            if given is None and name == 'sigma':
                continue
            try:
                values = np.asarray(given, np.float32)
            except (TypeError, ValueError) as error:
                raise ValueError(f'{name} of the anchors is not an array of numbers') from error
            if values.ndim != 1 or values.size != np.size(self.u):
                raise ValueError(f'{name} of the anchors has the shape {values.shape}; u, v, depth '
                                 'and sigma must be 1-D and of one length')
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return int(self.u.size)

    def inside(self, width: int, height: int) -> npt.NDArray[np.bool_]:
        """Whether each is a possible distance and lies in an image of this size."""
        good = ((self.u > -0.5) & (self.u < width - 0.5) & (self.v > -0.5) & (self.v < height - 0.5)
                & (self.depth > 1e-3) & (self.depth < 1e4))
        if self.sigma is not None:
            good &= (self.sigma >= 0) & (self.sigma < np.inf)
        return good

    def every(self, step: int) -> 'Anchors':
        """One of so many, in their order."""
        u, v, depth = (values[::step] for values in (self.u, self.v, self.depth))
        return Anchors(u, v, depth, None if self.sigma is None else self.sigma[::step])

    @classmethod
    def joined(cls, parts: 'Iterable[Anchors]') -> 'Anchors':
        """All anchors of several Anchors, in their order."""
        parts = list(parts)
        if not parts:
            return cls(*np.empty((3, 0), np.float32))
        sigma = None if all(part.sigma is None for part in parts) else np.concatenate([
            np.zeros_like(part.u) if part.sigma is None else part.sigma for part in parts])
        u, v, depth = (np.concatenate([getattr(part, name) for part in parts])
                       for name in ('u', 'v', 'depth'))
        return cls(u, v, depth, sigma)


class AnchorSettings(NamedTuple):
    """How anchors are used.

    Attributes:
        age: seconds that a measurement's stamp may lie from the image's.
        time_constant: as of :func:`~hybrid_depth_ros.anchors.correction.complete_depth`.
        smooth: likewise.
        camera_height: metres above the floor; 0: the pose of `floor_frame` gives it.
        camera_pitch: degrees that the camera looks down, with a height.
        camera_roll: degrees that it is turned clockwise as seen from behind it, with a height.
        floor_frame: a frame on the floor, z up.
        fixed_frame: a frame that stays while the robot moves, for motion.
        min_depth: metres that a depth image is believed from, or 0.
        max_depth: metres that it is believed up to; 0: no limit.
    """

    age: float = 0.5
    time_constant: float = 0.5
    smooth: bool = False
    camera_height: float = 0.0
    camera_pitch: float = 0.0
    camera_roll: float = 0.0
    floor_frame: str = 'base_footprint'
    fixed_frame: str = 'odom'
    min_depth: float = 0.0
    max_depth: float = 0.0


class ImageInfo(NamedTuple):
    """The image that depth belongs to. stamp: ns. frame: its optical frame. gray: uint8 H×W, for
    motion. other_camera: why the intrinsics may be another camera's, or empty. rgb: uint8 H×W×3,
    whose colours say where things end. rectification: how the image was undistorted, or None."""

    stamp: int
    frame: str
    intrinsics: Intrinsics | None
    gray: npt.NDArray[np.uint8] | None = None
    other_camera: str = ''
    rgb: npt.NDArray[np.uint8] | None = None
    rectification: Rectification | None = None
