"""Depth that agrees with anchors, frame by frame: what is followed, what is rejected."""

import statistics
import time

import cv2
import numpy as np
import pytest
from anchor_scenes import delta1, points, scan

from hybrid_depth_ros.anchors import Anchors, anchored


def test_a_scan_corrects_what_stands_above_and_below_it(rooms):
    rng = np.random.default_rng(0)
    gains, above = [], []
    for truth, seen in rooms:
        result = anchored(seen, scan(truth, rng)[0])
        assert result.depth.dtype == np.float32 and result.depth.shape == truth.shape
        gains.append(delta1(result.depth, truth) - delta1(seen, truth))
        above.append(delta1(result.depth[60:200], truth[60:200]))
    assert min(gains) > 0.15 and statistics.mean(gains) > 0.4
    assert min(above) > 0.6


@pytest.mark.filterwarnings('error')  # of numpy: what it deprecates ends with its next version
def test_scattered_points_and_zones_correct_nearly_all(rooms):
    rng = np.random.default_rng(1)
    for truth, seen in rooms:
        assert delta1(anchored(seen, points(truth, rng)[0]).depth, truth) > 0.93
        zones = truth.reshape(8, 60, 8, 80).mean((1, 3)).ravel()
        u, v = np.meshgrid(np.arange(39.5, 640, 80), np.arange(29.5, 480, 60))
        assert delta1(anchored(seen, Anchors(u.ravel(), v.ravel(), zones)).depth, truth) > 0.9


@pytest.mark.parametrize('sensor', [scan, points])
def test_outliers_are_found_and_do_no_harm(rooms, sensor):
    for number, (truth, seen) in enumerate(rooms):
        few, many = (sensor(truth, np.random.default_rng(number), outliers=share)
                     for share in (0.05, 0.3))
        results = [anchored(seen, anchors) for anchors, _ in (few, many)]
        good = [delta1(result.depth, truth) for result in results]
        assert good[1] > good[0] - 0.03
        anchors, gross = many
        far = gross & (np.abs(np.log(anchors.depth / truth[
            anchors.v.astype(int), anchors.u.astype(int)])) > 0.7)
        assert results[1].used[far].mean() < 0.1
        assert results[1].used[~gross].mean() > 0.8
        assert results[1].rejected == np.count_nonzero(~results[1].used)
        assert results[1].spread < 0.1


def test_far_from_all_anchors_the_scale_holds():
    truth = np.full((480, 640), 3, np.float32)
    for scale in (0.5, 0.77, 1.3, 2.0):
        u = np.arange(5, 100, 4)
        result = anchored(truth * np.float32(scale), Anchors(u, np.full(u.size, 240), 3 + 0 * u))
        assert result.depth[240, 50] == pytest.approx(3, rel=0.02)
        assert result.depth[10, 630] == pytest.approx(3, rel=0.08)
        u *= 6
        across = anchored(truth * np.float32(scale), Anchors(u, np.full(u.size, 240), 3 + 0 * u))
        np.testing.assert_allclose(across.depth, 3, rtol=0.04)
        assert across.scale == pytest.approx(1 / scale, rel=0.04)


@pytest.mark.parametrize('seen_at', [1.2, 2.0, 2.5])
def test_what_is_nearer_than_it_seems_does_not_pull_the_wall_behind_it(seen_at):
    """A lidar hits a cupboard at 1.2 m that the network takes for part of the wall, or nearly."""
    truth, seen = (np.full((480, 640), 4, np.float32) for _ in range(2))
    truth[200:, 150:490], seen[200:, 150:490] = 1.2, seen_at
    seen = cv2.GaussianBlur(seen, (0, 0), 6)
    result = anchored(seen, scan(truth, np.random.default_rng(0), row=300)[0])
    np.testing.assert_allclose(result.depth[:170, 200:440], 4, rtol=0.09)
    np.testing.assert_allclose(result.depth[:170, :100], 4, rtol=0.03)
    assert np.median(result.depth[230:, 180:460]) == pytest.approx(1.2, rel=0.06)


def test_beams_that_agree_with_those_beside_them_are_no_outliers():
    seen = np.full((480, 640), 3.2, np.float32)  # a wall, and most of it hidden by a bed
    seen[240:, 120:] = 2.9
    truth = seen * np.float32(1.2)
    truth[240:, 120:] = 1.3
    u, row = np.linspace(2, 637, 160).astype(int), 320
    result = anchored(seen, Anchors(u, np.full(160, row), truth[row, u]))
    assert delta1(result.depth[:, :100], truth[:, :100]) > 0.7  # where the scan sees the wall
    assert delta1(result.depth[250:, 140:], truth[250:, 140:]) > 0.9


