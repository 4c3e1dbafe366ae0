"""What happens to a picture on its way to depth; with a stub network and the real weights."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.metrics import DepthErrors
from hybrid_depth_ros.predictor import DepthPredictor, PredictionOptions
from hybrid_depth_ros.virtual_room import Room
from train.datasets.nyu import SyncTree

NYU_FX = 518.858


class Flat(torch.nn.Module):
    """Sees a wall at 2 m, and remembers the input it got."""

    def forward(self, x):
        self.seen = x
        return torch.full((len(x), 1, x.shape[2] // 2, x.shape[3] // 2), 2.0)


class Red(torch.nn.Module):
    """Depth is the red channel, so that places can be followed."""

    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x[:, :1] * 0.229 + 0.485, 2)


def ramp(width, height):
    """Red grows from left to right, 0…1 as depth."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    return rgb


@pytest.mark.parametrize(('width', 'height'), [
    (640, 480), (1280, 720), (480, 640), (33, 17), (1, 1), (3840, 2160), (5000, 1), (1, 5000)])
def test_any_size(width, height):
    network = Flat()
    depth = DepthPredictor(network)(np.zeros((height, width, 3), np.uint8))
    assert depth.shape == (height, width)
    assert depth.dtype == np.float32
    assert (depth == 2).all()
    rows, columns = network.seen.shape[2:]
    assert rows % 32 == columns % 32 == 0
    assert rows * columns <= 352 * 832


@pytest.mark.parametrize(('fit', 'x'), [('full', (5, 634)), ('paper', (35, 604))])
def test_depth_stays_in_its_place(fit, x):
    depth = DepthPredictor(Red(), fit=fit)(ramp(640, 480))
    wanted = ramp(640, 480)[..., 0] / np.float32(255)
    inside = np.s_[20:460, x[0]:x[1]]
    assert np.abs(depth[inside] - wanted[inside]).max() < 0.006


def test_the_papers_crop():
    depth = DepthPredictor(Flat(), fit='paper')(np.zeros((480, 640, 3), np.uint8))
    known = np.isfinite(depth)
    assert known.sum() == 582 * 466
    assert known[7:473, 29:611].all()


def test_focal_correction():
    predictor = DepthPredictor(Flat())
    image = np.zeros((480, 640, 3), np.uint8)
    assert predictor(image, fx=NYU_FX)[0, 0] == pytest.approx(2)
    assert predictor(image, fx=2 * NYU_FX)[0, 0] == pytest.approx(4)
    half = np.zeros((240, 320, 3), np.uint8)
    assert predictor(half, fx=NYU_FX / 2)[0, 0] == pytest.approx(2)
    wide = np.zeros((720, 1280, 3), np.uint8)
    assert predictor(wide, fx=900.0)[0, 0] == pytest.approx(
        2 * (900 / 1280) / (NYU_FX / 640))
    paper = DepthPredictor(Flat(), fit='paper')
    assert paper(image, fx=NYU_FX)[240, 320] == pytest.approx(2)
    # of 1280×720 the paper's fit sees the middle 960 columns
    assert paper(wide, fx=900.0)[360, 640] == pytest.approx(2 * (900 / 960) / (NYU_FX / 640))
    off = DepthPredictor(Flat(), focal_correction=False)
    assert off(image, fx=2 * NYU_FX)[0, 0] == 2


def test_options_of_one_call_are_not_those_of_the_next():
    """The depth node set them on the predictor, under whoever else was using it."""
    predictor, image = DepthPredictor(Flat()), np.zeros((480, 640, 3), np.uint8)
    plain = PredictionOptions(fit='paper', focal_correction=False)
    once = predictor.predict(image, 2 * NYU_FX, plain).depth
    np.testing.assert_array_equal(
        once, DepthPredictor(Flat(), fit='paper', focal_correction=False)(image, 2 * NYU_FX))
    assert predictor.predict(image, 2 * NYU_FX).depth[0, 0] == pytest.approx(4)


def test_batches():
    predictor = DepthPredictor(Red())
    images = [ramp(640, 480), ramp(64, 48), ramp(640, 480)[:, ::-1].copy()]
    for alone, together in zip(map(predictor, images), predictor(images)):
        np.testing.assert_allclose(alone, together, atol=1e-6)
    stacked = predictor(np.stack([images[0], images[2]]), fx=[NYU_FX, 2 * NYU_FX])
    assert stacked.shape == (2, 480, 640)
    np.testing.assert_allclose(stacked[1], 2 * predictor(images[2]), rtol=1e-5)
    assert predictor([]) == []


