"""Depth images that lie are named and change nothing; those that are true are believed."""

from types import SimpleNamespace

import numpy as np
import pytest

from hybrid_depth_ros.anchors import Anchors, complete_depth
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.compressed_depth import encode_compressed_depth
from hybrid_depth_ros.depth_camera import DEPTH_CAMERAS, measured_depth
from hybrid_depth_ros.geometry import Intrinsics

GRAY = np.full((480, 640, 3), 120, np.uint8)
CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)


def message(depth, seconds=0, frame='camera_color_optical_frame', encoding='32FC1'):
    kind = {'32FC1': np.float32, '16UC1': np.uint16}[encoding]
    values = np.nan_to_num(depth).astype(kind) if encoding == '16UC1' else depth.astype(kind)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=0), frame_id=frame),
        height=depth.shape[0], width=depth.shape[1], encoding=encoding, is_bigendian=0, step=0,
        data=values.tobytes())


def image_info(seconds=0, **more):
    return ImageInfo(seconds * 10**9, 'camera_color_optical_frame', None, rgb=GRAY, **more)


def correct(corrector, seen, depth, seconds=0, settings=AnchorSettings(), **options):  # noqa: B008
    corrector.take('depth', message(depth, seconds, **options))
    return corrector.correct(seen, image_info(seconds), settings), corrector.sources['depth']


@pytest.fixture(scope='module')
def holes(rooms):
    """(true depth, as a good network may see it, as a depth camera measures it) of four places."""
    return [(truth, np.sqrt(truth * seen), measured_depth(
        DEPTH_CAMERAS['realsense'], GRAY, truth, 519, np.random.default_rng(seed), 0.4))
        for seed, (truth, seen) in enumerate(rooms)]


LIES = {
    'upside down': (lambda depth: depth[::-1, ::-1], 'would agree if it were'),
    'mirrored': (lambda depth: depth[:, ::-1], 'would agree if it were'),
    'flipped': (lambda depth: depth[::-1], 'would agree if it were'),
    'in 0.1 mm': (lambda depth: 10 * depth, 'is their unit right? 16UC1 is read as millimetres'),
    'metres in 16UC1': (lambda depth: depth / 1000, 'is their unit right?'),
    'one number': (lambda depth: 0 * depth + 1.5, 'all of it is 1.5 m away'),
    'nothing': (lambda depth: np.nan * depth, 'not one of its pixels is a distance'),
    'negative': (lambda depth: -depth, 'not one of its pixels is a distance')}


@pytest.mark.parametrize('lie', LIES)
def test_a_depth_image_that_lies_is_named_and_changes_nothing(holes, lie):
    change, said = LIES[lie]
    corrector, refused = AnchorCorrector(['depth']), 0
    for number in range(8):
        _, seen, measured = holes[number % 4]
        result, source = correct(corrector, seen, np.ascontiguousarray(change(measured)), number)
        if source.trouble:
            refused += 1
            np.testing.assert_array_equal(result.depth, seen)
            assert said in source.trouble and result.completion.measured is None
    assert refused >= 6, refused


@pytest.mark.parametrize('factor', [0.6, 1, 1.5])
def test_a_true_one_is_believed_whatever_the_networks_scale(holes, factor):
    corrector = AnchorCorrector(['depth'])
    for number in range(8):
        truth, seen, measured = holes[number % 4]
        result, source = correct(corrector, seen * np.float32(factor), measured, number)
        assert not source.trouble and not source.warning
        assert np.median(np.abs(result.depth / truth - 1)) < 0.01
        assert source.used > 1000


def test_a_doubtful_factor_is_said_and_followed(holes):
    truth, seen, measured = holes[0]
    result, source = correct(AnchorCorrector(['depth']), seen * np.float32(2.5), measured)
    assert 'see whether their unit is right' in source.warning and not source.trouble
    assert np.median(np.abs(result.depth / truth - 1)) < 0.01


def test_a_stuck_depth_camera_is_named_once_the_image_has_changed(holes):
    corrector = AnchorCorrector(['depth'])
    seen, measured = holes[0][1:]
    for seconds in range(3):  # the robot stands: that can be
        assert not correct(corrector, seen, measured, seconds)[1].trouble
    _, source = correct(corrector, seen * np.float32(1.3), measured, 3)
    assert 'stuck' in source.trouble


