"""Messages to arrays and back: images, depth, calibration, clouds."""

import struct
import time

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from hybrid_depth_ros import encodings
from hybrid_depth_ros.calibration import intrinsics_from_camera_info, rectification_from_camera_info
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import CameraSnapshot, write_snapshot_files
from hybrid_depth_ros.nodes.shared import messages
from hybrid_depth_ros.nodes.shared.calibration_files import camera_info_from_yaml
from hybrid_depth_ros.point_cloud import POINT, organised_cloud

HEADER = Header(frame_id='camera_optical_frame')
PATCHES = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255),
           (128, 128, 128), (255, 255, 255))


def colour_chart():
    """Eight flat 16×24 patches, 64×48."""
    colours = np.array(PATCHES, np.uint8).reshape(2, 4, 3)
    return colours.repeat(24, 0).repeat(16, 1)


def image(encoding, rows, width, height=None, padding=0, bigendian=False, extra=0):
    """A message whose rows are padded with 0xEE."""
    rows = np.ascontiguousarray(rows)
    lines = rows.view(np.uint8).reshape(len(rows), -1)
    lines = np.pad(lines, ((0, 0), (0, padding)), constant_values=0xEE)
    message = Image(header=HEADER, width=width, height=height or len(rows), encoding=encoding,
                    step=lines.shape[1], is_bigendian=int(bigendian))
    message.data.frombytes(lines.tobytes() + b'\xee' * extra)
    return message


def yuv(rgb):
    """BT.601, 16…235, by hand: (Y, U, V) float H×W×3."""
    matrix = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112], [112, -93.786, -18.214]])
    return rgb / 255.0 @ matrix.T + (16, 128, 128)


def encoded(encoding, rgb):
    """The rows of `rgb` in `encoding`, made with numpy alone."""
    luma, blue, red = np.moveaxis(np.rint(yuv(rgb)).astype(np.uint8), 2, 0)
    full = np.full(rgb.shape[:2], 255, np.uint8)
    pairs = blue.copy()
    pairs[:, 1::2] = red[:, :-1:2]
    quads = pairs[::2]
    if encoding.startswith('bayer'):
        places = dict(zip(((0, 0), (0, 1), (1, 0), (1, 1)), encoding[6:10]))
        mosaic = np.empty(rgb.shape[:2], np.uint8)
        for (y, x), letter in places.items():
            mosaic[y::2, x::2] = rgb[y::2, x::2, 'rgb'.index(letter)]
        return mosaic.astype('<u2') * 257 if encoding.endswith('16') else mosaic
    return {
        'rgb8': lambda: rgb,
        'bgr8': lambda: rgb[..., ::-1],
        'rgba8': lambda: np.dstack([rgb, full]),
        'bgra8': lambda: np.dstack([rgb[..., ::-1], full]),
        'mono8': lambda: rgb[..., 0],
        'mono16': lambda: rgb[..., 0].astype('<u2') * 257,
        'rgb16': lambda: rgb.astype('<u2') * 257,
        'bgr16': lambda: rgb[..., ::-1].astype('<u2') * 257,
        '8UC1': lambda: rgb[..., 0],
        'rgba16': lambda: np.dstack([rgb, full]).astype('<u2') * 257,
        'bgra16': lambda: np.dstack([rgb[..., ::-1], full]).astype('<u2') * 257,
        '8UC3': lambda: rgb[..., ::-1],
        '8UC4': lambda: np.dstack([rgb[..., ::-1], full]),
        'yuv422': lambda: np.stack([pairs, luma], 2),
        'uyvy': lambda: np.stack([pairs, luma], 2),
        'yuv422_yuy2': lambda: np.stack([luma, pairs], 2),
        'yuyv': lambda: np.stack([luma, pairs], 2),
        'nv12': lambda: np.vstack([luma, quads]),
        'nv21': lambda: np.vstack(
            [luma, quads.reshape(len(quads), -1, 2)[..., ::-1].reshape(quads.shape)]),
        'nv24': lambda: np.vstack([luma, np.stack([blue, red], 2).reshape(-1, luma.shape[1])]),
    }[encoding]()


