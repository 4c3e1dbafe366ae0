"""Fixtures of the anchors' tests."""

import pytest
from anchor_scenes import room_pairs


@pytest.fixture(scope='session')
def rooms():
    """(true depth, depth as a network may see it) of four places in two rooms."""
    return room_pairs()
