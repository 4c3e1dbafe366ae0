"""Images in any encoding as messages, made with numpy alone."""

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

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


def compressed(extension, picture, options=()):
    message = CompressedImage(header=HEADER, format=f'bgr8; {extension} compressed bgr8')
    message.data.frombytes(cv2.imencode(f'.{extension}', picture, options)[1].tobytes())
    return message