def test_a_relative_network_at_rest_has_no_stuck_depth_camera(holes):
    """Its first depth is a guess, not metres: nothing has changed, though the two differ."""
    truth = holes[0][0]
    corrector = AnchorCorrector(['depth'])
    for second in range(3):
        corrector.take('depth', message(truth, second))
        corrector.correct(7 / truth + np.float32(0.3), image_info(second), AnchorSettings(), True)
        assert not corrector.sources['depth'].trouble


def test_what_is_said_of_the_unit_is_what_was_judged(holes):
    _, seen, measured = holes[0]
    corrector = AnchorCorrector(['depth'])
    for second in range(6):
        correct(corrector, seen, 5 * measured, second)
    _, source = correct(corrector, seen, measured, 6)
    assert 'its distances are 3.' in source.trouble  # on average


def test_one_patch_of_distances_is_some(holes):
    _, seen, measured = holes[0]
    patch = np.full_like(measured, np.nan)
    patch[:12, :12] = seen[:12, :12]  # between the pixels that are compared
    result, source = correct(AnchorCorrector(['depth']), seen, patch)
    assert not source.trouble and result.completion.measured.any()


def test_of_another_camera_shape_range_or_time_it_is_refused(holes):
    _, seen, measured = holes[0]
    corrector = AnchorCorrector(['depth'])
    for depth, options, said in (
            (measured, {'frame': 'camera_depth_optical_frame'}, 'registered to the images'),
            (measured[:, :500], {}, 'it is 500×480, the image is 640×480'),
            (measured, {'settings': AnchorSettings(max_depth=0.1)}, 'not one of its pixels')):
        corrector.reset()
        result, source = correct(corrector, seen, depth, **options)
        assert said in source.trouble
        np.testing.assert_array_equal(result.depth, seen)
    correct(corrector, seen, measured, 5)
    corrector.correct(seen, image_info(6), AnchorSettings(age=5.0))
    assert '1 s away from the image, at most 0.1 s will do' in source.trouble
    colour = message(measured)
    colour.encoding = 'rgb8'
    corrector.reset()
    corrector.take('depth', colour)
    corrector.correct(seen, image_info(), AnchorSettings())
    assert 'is not a depth image' in source.trouble
    with pytest.raises(ValueError, match='depth/left'):
        AnchorCorrector(['depth/left'])


def test_a_smaller_one_and_limits_count(holes):
    truth, seen, measured = holes[0]
    half = np.where(measured > 0, measured, 9.99)[::2, ::2]  # a code for nothing
    result, source = correct(AnchorCorrector(['depth']), seen, half * 1000, encoding='16UC1')
    assert not source.trouble
    kept = result.completion.measured
    assert 0.5 < kept.mean() < 0.62 and (result.depth[kept] < 9.9).all()
    assert np.median(np.abs(result.depth / truth - 1)[~kept]) < 0.02
    middle = float(np.nanmedian(measured))
    result, _ = correct(AnchorCorrector(['depth']), seen, measured,
                        settings=AnchorSettings(min_depth=middle, max_depth=1.5 * middle))
    kept = result.depth[result.completion.measured]
    assert kept.min() >= middle * 0.999 and kept.max() <= 1.501 * middle
    clipped = np.minimum(truth, np.float32(middle))  # what is farther is written as the limit
    kept = correct(AnchorCorrector(['depth']), seen, clipped,
                   settings=AnchorSettings(max_depth=middle))[0].completion.measured
    assert kept.any() and not kept[truth >= middle].any()


@pytest.mark.parametrize(('encoding', 'form'), [('16UC1', 'png'), ('32FC1', 'rvl')])
def test_a_compressed_one_counts_as_it_was(holes, encoding, form):
    _, seen, measured = holes[0]
    packed = message(measured)
    packed.format, packed.data = encode_compressed_depth(measured, encoding, form)
    del packed.encoding
    corrector = AnchorCorrector(['depth'])
    corrector.take('depth', packed)
    kept = corrector.correct(seen, image_info(), AnchorSettings())
    plain, _ = correct(AnchorCorrector(['depth']), seen, measured)
    np.testing.assert_allclose(kept.depth, plain.depth, rtol=0.02)
    assert (kept.completion.measured == plain.completion.measured).mean() > 0.999
    packed.data = packed.data[:50]
    corrector.correct(seen, image_info(), AnchorSettings())
    assert 'compressed depth' in corrector.sources['depth'].trouble


