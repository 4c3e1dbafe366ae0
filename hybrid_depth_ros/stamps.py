"""Stamps of messages in nanoseconds, by their fields alone: no ROS is needed."""

import struct
from typing import Any

MAX_FRAME_LENGTH = 1000  # bytes of a frame_id that are read


def stamp_of(header: Any) -> int:
    """The stamp of a std_msgs/Header in ns; below 0 too, which rclpy's own Time refuses."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def header_stamp(raw: bytes | memoryview) -> int:
    """The stamp of a serialised message that starts with a header, in ns.

    Args:
        raw: CDR, 12 bytes at least.
    """
    seconds, nanoseconds = struct.unpack_from('<iI' if raw[1] & 1 else '>iI', raw, 4)
    return seconds * 1_000_000_000 + nanoseconds


def header_frame(raw: bytes | memoryview) -> str:
    """The frame_id of a serialised message that starts with a header; empty where it is cut off.

    Args:
        raw: CDR.
    """
    length = int.from_bytes(raw[12:16], 'little' if raw[1] & 1 else 'big') if len(raw) > 16 else 0
    name = bytes(raw[16:16 + min(length, MAX_FRAME_LENGTH)]).rstrip(b'\0')
    return name.decode('utf-8', 'replace')
