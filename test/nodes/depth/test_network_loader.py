"""A change of weights while the depth node runs: loaded beside, swapped when ready."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus
from graph import CHART, value
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import Image
from stub_depth_node import HEIGHT, WIDTH, SlowlyLoaded, scene_depth

from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.nodes.depth.network_loader import NetworkLoader
from hybrid_depth_ros.nodes.depth.settings import DepthSettings
from hybrid_depth_ros.nodes.shared.messages import rgb_to_image

LOADS = pytest.mark.parametrize('graph', [{
    'scale': 'loads', 'arguments': ('-p', 'horizontal_fov:=60.0')}], indirect=True)


def weights_parameter(graph):
    return graph.call(GetParameters, 'get_parameters', GetParameters.Request(
        names=['weights'])).values[0].string_value


@LOADS
def test_depth_flows_while_other_weights_are_loaded(graph):
    """They were loaded in the parameter callback: 11 s without a depth image."""
    graph.listen(Image, 'depth/image')
    graph.ready()
    arrivals = []
    graph.node.create_subscription(
        Image, 'depth/image', lambda _: arrivals.append(time.monotonic()), 10)
    graph.node.create_timer(
        0.05, lambda: graph.image.publish(rgb_to_image(CHART, graph.header())))
    assert graph.spin(10, lambda: len(arrivals) > 3)
    graph.set_parameter('edge_filter', 0.2)  # so that the service has been found
    arrivals.clear()
    start = time.monotonic()
    assert graph.set_parameter('weights', 'paper-nyu').successful
    assert time.monotonic() - start < 1.5
    status = graph.diagnosis(lambda status: 'are being loaded' in status.message)['depth']
    assert status.level == DiagnosticStatus.OK
    assert (value(status, 'weights'), value(status, 'loading')) == ('lite-nyu', 'paper-nyu')
    graph.spin(start + SlowlyLoaded.LOAD_SECONDS - 0.5 - time.monotonic())
    assert len(arrivals) > 10 * SlowlyLoaded.LOAD_SECONDS / 2
    assert np.diff(arrivals).max() < 1.5
    graph.diagnosis(lambda status: value(status, 'weights') == 'paper-nyu')
    graph.got['depth/image'].clear()
    assert graph.spin(5, lambda: len(graph.got['depth/image']) > 1)
    np.testing.assert_allclose(image_to_depth(graph.got['depth/image'][-1]),
                               2 * scene_depth(WIDTH, HEIGHT), rtol=1e-6)
    assert 'no image on' not in graph.log.read_text()


@LOADS
def test_weights_that_cannot_be_loaded_leave_the_old_ones(graph):
    """Accepted, since the name may be right: the log, /diagnostics and the parameter tell."""
    graph.listen(Image, 'depth/image')
    graph.ready()
    assert graph.set_parameter('weights', 'glpn-nyu').successful
    graph.node.create_timer(
        0.2, lambda: graph.image.publish(rgb_to_image(CHART, graph.header())))
    said = 'weights glpn-nyu could not be loaded: glpn-nyu: the hub does not answer. lite-nyu goes'
    status = graph.diagnosis(lambda status: said in status.message)['depth']
    assert status.level == DiagnosticStatus.WARN
    assert value(status, 'weights') == 'lite-nyu'
    assert graph.log.read_text().count(said) == 1
    assert weights_parameter(graph) == 'lite-nyu'
    np.testing.assert_array_equal(image_to_depth(graph.got['depth/image'][-1]),
                                  scene_depth(WIDTH, HEIGHT))
    assert graph.set_parameter('weights', 'lite-nyu').successful


@LOADS
def test_what_cannot_be_right_is_refused_at_once(graph):
    for name, wrong, said in (
            ('weights', 'nowhere.safetensors', 'nowhere.safetensors: no such file'),
            ('weights', 'hf:nobody', 'it is written hf:ORG/NAME'), ('weights', '', 'have no name'),
            ('device', 'cuda:77', "device 'cuda:77' is not there"),
            ('device', 'gpu', "device 'gpu'")):
        refused = graph.set_parameter(name, wrong)
        assert not refused.successful
        assert said in refused.reason
    assert not value(graph.diagnosis()['depth'], 'loading')


class Loads:
    """A load that waits until it is told to end; notes what came of each."""

    def __init__(self):
        self.started, self.done, self.go_on = [], [], threading.Semaphore(0)
        self.loader = NetworkLoader(
            self.load, lambda settings, network: self.done.append(network),
            lambda settings, reason: self.done.append(f'{settings.weights}: {reason}'))

    def load(self, settings):
        self.started.append(settings.weights)
        assert self.go_on.acquire(timeout=20)
        if settings.weights == 'bad':
            raise ValueError('no network')
        return settings.weights.upper()

    def request(self, name):
        self.loader.request(DepthSettings(weights=name))

    def finish(self, count):
        self.go_on.release(count)
        end = time.monotonic() + 20
        while self.loader.weights:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_the_newest_request_wins():
    loads = Loads()
    for name in ('a', 'b', 'c'):
        loads.request(name)
        while not loads.started:
            time.sleep(0.01)
    assert loads.loader.weights == 'c'
    loads.finish(2)
    assert (loads.started, loads.done) == (['a', 'c'], ['C'])
    loads.request('bad')
    loads.finish(1)
    assert loads.done == ['C', 'bad: no network']


def test_what_is_cancelled_is_thrown_away():
    loads = Loads()
    loads.request('a')
    loads.loader.cancel()
    assert not loads.loader.weights
    loads.request('b')
    loads.finish(2)
    assert loads.done == ['B']
