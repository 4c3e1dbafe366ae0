"""One distance by tape gives a factor, which a file keeps."""

import numpy as np
import pytest

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.scale_factors import ScaleFactor, ScaleFile, distance_at, measure_factor

CAMERA = Intrinsics.from_horizontal_fov(160, 120, 60)


def test_the_distance_is_along_the_ray():
    wall = [np.full((120, 160), metres, np.float32) for metres in (1.9, 2.0, 2.1)]
    wall[0][55:58] = np.nan
    middle = distance_at(wall, 79.5, 59.5, CAMERA)
    assert middle == pytest.approx(2.0)
    x = (150 - CAMERA.cx) / CAMERA.fx
    assert distance_at(wall, 150, 59.5, CAMERA) == pytest.approx(2 * np.hypot(1, x))
    assert distance_at(wall, 150, 59.5, None) == pytest.approx(2.0)


def test_a_bad_place_is_named_with_the_mend():
    depth = np.full((120, 160), 2.0, np.float32)
    depth[:, 80:] = 3.0
    depth[:20] = np.nan
    for pixel, why in (((160, 50), 'not in the image, which is 160×120'), ((10, -1), 'not in the'),
                       ((40, 5), 'no depth is known'), ((80, 60), 'runs from 2.00 to 3.00 m')):
        with pytest.raises(ValueError, match=why):
            distance_at([depth], *pixel, CAMERA)
    assert measure_factor(2.0, 1.0) == ScaleFactor(0.5, 1.0)
    with pytest.raises(ValueError, match='so far off is no scale'):
        measure_factor(2.0, 150.0)


def test_the_file_keeps_a_factor_for_each_camera_and_weights(tmp_path):
    file = ScaleFile(tmp_path / 'ros' / 'depth_scale.yaml')
    assert file.read('/image', 'lite-nyu') is None
    file.write('/image', 'lite-nyu', ScaleFactor(1.25, 2.0))
    file.write('/left/image', 'lite-nyu', ScaleFactor(0.8, 1.0))
    file.write('/image', '/home/bär/w: 1.safetensors', ScaleFactor(2.0, 3.0))
    assert file.read('/image', 'lite-nyu') == ScaleFactor(1.25, 2.0)
    assert file.read('/left/image', 'lite-nyu') == ScaleFactor(0.8, 1.0)
    assert file.read('/image', '/home/bär/w: 1.safetensors') == ScaleFactor(2.0, 3.0)
    file.write('/image', 'lite-nyu', None)
    file.write('/left/image', 'lite-nyu', None)
    assert file.read('/image', 'lite-nyu') is None
    assert file.read('/image', '/home/bär/w: 1.safetensors') == ScaleFactor(2.0, 3.0)
    assert '/left/image' not in file.path.read_text()
    assert [path.name for path in file.path.parent.iterdir()] == ['depth_scale.yaml']


@pytest.mark.parametrize('content', [
    b'{', b'- 1', b'\xff\xfe\x00', b'word', b'/image: 1', b'/image: {lite-nyu: 1.2}',
    b'/image: {lite-nyu: {factor: x, distance: 1}}', b'/image: {lite-nyu: {factor: 1.2}}',
    b'/image: {lite-nyu: {factor: .nan, distance: 1}}',
    b'/image: {lite-nyu: {factor: 0, distance: 1}}', b'/image: {lite-nyu: {factor: 99, '
    b'distance: 1}}', b'/image: {lite-nyu: {factor: 1.1, distance: -1}}'])
def test_a_damaged_file_is_named_and_stays(tmp_path, content):
    path = tmp_path / 'depth_scale.yaml'
    path.write_bytes(content)
    for work in (lambda file: file.read('/image', 'lite-nyu'),
                 lambda file: file.write('/image', 'lite-nyu', ScaleFactor(1.0, 1.0))):
        with pytest.raises(ValueError, match=r'depth_scale\.yaml is not what') as said:
            work(ScaleFile(path))
        assert '\n' not in str(said.value)
    assert path.read_bytes() == content
