"""What depth cameras lose, and that it is the same for the same seed."""

import numpy as np
import pytest

from hybrid_depth_ros.depth_camera import (
    DEPTH_CAMERAS,
    HIDDEN,
    hidden_pixels,
    lost_blocks,
    lost_pixels,
    measured_depth,
)

RNG = np.random.default_rng
SHAPE = 240, 320


def textured():
    return RNG(0).integers(60, 200, (*SHAPE, 3)).astype(np.uint8)


def lost(camera, rgb, depth, **options):
    return lost_pixels(DEPTH_CAMERAS[camera], rgb, depth, 260, RNG(1), **options)


@pytest.mark.parametrize('camera', DEPTH_CAMERAS)
def test_each_loses_what_is_near_far_black_or_unknown(camera):
    usual = np.full(SHAPE, 1.5, np.float32)
    assert lost(camera, textured(), usual).mean() < 0.25
    for metres in (0.05, 12.0, 0.0, np.nan):
        depth = usual.copy()
        depth[:, 160:] = metres
        assert lost(camera, textured(), depth)[:, 160:].all(), metres
    for what, value in (('dark', 0), ('shiny', 255)):
        rgb = textured()
        rgb[:, 160:] = value
        right = lost(camera, rgb, usual)[:, 160:].mean() - lost(camera, textured(), usual)[
            :, 160:].mean()
        assert right > 0.2 * getattr(DEPTH_CAMERAS[camera], what), (what, right)


def test_stereo_has_a_shadow_to_the_left_of_near_things():
    depth = np.full(SHAPE, 3, np.float32)
    depth[:, 150:] = 1
    width = round(0.05 * 260 * (1 - 1 / 3))
    seen = [lost(camera, textured(), depth)[:, 151 - width:149] for camera in ('realsense', 'tof')]
    assert seen[0].all() and seen[1].mean() < 0.5


def test_a_share_is_met_and_a_seed_gives_the_same_again():
    rgb, depth = textured(), np.tile(np.linspace(0.5, 5, 320, dtype=np.float32), (240, 1))
    for camera in DEPTH_CAMERAS.values():
        first, again, other = (measured_depth(camera, rgb, depth, 260, RNG(seed), 0.4)
                               for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert (first != other).mean() > 0.5 and first.dtype == np.float32
        assert np.isnan(first).mean() == pytest.approx(0.4, abs=0.01)
        off = np.abs(first / depth - 1)
        assert np.nanmedian(off) < 0.02
    blocks = lost_blocks(SHAPE, RNG(5), 0.3)
    assert 0.3 <= blocks.mean() < 0.4 and np.array_equal(blocks, lost_blocks(SHAPE, RNG(5), 0.3))


def test_of_what_is_measured_a_part_is_hidden_each_time_otherwise():
    depth = np.full(SHAPE, 1.5, np.float32)
    depth[:, :80] = np.nan
    hidden = [hidden_pixels(textured(), depth, 260, number) for number in range(5)]
    for mask in hidden:
        assert not mask[:, :80].any()
        assert mask[:, 80:].mean() == pytest.approx(HIDDEN, abs=0.1)
    assert not np.array_equal(hidden[0], hidden[4])
    assert np.array_equal(hidden[1], hidden_pixels(textured(), depth, 260, 1))
