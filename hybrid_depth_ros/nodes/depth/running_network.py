"""The network that the depth node runs, and how many images its memory takes at once."""

import time
from dataclasses import dataclass

from hybrid_depth_ros.nodes.depth.settings import NetworkSettings
from hybrid_depth_ros.predictor import DepthEstimator

MEMORY_PAUSE = 60.0  # seconds until a batch is tried again that memory was too small for


@dataclass
class RunningNetwork:
    """A network, what it was made from, and the batch that its device has memory for.

    Args:
        predictor: It, ready to run.
        settings: That it was loaded by.
    """

    predictor: DepthEstimator
    settings: NetworkSettings
    _largest: int | None = None
    _retry_at: float = 0.0
    _smallest_logged: int | None = None

    def batch_size(self, count: int) -> int:
        """Return how many of `count` images to try at once.

        A size for which memory was too small is tried again after MEMORY_PAUSE: others may have
        held the memory.
        """
        if self._largest is None or time.monotonic() >= self._retry_at:
            return count
        return min(count, self._largest)

    def halve(self, count: int) -> tuple[int, bool]:
        """Note that memory was too small for `count` images at once.

        Returns:
            The size to try next, and whether it is smaller than any that was logged before.
        """
        self._largest, self._retry_at = count // 2, time.monotonic() + MEMORY_PAUSE
        news = self._smallest_logged is None or self._largest < self._smallest_logged
        if news:
            self._smallest_logged = self._largest
        return self._largest, news
