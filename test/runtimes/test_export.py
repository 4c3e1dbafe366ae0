"""Exported graphs: made once, checked, written whole."""

import zipfile

import numpy as np
import pytest

from hybrid_depth_ros.files import file_digest, write_bytes_atomically
from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.models.hybrid import INT8_SUFFIX
from hybrid_depth_ros.runtimes import export, openvino, selection
from hybrid_depth_ros.runtimes.export import pack_graph, read_graph
from hybrid_depth_ros.weights import DATA

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)


def load_runtime(weights='lite-nyu', *args, **options):
    return selection.load_runtime(open_model(weights), *args, **options)


def test_an_export_is_made_once(weights, cache, monkeypatch):
    first, _ = load_runtime(str(weights), 'openvino', 'fp32')
    kept = list((cache / 'graphs').iterdir())
    assert [file.suffix for file in kept] == ['.zip']
    monkeypatch.setattr(export, 'export_openvino', lambda *_: pytest.fail('exported again'))
    second, _ = load_runtime(str(weights), 'openvino', 'fp32')
    a, b = first(PIXELS), second(PIXELS)
    np.testing.assert_array_equal(a, b)
    assert a.shape == (1, 32, 48)
    assert a.dtype == np.float32
    first(255 - PIXELS)
    np.testing.assert_array_equal(a, b)  # what was returned is the caller's


def test_a_damaged_export_is_named(weights, cache):
    load_runtime(str(weights), 'openvino', 'fp32')
    file, = (cache / 'graphs').iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf'{file}.*not a whole graph.*delete it'):
        load_runtime(str(weights), 'openvino', 'fp32')


def test_a_graph_of_other_weights_is_refused(weights, cache):
    graph = weights.with_name(weights.stem + INT8_SUFFIX)
    graph.write_bytes((DATA / 'lite-nyu-int8.zip').read_bytes())
    with pytest.raises(ValueError, match='made from other weights'):
        load_runtime(str(weights), 'openvino', 'int8')


def test_a_graph_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(export, 'MAX_UNPACKED_BYTES', 1 << 20)
    path = tmp_path / 'bomb.zip'
    path.write_bytes(pack_graph(b'', bytes(2 << 20), 'digest'))
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match='unpacks to more'):
        read_graph(path, 'digest')


def test_the_shipped_graph_is_of_the_shipped_weights():
    path = DATA / 'lite-nyu-int8.zip'
    assert path.stat().st_size < 10e6
    with zipfile.ZipFile(path) as archive:
        assert archive.read('weights.sha256').decode() == file_digest(
            DATA / 'lite-nyu.safetensors')


def test_no_half_file_is_left(tmp_path):
    path = tmp_path / 'file'
    write_bytes_atomically(path, b'old')
    with pytest.raises(TypeError):
        write_bytes_atomically(path, 'not bytes')
    assert [p.name for p in tmp_path.iterdir()] == ['file']
    assert path.read_bytes() == b'old'


def test_each_of_two_things_that_meet_has_its_own_scale_in_int8():
    """What is concatenated shares one. The decoder's numbers were 0 to 5 where the encoder's beside
    them were -43 to 38, so that they had fifteen levels."""
    graph = openvino.core().read_model(*read_graph(
        DATA / 'lite-nyu-int8.zip', file_digest(DATA / 'lite-nyu.safetensors')))
    after_relu = 0
    for operation in graph.get_ordered_ops():
        if operation.get_type_name() != 'FakeQuantize':
            continue
        source, low = (operation.input_value(i).get_node() for i in (0, 1))
        if source.get_type_name() in ('Relu', 'Clamp'):
            while low.get_type_name() != 'Constant':
                low = low.input_value(0).get_node()
            after_relu += 1
            assert low.get_data().min() > -0.01, operation.get_friendly_name()
    assert after_relu > 30