def test_one_that_is_rectified_is_not_rectified_again(holes):
    """Depth by depth_image_proc's register is of image_rect, whatever the node listens to."""
    _, seen, measured = holes[0]
    info = image_info(rectification=SimpleNamespace(apply_depth=lambda depth: depth[:, ::-1]))
    corrector = AnchorCorrector(['depth'])
    corrector.sources['depth'].take(message(measured[:, ::-1]))
    corrector.sources['depth'].take(message(measured), rectified=True)  # on another topic
    kept = corrector.correct(seen, info, AnchorSettings()).completion.measured
    assert (kept == correct(AnchorCorrector(['depth']), seen, measured)[0].completion.measured
            ).all()


def test_an_image_is_found_though_inference_took_a_while(holes):
    _, seen, measured = holes[0]
    corrector = AnchorCorrector(['depth'])
    for number in range(20):  # 0.6 s at 30 Hz
        late = message(measured)
        late.header.stamp.nanosec = number * 33_000_000
        corrector.take('depth', late)
    corrector.correct(seen, image_info(), AnchorSettings())
    assert not corrector.sources['depth'].trouble


def test_other_anchors_count_in_its_holes(holes):
    truth, seen, measured = holes[1]
    measured = measured.copy()
    measured[:, 320:] = np.nan
    corrector = AnchorCorrector(['points', 'depth'], [np.eye(4)])
    rows, columns = (values.ravel() for values in np.mgrid[20:470:15, 330:630:15])
    anchors = Anchors(columns, rows, truth[rows, columns])
    alone, _ = correct(AnchorCorrector(['depth']), seen, measured)
    corrector._measurement = lambda *_: lambda depth: anchors
    both, source = correct(corrector, seen, measured)
    errors = [np.abs(result.depth / truth - 1)[:, 320:].mean() for result in (alone, both)]
    assert errors[1] < 0.6 * errors[0]
    assert corrector.sources['points'].used > 500 and source.used > 500
    completion = both.completion
    assert len(both.anchors) == completion.used.size == completion.residuals.size
    np.testing.assert_array_equal(both.depth[completion.measured], measured[completion.measured])


def with_points(names, depth):
    """A corrector by three points, where depth is so far, and what else is named."""
    corrector = AnchorCorrector(names, [np.eye(4)])
    rows, columns = np.array([100, 300, 400]), np.array([150, 320, 500])
    anchors = Anchors(columns, rows, depth[rows, columns])
    corrector._measurement = lambda *_: lambda depth: anchors
    return corrector


def test_beside_other_anchors_scale_and_residuals_are_the_whole_and_the_state_is_theirs(holes):
    truth = holes[0][0]
    seen, measured = truth / np.float32(1.5), truth.copy()
    measured[:, 600:] = np.nan
    corrector = with_points(['points', 'depth'], 1.3 * truth)
    completion = correct(corrector, seen, measured)[0].completion
    assert completion.scale == pytest.approx(1.5, rel=0.02)
    np.testing.assert_allclose(completion.residuals[:3], np.log(1.3), atol=0.01)
    assert corrector.sources['points'].rejected == 3 and not completion.used[:3].any()
    alone = with_points(['points'], 1.3 * truth).correct(seen, image_info(), AnchorSettings())
    for found, wanted in zip(completion.state[1:3], alone.completion.state[1:3]):
        np.testing.assert_array_equal(found, wanted)


def test_a_refused_depth_image_takes_no_averaging_from_other_anchors(holes):
    _, seen, measured = holes[0]
    settings = AnchorSettings(time_constant=10.0)
    results = []
    for names in (['points', 'depth'], ['points']):
        corrector = with_points(names, seen)
        for second, factor in enumerate((1, 1.5)):
            corrector._measurement = with_points(names, factor * seen)._measurement
            for name in names:
                corrector.take(name, message(10 * measured, second))  # in another unit
            results.append(corrector.correct(seen, image_info(second), settings).depth)
    np.testing.assert_array_equal(results[1], results[3])
    assert np.median(results[1] / seen) < 1.2


def test_a_relative_network_gets_its_metres_from_it(holes):
    truth, _, measured = holes[2]
    corrector = AnchorCorrector(['depth'])
    corrector.take('depth', message(measured))
    result = corrector.correct(7 / truth + np.float32(0.3), image_info(), AnchorSettings(),
                               relative=True)
    assert np.median(np.abs(result.depth / truth - 1)) < 0.01
    without = complete_depth(truth, None)
    assert without.measured is None
