"""Messages to arrays and back: images, depth, clouds."""

import struct
import time

import numpy as np
import pytest
from image_messages import HEADER, colour_chart, encoded, image

from hybrid_depth_ros import encodings
from hybrid_depth_ros.calibration import intrinsics_from_camera_info, rectification_from_camera_info
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.shared import messages
from hybrid_depth_ros.point_cloud import POINT, organised_cloud


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
    """65.535 m was written as 65535, which means unknown to a reader."""
    depth = np.array([[0.5, np.nan, 1.2344], [65.534, 65.535, 1e-3], [0, 4e-4, -1],
                      [np.inf, -np.inf, 0.0016]], np.float32)
    message = messages.depth_to_image(depth, HEADER, '16UC1')
    assert (message.encoding, message.step) == ('16UC1', 6)
    assert struct.unpack('<12H', message.data) == (
        500, 0, 1234, 65534, 0, 1, 0, 0, 0, 0, 0, 2)
    n = np.nan
    np.testing.assert_allclose(
        encodings.image_to_depth(message),
        np.array([[.5, n, 1.234], [65.534, n, .001], [n, n, n], [n, n, .002]]), rtol=1e-6)


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
    """Drivers publish millimetres as mono16; 65535 is what they fill in for unknown."""
    millimetres = np.array([[0, 1, 2500, 65535]], '<u2')
    np.testing.assert_array_equal(encodings.image_to_depth(image('mono16', millimetres, 4)),
                                  np.array([[np.nan, 0.001, 2.5, np.nan]], np.float32))
