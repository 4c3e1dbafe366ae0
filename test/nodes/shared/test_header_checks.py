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


@pytest.mark.parametrize('start', [0, 1_795_621_493])
def test_a_recording_that_starts_anew_is_no_clock_of_another_machine(start):
    """``ros2 bag play --clock --loop``: the last images are ahead of the clock, for a moment."""
    pytest.importorskip('rclpy')
    from hybrid_depth_ros.nodes.shared.header_checks import stamp_warning
    trouble = stamp_warning(header(start + 13), (start + 1) * 10**9, simulated=True)
    assert '12.0 s ahead of /clock' in trouble and 'chrony' not in trouble
    assert 'use_sim_time' in stamp_warning(header(1_795_621_493), 10**10, simulated=True)


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
