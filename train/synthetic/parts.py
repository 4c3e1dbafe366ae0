"""What a room consists of, as data.

World frame (REP 103): x and y along the walls, z up, metres, the room's corner at the origin,
the floor at z = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]     # x, y, z or x, y; m
Outline = npt.NDArray[np.float64]    # N×2 corners on the floor, in order; m
Surface = tuple[str, int]            # the kind of a surface, and its number

CORNERS = np.array([[x, y, z] for x in (-.5, .5) for y in (-.5, .5) for z in (-.5, .5)])


@dataclass
class Block:
    """A block of one surface.

    centre, size: m; yaw: about the vertical, tilt: first about its own y axis, its top to the
    back (+x), rad.
    """

    centre: tuple
    size: tuple
    surface: str
    yaw: float = 0.0
    tilt: float = 0.0

    def axes(self) -> np.ndarray:
        """3×3, the box's frame → the room's."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        tilt_c, tilt_s = math.cos(self.tilt), math.sin(self.tilt)
        return (np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
                @ np.array([[tilt_c, 0, tilt_s], [0, 1, 0], [-tilt_s, 0, tilt_c]]))

    def corners(self) -> np.ndarray:
        """The eight corners, 8×3, m."""
        return (CORNERS * self.size) @ self.axes().T + self.centre


@dataclass
class Pane:
    """A window's pane: it shines like the sky, and has no depth (a camera measures none).

    centre, size (along the wall, up): m; yaw: of its normal, into the room; strength: W/m²-like.
    """

    centre: tuple
    size: tuple
    yaw: float
    strength: float
    colour: tuple


@dataclass
class Piece:
    """A piece of furniture: which one, and where its origin stands. yaw: where its front looks."""

    kind: str
    number: int
    position: tuple
    yaw: float
    scale: float = 1.0
    hue: float = 0.5      # Blender's hue shift, 0.5: none
    shade: float = 1.0


@dataclass
class Lamp:
    """A square area lamp that looks down. position, size: m; power: W."""

    position: tuple
    power: float
    size: float
    colour: tuple


@dataclass
class FurnishedRoom:
    """All that is in a room. size: m along x, y, z."""

    kind: str
    size: tuple
    surfaces: dict[str, Surface] = field(default_factory=dict)  # of floor, wall, ceiling, trim …
    boxes: list[Block] = field(default_factory=list)
    panes: list[Pane] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)
    sun: tuple | None = None                       # direction of its light, strength
    targets: list = field(default_factory=list)    # places (x, y, z) of small things to look at
