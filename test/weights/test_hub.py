"""Networks from the hub, which a server on this machine stands in for."""

import hashlib
import http.server
import json
import os
import re
import shutil
import threading

import pytest

pytest.importorskip('huggingface_hub')

from huggingface_hub import constants

from hybrid_depth_ros import download as downloads
from hybrid_depth_ros.runtimes import selection
from hybrid_depth_ros.weights import hub
from hybrid_depth_ros.weights.__main__ import main
from hybrid_depth_ros.weights.hub import hub_folder
from hybrid_depth_ros.weights.registry import HUB_FILES

COMMIT = '0123456789abcdef0123456789abcdef01234567'
NAME = 'hf:rooms/small'


class Hub(http.server.ThreadingHTTPServer):
    """Answers as the hub does; `cut`: bytes after which a connection is closed, a list by turn."""

    def __init__(self, files):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.cut, self.ranges, self.requests = files, [], [], 0
        self.etags = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, body):
        self.server.requests += 1
        match = re.fullmatch(r'/rooms/small/resolve/(main|[0-9a-f]{40})/([\w.-]+)', self.path)
        content = match and self.server.files.get(match[2])
        if content is None:
            self.send_response(404)
            self.send_header('X-Error-Code', 'EntryNotFound' if match else 'RepoNotFound')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        etag = self.server.etags.get(match[2]) or hashlib.sha256(content).hexdigest()
        first = re.match(r'bytes=(\d+)-', self.headers.get('Range') or '')
        first = int(first[1]) if first else 0
        self.send_response(206 if first else 200)
        if first:
            self.send_header('Content-Range', f'bytes {first}-{len(content) - 1}/{len(content)}')
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('ETag', f'"{etag}"')
        self.send_header('Content-Type', 'application/octet-stream')
        self.send_header('Content-Length', str(len(content) - first))
        self.end_headers()
        if not body:
            return
        if first:
            self.server.ranges.append(first)
        rest = content[first:]
        if match[2] == HUB_FILES[-1] and self.server.cut:
            rest = rest[:self.server.cut.pop(0)]
        self.wfile.write(rest)
        self.close_connection = True

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = Hub({'config.json': b'{}', 'preprocessor_config.json': b'{"a": 1}',
                  'model.safetensors': os.urandom(300_000), 'evil.py': b'raise SystemExit'})
    address = f'http://127.0.0.1:{server.server_port}'
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE',
                        address + '/{repo_id}/resolve/{revision}/{filename}')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(downloads, 'BACK_OFF', 0.01)
    yield server
    server.shutdown()
    server.server_close()


def test_a_name_is_downloaded_once_and_then_needs_no_hub(server):
    folder = hub_folder(NAME)
    assert sorted(file.name for file in folder.iterdir() if '.lock' not in file.name) == sorted(
        HUB_FILES)  # and nothing else that lies there
    for name in HUB_FILES:
        assert (folder / name).read_bytes() == server.files[name]
    assert folder.name == COMMIT
    asked = server.requests
    assert hub_folder(NAME) == folder
    assert server.requests == asked  # offline from now on
    server.shutdown()
    assert hub_folder(NAME) == folder


def test_a_download_goes_on_where_it_was_cut_off(server, monkeypatch):
    server.cut = [100_000, 50_000]
    folder = hub_folder(NAME)
    assert server.ranges == [100_000, 150_000]
    assert (folder / HUB_FILES[-1]).read_bytes() == server.files[HUB_FILES[-1]]


def test_a_download_that_keeps_breaking_is_one_sentence_and_goes_on_another_time(server):
    server.cut = [10_000] * downloads.ATTEMPTS
    with pytest.raises(OSError, match=r'could not download .*model\.safetensors.*closed') as said:
        hub_folder(NAME)
    assert '\n' not in str(said.value)
    assert hub.cached_hub_folder(NAME) is None  # what is not whole is not taken for it
    folder = hub_folder(NAME)
    assert server.ranges[-1] == 40_000
    assert (folder / HUB_FILES[-1]).read_bytes() == server.files[HUB_FILES[-1]]


@pytest.mark.parametrize(('file', 'etag'), [
    (HUB_FILES[-1], 'a' * 64), (HUB_FILES[0], 'b' * 40)])
def test_another_digest_is_refused(server, file, etag):
    server.etags[file] = etag
    with pytest.raises(OSError, match=r'sha256|not what the hub holds'):
        hub_folder(NAME)
    assert hub.cached_hub_folder(NAME) is None
    del server.etags[file]
    assert hub_folder(NAME)