@pytest.mark.parametrize('padding', (0, 1, 7, 16))
@pytest.mark.parametrize('encoding', encodings.RGB_CONVERSIONS)
def test_colour_chart_survives(encoding, padding):
    chart = colour_chart()
    message = image(encoding, encoded(encoding, chart), 64, 48, padding, extra=5)
    if encoding == 'nv24' and padding:  # its colours' rows are twice as long, padding and all
        rows = encoded(encoding, chart)
        message.data = message.data[:48 * message.step]
        message.data.frombytes(np.pad(
            rows[48:].reshape(48, 128), ((0, 0), (0, 2 * padding)), constant_values=0xEE).tobytes())
    rgb = messages.image_to_rgb(message)
    assert rgb.shape == (48, 64, 3) and rgb.dtype == np.uint8 and rgb.flags.c_contiguous
    if encoding.startswith('mono') or encoding == '8UC1':
        chart = chart[..., :1].repeat(3, 2)
    if encoding.startswith('bayer'):  # colours mix where two patches meet
        inside = np.zeros((48, 64), bool)
        for y in (0, 24):
            for x in (0, 16, 32, 48):
                inside[y + 2:y + 22, x + 2:x + 14] = True
        rgb, chart = rgb[inside], chart[inside]
    tolerance = 3 if encoding in encodings._YUV else 0
    assert np.abs(rgb.astype(int) - chart).max() <= tolerance


@pytest.mark.parametrize('padding', (0, 1, 6))
def test_mono16_of_both_endiannesses(padding):
    values = np.array([[0, 128, 129, 385, 386, 32896, 65406, 65407, 65535]], np.uint16)
    wanted = [0, 0, 1, 1, 2, 128, 254, 255, 255]  # round(value / 257), not value >> 8
    for bigendian, dtype in ((False, '<u2'), (True, '>u2')):
        message = image('mono16', values.astype(dtype), 9, padding=padding, bigendian=bigendian)
        assert messages.image_to_rgb(message)[0, :, 1].tolist() == wanted


def test_nv12_step_may_count_both_planes():
    chart = colour_chart()
    message = image('nv12', encoded('nv12', chart), 64, 48)
    message.step = 96
    assert np.abs(messages.image_to_rgb(message).astype(int) - chart).max() <= 3


@pytest.mark.parametrize('encoding', [e for e in encodings.RGB_CONVERSIONS
                                      if e not in encodings._YUV and 'bayer' not in e])
def test_one_pixel(encoding):
    message = image(encoding, encoded(encoding, np.full((1, 1, 3), 77, np.uint8)), 1)
    assert messages.image_to_rgb(message).tolist() == [[[77, 77, 77]]]


def test_unpadded_rgb_is_a_view():
    message = image('rgb8', colour_chart(), 64)
    rgb = messages.image_to_rgb(message)
    message.data[0] = 9
    assert rgb[0, 0, 0] == 9


def test_bytes_as_data():
    class Message:
        encoding, width, height, step, is_bigendian, data = 'bgr8', 1, 1, 3, 0, b'\x01\x02\x03'

    assert messages.image_to_rgb(Message).tolist() == [[[3, 2, 1]]]


@pytest.mark.parametrize(('change', 'complaint'), (
    ({'width': 0}, 'no pixels'),
    ({'height': 0}, 'no pixels'),
    ({'step': 191}, 'step is 191 bytes, a row needs 192'),
    ({'height': 49}, 'truncated: data holds 9216 bytes, 49 rows of 192 bytes need 9408'),
    ({'encoding': '64FC3'}, "'64FC3'.*publish one of rgb8, bgr8"),
    ({'encoding': ''}, 'publish one of'),
    ({'encoding': 'yuv422', 'width': 63}, 'width must be even'),
    ({'encoding': 'nv12', 'width': 63}, 'width must be even'),
    ({'encoding': 'nv21', 'height': 47}, 'height must be even'),
    ({'encoding': 'bayer_rggb8', 'width': 1, 'height': 1}, 'at least 3×3'),
    ({'encoding': 'nv12'}, 'truncated.*72 rows'),
))
def test_image_errors(change, complaint):
    message = image('rgb8', colour_chart(), 64)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=complaint):
        messages.image_to_rgb(message)


