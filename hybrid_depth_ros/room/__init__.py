"""A furnished virtual room, ray-cast in numpy: pictures with exact depth, no camera needed.

World frame (REP 103): x and y along the walls, z up, metres, the floor at z = 0, the room's
corner at the origin. Everything in it is a box turned about the vertical, an upright cylinder
or a sphere, with a texture painted from the seed.
"""

from hybrid_depth_ros.room.room import EYE_HEIGHT, WALK_SECONDS, Room

__all__ = ['EYE_HEIGHT', 'WALK_SECONDS', 'Room']
