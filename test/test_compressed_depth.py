"""Depth as compressed_depth_image_transport packs it, into messages and out of them."""

import contextlib
import struct

import cv2
import numpy as np
import pytest
from small_recordings import START, compressed, rvl

from hybrid_depth_ros.compressed_depth import (
    compressed_to_depth,
    encode_compressed_depth,
    encode_png,
    encode_rvl,
)


@pytest.mark.parametrize('values', [
    [[0] * 7] * 5, [[65535]], [[1, 0, 65535, 0]] * 3, [[0, 5, 5, 5, 0, 0, 9, 32768]]])
def test_rvl_of_any_numbers(values):
    """compressedDepth by RVL was refused."""
    values = np.array(values, np.uint16)
    depth = compressed_to_depth(compressed(
        START, '16UC1; compressedDepth rvl', bytes(12) + rvl(values)))
    known = np.where(values == 65535, 0, values)  # 65535: unknown
    assert np.array_equal(np.nan_to_num(depth), (known / np.float32(1000)).astype(np.float32))
    assert encode_rvl(values) == rvl(values)


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (48, 64)])
def test_a_png_is_read_by_others(shape):
    """By OpenCV's libpng, as compressed_depth_image_transport reads it."""
    values = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    data = np.frombuffer(encode_png(values), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), values)


def test_rvl_is_what_the_plugin_writes():
    """Compared with its encoder, written out number by number, over holes of all lengths."""
    rng = np.random.default_rng(3)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        values = np.cumsum(rng.integers(-40, 41, (23, 41)), 1).astype(np.uint16) + 9000
        values[rng.random(values.shape) < share] = 0
        assert encode_rvl(values) == rvl(values)


@pytest.mark.parametrize('form', ['png', 'rvl'])
@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_depth_comes_back_as_it_was_sent(encoding, form):
    depth = np.geomspace(0.2, 60, 48 * 64, dtype=np.float32).reshape(48, 64)
    depth[:2] = [[np.nan], [np.inf]]
    depth[2, :4] = 0, -1, 1e-9, 2e38
    text, data = encode_compressed_depth(depth, encoding, form)
    assert text == f'{encoding}; compressedDepth {form}'
    number, a, b = struct.unpack_from('<iff', data)
    assert number == 0 and (a, b) == ((0, 0) if encoding == '16UC1' else (10100, -100))
    back = compressed_to_depth(compressed(START, text, data))
    known = np.isfinite(depth) & (depth > 0.1) & (depth < 1e3)
    assert np.array_equal(np.isfinite(back), known)
    step = 0.001 if encoding == '16UC1' else depth[known] ** 2 / 10100
    assert (np.abs(back - depth)[known] <= 0.501 * step + 1e-5).all()


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_what_is_too_far_or_too_near_is_unknown(encoding):
    depth = np.float32([[0.05, 0.2, 4.99, 5.01, 70]])
    back = compressed_to_depth(compressed(START, *encode_compressed_depth(
        depth, encoding, depth_max=5.0, depth_quantization=100.0)))
    seen = [encoding == '16UC1', True, True, False, False]  # 16 bits of inverse depth end at 0.15 m
    assert np.isfinite(back).tolist() == [seen]
    with pytest.raises(ValueError, match='use png or rvl'):
        encode_compressed_depth(depth, encoding, 'jpeg')
    with pytest.raises(ValueError, match='use 32FC1 or 16UC1'):
        encode_compressed_depth(depth, '64FC1')


def test_rvl_that_is_damaged(tmp_path):
    """RVL that is cut or forged ends in a sentence, at once."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (8, 9)).astype(np.uint16) * 700
    whole = bytes(12) + rvl(values)
    forged = [whole[:12] + struct.pack('<II', *size) + whole[20:]
              for size in ((9, 9), (0, 8), (2**31, 2**31), (2**16, 2**16), (5000, 5000))]
    noise = [whole[:20] + rng.bytes(60) for _ in range(200)] + [whole[:20] + b'\xff' * 400]
    for data in (*(whole[:size] for size in range(len(whole) - 4)), *forged):
        with pytest.raises(ValueError, match='publish'):
            compressed_to_depth(compressed(START, '16UC1; compressedDepth rvl', data))
    for data in noise:
        with contextlib.suppress(ValueError):
            assert compressed_to_depth(
                compressed(START, '16UC1; compressedDepth rvl', data)).shape == (8, 9)