@pytest.mark.parametrize(('image', 'fx', 'named'), [
    (np.zeros((0, 5, 3), np.uint8), None, 'empty'),
    (np.zeros((4, 5, 4), np.uint8), None, r'\(4, 5, 4\)'),
    (np.zeros((4, 5, 3), np.float32), None, 'float32'),
    (np.zeros((4, 5, 3), np.uint8), float('nan'), 'fx'),
    (np.zeros((4, 5, 3), np.uint8), -3.0, 'fx')])
def test_bad_pictures_are_named(image, fx, named):
    with pytest.raises(ValueError, match=named):
        DepthPredictor(Flat())(image, fx=fx)


@pytest.mark.parametrize(('option', 'value'), [
    ('device', 'cuda:99'), ('device', 'tpu'), ('precision', 'int3'), ('fit', 'half'),
    ('runtime', 'abacus')])
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=value):
        DepthPredictor(Flat(), **{option: value})


@pytest.fixture(scope='module')
def exact():
    """Images of a virtual room, and depth in torch's float32."""
    camera, room = Intrinsics.from_horizontal_fov(320, 240, 63.3), Room(0)
    first, second = (room.render(camera, room.camera_pose(time))[0] for time in (0, 2))
    images = [first, second, first[:100]]
    predictor = DepthPredictor('lite-nyu', runtime='torch', precision='fp32')
    return images, [predictor(image) for image in images]


@pytest.mark.parametrize(('runtime', 'precision', 'most'), [
    ('torch', 'bf16', 0.02), ('torch', 'fp16', 0.002), ('openvino', 'fp32', 1e-5),
    ('openvino', 'int8', 0.05), ('onnxruntime', 'fp32', 1e-5)])
def test_runtimes_and_precisions_agree(exact, runtime, precision, most):
    images, depths = exact
    other = DepthPredictor('lite-nyu', runtime=runtime, precision=precision)
    assert (other.runtime.name, other.runtime.precision) == (runtime, precision)
    for wanted, depth in zip(depths, other(images), strict=True):
        assert np.isfinite(depth).all()
        assert 0 < np.abs(depth / wanted - 1).mean() < most


# Never trained on: see hybrid_depth_ros/data/lite-nyu.md.
HELD_OUT = [[1340, 1383]]


def test_a_digital_zoom_agrees_with_the_original_by_focal_correction(nyu, known_runtime):
    """Cutting out the middle and enlarging it is a longer lens; depth must not change."""
    images = SyncTree(nyu).numbered(HELD_OUT)
    with_correction, without = DepthErrors(), DepthErrors()
    predictor, uncorrected = DepthPredictor(), DepthPredictor(focal_correction=False)
    for i in range(0, len(images), 2):
        rgb, _ = images.read(i)
        original = predictor(rgb, fx=NYU_FX)
        for zoom in (1.25, 1.6):
            height, width = round(480 / zoom), round(640 / zoom)
            y, x = (480 - height) // 2, (640 - width) // 2
            window = np.s_[y:y + height, x:x + width]
            zoomed = cv2.resize(rgb[window], (640, 480), interpolation=cv2.INTER_CUBIC)
            for errors, predict in ((with_correction, predictor), (without, uncorrected)):
                depth = cv2.resize(predict(zoomed, fx=NYU_FX * zoom), (width, height))
                errors.add(depth, original[window])
    assert with_correction.metrics()['rel'] < 0.6 * without.metrics()['rel']
    assert with_correction.metrics()['delta1'] > without.metrics()['delta1'] + 0.2


@pytest.mark.parametrize(('runtime', 'precision'), [('torch', 'fp32'), ('openvino', 'int8')])
def test_the_shipped_weights_see_rooms(nyu, runtime, precision):
    images = SyncTree(nyu).numbered(HELD_OUT)
    predictor, errors = DepthPredictor(runtime=runtime, precision=precision), DepthErrors()
    for i in range(len(images)):
        rgb, truth = images.read(i)
        errors.add(predictor(rgb, fx=NYU_FX)[12:-12, 12:-12], truth[12:-12, 12:-12])
    assert errors.metrics()['delta1'] > 0.6
    assert errors.metrics()['rel'] < 0.25


def test_a_prediction_says_whether_it_is_in_metres_and_how_sure():
    predictor = DepthPredictor(Flat())
    image = np.zeros((48, 64, 3), np.uint8)
    prediction = predictor.predict(image, fx=64.0)
    assert prediction.metric
    assert prediction.sigma is None  # this network estimates none
    np.testing.assert_array_equal(prediction.depth, predictor(image, fx=64.0))
    first, second = predictor.predict([image, image[:24]])
    assert first.depth.shape == (48, 64)
    assert second.depth.shape == (24, 64)
    predictor.model.relative = True
    assert not predictor.predict(image).metric
    with pytest.raises(AttributeError):
        prediction.depth = None