def compressed(extension, picture, options=()):
    message = CompressedImage(header=HEADER, format=f'bgr8; {extension} compressed bgr8')
    message.data.frombytes(cv2.imencode(f'.{extension}', picture, options)[1].tobytes())
    return message


def test_compressed_images():
    chart = colour_chart()
    bgr = np.ascontiguousarray(chart[..., ::-1])
    rgb = encodings.compressed_to_rgb(compressed('png', bgr))
    assert np.array_equal(rgb, chart) and rgb.flags.c_contiguous
    rgb = encodings.compressed_to_rgb(compressed('jpeg', bgr, (cv2.IMWRITE_JPEG_QUALITY, 100)))
    centres = np.ix_((12, 36), (8, 24, 40, 56))
    assert np.abs(rgb[centres].astype(int) - chart[centres]).max() <= 3
    grey = encodings.compressed_to_rgb(compressed('jpeg', np.full((48, 64), 50, np.uint8)))
    assert grey.shape == (48, 64, 3) and (grey == 50).all()
    alpha = encodings.compressed_to_rgb(compressed('png', np.dstack([bgr, bgr[..., 0]])))
    assert np.array_equal(alpha, chart)


def test_sixteen_bit_png_scales_as_mono16_does():
    values = np.random.default_rng(1).integers(0, 65536, (48, 64), np.uint16)
    wanted = messages.image_to_rgb(image('mono16', values, 64))
    assert np.array_equal(encodings.compressed_to_rgb(compressed('png', values)), wanted)
    colours = np.dstack([values] * 3)
    assert np.array_equal(encodings.compressed_to_rgb(compressed('png', colours)), wanted)


