"""Picture files, read whole or refused; depth in colours with a scale in metres; cloud files."""

import contextlib
import struct
from pathlib import Path

import cv2
import numpy as np
import yaml

from hybrid_depth_ros.files import atomic_write

BAR_WIDTH, MARGIN = 14, 8  # pixels at a picture height of 480
STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # colour, not turned as EXIF asks for

TIFF_ORIENTATION = 274  # its tag


def read_pixels(path, flags=cv2.IMREAD_COLOR):
    """A picture file of any kind that OpenCV reads → its array; flags: cv2.IMREAD_….

    Its bytes are read here: OpenCV's own reading crashes where the name is not UTF-8. Raises
    OSError where the pixels are not all there.
    """
    data = Path(path).read_bytes()
    if flags & cv2.IMREAD_IGNORE_ORIENTATION:  # a bit of cv2.IMREAD_UNCHANGED too
        data = _as_stored(data)
    if not _cut_short(data):
        with contextlib.suppress(cv2.error):  # more pixels than OpenCV takes
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None:
                return pixels
    raise OSError(f'{path} is not a readable image; remove it or copy it again')


def read_colour(path, flags=STORED):
    """A picture file → uint8 H×W×3 RGB, as stored: depth and calibrations are so too. Raises what
    :func:`read_pixels` raises."""
    bgr = read_pixels(path, flags)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, bgr)


def _as_stored(data):
    """A file's bytes, without the orientation of a TIFF: that one OpenCV obeys in any case."""
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(data[:4])
    if not order:
        return data
    with contextlib.suppress(struct.error):  # cut short: OpenCV says so
        place = 2 + struct.unpack_from(f'{order}I', data, 4)[0]
        count, = struct.unpack_from(f'{order}H', data, place - 2)
        for entry in range(place, place + 12 * count, 12):
            if struct.unpack_from(f'{order}H', data, entry) == (TIFF_ORIENTATION,):
                kept = struct.pack(f'{order}H', 1)
                return data[:entry + 8] + kept + data[entry + 10:]
    return data


def _cut_short(data):
    """Whether the end of a JPEG or PNG file is not there, which OpenCV 4 shows as grey."""
    if data.startswith(b'\xff\xd8'):
        return b'\xff\xd9' not in data[data.rfind(b'\xff\xda'):]
    return not data or (data.startswith(b'\x89PNG') and b'IEND' not in data[-64:])


def depth_range(*depths):
    """(nearest, farthest) metres that hold 98 % of the finite depths, for a common scale.

    They are always apart, however large.
    """
    finite = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    if not finite.size:
        return 0.0, 1.0
    near, far = np.percentile(finite, (1, 99))
    return float(near), float(max(far, near + max(0.1, abs(near) / 1000)))


def colour_depth(depth, near, far):
    """Depth float H×W metres → RGB uint8 H×W×3: warm is near, cold is far, black unknown."""
    share = np.clip((depth - near) / (far - near), 0, 1)
    known = np.isfinite(depth)
    levels = (255 * (1 - np.where(known, share, 1))).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.where(known[..., None], colours, np.uint8(0))


def scale_bar(height, near, far):
    """The colours of :func:`colour_depth` beside their metres, RGB uint8 height×W×3."""
    size = max(1.0, height / 480)
    width = round((BAR_WIDTH + MARGIN + 62) * size)
    bar = np.zeros((height, width, 3), np.uint8)
    top, bottom = round(20 * size), height - round(20 * size)
    left, right = round(MARGIN * size), round((MARGIN + BAR_WIDTH) * size)
    levels = np.linspace(near, far, max(2, bottom - top))[:, None]
    bar[top:top + len(levels), left:right] = colour_depth(
        np.repeat(levels, right - left, axis=1), near, far)[:height - top]
    decade = 10.0 ** np.floor(np.log10((far - near) / 8))
    step = next(s * decade for s in (1, 2, 5, 10, 20) if (far - near) / (s * decade) <= 8)
    step = max(step, 0.1)  # the labels have one decimal
    for metres in step * np.arange(np.ceil(near / step), np.floor(far / step + 1e-9) + 1):
        y = round(top + (metres - near) / (far - near) * (bottom - top))
        label = f'{metres:.1f} m' if metres < 1e4 else f'{metres:.0e} m'
        cv2.putText(bar, label, (right + round(5 * size), y + round(4 * size)),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.42 * size, (255, 255, 255), max(1, round(size)),
                    cv2.LINE_AA)
    return bar


