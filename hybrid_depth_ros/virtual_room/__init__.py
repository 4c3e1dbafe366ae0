"""Furnished virtual rooms, ray-cast in NumPy: images with exact depth, no camera needed.

World frame (REP 103): x and y along the walls, z up, metres, the floor at z = 0, the room's
corner at the origin.
"""

from hybrid_depth_ros.virtual_room.room import (
    EYE_HEIGHT,
    WALK_SECONDS,
    Room,
    upright_camera_pose,
)

__all__ = ['EYE_HEIGHT', 'WALK_SECONDS', 'Room', 'upright_camera_pose']
