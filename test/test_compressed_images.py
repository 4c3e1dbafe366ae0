"""JPEG and PNG in messages become RGB."""

import struct

import cv2
import numpy as np
import pytest
from image_messages import colour_chart, compressed, image
from sensor_msgs.msg import CompressedImage

from hybrid_depth_ros import encodings
from hybrid_depth_ros.nodes.shared import messages


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
