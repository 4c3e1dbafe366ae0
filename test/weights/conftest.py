"""Networks and weights files of them."""

import pytest
from filled_networks import LITE, filled_network

from hybrid_depth_ros.weights import save_network


@pytest.fixture(scope='module')
def lite():
    return filled_network(LITE)


@pytest.fixture(scope='module')
def resnet50():
    return filled_network('resnet50')


@pytest.fixture(scope='module')
def lite_file(lite, tmp_path_factory):
    path = tmp_path_factory.mktemp('lite') / 'lite.safetensors'
    save_network(lite, path)
    return path
