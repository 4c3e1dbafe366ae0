"""The demo as a user runs it: what it leaves on disk, and that it leaves nothing running."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

ROOT = Path(__file__).resolve().parent.parent
DEMO = [sys.executable, '-m', 'hybrid_depth_ros.demo']
TOPICS = {'/image_raw', '/camera_info', '/depth_ground_truth', '/depth/image',
          '/depth/camera_info', '/depth/points'}


def children(process):
    """Processes of the group that the demo leads."""
    found = []
    for pid in (int(name) for name in os.listdir('/proc') if name.isdigit()):
        try:
            if os.getpgid(pid) == process.pid != pid:
                found.append(pid)
        except ProcessLookupError:
            pass
    return found


@pytest.fixture
def start(known_runtime):
    """A function that starts the demo, which leads a group of processes."""
    started = []

    def run(out, *arguments):
        started.append(subprocess.Popen(
            [*DEMO, '--out', str(out), *arguments], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True))
        return started[-1]
    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


STAGES = {
    'nodes start': lambda process, out: len(children(process)) >= 2,
    'frames come': lambda process, out: any(
        file.stat().st_size > 10_000 for file in out.rglob('*.mcap'))}


def test_what_the_demo_leaves(start, tmp_path):
    process = start(tmp_path, '--seconds', '3')
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    assert 'latency median' in printed
    assert "Against the virtual room's true depth: RMSE" in printed
    assert not children(process)
    picture = cv2.imread(str(tmp_path / 'picture.png'))
    assert picture.shape[0] == 480
    assert picture.shape[1] > 3 * 640  # camera, depth, true depth, scale
    ply = (tmp_path / 'cloud.ply').read_bytes()
    assert ply.startswith(b'ply\nformat binary_little_endian')
    assert len(ply) > 15 * 250_000  # the edge filter drops some
    with AnyReader([tmp_path / 'recording']) as reader:
        counts = {}
        for connection, _, raw in reader.messages():
            reader.deserialize(raw, connection.msgtype)
            counts[connection.topic] = counts.get(connection.topic, 0) + 1
    assert set(counts) == TOPICS
    assert max(counts.values()) - min(counts.values()) <= 1  # the first frame may lack a message
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['frames'] > 3
    # the default weights see the room
    assert summary['metrics']['rel'] < 0.35


def test_uncertainty_is_shown_and_not_recorded():
    """A recording with it would hold two depth topics beside the truth."""
    pytest.importorskip('rclpy')
    from rclpy.serialization import serialize_message
    from std_msgs.msg import Header

    from hybrid_depth_ros import demo
    from hybrid_depth_ros.nodes.shared.messages import depth_to_image, rgb_to_image
    depth = np.full((48, 64), 2.0, np.float32)
    frame = {'/image_raw': rgb_to_image(np.zeros((48, 64, 3), np.uint8), Header()),
             **{topic: depth_to_image(metres, Header(), '32FC1') for topic, metres in (
                 ('/depth/image', depth), ('/depth/uncertainty', depth / 4))}}
    written, recorder = [], demo.Recorder.__new__(demo.Recorder)
    recorder._bag = SimpleNamespace(write=lambda topic, *_: written.append(topic))
    recorder._connections = {topic: topic for topic in TOPICS}
    recorder._alone, recorder._last_recorded, recorder.recorded = '', None, 0
    recorder.errors = recorder.alone_errors = None
    recorder.get_clock = lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0))
    recorder._keep({topic: serialize_message(message) for topic, message in frame.items()})
    assert written == ['/image_raw', '/depth/image']
    saved = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, 'save_image', saved.__setitem__)
        recorder.save_shown(Path())
    assert saved[Path('picture.png')].shape[1] > 3 * 64  # camera, depth, uncertainty, scale


def test_a_folder_of_images(start, tmp_path):
    (tmp_path / 'mine').mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / 'mine' / f'{i}.png'), np.full((240, 320, 3), 40 * i, np.uint8))
    process = start(tmp_path / 'out', '--seconds', '1', '--source', str(tmp_path / 'mine'))
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    assert 'true depth' not in printed
    assert (tmp_path / 'out' / 'picture.png').is_file()


@pytest.mark.parametrize('stage', STAGES)
@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_nothing_running(start, tmp_path, stage, stop):
    process, deadline = start(tmp_path, '--seconds', '60'), time.monotonic() + 150
    while not STAGES[stage](process, tmp_path):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    nodes = children(process)
    assert len(nodes) >= 2
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # a terminal's Ctrl-C reaches the nodes too
    else:
        process.send_signal(stop)
    printed = process.communicate(timeout=60)[0]
    assert 'Traceback' not in printed
    assert not children(process)
    for node in nodes:
        with pytest.raises(ProcessLookupError):
            os.kill(node, 0)


def test_a_source_that_is_not_there(start, tmp_path):
    process = start(tmp_path, '--source', 'nowhere.mp4')
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert 'nowhere.mp4: no such device, file or folder' in printed
    assert 'Traceback' not in printed
    printed = start(tmp_path, '--source', '57').communicate(timeout=60)[0]
    assert 'camera device 57 is not there' in printed


def test_the_demo_with_a_lidar_shows_both(start, tmp_path):
    process = start(tmp_path, '--seconds', '4', '--anchors', 'scan')
    printed = process.communicate(timeout=150)[0]
    assert process.returncode == 0, printed
    assert 'Traceback' not in printed
    assert "Without anchors, against the virtual room's true depth: RMSE" in printed
    assert "\nAgainst the virtual room's true depth: RMSE" in printed
    assert cv2.imread(str(tmp_path / 'picture.png')).shape[1] > 4 * 640
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['metrics']['rel'] < summary['metrics_without_anchors']['rel'] + 0.02
    with AnyReader([tmp_path / 'recording']) as reader:
        assert {*TOPICS, '/scan', '/tf_static', '/alone/depth/image'} == {
            connection.topic for connection in reader.connections}
    process = start(tmp_path, '--source', 'clip.mp4', '--anchors', 'scan')
    assert 'only there are these sensors' in process.communicate(timeout=60)[0]


def test_a_network_without_metres_gets_them_from_the_lidar(tmp_path, monkeypatch, capsys):
    pytest.importorskip('rclpy')
    onnx = pytest.importorskip('onnx')
    from hybrid_depth_ros import demo
    folder = tmp_path / 'a network'
    folder.mkdir()
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(
        [onnx.helper.make_node('ReduceMax', ['pixels'], ['depth'], axes=[1])], 'm',
        [onnx.helper.make_tensor_value_info('pixels', 1, (1, 3, 96, 128))],
        [onnx.helper.make_tensor_value_info('depth', 1, None)]),
        opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8), folder / 'm.onnx')
    (folder / 'm.yaml').write_text('output: relative')
    alone = []
    monkeypatch.setattr(demo, 'run', lambda *_, **options: alone.append(options['alone']))
    common = ['--out', str(tmp_path / 'out')]
    demo.main([*common, '--anchors', 'scan'])
    demo.main([*common, '--anchors', 'scan', '--weights', str(folder / 'm.onnx')])
    assert alone == [True, False]
    with pytest.raises(SystemExit) as ended:
        demo.main([*common, '--weights', str(folder / 'm.onnx')])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert 'gives no metres' in said and 'make demo ANCHORS=scan' in said
    with pytest.raises(SystemExit):
        demo.main([*common, '--source', str(tmp_path), '--weights', str(folder / 'm.onnx')])
    said = capsys.readouterr().err
    assert 'pass --weights that give metres' in said and 'ANCHORS=scan' not in said
