"""Pairs of frames of one moment, by the stamps in their headers."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

SLOP = 0.02  # seconds

Frame = TypeVar('Frame')


class _Sweep(NamedTuple):
    """What of two sorted lists of stamps is paired, and up to where each list is done with."""

    pairs: list[tuple[int, int]]
    first_done: int
    second_done: int


def _sweep(first: Sequence[int], second: Sequence[int], slop: int, ended: bool) -> _Sweep:
    pairs: list[tuple[int, int]] = []
    i, j = 0, 0
    while i < len(first) and j < len(second):
        gap = second[j] - first[i]
        early, at, late = (first, i, second[j]) if gap >= 0 else (second, j, first[i])
        if abs(gap) <= slop:
            if gap and at + 1 == len(early) and not ended:
                break  # the next one may be nearer
            if not gap or at + 1 == len(early) or abs(early[at + 1] - late) >= abs(gap):
                pairs.append((i, j))
                i, j = i + 1, j + 1
                continue
        if gap >= 0:
            i += 1
        else:
            j += 1
    return _Sweep(pairs, i, j)


def match_stamps(first: Sequence[int], second: Sequence[int],
                 slop: int) -> list[tuple[int, int]]:
    """Pairs of frames whose stamps lie near each other.

    Two that are each other's nearest are a pair (of two that are equally near, the earlier); each
    is used once.

    Args:
        first: Stamps in any order, ns.
        second: Likewise, of the other topic.
        slop: The most that the stamps of a pair may differ, ns.

    Returns:
        (index into `first`, index into `second`) in the order of the stamps.
    """
    orders = [sorted(range(len(stamps)), key=stamps.__getitem__) for stamps in (first, second)]
    sweep = _sweep([first[i] for i in orders[0]], [second[j] for j in orders[1]], slop,
                   ended=True)
    return [(orders[0][i], orders[1][j]) for i, j in sweep.pairs]


class TimeSynchronizer(Generic[Frame]):
    """:func:`match_stamps` for frames that are still coming: a pair as soon as it is sure.

    Args:
        slop: The most that the stamps of a pair may differ, ns.
        queue_size: Frames of a topic that wait for a partner; then the earliest is dropped.

    Attributes:
        unpaired: How many frames found no partner.
    """

    def __init__(self, slop: int, queue_size: int = 100) -> None:
        self._slop, self._queue_size, self.unpaired = slop, queue_size, 0
        self._stamps: tuple[list[int], list[int]] = ([], [])
        self._frames: tuple[list[Frame], list[Frame]] = ([], [])

    def add(self, topic: int, stamp: int, frame: Frame) -> list[tuple[int, Frame, Frame]]:
        """Add a frame of topic 0 or 1.

        Returns:
            (stamp of topic 0, its frame, the frame of topic 1) of each pair that is sure by now.
        """
        place = bisect_right(self._stamps[topic], stamp)
        self._stamps[topic].insert(place, stamp)
        self._frames[topic].insert(place, frame)
        pairs = self._take(ended=False)
        if len(self._stamps[topic]) > self._queue_size:
            del self._stamps[topic][0], self._frames[topic][0]
            self.unpaired += 1
        return pairs

    def finish(self) -> list[tuple[int, Frame, Frame]]:
        """The pairs that are left when no more frames come."""
        pairs = self._take(ended=True)
        self.unpaired += self.waiting
        for topic in range(2):
            self._stamps[topic].clear()
            self._frames[topic].clear()
        return pairs

    @property
    def waiting(self) -> int:
        """How many frames may still find a partner."""
        return sum(map(len, self._stamps))

    def _take(self, ended: bool) -> list[tuple[int, Frame, Frame]]:
        sweep = _sweep(*self._stamps, self._slop, ended)
        pairs = [(self._stamps[0][i], self._frames[0][i], self._frames[1][j])
                 for i, j in sweep.pairs]
        for topic, done in enumerate((sweep.first_done, sweep.second_done)):
            del self._stamps[topic][:done], self._frames[topic][:done]
            self.unpaired += done - len(pairs)
        return pairs