def side_by_side(rgb, depth, truth=None, anchored=None):
    """RGB | depth (| anchored depth) (| true depth) | scale in metres, RGB uint8.

    rgb: uint8 H×W×3. depth, truth, anchored: float H×W metres, on one common scale.
    """
    near, far = depth_range(*(d for d in (depth, truth, anchored) if d is not None))
    panels = [('camera', rgb), ('depth from the network', colour_depth(depth, near, far))]
    if anchored is not None:
        panels.append(('anchored', colour_depth(anchored, near, far)))
    if truth is not None:
        panels.append(('true depth', colour_depth(truth, near, far)))
    drawn = []
    for name, panel in panels:
        panel, size = np.ascontiguousarray(panel).copy(), max(0.4, rgb.shape[0] / 480)
        panel[:round(34 * size)] //= 3  # white text on it can always be read
        cv2.putText(panel, name, (round(10 * size), round(24 * size)), cv2.FONT_HERSHEY_SIMPLEX,
                    0.6 * size, (255, 255, 255), max(1, round(size)), cv2.LINE_AA)
        drawn.append(panel)
    return np.hstack([*drawn, scale_bar(rgb.shape[0], near, far)])


def colour_residuals(residuals):
    """log of measured / corrected depth, float N → RGB uint8 N×3: green where both agree, red
    where 30 % nearer was measured, blue where farther, grey where there is no depth."""
    off = np.clip(np.nan_to_num(residuals) / 0.3, -1, 1)[:, None]
    colours = 255 * np.where(off < 0, [[0, 1, 0]] + off * [[-1, 1, 0]],
                             [[0, 1, 0]] + off * [[0, -1, 1]])
    colours[~np.isfinite(residuals)] = 128
    return colours.astype(np.uint8)


def draw_anchors(rgb, u, v, colours):
    """A copy of uint8 H×W×3 with a dot at each column u and row v, in its colour."""
    drawn, size = rgb.copy(), max(1, rgb.shape[1] // 200)
    for place, colour in zip(np.rint(np.stack((u, v), 1)).astype(int).tolist(), colours.tolist()):
        cv2.circle(drawn, place, size + 1, (0, 0, 0), -1)
        cv2.circle(drawn, place, size, colour, -1)
    return drawn


def save_picture(path, rgb):
    """Write an RGB uint8 picture; the suffix says the format. OSError where it can't be."""
    _write_picture(Path(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def _write_picture(path, pixels):
    # not by imwrite, which doesn't see that a disk is full
    _, data = cv2.imencode(path.suffix, pixels)
    path.write_bytes(data)


def save_cloud(path, cloud):
    """Write a structured array of ``geometry.POINT`` as a binary PLY, without NaN points."""
    points = cloud[np.isfinite(cloud['z'])]
    kind = np.dtype([(axis, '<f4') for axis in 'xyz'] + [(c, 'u1') for c in ('r', 'g', 'b')])
    vertices = np.empty(points.size, kind)
    for axis in 'xyz':
        vertices[axis] = points[axis]
    for colour, shift in (('r', 16), ('g', 8), ('b', 0)):
        vertices[colour] = points['rgb'] >> shift & 255
    header = (f'ply\nformat binary_little_endian 1.0\ncomment optical frame, metres\n'
              f'element vertex {points.size}\n'
              'property float x\nproperty float y\nproperty float z\n'
              'property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n')
    with open(path, 'wb') as file:
        file.write(header.encode())
        file.write(vertices.tobytes())


def save_snapshot(folder, cameras):
    """Write a folder of files for each camera, or of those of one without a name.

    cameras: {name: (rgb, depth, intrinsics, cloud)}, as :func:`fill_snapshot` takes them. The
    folder appears when all is in it, and nothing that was there before is written into or through.
    Raises OSError where it can't be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder, folder=True) as partial:
        for name, files in cameras.items():
            (partial / name).mkdir(exist_ok=True)
            fill_snapshot(partial / name, name or folder.name, *files)


def fill_snapshot(folder, name, rgb, depth, intrinsics=None, cloud=None):
    """Write ``rgb.png``, ``depth.png`` and, where given, ``camera.yaml`` and ``cloud.ply``.

    name: the camera's, in camera.yaml. rgb: uint8 H×W×3. depth: float32 H×W metres, NaN where
    unknown; in the file uint16 millimetres, 0 where unknown (REP 118). cloud: of
    ``geometry.POINT``. camera.yaml is a calibration as camera_calibration writes it.
    """
    save_picture(folder / 'rgb.png', rgb)
    millimetres = np.nan_to_num(np.rint(depth * np.float32(1000)))
    millimetres[millimetres > 65535] = 0
    _write_picture(folder / 'depth.png', millimetres.astype(np.uint16))
    if cloud is not None:
        save_cloud(folder / 'cloud.ply', cloud)
    if intrinsics:
        matrix = intrinsics.matrix

        def entry(values, rows, columns):
            return {'rows': rows, 'cols': columns, 'data': values.ravel().tolist()}
        (folder / 'camera.yaml').write_text(yaml.safe_dump({
            'image_width': intrinsics.width, 'image_height': intrinsics.height,
            'camera_name': name, 'camera_matrix': entry(matrix, 3, 3),
            'distortion_model': 'plumb_bob',
            'distortion_coefficients': entry(np.zeros(5), 1, 5),
            'rectification_matrix': entry(np.eye(3), 3, 3),
            'projection_matrix': entry(np.hstack((matrix, np.zeros((3, 1)))), 3, 4)},
            sort_keys=False))
