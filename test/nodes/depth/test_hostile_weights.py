"""Weights files made by those who mean harm, given to a running node."""

import http.client
import http.server
import json
import os
import re
import struct
import threading
import time
import urllib.request
import zipfile
from dataclasses import replace

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('hypothesis')
import torch
from hostile import PATIENCE, Victim, held_megabytes
from rclpy.parameter import Parameter

from hybrid_depth_ros.network import HybridDepthNet


@pytest.fixture(scope='module')
def victim():
    victim = Victim('raw')
    yield victim
    victim.close()


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, 'w')


def safetensors_file(header, data=b''):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(header)) + header + data


def hostile_weights(folder):
    """Writes files; yields (path, what is said about it)."""
    state = HybridDepthNet('tiny').eval().state_dict()

    def saved(name, content):
        torch.save(content, folder / name)
        return folder / name
    whole = saved('whole.pth', state).read_bytes()
    (folder / 'cut.pth').write_bytes(whole[:len(whole) // 2])
    yield folder / 'cut.pth', 'cut short'
    yield saved('other.pth', {f'features.{i}.weight': torch.zeros(3) for i in range(9)}), \
        'no tensor is of a network'
    yield saved('nan.pth', {**state, 'head.bias': torch.tensor([np.nan])}), 'NaN or infinite'
    yield saved('code.pth', {'head.bias': Code(str(folder / 'ran'))}), 'asks to run'
    yield saved('training.pth', {'network': state, 'step': 3}), 'not a state dict'
    # a view of four bytes that says it is 40 GB, and as many views as make 40 GB
    yield saved('view.pth', {**state, 'head.bias': torch.zeros(1).expand(10_000_000_000)}), \
        'numbers, more than'
    million = torch.zeros(1_000_000)
    yield saved('views.pth', {**state, **{f'x{i}': million for i in range(10_000)}}), \
        'numbers, more than'
    with zipfile.ZipFile(folder / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED,
                         compresslevel=1) as archive, \
            zipfile.ZipFile(folder / 'whole.pth') as innocent:
        for entry in innocent.namelist():
            if not entry.endswith('/data/0'):
                archive.writestr(entry, innocent.read(entry))
        with archive.open(entry.split('/')[0] + '/data/0', 'w') as bomb:
            for _ in range(300):
                bomb.write(bytes(1_000_000))
    yield folder / 'bomb.pth', 'compressed archive of 3.. MB'

    def shaped(shape, ends, **others):
        return {'head.bias': {'dtype': 'F32', 'shape': shape, 'data_offsets': ends}, **others}
    import safetensors.torch
    fits = safetensors.torch.save(state, {'encoder': 'resnet50', 'lateral': 'true'})
    for name, content, said in (
        ('long', struct.pack('<Q', 2**62) + b'{}', 'not a whole'),
        ('longer', struct.pack('<Q', 99_000_000) + b'{}', 'not a whole'),
        ('huge', safetensors_file(shaped([2**40, 2**40], [0, 4]), bytes(4)), 'not a whole'),
        ('beyond', safetensors_file(shaped([10**9], [0, 4 * 10**9]), bytes(4)), 'not a whole'),
        ('overlap', safetensors_file(shaped([1], [0, 4], other={
            'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}), bytes(4)), 'not a whole'),
        ('deep', safetensors_file(b'[' * 100_000), 'not a whole'),
        ('encoder', fits, 'resnet50'),
        ('page', b'<html>', 'web page'), ('empty', b'', 'is empty'),
    ):
        (folder / f'{name}.safetensors').write_bytes(content)
        yield folder / f'{name}.safetensors', said
    (folder / 'folder.pth').mkdir()
    yield folder / 'folder.pth', 'is a folder'
    yield folder, 'is a folder'
    os.mkfifo(folder / 'pipe.pth')
    yield folder / 'pipe.pth', 'no ordinary file'
    (folder / 'loop.pth').symlink_to(folder / 'loop.pth')
    yield folder / 'loop.pth', 'loop.pth'
    yield folder / ('long' * 100 + '.pth'), 'too long'
    if os.geteuid():  # root may read everything
        (folder / 'whole.pth').chmod(0)
        yield folder / 'whole.pth', 'Permission denied'


def test_a_running_node_refuses_weights_and_keeps_its_own(victim, tiny, tmp_path):
    network, weights = victim.node._network, victim.node.get_parameter('weights').value
    growth: list[float] = []
    made = list(hostile_weights(tmp_path))
    for _ in range(3):  # the first turn imports libraries, which stay
        before = held_megabytes()
        for path, said in made:
            start = time.monotonic()
            answer, = victim.node.set_parameters([Parameter('weights', value=str(path))])
            while victim.node._loader.weights:
                assert time.monotonic() - start < PATIENCE
                time.sleep(0.01)
            reason = victim.node._load_failure if answer.successful else answer.reason
            assert re.search(said, reason), reason
            assert path.name[:40] in reason and '\n' not in reason
            assert victim.node._network is network
            victim.node._publish_diagnostics()  # the parameter shows what runs
            assert victim.node.get_parameter('weights').value == weights
            victim.good()
        growth.append(held_megabytes() - before)
    assert not list(tmp_path.rglob('ran'))
    assert min(growth[1:]) < 100  # what leaks does so every time


def test_a_download_never_leaves_https(tmp_path, monkeypatch):
    """A server that is spoken to as if it were https sends on to one that is not."""
    from hybrid_depth_ros import weights
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(302 if self.path == '/start' else 200)
            self.send_header('Location', f'http://127.0.0.1:{server.server_port}/elsewhere')
            self.end_headers()

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(urllib.request.HTTPSHandler, 'https_open', lambda self, request:
                        self.do_open(http.client.HTTPConnection, request))
    monkeypatch.setitem(weights.REGISTRY, 'paper-nyu', replace(
        weights.REGISTRY['paper-nyu'], address=f'https://127.0.0.1:{server.server_port}/start'))
    try:
        with pytest.raises(OSError, match=r'from https to http://.*by hand'):
            weights.load_network('paper-nyu')
    finally:
        server.shutdown()
        server.server_close()
    assert asked == ['/start']
    assert not list(tmp_path.glob('*.model'))
