"""What a room consists of, as data.

World frame (REP 103): x and y along the walls, z up, metres, the room's corner at the origin,
the floor at z = 0.
"""

from dataclasses import dataclass, field


@dataclass
class Box:
    """A box of one surface, turned about the vertical. centre, size: m; yaw: rad."""

    centre: tuple
    size: tuple
    surface: str
    yaw: float = 0.0


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
class Room:
    """All that is in a room. size: m along x, y, z."""

    kind: str
    size: tuple
    surfaces: dict = field(default_factory=dict)  # floor, wall, ceiling, trim … → (kind, number)
    boxes: list = field(default_factory=list)
    panes: list = field(default_factory=list)
    pieces: list = field(default_factory=list)
    lamps: list = field(default_factory=list)
    sun: tuple | None = None                       # direction of its light, strength
