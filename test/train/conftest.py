"""Fixtures: RGB-D data and a configuration for short trainings."""


import cv2
import numpy as np
import pytest
from rgbd_files import COUNT, NYU, plane_depth, write_bgr, write_pgm

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import Room
from train.datasets import nyu_raw


@pytest.fixture
def tree(tmp_path):
    """Eight pairs in the sync layout."""
    folder = tmp_path / 'nyu'
    folder.mkdir()
    depth, _, _ = plane_depth()
    rng = np.random.default_rng(0)
    for i in range(8):
        rgb = rng.integers(0, 256, (480, 640, 3), np.uint8)
        cv2.imwrite(str(folder / f'rgb_{i:05d}.jpg'), cv2.blur(rgb, (9, 9)))
        cv2.imwrite(str(folder / f'sync_depth_{i:05d}.png'),
                    (depth * 1000 / (1 + i / 8)).astype(np.uint16))
    return folder


@pytest.fixture
def config(tiny, tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text('encoder: tiny\nepochs: 2\nepoch_images: 4\nbatch: 2\nvalidation: [[0, 1]]\n'
                    'validate_every: 1\nema: 0.9\nlog_l1: 1.0\nprecision: fp32\n')
    return path


@pytest.fixture(scope='module')
def room():
    return Room(1)


@pytest.fixture(scope='module')
def frames(room):
    """Colour and exact depth of three places in the room, through NYU's camera."""
    return [room.render(NYU, room.camera_pose(20.0 * i)) for i in range(COUNT)]


def sample(picture, camera, rays):
    """The ideal pinhole picture of a camera, nearest to where rays (N×2, z = 1) meet it."""
    u = np.rint(rays[:, 0] * camera.fx + camera.cx).astype(int)
    v = np.rint(rays[:, 1] * camera.fy + camera.cy).astype(int)
    return picture[v.clip(0, camera.height - 1), u.clip(0, camera.width - 1)]


def undistorted_rays(matrix, distortion):
    """Where a distorting camera's pixels look, N×2."""
    v, u = np.mgrid[:480, :640].astype(np.float64)
    return cv2.undistortPoints(np.dstack((u, v)).reshape(-1, 1, 2), matrix, distortion)[:, 0]


def kinect(room, pose):
    """What a Kinect records there: distorted colour, 11-bit disparity of the other camera."""
    wide = Intrinsics(1260, 975, 900.0, 900.0, 629.5, 487.0)
    rgb, _ = room.render(wide, pose)
    rgb = sample(rgb, wide, undistorted_rays(nyu_raw.COLOUR_MATRIX, nyu_raw.COLOUR_DISTORTION))
    depth_pose = np.eye(4)  # of the depth camera in the colour camera's frame
    depth_pose[:3, :3], depth_pose[:3, 3] = nyu_raw.ROTATION, nyu_raw.TRANSLATION
    _, depth = room.render(wide, pose @ depth_pose)
    depth = sample(depth, wide, undistorted_rays(nyu_raw.DEPTH_MATRIX, nyu_raw.DEPTH_DISTORTION))
    disparity = np.rint(1092.5 - 351.3 / depth).astype(np.uint16).reshape(480, 640)
    disparity[:, :8] = 2047  # the Kinect's blind edge
    return rgb.reshape(480, 640, 3), disparity


@pytest.fixture(scope='module')
def raw_scenes(room, tmp_path_factory):
    """Two scenes of a free-running colour and depth camera, with accelerometer dumps."""
    root = tmp_path_factory.mktemp('raw')
    rng = np.random.default_rng(0)
    for scene, first in (('bedroom_0001', 1.0), ('office_0002a', 31.0)):
        folder = root / scene
        folder.mkdir()
        for i in range(2):
            seconds = first + 8 * i
            rgb, disparity = kinect(room, room.camera_pose(seconds))
            clock = 1294886362 + seconds + rng.uniform(-0.015, 0.015)
            write_bgr(folder / f'r-{clock:.6f}-2996770081.ppm', rgb)
            # colour comes more often; these are of other moments
            for early in (-0.07, 0.06):
                write_bgr(folder / f'r-{clock + early:.6f}-2996770082.ppm', np.zeros_like(rgb))
            clock = 1294886362 + seconds + rng.uniform(-0.01, 0.01)
            write_pgm(folder / f'd-{clock:.6f}-3321411233.pgm', disparity)
            (folder / f'a-{clock:.6f}-3164794231.dump').write_bytes(bytes(24))
    return root
