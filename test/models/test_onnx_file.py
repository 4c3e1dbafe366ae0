"""An ONNX file as weights: what is guessed, what is asked for, what is refused."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip('onnx')

from onnx import TensorProto, helper, numpy_helper

from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.runtimes.selection import load_runtime

FLOAT = TensorProto.FLOAT
RED = np.zeros((640, 480, 3), np.uint8).transpose(1, 0, 2).copy()
RED[..., 0] = np.linspace(10, 250, 640).astype(np.uint8)


def network(path, shape=(1, 3, 'h', 'w'), kind=FLOAT, output='depth', nodes=None, initializers=(),
            opsets=None, outputs=()):
    """A graph whose depth is its input's first channel."""
    channels_last = shape[-1] == 3
    if nodes is None:
        axis = 3 if channels_last else 1
        cast = [helper.make_node('Cast', ['pixels'], ['floats'], to=FLOAT)]
        nodes = [*cast, helper.make_node('Gather', ['floats', 'zero'], [output], axis=axis)]
        initializers = [numpy_helper.from_array(np.int64(0), 'zero'), *initializers]
    graph = helper.make_graph(
        nodes, 'depth', [helper.make_tensor_value_info('pixels', kind, shape)],
        [helper.make_tensor_value_info(output, FLOAT, None), *outputs], list(initializers))
    model = helper.make_model(graph, opset_imports=opsets or [helper.make_opsetid('', 17)],
                              ir_version=8)
    onnx.save(model, str(path))
    return path


def told(path, text):
    path.with_suffix('.yaml').write_text(text)
    return str(path)


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize(('options', 'text', 'scale', 'shift'), [
    ({'shape': (1, 3, 96, 128)}, 'output: metric\nwhite: 1', 1, 0),
    ({'shape': (1, 3, 96, 128)}, 'output: metric\nwhite: 255', 255, 0),
    ({'shape': (1, 3, 96, 128)}, 'output: metric', 1 / 0.229, -0.485 / 0.229),
    ({'shape': (1, 96, 128, 3), 'kind': TensorProto.UINT8}, 'output: metric', 255, 0),
    ({'shape': ('n', 'c', 'h', 'w')},
     'output: metric\nwhite: 1\nlayout: NCHW\nsize: {shorter_side: 98, multiple_of: 14}', 1, 0)])
def test_pixels_are_what_the_file_says(runtime, options, text, scale, shift, tmp_path):
    name = told(network(tmp_path / 'red.onnx', **options), text)
    predictor = DepthPredictor(name, 'cpu', 'fp32', runtime=runtime, sharpen=False)
    depth = predictor(RED)
    assert depth.shape == (480, 640) and depth.dtype == np.float32
    wanted = RED[..., 0] / 255 * scale + shift
    away = np.abs(depth - wanted)[5:-5, 5:-5]
    assert np.nanmax(away) < 0.02 * scale
    assert np.isnan(away[wanted[5:-5, 5:-5] < -0.02 * scale]).all()  # metres are above 0
    assert not np.isnan(away[wanted[5:-5, 5:-5] > 0.02 * scale]).any()
    both = predictor([RED, RED[:, ::-1].copy()])
    np.testing.assert_allclose(both[0], depth, rtol=1e-5)


def test_channels_and_camera(tmp_path):
    path = network(tmp_path / 'blue.onnx', shape=(1, 3, 96, 128))
    name = told(path, 'output: metric\nwhite: 1\nchannels: BGR\ncamera: [500, 640, 480]')
    assert np.isnan(DepthPredictor(name, 'cpu', runtime='onnxruntime')(RED)).all()  # no blue
    name = told(path, 'output: metric\nwhite: 1\ncamera: [500, 640, 480]')
    predictor = DepthPredictor(name, 'cpu', runtime='onnxruntime', sharpen=False)
    np.testing.assert_allclose(predictor(RED, fx=1000.0), 2 * predictor(RED), rtol=1e-4)
    np.testing.assert_allclose(predictor(RED, fx=500.0), predictor(RED), rtol=1e-4)


def test_metres_scale_with_camera_infos_focal_length(tmp_path):
    """What learnt metres through one camera gives those of the robot's, in the node too."""
    rclpy = pytest.importorskip('rclpy')
    from std_msgs.msg import Header

    from hybrid_depth_ros.geometry import Intrinsics
    from hybrid_depth_ros.nodes.depth.node import DepthNode
    from hybrid_depth_ros.nodes.depth.running_network import RunningNetwork
    from hybrid_depth_ros.nodes.shared.messages import camera_info_message, rgb_to_image
    name = told(network(tmp_path / 'red.onnx', shape=(1, 3, 96, 128)),
                'output: metric\nwhite: 1\ncamera: [500, 640, 480]')
    predictor = DepthPredictor(name, 'cpu', runtime='onnxruntime', sharpen=False)
    context, got = rclpy.Context(), []
    rclpy.init(context=context, args=['--ros-args', '-p', 'autostart:=false'])
    node = DepthNode(context=context)
    try:
        camera, = node._cameras
        node._network = RunningNetwork(predictor, node._settings.network)
        node._sent, node._sender = None, NoThread()
        for second, fx in enumerate((500.0, 250.0, 1000.0), 1):
            header = Header(frame_id='camera')
            header.stamp.sec = second
            camera.request_snapshot(lambda snapshot: got.append(snapshot.depth))
            camera._take_camera_info(camera_info_message(
                Intrinsics(640, 480, fx, fx, 319.5, 239.5), header))
            camera._take_image(rgb_to_image(RED, header))
            node._process([(camera, camera.next_frame(node._settings))],
                          replace(node._settings, sharpen=False))
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    plain = predictor(RED)
    for depth, times in zip(got, (1, 0.5, 2), strict=True):
        np.testing.assert_allclose(depth, times * plain, rtol=1e-4)


