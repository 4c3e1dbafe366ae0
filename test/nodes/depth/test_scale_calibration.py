"""The tape measure: its services, what depth becomes of it, now and at the next start."""

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
from graph import CAMERA, CHART, value
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from stub_depth_node import HEIGHT, WIDTH, scene_depth

from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.nodes.depth.scale_calibration import (
    FRAMES,
    ScaleCalibration,
    parse_pixel,
)
from hybrid_depth_ros.nodes.depth.settings import DepthSettings
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, rgb_to_image

# of the process that pytest's tmp_path comes too late for
SCALE_FILE = Path(tempfile.gettempdir()) / f'depth_scale_{os.getpid()}.yaml'


class StubNode:
    """A node as far as the calibration asks for one."""

    def __init__(self):
        self.services, self.timer, self.log = {}, None, []

    def create_service(self, kind, name, answer, callback_group):
        assert kind is Trigger
        self.services[name] = answer

    def create_timer(self, period, callback, clock):
        self.timer = callback

    def destroy_timer(self, timer):
        self.timer = None

    def get_logger(self):
        return SimpleNamespace(warning=self.log.append, info=self.log.append)


class Tape:
    """A calibration in a file, whose service is driven by hand."""

    def __init__(self, path, name='', **settings):
        self.node, self.settings = StubNode(), DepthSettings(**settings)
        self.wanted = []
        self.calibration = ScaleCalibration(
            self.node, name, '/image', path, lambda: self.settings,
            lambda: self.wanted.append(self.calibration.waiting))

    def see(self, metres, weights='lite-nyu'):
        return self.calibration.apply(
            np.full((HEIGHT, WIDTH), metres, np.float32), weights, CAMERA)

    def call(self, frames=FRAMES, metres=2.0):
        answer = self.calibration._calibrate(None, Trigger.Response())
        try:
            answer.send(None)
            for _ in range(frames):
                self.see(metres)
            if frames < FRAMES:
                self.node.timer()
            answer.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError('the service still waits')


def test_a_distance_is_kept_for_the_next_start(tmp_path):
    path = tmp_path / 'depth_scale.yaml'
    tape = Tape(path, measured_distance=1.5)
    assert tape.see(2.0) == 1 and tape.calibration.values() == {}
    answer = tape.call()
    assert answer.success, answer.message
    assert 'multiplied by 0.7498' in answer.message and str(path) in answer.message
    assert tape.wanted == [True, False]
    assert tape.see(2.0) == pytest.approx(0.75, abs=1e-3)
    again = Tape(path)
    assert again.see(2.0) == pytest.approx(0.75, abs=1e-3)
    assert again.see(2.0, 'paper-nyu') == 1  # its depth is off by another factor
    assert again.see(2.0) == pytest.approx(0.75, abs=1e-3)
    assert again.calibration.values() == {'scale factor': '0.7498', 'scale file': str(path)}
    reset = again.calibration._reset(None, Trigger.Response())
    assert reset.success and again.see(2.0) == 1 == Tape(path).see(2.0)


def test_what_can_t_be_measured_is_said_in_a_sentence(tmp_path):
    path = tmp_path / 'depth_scale.yaml'
    for settings, frames, said in (
            ({}, FRAMES, 'set measured_distance'),
            ({'measured_distance': 1.5, 'measured_pixel': 'here'}, FRAMES, "as it must|'320 240'"),
            ({'measured_distance': 1.5, 'measured_pixel': '900 3'}, FRAMES, 'not in the image'),
            ({'measured_distance': 1.5, 'anchors': ('scan',)}, FRAMES, 'start without them'),
            ({'measured_distance': 99.0}, FRAMES, 'no scale'),
            ({'measured_distance': 1.5}, 2, '2 of 5 images came on /image')):
        answer = Tape(path, **settings).call(frames)
        assert not answer.success and '\n' not in answer.message
        assert any(part in answer.message for part in said.split('|')), answer.message
    assert not path.exists()
    busy = Tape(path, measured_distance=1.5)
    first = busy.calibration._calibrate(None, Trigger.Response())
    first.send(None)
    assert 'being measured already' in busy.call(0).message
    first.close()
    path.write_text('{')
    broken = Tape(path, measured_distance=1.5)
    assert broken.see(2.0) == 1
    assert 'no scale factor is used' in broken.calibration.problem == broken.node.log[0]
    assert 'delete it and calibrate again' in broken.call().message
    assert path.read_text() == '{'
    assert 'delete it' in broken.calibration._reset(None, Trigger.Response()).message


def test_pixels_are_read_as_people_write_them():
    assert parse_pixel(' ') is None
    assert parse_pixel('320 240') == parse_pixel('320, 240.0') == (320, 240)
    assert set(Tape(None, 'left').node.services) == {
        '~/left/calibrate_scale', '~/left/reset_scale'}


@pytest.mark.parametrize('graph', [{'scale': 2.0, 'arguments': (
    '-p', 'measured_pixel:="20 20"', '-p', f'scale_file:={SCALE_FILE}')}], indirect=True)
def test_the_service_over_dds(graph):
    """Nobody listens: the node looks at images for the tape's sake alone."""
    true = scene_depth(WIDTH, HEIGHT)
    distance = float(true[20, 20]) * np.hypot(
        1, np.hypot((20 - CAMERA.cx) / CAMERA.fx, (20 - CAMERA.cy) / CAMERA.fy))
    assert graph.set_parameter('measured_distance', distance).successful

    def send():
        message = rgb_to_image(CHART, graph.header())
        graph.info.publish(camera_info_message(CAMERA, message.header))
        graph.image.publish(message)
    timer = graph.node.create_timer(0.1, send)
    answer = graph.call(Trigger, 'calibrate_scale', Trigger.Request())
    assert answer.success, answer.message
    graph.node.destroy_timer(timer)
    graph.listen(Image, 'depth/image')
    graph.ready()
    depth = image_to_depth(graph.answer('depth/image', rgb_to_image(CHART, graph.header())))
    np.testing.assert_allclose(depth, true, rtol=0.01)
    status = graph.diagnosis(lambda status: value(status, 'scale factor'))['depth']
    assert float(value(status, 'scale factor')) == pytest.approx(0.5, rel=0.01)
    assert value(status, 'scale file') == str(SCALE_FILE) and SCALE_FILE.exists()
    assert graph.call(Trigger, 'reset_scale', Trigger.Request()).success
    SCALE_FILE.unlink()
