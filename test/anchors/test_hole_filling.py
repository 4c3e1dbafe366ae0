"""A depth image with holes: what was measured stays, and what fills the holes agrees with it."""

import statistics
import time

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.anchors import complete_depth, fill_holes
from hybrid_depth_ros.anchors.hole_filling import believed_pixels
from hybrid_depth_ros.depth_camera import (
    DEPTH_CAMERAS,
    lost_blocks,
    measured_depth,
)

GRAY = np.full((480, 640, 3), 120, np.uint8)


def holes(truth, seed, share=0.4):
    """What is measured of it: blocks are not."""
    return np.where(lost_blocks(truth.shape, np.random.default_rng(seed), share),
                    np.float32(np.nan), truth)


def rel(depth, truth, where):
    return float(np.abs(depth / truth - 1)[where].mean())


@pytest.mark.parametrize('camera', [*DEPTH_CAMERAS, 'blocks'])
def test_measured_pixels_stay_and_holes_agree_with_them(rooms, camera):
    gains = []
    for seed, (truth, seen) in enumerate(rooms):
        measured = holes(truth, seed) if camera == 'blocks' else measured_depth(
            DEPTH_CAMERAS[camera], GRAY, truth, 519, np.random.default_rng(seed), 0.4)
        result = fill_holes(seen, measured)
        assert result.depth.dtype == np.float32 and result.depth.shape == truth.shape
        np.testing.assert_array_equal(result.depth[result.measured], measured[result.measured])
        assert not result.measured[~(measured > 0)].any()
        assert result.measured.sum() > 0.9 * np.count_nonzero(measured > 0)
        hole = ~(measured > 0)
        gains.append(rel(seen, truth, hole) / rel(result.depth, truth, hole))
    assert min(gains) > 3 and statistics.mean(gains) > 5, gains


def rim_steps(depth, truth, measured):
    """Of log depth from a measured pixel to one beside it that is not, beyond those of the truth,
    where the truth has no outline."""
    found = []
    for after, before in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        wanted, step = (np.log(values[after] / values[before]) for values in (truth, depth))
        found.append((step - wanted)[(measured[after] != measured[before])
                                     & (np.abs(wanted) < 0.02)])
    return np.abs(np.concatenate(found))


def test_no_seam_is_seen_at_the_rim_of_a_hole(rooms):
    for seed, (truth, seen) in enumerate(rooms):
        result = fill_holes(seen, holes(truth, seed))
        seen = seen * np.float32(np.median(truth / seen))
        pasted = rim_steps(np.where(result.measured, truth, seen), truth, result.measured)
        filled = rim_steps(result.depth, truth, result.measured)
        assert np.median(filled) < 0.005 < np.median(pasted) / 4
        assert np.percentile(filled, 90) < 0.03 < np.percentile(pasted, 90)


def test_flying_pixels_and_speckles_are_estimated_anew():
    truth = np.full((120, 160), 3, np.float32)
    truth[:, :80] = 1.5
    measured = truth.copy()
    measured[:, 80] = 2.2  # it sees both
    measured[40:80, 100:140] = np.nan
    measured[60, 120:122] = 1.1  # a speckle
    result = fill_holes(truth, measured)
    assert not result.measured[:, 80].any() and not result.measured[40:80, 100:140].any()
    assert result.measured.sum() > 160 * 120 - 40 * 40 - 4 * 120
    np.testing.assert_allclose(result.depth[:, 84:], 3, rtol=0.01)
    slanted = np.tile(np.linspace(1, 5, 160, dtype=np.float32), (120, 1))  # 2.5 % from one to
    assert believed_pixels(slanted)[1:-1, 1:-1].all()  # the next is a surface