class NoThread:
    """Stands in for the thread that sends clouds."""

    def submit(self, send, *arguments):
        send(*arguments)


def test_guesses_are_said(tmp_path):
    model = open_model(str(network(tmp_path / 'm.onnx', shape=(1, 3, 96, 128),
                                   output='inverse_depth')))
    assert model.relative
    assert 'ImageNet' in model.notes[0] and 'relative' in model.notes[1]
    with pytest.raises(ValueError, match=r'no metres.*give it anchors'):
        DepthPredictor(str(tmp_path / 'm.onnx'))


def test_what_cannot_be_guessed_is_asked_for_in_one_sentence(tmp_path):
    path = network(tmp_path / 'm.onnx')
    with pytest.raises(ValueError) as said:
        open_model(str(path))
    text = str(said.value)
    assert 'the size of the image and whether it gives metres' in text
    assert "'size: {shorter_side: 518, multiple_of: 14}'" in text and 'm.yaml' in text
    assert '\n' not in text


@pytest.mark.parametrize(('text', 'named'), [
    ('output: depth', 'output is depth'), ('size: [0, 5]', 'size'), ('size: 1000000', 'size'),
    ('size: [100000, 100000]', 'size'), ('std: [0, 1, 1]', 'std'), ('mean: [a, b, c]', 'mean'),
    ('mean: [.nan, 0, 0]', 'mean'), ('layout: HWC', 'layout'), ('colour: RGB', 'has colour'),
    ('- 3', 'must hold lines'), ('a: [', 'no YAML'), ('!!python/object:os.system {}', 'no YAML'),
    ('output_name: other', 'output_name is other'), ('camera: [1, 2]', 'camera')])
def test_lines_that_will_not_do_are_named(text, named, tmp_path):
    name = told(network(tmp_path / 'm.onnx', shape=(1, 3, 96, 128)), text)
    with pytest.raises(ValueError, match=named) as said:
        open_model(name)
    assert '\n' not in str(said.value)


def hostile(name, folder):
    """A file that must be refused."""
    path = folder / 'bad.onnx'
    if name == 'custom operator':
        return network(path, (1, 3, 96, 128), nodes=[
            helper.make_node('Run', ['pixels'], ['depth'], domain='evil')],
            opsets=[helper.make_opsetid('', 17), helper.make_opsetid('evil', 1)])
    if name == 'operator inside a branch':
        inner = helper.make_graph([helper.make_node('Run', [], ['x'], domain='evil')], 'then', [],
                                  [helper.make_tensor_value_info('x', FLOAT, None)])
        return network(path, (1, 3, 96, 128), nodes=[
            helper.make_node('If', ['condition'], ['depth'], then_branch=inner,
                             else_branch=inner)],
            initializers=[numpy_helper.from_array(np.bool_(True), 'condition')])
    if name.startswith('data'):
        where = {'data outside': '../secret', 'data at the root': '/etc/passwd',
                 'data by a link': 'link', 'data that is missing': 'none',
                 'data beyond its end': 'short'}[name]
        (folder.parent / 'secret').write_bytes(bytes(64))
        (folder / 'short').write_bytes(bytes(8))
        if not (folder / 'link').is_symlink():
            os.symlink('/etc/passwd', folder / 'link')
        tensor = TensorProto(name='w', dims=[4], data_type=FLOAT,
                             data_location=TensorProto.EXTERNAL)
        for key, value in (('location', where), ('offset', '0'), ('length', '16')):
            tensor.external_data.add(key=key, value=value)
        return network(path, (1, 3, 96, 128), initializers=[tensor])
    if name == 'ten gigabytes of weights':
        tensor = TensorProto(name='w', dims=[50_000, 50_000], data_type=FLOAT)
        return network(path, (1, 3, 96, 128), initializers=[tensor])
    if name == 'ten gigabytes on the way':
        return network(path, (1, 3, 96, 128), nodes=[
            helper.make_node('ConstantOfShape', ['shape'], ['depth'])],
            initializers=[numpy_helper.from_array(np.int64([50_000, 50_000]), 'shape')])
    if name == 'ten gigabytes of picture':
        return network(path, (1, 3, 50_000, 50_000))
    if name == 'two inputs':
        path = network(path, (1, 3, 96, 128))
        model = onnx.load(str(path))
        model.graph.input.add().CopyFrom(helper.make_tensor_value_info('k', FLOAT, [3, 3]))
        onnx.save(model, str(path))
        return path
    path.write_bytes({'empty': b'', 'text': b'<html>not found</html>', 'noise': os.urandom(4096),
                      'a pickle': b'\x80\x04\x95\x0e\x00cos\nsystem\n.'}[name])
    return path