def test_an_exact_scale_is_exact_and_perfect_depth_stays(rooms):
    truth, _ = rooms[0]
    rng = np.random.default_rng(2)
    same = anchored(truth, scan(truth, rng, noise=0, outliers=0)[0])
    np.testing.assert_allclose(same.depth, truth, rtol=0.005)
    assert same.used.mean() > 0.95 and same.scale == pytest.approx(1, abs=0.002)
    scaled = anchored(truth * np.float32(1.3), points(truth, rng, noise=0, outliers=0)[0])
    assert np.median(np.abs(scaled.depth / truth - 1)) < 0.01


def test_a_large_sigma_counts_for_less():
    seen = np.full((480, 640), 2, np.float32)
    u = np.arange(10, 630, 20)
    v = np.full(u.size, 200)
    both = Anchors.joined([Anchors(u, v, np.full(u.size, 2.4)),
                           Anchors(u + 5, v, np.full(u.size, 3.0), np.full(u.size, 1.0))])
    assert anchored(seen, both).depth[200].mean() == pytest.approx(2.4, rel=0.03)
    assert len(both) == 2 * u.size and both.sigma[:3].tolist() == [0, 0, 0]
    assert len(Anchors.joined([])) == 0


NAN = float('nan')


@pytest.mark.parametrize(('u', 'v', 'depth', 'sigma', 'used'), [
    ([], [], [], None, []),
    ([100], [100], [4.0], None, [True]),
    ([100, 500], [100, 300], [4.0, 4.0], None, [True, True]),
    ([100] * 300, [100] * 300, [4.0] * 300, None, [True] * 300),  # all in one place
    ([NAN, 100, 100, 100], [100, NAN, 100, 100], [4, 4, NAN, 4], None, [0, 0, 0, 1]),
    ([100, 100, 100, 100], [100] * 4, [np.inf, -4, 0, 4], None, [0, 0, 0, 1]),
    ([-1, 640, 100, 100, 0, 639], [100, 100, -1, 480, 0, 479], [4.0] * 6, None,
     [0, 0, 0, 0, 1, 1]),
    ([100] * 4, [100] * 4, [4.0] * 4, [NAN, -1, np.inf, 0.1], [0, 0, 0, 1]),
    ([1e30, -1e30, 100], [1e30, 5, 100], [4, 4, 1e30], None, [0, 0, 0])])
def test_what_can_be_no_anchor_does_no_harm(u, v, depth, sigma, used):
    seen = np.full((480, 640), 2, np.float32)
    with np.errstate(all='raise'):
        result = anchored(seen, Anchors(u, v, depth, sigma))
    assert result.used.tolist() == [bool(one) for one in used]
    assert np.isfinite(result.depth).all() and (result.depth > 0).all()
    if any(used):
        place = (0, 0) if len(used) == 6 else (100, 100)
        assert result.depth[place] == pytest.approx(4, rel=0.1)
    else:
        np.testing.assert_array_equal(result.depth, seen)
        assert result.scale == 1 and np.isnan(result.spread)


def test_all_outliers_do_not_raise(rooms):
    truth, seen = rooms[0]
    rng = np.random.default_rng(5)
    anchors, _ = points(truth, rng, outliers=1.0)
    result = anchored(seen, anchors)
    assert np.isfinite(result.depth).all()
    assert result.used.mean() < 0.5


def test_unknown_depth_stays_unknown_and_anchors_there_are_not_usable():
    seen = np.full((480, 640), 2, np.float32)
    seen[:, :320] = np.nan
    seen[:100, 320:] = 0
    seen[100:120, 320:] = -1
    seen[120:140, 320:] = np.inf
    anchors = Anchors([10, 400, 400, 400, 400], [300, 50, 110, 130, 300], [3.0] * 5)
    result = anchored(seen, anchors)
    assert result.usable.tolist() == result.used.tolist() == [False] * 4 + [True]
    assert np.isnan(result.residuals[:4]).all() and abs(result.residuals[4]) < 0.05
    assert np.isnan(result.depth[:, :320]).all() and (result.depth[:100, 320:] == 0).all()
    assert result.depth[300, 400] == pytest.approx(3, rel=0.05)
    nothing = anchored(np.full((4, 4), np.nan, np.float32), anchors)
    assert np.isnan(nothing.depth).all() and not nothing.used.any()