def test_where_colours_end_a_hole_is_filled_from_its_own_side():
    truth, image = np.full((240, 320), 3, np.float32), np.full((240, 320), 200, np.uint8)
    truth[:, 160:], image[:, 160:] = 2, 40  # the network sees one wall
    measured = truth.copy()
    measured[60:180, 100:220] = np.nan
    seen = np.full((240, 320), 2.5, np.float32)
    hole = ~(measured > 0)
    alone, guided = (rel(fill_holes(seen, measured, one).depth, truth, hole)
                     for one in (None, image))
    assert guided < 0.4 * alone and guided < 0.03, (guided, alone)


@pytest.mark.filterwarnings('error')
def test_nothing_all_or_the_impossible_measured(rooms):
    truth, seen = rooms[0]
    nothing = np.full_like(truth, np.nan)
    nothing[0, :3] = 0, -2, np.inf
    result = fill_holes(seen, nothing)
    np.testing.assert_allclose(result.depth, seen, rtol=1e-6)
    assert result.scale == 1 and not result.measured.any() and not len(result.anchors)
    assert result.sigma is None and np.isnan(result.spread)
    whole = fill_holes(seen, truth)
    np.testing.assert_array_equal(whole.depth[whole.measured], truth[whole.measured])
    assert whole.measured.mean() > 0.99
    seen = seen.copy()
    seen[:200] = np.nan  # as where an image has a border: measured depth counts there too
    part = fill_holes(seen, holes(truth, 1))
    assert np.isnan(part.depth[:200][~part.measured[:200]]).all() and part.measured[:200].any()
    assert np.isfinite(part.depth[200:]).all() and not part.used.all() and part.used.any()
    blind = fill_holes(np.full_like(seen, np.nan), truth)
    np.testing.assert_array_equal(blind.depth[blind.measured], truth[blind.measured])
    with pytest.raises(ValueError, match=r'measured must be an array of the shape of depth'):
        fill_holes(seen, truth[::2])
    with pytest.raises(ValueError, match='metres in floats, got uint16: are these millimetres'):
        fill_holes(seen, (1000 * truth).astype(np.uint16))


@pytest.mark.parametrize('shape', [(1, 1), (1, 640), (3, 5), (33, 47), (1080, 300)])
def test_any_size_will_do(shape):
    measured = np.full(shape, 3, np.float32)
    measured[:, shape[1] // 2:] = np.nan
    result = fill_holes(np.full(shape, 2, np.float32), measured)
    assert result.depth.shape == shape
    if min(shape) > 5:
        np.testing.assert_allclose(result.depth, 3, rtol=1e-3)


def test_measured_depth_is_sure_and_filled_depth_less(rooms):
    truth, seen = rooms[1]
    measured = holes(truth, 2)
    result = fill_holes(seen, measured)
    hole = ~(measured > 0)
    share = result.sigma / result.depth
    assert share[result.measured].max() < 0.011 and np.median(share[hole]) > 0.015
    within = (np.abs(result.depth - truth) < result.sigma)[hole].mean()
    assert 0.5 < within < 0.95, within


def test_a_correction_fades_when_the_depth_camera_stops(rooms):
    truth, seen = rooms[0]
    filled = fill_holes(seen, holes(truth, 0), stamp=5.0)
    after = complete_depth(seen, None, filled, stamp=5.1)
    late = complete_depth(seen, None, after, stamp=60.0)
    everywhere = np.s_[:]
    assert rel(after.depth, truth, everywhere) < 0.3 * rel(seen, truth, everywhere)
    np.testing.assert_array_equal(late.depth, seen)


def test_it_is_cheap(rooms):
    truth, seen = rooms[0]
    measured, image = holes(truth, 0), np.random.default_rng(0).random((480, 640), np.float32)
    times = {'blur': [], 'fill': []}
    for _ in range(30):  # interleaved, and the fastest, of the processor: others use it too
        for name, work in (('blur', lambda: cv2.GaussianBlur(image, (0, 0), 3)),
                           ('fill', lambda: fill_holes(seen, measured, GRAY))):
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    assert min(times['fill']) < 13 * min(times['blur']), times