@pytest.mark.parametrize(('name', 'said'), [
    ('custom operator', 'evil::Run'), ('operator inside a branch', 'evil::Run'),
    ('data outside', 'outside its folder'), ('data at the root', 'outside its folder'),
    ('data by a link', 'outside its folder'), ('data that is missing', 'missing'),
    ('data beyond its end', 'end at byte 16'), ('ten gigabytes of weights', 'claims'),
    ('ten gigabytes on the way', 'would take'), ('ten gigabytes of picture', r'would take|50000'),
    ('two inputs', 'takes 2 inputs'), ('empty', 'not a whole'), ('text', 'not a whole'),
    ('noise', 'not a whole'), ('a pickle', 'not a whole')])
def test_hostile_files_are_one_sentence(name, said, tmp_path):
    folder = tmp_path / 'models'
    folder.mkdir()
    path = told(hostile(name, folder), 'output: metric')
    start = time.monotonic()
    with pytest.raises(ValueError, match=said) as raised:
        open_model(path)
    assert '\n' not in str(raised.value) and len(str(raised.value)) < 600
    assert time.monotonic() - start < 5


def test_data_beside_the_file_is_read(tmp_path):
    weight = np.float32([2.5]).reshape(1, 1, 1)
    path = network(tmp_path / 'm.onnx', (1, 3, 96, 128), nodes=[
        helper.make_node('ReduceMean', ['pixels'], ['mean'], axes=[1], keepdims=0),
        helper.make_node('Mul', ['mean', 'w'], ['depth'])],
        initializers=[numpy_helper.from_array(np.tile(weight, (1, 96, 128)), 'w')])
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location='m.data', size_threshold=16)
    assert (tmp_path / 'm.data').stat().st_size
    name = told(path, 'output: metric\nwhite: 1')
    for runtime in ('onnxruntime', 'openvino'):
        depth = DepthPredictor(name, 'cpu', runtime=runtime)(np.full((96, 128, 3), 255, np.uint8))
        assert np.allclose(depth, 2.5, atol=1e-3)


def test_torch_is_not_asked_and_the_trial_chooses(tmp_path):
    name = told(network(tmp_path / 'm.onnx', shape=(1, 3, 96, 128)), 'output: metric')
    with pytest.raises(ValueError, match='does not run in torch'):
        load_runtime(open_model(name), 'torch', device='cpu')
    runtime, why = load_runtime(open_model(name), device='cpu', precision='fp32')
    assert runtime.name in ('openvino', 'onnxruntime') and ' ms' in why


@pytest.mark.parametrize(('white', 'part'), [(1, 'also'), (10**6, 'only')])
def test_what_is_no_distance_is_unknown_and_said_once(white, part, tmp_path):
    """Zeros and negative numbers came out as depth: points at the camera and behind it."""
    name = told(network(tmp_path / 'm.onnx', shape=(1, 3, 96, 128)),
                f'output: metric\nmean: [{0.5 if white == 1 else 2}, 0, 0]\nstd: [1, 1, 1]')
    said = []
    predictor = DepthPredictor(name, 'cpu', runtime='onnxruntime', warn=said.append)
    for _ in range(2):
        depth = predictor(RED)
    assert np.isnan(depth[:, 0]).all()
    assert np.isnan(depth[:, -1]).all() == (part == 'only')
    assert not (depth <= 0).any()
    assert len(said) == 1
    assert f'gives {part} 0, negative numbers, NaN or infinity' in said[0]
    with pytest.warns(RuntimeWarning, match='no distances'):
        DepthPredictor(name, 'cpu', runtime='onnxruntime')(RED)


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_a_size_that_is_fixed_inside_is_named(runtime, tmp_path):
    """It was said in the library's words: input shapes that can't be reshaped."""
    nodes = [helper.make_node('Gather', ['pixels', 'zero'], ['red'], axis=1),
             helper.make_node('Reshape', ['red', 'shape'], ['depth'])]
    path = network(tmp_path / 'm.onnx', shape=(1, 3, 'h', 'w'), nodes=nodes, initializers=[
        numpy_helper.from_array(np.int64(0), 'zero'),
        numpy_helper.from_array(np.array([1, 112, 112]), 'shape')])
    name = told(path, 'output: metric\nsize: {shorter_side: 56, multiple_of: 14}')
    predictor = DepthPredictor(name, 'cpu', runtime=runtime)
    with pytest.raises(ValueError, match=r'cannot run at 70×56 pixels .*m\.yaml'):
        predictor(RED)


def test_a_file_of_a_newer_form_than_the_runtime_reads(tmp_path):
    path = network(tmp_path / 'm.onnx', shape=(1, 3, 96, 128))
    model = onnx.load(path)
    model.ir_version = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match='newer form than the runtime here reads'):
        DepthPredictor(told(path, 'output: metric'), 'cpu', runtime='onnxruntime')(RED)
