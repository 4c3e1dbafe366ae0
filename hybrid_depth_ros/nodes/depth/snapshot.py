"""A snapshot: the files of each camera's next frame, in a folder that appears when all is in it."""

from collections.abc import Mapping
from pathlib import Path

from rclpy.task import Future

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.image_files import CameraSnapshot, save_snapshot

SNAPSHOT_TIMEOUT = 5.0  # seconds to wait for a frame of each camera


class Snapshot:
    """Waits for a frame of each camera, then writes all of them.

    ``done`` is a Future of (success, folder or reason).

    Args:
        topics: Of each camera's images, by the camera's name.
        folder: Where the files go; it appears when all of them are there.
    """

    def __init__(self, topics: Mapping[str, str], folder: Path) -> None:
        self._topics, self._folder = topics, folder
        self._frames: dict[str, CameraSnapshot] = {}
        self.done = Future()

    def take(self, name: str, frame: CameraSnapshot) -> None:
        """Keep a camera's frame; the last one that is waited for writes the files."""
        self._frames[name] = frame
        if self.done.done() or len(self._frames) < len(self._topics):
            return
        try:
            save_snapshot(self._folder, self._frames)
            self.done.set_result((True, str(self._folder)))
        except OSError as error:
            self.done.set_result((False, f'snapshot {self._folder} could not be written: '
                                  f'{reason(error)}; make room there, or set snapshot_folder'))

    def give_up(self) -> None:
        """End where a camera is silent: no frame of it came within SNAPSHOT_TIMEOUT."""
        silent = [topic for name, topic in self._topics.items() if name not in self._frames]
        if silent and not self.done.done():
            self.done.set_result((False, f'no image on {", ".join(silent)} within '
                                  f'{SNAPSHOT_TIMEOUT:g} s; see whether the camera runs'))
