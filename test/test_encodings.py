"""Depth compressed by RVL."""

import contextlib
import struct

import numpy as np
import pytest
from small_recordings import START, compressed, rvl

from hybrid_depth_ros.encodings import compressed_to_depth


@pytest.mark.parametrize('values', [
    [[0] * 7] * 5, [[65535]], [[1, 0, 65535, 0]] * 3, [[0, 5, 5, 5, 0, 0, 9, 32768]]])
def test_rvl_of_any_numbers(values):
    """compressedDepth by RVL was refused."""
    values = np.array(values, np.uint16)
    depth = compressed_to_depth(compressed(
        START, '16UC1; compressedDepth rvl', bytes(12) + rvl(values)))
    known = np.where(values == 65535, 0, values)  # 65535: unknown
    assert np.array_equal(np.nan_to_num(depth), (known / np.float32(1000)).astype(np.float32))


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
