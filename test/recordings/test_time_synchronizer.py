"""Frames of one moment: in lists, and as they come."""

import random

from hybrid_depth_ros.recordings.time_synchronizer import TimeSynchronizer, match_stamps


def test_pairs_by_hand():
    assert match_stamps([0, 33, 66], [35, 64, 1], 5) == [(0, 2), (1, 0), (2, 1)]
    assert match_stamps([0, 10], [5], 5) == [(0, 0)]  # equally near: the earlier
    assert match_stamps([0, 9], [5], 5) == [(1, 0)]
    assert match_stamps([5], [4, 5, 6], 5) == [(0, 1)]
    assert match_stamps([7, 7], [7, 7, 7], 0) == [(0, 0), (1, 1)]
    assert match_stamps([0, 100], [6, 94], 5) == []
    assert match_stamps([], [1], 5) == []


def test_streams_pair_as_lists_do():
    rng = random.Random(0)
    for _ in range(300):
        slop = rng.choice([0, 3, 20, 60])
        lists = [sorted(rng.randrange(1000) for _ in range(rng.randrange(30))) for _ in range(2)]
        pairs = match_stamps(*lists, slop)
        for side in range(2):
            used = [pair[side] for pair in pairs]
            assert len(set(used)) == len(used)
        assert all(abs(lists[0][i] - lists[1][j]) <= slop for i, j in pairs)
        taken = [{pair[side] for pair in pairs} for side in range(2)]
        if len(set(lists[0])) == len(lists[0]) and len(set(lists[1])) == len(lists[1]):
            # two that are nearer to each other than to any other frame are a pair
            for i, first in enumerate(lists[0]):
                for j, second in enumerate(lists[1]):
                    gap = abs(first - second)
                    if gap <= slop and all(abs(first - s) > gap for s in lists[1] if s != second
                                           ) and all(abs(f - second) > gap for f in lists[0]
                                                     if f != first):
                        assert (i, j) in pairs
        pairing, got, left = TimeSynchronizer(slop), [], [list(lists[0]), list(lists[1])]
        while any(left):
            side = rng.choice([side for side in range(2) if left[side]])
            stamp = left[side].pop(0)
            got += pairing.add(side, stamp, stamp)
        got += pairing.finish()
        assert [(a, b) for _, a, b in got] == [(lists[0][i], lists[1][j]) for i, j in pairs]
        assert pairing.unpaired == sum(len(lists[s]) - len(taken[s]) for s in range(2))
        assert pairing.waiting == 0


def test_a_partner_that_never_comes_costs_no_memory():
    pairing = TimeSynchronizer(slop=5, queue_size=10)
    for stamp in range(1000):
        assert pairing.add(0, stamp, None) == []
    assert (pairing.waiting, pairing.unpaired) == (10, 990)
