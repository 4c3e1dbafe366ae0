"""Networks of other families against transformers' own pipeline, and against hostile folders."""


import cv2
import numpy as np
import pytest

transformers = pytest.importorskip('transformers')

import small_networks
from PIL import Image

from hybrid_depth_ros.predictor import DepthPredictor

FX = 200.0


def picture(width=160, height=120, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return np.ascontiguousarray(cv2.resize(coarse, (width, height)))


@pytest.fixture(scope='session')
def folder_of(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            made[name] = small_networks.make(name, tmp_path_factory.mktemp('models') / name)
        return made[name]
    return folder


def pipeline_depth(folder, rgb):
    pipe = transformers.pipeline('depth-estimation', model=str(folder))
    return pipe(Image.fromarray(rgb))['predicted_depth'].numpy()


def worst(depth, wanted):
    assert depth.shape == wanted.shape
    assert wanted.std() > 1e-2 * np.abs(wanted).mean(), 'a picture that says nothing'
    return np.abs(depth / wanted - 1).max()


@pytest.mark.parametrize('name', small_networks.FAMILIES)
def test_depth_is_that_of_transformers_own_pipeline(name, folder_of):
    folder = folder_of(name)
    predictor = DepthPredictor(str(folder), 'cpu', 'fp32', runtime='torch', relative=True)
    assert predictor.relative == (name in ('depth_anything', 'dpt'))
    pictures = [picture(), picture(200, 100, 1), picture(90, 130, 2)]
    for rgb, depth in zip(pictures, predictor(pictures)):
        assert worst(depth, pipeline_depth(folder, rgb)) <= 1e-4
    together = predictor([pictures[0], picture(seed=3)])
    np.testing.assert_allclose(together[1], predictor(picture(seed=3)), rtol=1e-4)


@pytest.mark.parametrize('name', [n for n in small_networks.FAMILIES if n != 'zoedepth_two'])
def test_openvino_gives_the_same(name, folder_of):
    folder = folder_of(name)
    predictor = DepthPredictor(str(folder), 'cpu', 'fp32', runtime='openvino', relative=True)
    pictures = [picture(), picture(seed=3)]  # of one size: one graph, one by one
    for rgb, depth in zip(pictures, predictor(pictures)):
        assert worst(depth, pipeline_depth(folder, rgb)) <= 1e-3