def test_exif_orientation_is_ignored():
    message = compressed('jpeg', np.zeros((48, 64, 3), np.uint8))
    # one EXIF entry: orientation (0x0112) is 6, turned by a quarter
    entry = struct.pack('<2sHIHHHIHHI', b'II', 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    block = b'Exif\0\0' + entry
    data = message.data.tobytes()
    data = data[:2] + b'\xff\xe1' + struct.pack('>H', len(block) + 2) + block + data[2:]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (64, 48)
    turned = CompressedImage(format='jpeg')
    turned.data.frombytes(data)
    assert encodings.compressed_to_rgb(turned).shape[:2] == (48, 64)


@pytest.mark.parametrize('extension', ('jpeg', 'png'))
def test_compressed_errors(extension):
    noise = np.random.default_rng(2).integers(0, 256, (48, 64, 3), np.uint8)
    message = compressed(extension, noise)
    whole = message.data.tobytes()
    for data, complaint in ((b'', 'empty'), (b'not a picture', 'does not read'),
                            (whole[:len(whole) // 2], 'truncated'), (whole[:20], 'truncated')):
        broken = CompressedImage(format=message.format)
        broken.data.frombytes(data)
        with pytest.raises(ValueError, match=f'bgr8; {extension}.*{complaint}'):
            encodings.compressed_to_rgb(broken)


def test_rgb_to_image():
    chart = colour_chart()
    for rgb in (chart, np.asfortranarray(chart), chart[:, ::2]):
        message = messages.rgb_to_image(rgb, HEADER)
        assert message.step == 3 * message.width and message.header is HEADER
        assert message.data.tobytes() == rgb.tobytes() and message.encoding == 'rgb8'
        assert np.array_equal(messages.image_to_rgb(message), rgb)
    for wrong in (chart.astype(np.float32), chart[..., 0], chart[:0]):
        with pytest.raises(ValueError, match='uint8 H×W×3'):
            messages.rgb_to_image(wrong, HEADER)


def test_depth_in_metres():
    depth = np.array([[0.5, np.nan, 1e-3], [65.535, 1e4, 2.25]], np.float32)
    message = messages.depth_to_image(depth, HEADER, '32FC1')
    assert (message.encoding, message.step, message.is_bigendian) == ('32FC1', 12, 0)
    assert struct.unpack_from('<f', message.data, 0) == (0.5,)
    np.testing.assert_array_equal(encodings.image_to_depth(message), depth)


def test_depth_in_millimetres():
    depth = np.array([[0.5, np.nan, 1.2344], [65.535, 65.536, 1e-3], [0, 4e-4, -1],
                      [np.inf, -np.inf, 0.0016]], np.float32)
    message = messages.depth_to_image(depth, HEADER, '16UC1')
    assert (message.encoding, message.step) == ('16UC1', 6)
    assert struct.unpack('<12H', message.data) == (
        500, 0, 1234, 65535, 0, 1, 0, 0, 0, 0, 0, 2)
    n = np.nan
    np.testing.assert_allclose(
        encodings.image_to_depth(message),
        np.array([[.5, n, 1.234], [65.535, n, .001], [n, n, n], [n, n, .002]]), rtol=1e-6)


@pytest.mark.parametrize('padding', (0, 1, 8))
@pytest.mark.parametrize('order', '<>')
def test_depth_of_any_layout(order, padding):
    metres = np.array([[1.5, 0, -2], [np.inf, np.nan, 3]])
    wanted = np.array([[1.5, np.nan, np.nan], [np.nan, np.nan, 3]], np.float32)
    message = image('32FC1', metres.astype(order + 'f4'), 3, padding=padding,
                    bigendian=order == '>')
    depth = encodings.image_to_depth(message)
    assert depth.dtype == np.float32 and depth.dtype.isnative
    np.testing.assert_array_equal(depth, wanted)
    millimetres = np.array([[1500, 0, 0], [0, 0, 3000]]).astype(order + 'u2')
    message = image('16UC1', millimetres, 3, padding=padding, bigendian=order == '>')
    np.testing.assert_array_equal(encodings.image_to_depth(message), wanted)


def test_depth_errors():
    with pytest.raises(ValueError, match='use 32FC1 or 16UC1'):
        messages.depth_to_image(np.ones((2, 2), np.float32), HEADER, '64FC1')
    with pytest.raises(ValueError, match='H×W'):
        messages.depth_to_image(np.ones((2, 2, 1), np.float32), HEADER, '32FC1')
    with pytest.raises(ValueError, match='not a depth image'):
        encodings.image_to_depth(image('mono8', np.ones((2, 2), np.uint16), 2))
    with pytest.raises(ValueError, match='truncated'):
        encodings.image_to_depth(image('16UC1', np.ones((2, 2), np.uint16), 2, 3))


def camera(**changes):
    info = CameraInfo(width=640, height=480, distortion_model='plumb_bob', d=[0.0] * 5,
                      k=np.array([500.0, 0, 320, 0, 510, 240, 0, 0, 1]), r=np.eye(3).ravel(),
                      p=np.array([400.0, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0]))
    for name, value in changes.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize(('changes', 'size', 'wanted'), (
    ({}, (640, 480), (500, 510, 320, 240)),
    ({}, (320, 240), (250, 255, 160, 120)),
    ({'binning_x': 2, 'binning_y': 4}, (320, 120), (250, 127.5, 160, 60)),
    ({'binning_x': 1, 'binning_y': 1}, (640, 480), (500, 510, 320, 240)),
    ({'roi': RegionOfInterest(x_offset=100, y_offset=40, width=200, height=100)}, (200, 100),
     (500, 510, 220, 200)),
    ({'roi': RegionOfInterest(x_offset=100, y_offset=40, width=200, height=100), 'binning_x': 2,
      'binning_y': 2}, (100, 50), (250, 255, 110, 100)),
    # the window, then binning, then somebody halved the picture
    ({'roi': RegionOfInterest(x_offset=100, y_offset=40, width=200, height=100), 'binning_x': 2,
      'binning_y': 2}, (50, 25), (125, 127.5, 55, 50)),
    ({'roi': RegionOfInterest(x_offset=100, y_offset=40)}, (540, 440), (500, 510, 220, 200)),
    ({'width': 0, 'height': 0}, (320, 240), (500, 510, 320, 240)),
))
def test_camera_info_of_part_of_an_image(changes, size, wanted):
    intrinsics = intrinsics_from_camera_info(camera(**changes), *size, rectified=False)
    assert intrinsics == Intrinsics(*size, *wanted)


def test_rectified_images_have_their_own_camera():
    got = intrinsics_from_camera_info(camera(), 320, 240, rectified=True)
    assert got == Intrinsics(320, 240, 200, 205, 155, 115)
    got = intrinsics_from_camera_info(camera(p=np.zeros(12)), 640, 480, rectified=True)
    assert got == Intrinsics(640, 480, 500, 510, 320, 240)


@pytest.mark.parametrize(('changes', 'complaint'), (
    ({'k': np.zeros(9)}, 'uncalibrated'),
    ({'k': np.full(9, np.nan)}, 'fx is nan'),
    ({'k': np.array([500.0, 0, np.inf, 0, 510, 240, 0, 0, 1])}, 'cx is inf'),
    ({'k': np.array([-500.0, 0, 320, 0, 510, 240, 0, 0, 1])}, 'fx is -500'),
))
def test_camera_info_errors(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        intrinsics_from_camera_info(camera(**changes), 640, 480)


def test_camera_info_round_trip():
    intrinsics = Intrinsics(320, 240, 262.5, 263.5, 160.5, 119.5)
    info = messages.camera_info_message(intrinsics, HEADER)
    assert info.header is HEADER and info.distortion_model == 'plumb_bob'
    assert list(info.d) == [0] * 5 and info.r.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert info.k.tolist() == [262.5, 0, 160.5, 0, 263.5, 119.5, 0, 0, 1]
    assert info.p.tolist() == [262.5, 0, 160.5, 0, 0, 263.5, 119.5, 0, 0, 0, 1, 0]
    for rectified in (False, True):
        assert intrinsics_from_camera_info(info, 320, 240, rectified) == intrinsics
    assert rectification_from_camera_info(info, 320, 240) is None


DISTORTIONS = (('plumb_bob', [-0.3, 0.1, 1e-3, -2e-3, 0.01]),
               ('rational_polynomial', [0.2, -0.1, 1e-3, 1e-3, 0.02, 0.3, -0.05, 0.01]),
               ('equidistant', [-0.02, 0.01, -0.005, 0.001]))
TILT = cv2.Rodrigues(np.array([0.01, -0.02, 0.015]))[0]


@pytest.mark.parametrize('rotation', (np.eye(3), np.zeros((3, 3)), TILT))
@pytest.mark.parametrize(('model', 'coefficients'), DISTORTIONS)
def test_rectification_agrees_with_undistorted_points(model, coefficients, rotation):
    """The map looks up, for a rectified point, the pixel that undistortPoints took it from."""
    info = camera(distortion_model=model, d=coefficients, r=rotation.ravel().astype(float))
    rectification = rectification_from_camera_info(info, 640, 480)
    assert rectification.rectified == Intrinsics(640, 480, 400, 410, 310, 230)
    turn = rotation if rotation.any() else np.eye(3)
    matrix, target = info.k.reshape(3, 3), info.p.reshape(3, 4)[:, :3]
    seen = np.stack(np.meshgrid(np.arange(140, 520, 60.0), np.arange(100, 400, 60.0)), 2)
    seen = seen.reshape(-1, 1, 2)
    undistort = (cv2.fisheye.undistortPoints if model == 'equidistant' else cv2.undistortPoints)
    wanted = undistort(seen, matrix, np.array(coefficients), R=turn, P=target)
    y, x = np.mgrid[:480, :640]
    for (u, v), (wanted_u, wanted_v) in zip(seen[:, 0], wanted[:, 0]):
        # the map between the pixels around the point
        near = (slice(round(wanted_v) - 1, round(wanted_v) + 2),
                slice(round(wanted_u) - 1, round(wanted_u) + 2))
        map_x, map_y = (m[near].astype(float) for m in rectification._maps)
        fit = np.c_[x[near].ravel() - wanted_u, y[near].ravel() - wanted_v, np.ones(9)]
        looked = [np.linalg.lstsq(fit, m.ravel(), rcond=None)[0][2] for m in (map_x, map_y)]
        assert np.hypot(looked[0] - u, looked[1] - v) < 0.05


def test_distorted_lines_are_straight_afterwards():
    coefficients = np.array([-0.3, 0.1, 1e-3, -2e-3, 0.01])
    info = camera(d=coefficients, p=np.zeros(12))
    matrix = info.k.reshape(3, 3)
    # a scene of vertical and horizontal bars, seen through the lens
    pixels = np.stack(np.meshgrid(np.arange(640.0), np.arange(480.0)), 2).reshape(-1, 1, 2)
    ideal = cv2.undistortPoints(pixels, matrix, coefficients, P=matrix).reshape(480, 640, 2)
    bars = 127.5 + 60 * np.sin(ideal[..., 0] / 20) + 60 * np.sin(ideal[..., 1] / 20)
    rectification = rectification_from_camera_info(info, 640, 480)
    straight = rectification.apply(np.repeat(np.rint(bars).astype(np.uint8)[..., None], 3, 2))
    y, x = np.mgrid[:480, :640]
    wanted = 127.5 + 60 * np.sin(x / 20) + 60 * np.sin(y / 20)
    inside = ~rectification.unseen
    inside[:2] = inside[-2:] = inside[:, :2] = inside[:, -2:] = False
    assert inside.mean() > 0.9
    assert np.abs(straight[..., 0] - wanted)[inside].max() < 2.5
    assert np.abs(bars - wanted)[inside].max() > 50


def test_rectification_follows_the_image_size():
    info = camera(d=[-0.3, 0.1, 0.0, 0.0, 0.0])
    assert rectification_from_camera_info(info, 320, 240).rectified == Intrinsics(
        320, 240, 200, 205, 155, 115)
    assert rectification_from_camera_info(camera(d=[]), 640, 480) is None


@pytest.mark.parametrize(('changes', 'complaint'), (
    ({'distortion_model': 'scaramuzza'}, "'scaramuzza' is not known"),
    ({'d': [0.1, 0.2, 0.3]}, '3 distortion coefficients'),
    ({'d': [0.1], 'distortion_model': 'equidistant'}, '1 distortion coefficients'),
    ({'d': [0.1, np.nan, 0.0, 0.0]}, 'not all finite'),
    ({'r': np.full(9, np.nan)}, 'rectification matrix'),
    ({'k': np.zeros(9)}, 'uncalibrated'),
))
def test_rectification_errors(changes, complaint):
    info = camera(**{'d': [-0.3, 0.1, 0.0, 0.0, 0.0], **changes})
    with pytest.raises(ValueError, match=complaint):
        rectification_from_camera_info(info, 640, 480)


CALIBRATION = '''
image_width: 640
image_height: 480
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [500.5, 0, 320, 0, 510, 240, 0, 0, 1]
distortion_model: rational_polynomial
distortion_coefficients:
  rows: 1
  cols: 8
  data: [0.2, -0.1, 1e-3, 0.001, 0.02, 0.3, -0.05, 0.01]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [400, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0]
'''


def test_calibration_file(tmp_path):
    path = tmp_path / 'front.yaml'
    path.write_text(CALIBRATION)
    info = camera_info_from_yaml(path)
    assert (info.width, info.height, info.distortion_model) == (640, 480, 'rational_polynomial')
    assert list(info.d) == [0.2, -0.1, 1e-3, 0.001, 0.02, 0.3, -0.05, 0.01]
    assert info.k[0] == 500.5 and info.r.tolist() == np.eye(3).ravel().tolist()
    assert info.p.tolist() == [400, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0]
    assert rectification_from_camera_info(info, 640, 480) is not None


@pytest.mark.parametrize(('old', 'new', 'complaint'), (
    ('image_width: 640', '', 'image_width is missing'),
    ('image_height: 480', 'image_height: -1', 'image_height is wrong'),
    ('camera_matrix:', 'matrix:', 'camera_matrix is missing'),
    ('[500.5, 0,', '[500.5,', 'camera_matrix is wrong: .* 9 numbers'),
    ('[500.5,', '[.nan,', 'camera_matrix is wrong'),
    ('[500.5,', '[wide,', 'camera_matrix is wrong'),
    ('rational_polynomial', '[1]', 'distortion_model is wrong'),
    ('distortion_coefficients:', 'distortion:', 'distortion_coefficients is missing'),
    (CALIBRATION, '- 1', 'holds no keys'),
    (CALIBRATION, '', 'holds no keys'),
    (CALIBRATION, '%YAML:1.0\n---\na: !!opencv-matrix {}', 'camera_matrix is missing'),
    (CALIBRATION, '\0', 'not YAML'),
))
def test_calibration_file_errors(tmp_path, old, new, complaint):
    path = tmp_path / 'front.yaml'
    path.write_text(CALIBRATION.replace(old, new, 1))
    with pytest.raises(ValueError, match=f'front.yaml.*{complaint}'):
        camera_info_from_yaml(path)


def test_calibration_file_absent(tmp_path):
    with pytest.raises(OSError, match='nowhere'):
        camera_info_from_yaml(tmp_path / 'nowhere.yaml')


@pytest.mark.parametrize(('size', 'fx', 'said'), [
    ((640, 480), 500.5, ''), ((480, 640), 0, 'it is for 640×480, the image is 480×640'),
    ((320, 240), 500.5, 'taken to be the same view, resized')])
def test_a_calibration_file_for_another_image(tmp_path, monkeypatch, size, fx, said):
    """ros_astra_camera#103: the camera node names it once, and publishes none."""
    from hybrid_depth_ros.nodes.camera import CameraNode
    (tmp_path / 'front.yaml').write_text(CALIBRATION)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*size[::-1], 3), np.uint8))
    context, logged = rclpy.Context(), []
    rclpy.init(args=[], context=context)
    node = CameraNode(context=context, parameter_overrides=[
        Parameter('source', value=str(tmp_path)),
        Parameter('calibration', value=str(tmp_path / 'front.yaml')),
        Parameter('frame_id', value='/camera')])
    try:
        monkeypatch.setattr(type(node.get_logger()), 'warning', lambda _, text: logged.append(text))
        infos = [node._camera_info(*size, HEADER) for _ in range(3)]
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert [info.k[0] for info in infos] == [fx] * 3
    assert len(logged) == bool(said)
    assert not said or (said in logged[0] and 'front.yaml' in logged[0])


def some_cloud(width=3, height=2):
    rgb = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    depth = np.arange(1, width * height + 1, dtype=np.float32).reshape(height, width)
    depth[0, 1] = np.nan
    return organised_cloud(depth, rgb, Intrinsics(width, height, 2, 2, 1, 0.5))


def test_cloud_read_by_hand():
    message = messages.cloud_message(some_cloud(), HEADER)
    assert (message.height, message.width) == (2, 3)
    assert (message.point_step, message.row_step, len(message.data)) == (16, 48, 96)
    assert not message.is_bigendian and not message.is_dense and message.header == HEADER
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ('x', 0, 7, 1), ('y', 4, 7, 1), ('z', 8, 7, 1), ('rgb', 12, 7, 1)]
    # row 1, column 2: depth 6, pixel (2, 1), colour 15, 16, 17
    x, y, z, packed = struct.unpack_from('<fffI', message.data, 1 * 48 + 2 * 16)
    assert (x, y, z, packed) == (6 * (2 - 1) / 2, 6 * (1 - 0.5) / 2, 6, 0x0F1011)
    x, y, z, packed = struct.unpack_from('<fffI', message.data, 16)
    assert np.isnan([x, y, z]).all() and packed == 0x030405
    part = messages.cloud_message(some_cloud()[:, :2], HEADER)
    assert part.row_step == 32 and part.data[32:64] == message.data[48:80]


def test_cloud_errors():
    for wrong in (np.zeros((2, 2)), some_cloud().ravel(), np.zeros((0, 3), POINT)):
        with pytest.raises(ValueError, match='organised cloud'):
            messages.cloud_message(wrong, HEADER)


def test_filling_messages_is_fast():
    rgb, depth = np.zeros((480, 640, 3), np.uint8), np.ones((480, 640), np.float32)
    cloud = organised_cloud(depth, rgb, Intrinsics(640, 480, 500, 500, 320, 240))
    messages.cloud_message(cloud, HEADER)
    start = time.perf_counter()
    for _ in range(5):
        messages.cloud_message(cloud, HEADER)
        messages.image_to_rgb(messages.rgb_to_image(rgb, HEADER))
        encodings.image_to_depth(messages.depth_to_image(depth, HEADER, '16UC1'))
    # byte by byte this takes a second each; the bound is for a busy machine
    assert (time.perf_counter() - start) / 5 < 0.25


@pytest.mark.parametrize(('suffix', 'coefficients', 'model'), [
    ('.yml', 5, 'plumb_bob'), ('.xml', 5, 'plumb_bob'), ('.yml', 8, 'rational_polynomial')])
def test_a_calibration_of_opencvs(tmp_path, monkeypatch, suffix, coefficients, model):
    """usb_cam#310's kind: what OpenCV's own calibration writes, and the URLs that drivers take."""
    path = tmp_path / f'my camera{suffix}'
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    matrix = np.array([[500.0, 0, 319], [0, 501, 241], [0, 0, 1]])
    storage.write('image_width', 640)
    storage.write('image_height', 480)
    storage.write('camera_matrix', matrix)
    storage.write('distortion_coefficients', np.arange(coefficients)[:, None] / 100)
    storage.release()
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    for name in (path, f'file://{path}', f'file://{str(path).replace(" ", "%20")}',
                 f'${{ROS_HOME}}/{path.name}', f'file://${{ROS_HOME}}/{path.name}'):
        info = camera_info_from_yaml(name)
        assert (info.width, info.height, info.distortion_model) == (640, 480, model)
        np.testing.assert_array_equal(info.k.reshape(3, 3), matrix)
        np.testing.assert_allclose(info.d, np.arange(coefficients) / 100)
        np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], matrix)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match='my camera'):
        camera_info_from_yaml(path)