@pytest.mark.parametrize('shape', [(1, 1), (1, 640), (480, 1), (3, 5), (33, 47), (1080, 300)])
def test_any_size_will_do(shape):
    seen = np.full(shape, 2, np.float32)
    rng = np.random.default_rng(0)
    anchors = Anchors(rng.integers(0, shape[1], 50), rng.integers(0, shape[0], 50), [3.0] * 50)
    result = anchored(seen, anchors)
    assert result.depth.shape == shape and result.used.all()
    np.testing.assert_allclose(result.depth, 3, rtol=0.05)
    anchored(seen, anchors, result)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match='depth of the anchors has the shape'):
        Anchors([1, 2], [1, 2], [1])
    with pytest.raises(ValueError, match='one length'):
        Anchors([1], [1], [1], [1, 2])
    with pytest.raises(ValueError, match='1-D'):
        Anchors(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match='array of numbers'):
        Anchors(['a'], [1], [1])
    with pytest.raises(ValueError, match=r'anchors must be Anchors.*got list'):
        anchored(np.ones((4, 4), np.float32), [1, 2, 3])
    with pytest.raises(ValueError, match='H×W'):
        anchored(np.ones((2, 2, 3), np.float32), None)


def test_an_anchored_frame_is_cheap(rooms):
    truth, seen = rooms[0]
    rng = np.random.default_rng(0)
    beams, cloud = scan(truth, rng, 360)[0], points(truth, rng, 30_000)[0]
    image = np.random.default_rng(0).random((480, 640), np.float32)
    times = {'blur': [], 'beams': [], 'cloud': []}
    for _ in range(40):  # interleaved, and the fastest, of the processor: others use it too
        for name, work in (('blur', lambda: cv2.GaussianBlur(image, (0, 0), 3)),
                           ('beams', lambda: anchored(seen, beams)),
                           ('cloud', lambda: anchored(seen, cloud))):
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    blur, one, many = (min(times[name]) for name in ('blur', 'beams', 'cloud'))
    assert one < 20 * blur and many < 35 * blur  # mostly the field, which does not grow with them


@pytest.mark.parametrize('scale', (0.1, 0.5, 2, 10))
def test_a_wrong_scale_is_followed_wholly_where_all_anchors_agree(rooms, scale):
    truth = rooms[0][0]
    seen = truth / np.float32(scale)
    found = anchored(seen, points(truth, np.random.default_rng(0), outliers=0)[0])
    off = np.log(found.depth / truth)
    assert np.abs(np.median(off)) < 0.03 and np.quantile(np.abs(off), 0.95) < 0.1


COUNTS = 1, 5, 20, 50, 200, 500, 1000, 3000, 10_000, 30_000, 300_000


def test_more_anchors_never_make_depth_worse(rooms):
    errors = []
    for count in COUNTS:
        rng = np.random.default_rng(4)
        errors.append(np.mean([
            np.abs(np.log(anchored(seen, points(truth, rng, count, outliers=0)[0]).depth / truth)
                   ).mean() for truth, seen in rooms]))
    assert all(after < 1.03 * before for before, after in zip(errors, errors[1:])), errors
    assert errors[5] < 0.55 * errors[2] and errors[-1] < 0.4 * errors[5], errors


def test_a_small_thing_that_only_its_own_anchors_see_is_followed():
    """A post that the network hardly sees: its few anchors agree with each other, and are kept."""
    truth = np.full((480, 640), 3, np.float32)
    truth[:, 300:330] = 2
    seen = np.full((480, 640), 3, np.float32)
    seen[:, 300:330] = 2.8
    u, v = np.meshgrid(np.arange(12, 640, 24), np.arange(12, 480, 24))
    u, v = u.ravel(), v.ravel()
    image = np.full((480, 640), 90, np.uint8)
    image[:, 300:330] = 120
    alone, result = (anchored(seen, Anchors(u, v, truth[v, u]), image=one) for one in (None, image))
    assert alone.used.all() and result.used.all()
    assert np.median(alone.depth[:, 310:320]) == pytest.approx(2, rel=0.1)
    assert np.median(result.depth[:, 303:327]) == pytest.approx(2, rel=0.05)
    for depth in (alone.depth, result.depth):
        np.testing.assert_allclose(depth[:, :270], 3, rtol=0.05)


def test_a_correction_ends_where_colours_change():
    """The network sees one wall; the image shows a cupboard before it. Each has its own anchors."""
    truth, seen = (np.full((480, 640), 3, np.float32) for _ in range(2))
    truth[:, 320:] = 2.2
    image = np.full((240, 320, 3), (150, 140, 130), np.uint8)  # in another size
    image[:, 160:] = 90, 60, 40
    rng = np.random.default_rng(0)
    anchors = points(truth, rng, 1000, noise=0, outliers=0)[0]
    alone, guided = (anchored(seen, anchors, image=one).depth for one in (None, image))
    off, blurred = (np.abs(depth / truth - 1)[:, 280:360].mean() for depth in (guided, alone))
    assert off < 0.75 * blurred, (off, blurred)


@pytest.mark.parametrize('image', [
    np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), [1], np.uint8(3)])
def test_an_image_that_will_not_do_is_named(image):
    with pytest.raises(ValueError, match='image must be uint8 H×W×3 RGB or H×W'):
        anchored(np.ones((4, 4), np.float32), None, image=image)
