"""A snapshot: the files of each camera's next frame, in a folder that appears when all is in it."""

import time
from functools import partial

from rclpy.task import Future

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.image_files import CameraSnapshot, save_snapshot

TIMEOUT = 5.0  # seconds to wait for a frame of each camera


class Snapshot:
    """Waits for a frame of each camera; ``done`` is a Future of (success, folder or trouble)."""

    def __init__(self, cameras, folder):
        self._folder, self.done, self._frames = folder, Future(), {}
        self._topics = {camera.name: camera.topic for camera in cameras}
        self._deadline = time.monotonic() + TIMEOUT
        for camera in cameras:
            camera.snapshot = partial(self._take, camera.name)

    def _take(self, name, frame, depth, cloud):
        self._frames[name] = frame, depth, cloud
        if self.done.done() or len(self._frames) < len(self._topics):
            return
        try:
            save_snapshot(self._folder, {
                name: CameraSnapshot(frame.rgb, depth, frame.intrinsics, cloud)
                for name, (frame, depth, cloud) in self._frames.items()})
            self.done.set_result((True, str(self._folder)))
        except OSError as error:
            self.done.set_result((False, f'snapshot {self._folder} could not be written: '
                                  f'{reason(error)}; make room there, or set snapshot_folder'))

    def check_deadline(self):
        """Give up where a camera is silent."""
        silent = [topic for name, topic in self._topics.items() if name not in self._frames]
        if silent and time.monotonic() > self._deadline and not self.done.done():
            self.done.set_result((False, f'no image on {", ".join(silent)} within {TIMEOUT:g} s; '
                                  'see whether the camera runs'))