def test_the_predictor_is_imported_from_the_package_when_it_is_asked_for():
    import hybrid_depth_ros
    assert hybrid_depth_ros.DepthPredictor is DepthPredictor
    with pytest.raises(AttributeError, match='no attribute'):
        hybrid_depth_ros.nothing  # noqa: B018
    code = 'import hybrid_depth_ros, sys; assert "numpy" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_pil_and_grey_images_are_taken():
    """PIL images ended in "'Image' object is not iterable", grey ones in "got uint8 (64,)"."""
    image = pytest.importorskip('PIL.Image')
    predictor, rgb = DepthPredictor(Red()), ramp(64, 48)
    wanted = predictor(rgb)
    np.testing.assert_array_equal(predictor(image.fromarray(rgb)), wanted)
    np.testing.assert_array_equal(predictor([image.fromarray(rgb), rgb])[0], wanted)
    np.testing.assert_array_equal(predictor.predict(image.fromarray(rgb)).depth, wanted)
    grey = rgb[..., 0]
    wanted = predictor(np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(predictor(grey), wanted)
    np.testing.assert_array_equal(predictor(grey[..., None]), wanted)


@pytest.mark.parametrize(('image', 'advice'), [
    (np.zeros((4, 5, 4), np.uint8), r'image\[..., :3\]'),
    (np.zeros((3, 4, 5), np.uint8), r'image\.transpose\(1, 2, 0\)'),
    (np.zeros((4, 5, 3), np.float32), 'astype'), (5, 'got int')])
def test_an_image_in_another_form_is_refused_with_what_to_do(image, advice):
    with pytest.raises(ValueError, match=advice):
        DepthPredictor(Flat())(image)


@pytest.mark.parametrize('fx', ['518', b'518', [1, 2]])
def test_a_focal_length_that_is_no_number_is_named(fx):
    """A text ended in numpy's TypeError about isfinite."""
    with pytest.raises(ValueError, match=r'fx is .*number of pixels above 0'):
        DepthPredictor(Flat()).predict(np.zeros((4, 5, 3), np.uint8), fx=fx)


@pytest.mark.parametrize('weights', [None, 5, ['lite-nyu']])
def test_weights_that_are_none_are_named(weights):
    """None was looked up as a method of the network: "'NoneType' object has no attribute"."""
    with pytest.raises(ValueError, match=r"weights is .*a registered name such as 'lite-nyu'"):
        DepthPredictor(weights)


def test_weights_may_be_a_path(tmp_path):
    """A pathlib.Path was taken for a network that is loaded already."""
    with pytest.raises(FileNotFoundError, match='no such file'):
        DepthPredictor(tmp_path / 'none.safetensors')


def test_several_threads_use_one_predictor():
    """OpenVINO ended all but one of them by "Infer Request is busy"."""
    pytest.importorskip('openvino')
    predictor = DepthPredictor(device='cpu', runtime='openvino')
    images = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(8)]
    wanted = [predictor(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for got, depth in zip(pool.map(predictor, images * 4), wanted * 4):
            np.testing.assert_array_equal(got, depth)


def test_a_border_is_left_out_and_the_lens_stays_right():
    """NYU's white border cost 0.02 of δ1: the network took it for part of the room."""
    network, scene = Flat(), np.ascontiguousarray(ramp(640, 360)[:, ::-1] // 2 + 60)
    image = cv2.copyMakeBorder(scene, 60, 60, 0, 0, cv2.BORDER_CONSTANT)
    predictor = DepthPredictor(network)
    depth = predictor(image, fx=NYU_FX)
    assert np.isnan(depth[:60]).all() and np.isnan(depth[-60:]).all()
    assert depth[60:-60] == pytest.approx(2, rel=1e-6)  # of the whole width, as before
    seen = network.seen.clone()
    predictor(scene, fx=NYU_FX)
    assert torch.equal(seen, network.seen)
    pillars = cv2.copyMakeBorder(scene, 0, 0, 160, 160, cv2.BORDER_CONSTANT, value=(255,) * 3)
    depth = predictor(pillars, fx=NYU_FX)
    assert np.isnan(depth[:, :160]).all() and depth[:, 160:-160] == pytest.approx(2, rel=1e-6)
    whole = DepthPredictor(network, ignore_border=False)
    assert np.isfinite(whole(image)).all() and not torch.equal(seen, network.seen)
    assert np.isnan(DepthPredictor(network, fit='paper')(image)[240, 0])  # crops by itself