def test_git_digests_are_checked(server):
    content = server.files['config.json']
    server.etags['config.json'] = hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()
    assert hub_folder(NAME)


def test_what_is_not_there_is_one_sentence(server):
    with pytest.raises(OSError, match='hf:rooms/other is not on the hub'):
        hub_folder('hf:rooms/other')
    del server.files['model.safetensors']
    with pytest.raises(OSError, match=r'has no model\.safetensors on the hub; pickles'):
        hub_folder(NAME)
    for name in ('hf:rooms', 'hf:../../etc/passwd', 'hf:a/b/c', 'hf:'):
        with pytest.raises(ValueError, match='no name on the hub'):
            hub_folder(name)


def test_a_claim_of_ten_gigabytes_is_refused_before_it_comes(server, monkeypatch):
    monkeypatch.setitem(hub.MAX_BYTES, '.safetensors', 1000)
    with pytest.raises(OSError, match='GB are taken'):
        hub_folder(NAME)


def test_without_a_network_it_says_how_to_come_by_it(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r'the hub does not answer.*weights --download') as said:
        hub_folder(NAME)
    assert '\n' not in str(said.value)


def test_what_huggingface_has_in_its_cache_is_taken(server, tmp_path, monkeypatch):
    cache = tmp_path / 'huggingface'
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(cache))
    snapshot = cache / 'models--rooms--small' / 'snapshots' / COMMIT
    snapshot.mkdir(parents=True)
    (cache / 'models--rooms--small' / 'refs').mkdir()
    (cache / 'models--rooms--small' / 'refs' / 'main').write_text(COMMIT)
    for name, content in server.files.items():
        (snapshot / name).write_bytes(content)
    assert hub_folder(NAME) == snapshot
    assert not server.requests


def test_the_command_lists_downloads_and_checks(server, tmp_path, capsys, monkeypatch):
    pytest.importorskip('transformers')
    import small_networks
    monkeypatch.setattr(selection, 'installed', lambda name: name == 'torch')  # no measuring
    assert main([]) == 0
    listed = capsys.readouterr().out
    for name in ('lite-nyu', 'depth-anything-v2-metric-indoor-small', 'zoedepth-nyu', 'not comm'):
        assert name in listed
    made = small_networks.make('depth_anything', tmp_path / 'made')
    server.files = {name: (made / name).read_bytes() for name in HUB_FILES}
    assert main(['--download', NAME]) == 0
    said = capsys.readouterr().out
    assert 'runs in' in said and 'needs anchors' in said
    server.shutdown()  # the robot is where no network is
    assert main(['--check', NAME, 'lite-nyu']) == 0
    assert capsys.readouterr().out.count('in an image of a virtual room') == 2
    folder = hub.cached_hub_folder(NAME)
    damaged = (folder / HUB_FILES[-1]).read_bytes()[:-100]
    (folder / HUB_FILES[-1]).write_bytes(damaged)
    assert main(['--check', NAME]) == 1
    error = capsys.readouterr().err
    assert 'not a whole safetensors file' in error and error.count('\n') == 1
    shutil.rmtree(folder)
    assert json.loads(server.files['config.json'])['model_type'] == 'depth_anything'


@pytest.mark.parametrize(('outputs', 'said'), [
    ('zeros', 'gives only 0, negative numbers'), ('three channels', 'depth has rows and columns')])
def test_a_check_shows_the_network_an_image(outputs, said, tmp_path, capsys):
    """Of such files it said that they are whole and give metres."""
    onnx = pytest.importorskip('onnx')
    path = tmp_path / 'm.onnx'
    node = (onnx.helper.make_node('Sub', ['pixels', 'pixels'], ['d3']) if outputs == 'zeros' else
            onnx.helper.make_node('Identity', ['pixels'], ['d3']))
    nodes = [node, onnx.helper.make_node('ReduceMax', ['d3'], ['depth'], axes=[1])
             if outputs == 'zeros' else onnx.helper.make_node('Identity', ['d3'], ['depth'])]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(
        nodes, 'm', [onnx.helper.make_tensor_value_info('pixels', 1, (1, 3, 96, 128))],
        [onnx.helper.make_tensor_value_info('depth', 1, None)]),
        opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8), path)
    path.with_suffix('.yaml').write_text('output: metric\nwhite: 1')
    assert main(['--check', str(path)]) == 1
    assert said in capsys.readouterr().err
