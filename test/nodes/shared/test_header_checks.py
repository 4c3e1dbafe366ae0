"""Headers whose stamp or frame_id is of no use are named."""

from types import SimpleNamespace

import pytest


def header(seconds, frame_id='camera'):
    stamp = SimpleNamespace(sec=int(seconds), nanosec=0)
    return SimpleNamespace(stamp=stamp, frame_id=frame_id)


@pytest.mark.parametrize(('stamp', 'now', 'said'), [
    (1_795_621_493, 1_795_621_493, ''), (1_795_621_483, 1_795_621_493, ''),
    (0, 1_795_621_493, 'carry no stamp'), (2740, 1_795_621_493, 'since boot'),
    (1_795_625_093, 1_795_621_493, '3600.0 s ahead'), (1_795_000_000, 1_795_621_493, '--clock'),
    (1_795_621_493, 12, 'use_sim_time'), (11, 12, ''), (-5, 1_795_621_493, 'since boot'),
])
def test_a_foreign_clock_is_named(stamp, now, said):
    pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared.header_checks import stamp_warning
    trouble = stamp_warning(header(stamp), now * 10**9)
    assert said in trouble
    assert bool(trouble) == bool(said)


@pytest.mark.parametrize(('frame_id', 'said'), [
    ('camera', ''), ('', 'is empty, RViz drops'), ('/camera', 'begins with /'),
    ('left', "frame_id 'left', not 'camera', so no transform may lead there: give the launch "
     'optical_frame:=left')])
def test_a_frame_that_nobody_finds(frame_id, said):
    """RViz drops messages whose frame_id is empty or begins with a slash."""
    pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared.header_checks import frame_id_warning
    assert said in frame_id_warning(header(1, frame_id), 'camera')
    assert bool(frame_id_warning(header(1, frame_id), 'camera')) == bool(said)
    assert bool(frame_id_warning(header(1, frame_id))) == bool(said and frame_id != 'left')
