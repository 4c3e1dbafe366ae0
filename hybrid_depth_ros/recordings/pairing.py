"""Frames of one moment, by the stamps in their headers."""

from bisect import bisect_right

SLOP = 0.02  # seconds


def _sweep(first, second, slop, ended):
    """Pairs of indices into two sorted lists of stamps, and how far each list is done with."""
    pairs, i, j = [], 0, 0
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
    return pairs, i, j


def pair_stamps(images, depths, slop):
    """Pairs of frames whose stamps lie near each other.

    images, depths: stamps in any order; slop: the most that those of a pair may differ, in
    the same unit. Two that are each other's nearest are a pair (of two that are equally near,
    the earlier); each is used once. Returns ``[(index of image, index of depth), …]`` in the
    order of the stamps.
    """
    orders = [sorted(range(len(stamps)), key=stamps.__getitem__) for stamps in (images, depths)]
    pairs, _, _ = _sweep([images[i] for i in orders[0]], [depths[i] for i in orders[1]], slop,
                         ended=True)
    return [(orders[0][i], orders[1][j]) for i, j in pairs]


class StampPairing:
    """:func:`pair_stamps` for frames that are still coming: a pair as soon as it is sure.

    At most `kept` frames of a topic wait for a partner; then the earliest is given up.
    ``unpaired`` counts the frames that found none.
    """

    def __init__(self, slop, kept=100):
        self._slop, self._kept, self.unpaired = slop, kept, 0
        self._stamps, self._frames = ([], []), ([], [])

    def add(self, topic, stamp, frame):
        """Add a frame of topic 0 or 1; returns ``[(stamp of 0, frame 0, frame 1), …]``."""
        place = bisect_right(self._stamps[topic], stamp)
        self._stamps[topic].insert(place, stamp)
        self._frames[topic].insert(place, frame)
        pairs = self._take(ended=False)
        if len(self._stamps[topic]) > self._kept:
            del self._stamps[topic][0], self._frames[topic][0]
            self.unpaired += 1
        return pairs

    def finish(self):
        """What is still a pair when no more frames come."""
        pairs = self._take(ended=True)
        self.unpaired += self.waiting
        for waiting in (*self._stamps, *self._frames):
            waiting.clear()
        return pairs

    @property
    def waiting(self):
        """Frames that may still find a partner."""
        return sum(map(len, self._stamps))

    def _take(self, ended):
        indices, *done = _sweep(*self._stamps, self._slop, ended)
        pairs = [(self._stamps[0][i], self._frames[0][i], self._frames[1][j])
                 for i, j in indices]
        for topic, count in enumerate(done):
            del self._stamps[topic][:count], self._frames[topic][:count]
            self.unpaired += count - len(pairs)
        return pairs