def test_a_calibration_that_says_nothing_or_is_nowhere(tmp_path):
    """usb_cam#310's kind: K of 0 is a camera that was not calibrated."""
    path = tmp_path / 'camera.yaml'
    write_snapshot_files(tmp_path, 'camera', CameraSnapshot(
        np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.float32),
        Intrinsics(6, 4, 5.0, 5.0, 2.5, 1.5)))
    path.write_text(path.read_text().replace('- 5.0', '- 0.0'))
    with pytest.raises(ValueError, match=r'camera\.yaml: camera_matrix has a focal length of 0 .*'
                                         'was not calibrated'):
        camera_info_from_yaml(path)
    for name, said in (('package://nobody_here/a.yaml', 'no package nobody_here is known here'),
                       ('file://${ROS_HOME}/${NAME}.yaml', r'only \$\{ROS_HOME\} is known here'),
                       ('http://camera/a.yaml', 'is no calibration file')):
        with pytest.raises(OSError, match=said):
            camera_info_from_yaml(name)


@pytest.mark.parametrize('encoding', encodings.RGB_CONVERSIONS)
def test_a_step_of_0_is_computed(encoding):
    """image_transport_plugins#177's kind: drivers that leave step out; rows are without padding."""
    message = image(encoding, encoded(encoding, colour_chart()), 64, 48)
    wanted = messages.image_to_rgb(message)
    message.step = 0
    np.testing.assert_array_equal(messages.image_to_rgb(message), wanted)


def test_depth_with_a_step_of_0():
    depth = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
    message = messages.depth_to_image(depth, HEADER, '32FC1')
    message.step = 0
    np.testing.assert_array_equal(encodings.image_to_depth(message), depth)
    message.data = message.data[:-1]
    with pytest.raises(ValueError, match='truncated'):
        encodings.image_to_depth(message)


def test_depth_as_mono16():
    """DenseDepth#41's kind: drivers that publish millimetres as mono16."""
    millimetres = np.array([[0, 1, 2500, 65535]], '<u2')
    np.testing.assert_array_equal(encodings.image_to_depth(image('mono16', millimetres, 4)),
                                  np.array([[np.nan, 0.001, 2.5, 65.535]], np.float32))
