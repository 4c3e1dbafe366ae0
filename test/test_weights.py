"""Weights files and downloads, against a server on this machine."""

import hashlib
import http.server
import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from hybrid_depth_ros import download, files, weights
from hybrid_depth_ros.network import ENCODERS, HybridDepthNet
from hybrid_depth_ros.weights import REGISTRY, load_network, registry, save_network

LITE = 'efficientnet_lite0'


def filled_network(encoder):
    """Values that float16 holds exactly, batch norms with statistics of their own."""
    torch.manual_seed(0)
    network = HybridDepthNet(encoder).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith('running_mean'):
                tensor.uniform_(-0.1, 0.1)
            elif name.endswith('running_var'):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith('num_batches_tracked'):
                tensor.fill_(7)
            tensor.copy_(tensor.half() if tensor.is_floating_point() else tensor)
        network.head.bias.fill_(5.0)  # keep the last ReLU open
    return network


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


def assert_same(loaded, network):
    assert type(loaded) is HybridDepthNet
    assert not loaded.training
    expected, got = network.state_dict(), loaded.state_dict()
    assert list(got) == list(expected)
    for name, tensor in got.items():
        assert tensor.device.type == 'cpu'
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        depth = loaded(x)
        assert depth.std() > 0
        assert torch.equal(depth, network(x))


# ---- files -----------------------------------------------------------------------------

def test_save_and_load_again(lite, lite_file):
    held = safetensors.torch.load_file(lite_file)
    assert {tensor.dtype for tensor in held.values()} == {torch.float16, torch.int64}
    assert_same(load_network(lite_file), lite)
    assert_same(load_network(str(lite_file)), lite)
    assert sorted(os.listdir(lite_file.parent)) == ['lite.safetensors']


def test_a_fused_network_is_saved_unfused(lite, tmp_path):
    fused = load_state(lite).fuse()
    save_network(fused, tmp_path / 'fused.safetensors')
    assert any('unpool_fused' in name for name in fused.state_dict())
    assert_same(load_network(tmp_path / 'fused.safetensors'), lite)
    torch.save(fused.state_dict(), tmp_path / 'fused.pt')
    assert_same(load_network(tmp_path / 'fused.pt'), lite)


def load_state(network):
    copy = HybridDepthNet(network.encoder_name).eval()
    copy.load_state_dict(network.state_dict())
    return copy


def test_values_beyond_float16_survive(lite, tmp_path):
    network = load_state(lite)
    network.encoder.bn1.running_var.fill_(1e6)
    save_network(network, tmp_path / 'large.safetensors')
    loaded = load_network(tmp_path / 'large.safetensors')
    assert torch.equal(loaded.encoder.bn1.running_var, network.encoder.bn1.running_var)


@pytest.mark.parametrize('lateral', [True, False])
@pytest.mark.parametrize('encoder', sorted(set(ENCODERS) - {'resnet50'}))
def test_encoder_and_lateral_follow_from_the_tensors(encoder, lateral, tmp_path):
    network = HybridDepthNet(encoder, lateral).eval()
    path = tmp_path / 'plain.safetensors'
    safetensors.torch.save_file(network.state_dict(), path)
    loaded = load_network(path)
    assert (loaded.encoder_name, loaded.lateral) == (encoder, lateral)


def test_tensors_that_share_memory_in_a_file_do_not_after_loading(lite, tmp_path):
    state = lite.state_dict()
    a, b = 'up_projections.0.main_bn1.weight', 'up_projections.0.main_bn2.weight'
    state[b] = state[a]
    torch.save(state, tmp_path / 'shared.pth')
    parameters = dict(load_network(tmp_path / 'shared.pth').named_parameters())
    assert parameters[a].data_ptr() != parameters[b].data_ptr()


def published_names(name):
    """The names in the authors' file for one of ours; unpoolings have two."""
    if name.startswith('encoder.'):
        return [name.removeprefix('encoder.')]
    for ours, theirs in (('reduction.', 'conv2.'), ('reduction_bn.', 'bn2.'), ('head.', 'conv3.')):
        if name.startswith(ours):
            return [theirs + name.removeprefix(ours)]
    if match := re.fullmatch(r'laterals\.(\d)\.(.*)', name):
        return [f'con_conv{int(match[1]) + 1}.conv.{match[2]}']
    i, part, rest = re.fullmatch(r'up_projections\.(\d)\.(\w+)\.(.*)', name).groups()
    block = f'up_proj{int(i) + 1}'
    theirs = {'unpool_main': ['unpool_main', 'main_branch.0'],
              'unpool_residual': ['unpool_res', 'residual_branch.0'],
              'main_bn1': ['main_branch.1'], 'main_conv': ['main_branch.3'],
              'main_bn2': ['main_branch.4'], 'residual_bn': ['residual_branch.1']}[part]
    return [f'{block}.{their}.{rest}' for their in theirs]


@pytest.mark.parametrize('zipped', [True, False])  # the authors' file is from before the zip form
def test_published_names(resnet50, tmp_path, zipped):
    published = {theirs: tensor for name, tensor in resnet50.state_dict().items()
                 for theirs in published_names(name)}
    assert len(published) == 531
    path = tmp_path / 'hyb_net_weights.model'
    torch.save(published, path, _use_new_zipfile_serialization=zipped)
    loaded = load_network(path)
    assert sum(p.numel() for p in loaded.parameters()) == 64_614_017
    assert_same(loaded, resnet50)
    if zipped:
        del published['con_conv2.conv.bias'], published['layer1.0.conv1.weight']
        torch.save({**published, 'surplus': torch.zeros(1)}, path)
        with pytest.raises(ValueError, match=r'missing: encoder\.layer1\.0\.conv1\.weight, '
                           r'laterals\.1\.bias; left over: surplus'):
            load_network(path)


def test_paper_nyu_by_name(resnet50, tmp_path, monkeypatch):
    """A file put into the cache by hand is taken as it is."""
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path))
    monkeypatch.setitem(REGISTRY, 'paper-nyu',
                        replace(REGISTRY['paper-nyu'], address='http://127.0.0.1:9/'))
    torch.save(resnet50.state_dict(), tmp_path / 'hyb_net_weights.model')
    assert load_network('paper-nyu').encoder_name == 'resnet50'
    (tmp_path / 'hyb_net_weights.model').write_bytes(b'cut')
    with pytest.raises(ValueError, match=r'hyb_net_weights\.model is cut short.*delete the file'):
        load_network('paper-nyu')


def changed(state, **tensors):
    return {**state, **{name.replace('__', '.'): tensor for name, tensor in tensors.items()}}


def test_tensors_that_do_not_fit_are_named(lite, tmp_path):
    state, path = lite.state_dict(), tmp_path / 'bad.pt'
    without = {name: tensor for name, tensor in state.items() if not name.startswith('reduction')}
    for bad, text in (
        (without, r'missing: reduction\.weight, reduction\.bias, reduction_bn\.weight and 3 more'),
        (changed(state, head__bias=torch.zeros(2)), r'shapes of .*lite0.*: head\.bias'),
        (changed(state, head__scale=torch.zeros(1)), r'missing: none; left over: head\.scale'),
        (changed(state, head__bias=torch.tensor([torch.nan])), r'NaN or infinite.*head\.bias'),
        (changed(state, head__bias=torch.tensor([torch.inf]).half()), 'NaN or infinite'),
        (changed(state, head__bias=torch.tensor([1e300], dtype=torch.float64)), 'NaN or inf'),
        (changed(state, head__bias=torch.zeros(1).to_sparse()), r'not plain tensors.*head\.bias'),
        (changed(state, head__bias=torch.zeros(1, dtype=torch.complex64)), 'not plain tensors'),
        (changed(state, head__bias=torch.zeros(1, device='meta')), 'not plain tensors'),
        ({'fc.weight': torch.zeros(3)}, r'no tensor is of a network.*fc\.weight'),
        ({}, 'no tensor is of a network'),
        ({'network': state, 'step': 3}, 'not a state dict.*network, step'),
        ({1: torch.zeros(1)}, 'not a state dict'),
        ([torch.zeros(1)], 'not a state dict.*list'),
        (torch.zeros(1), 'not a state dict.*Tensor'),
    ):
        torch.save(bad, path)
        with pytest.raises(ValueError, match=text) as raised:
            load_network(path)
        assert str(path) in str(raised.value)


def test_safetensors_metadata_that_does_not_fit(lite, tmp_path):
    path = tmp_path / 'bad.safetensors'
    for metadata, text in (({'encoder': 'vgg'}, "unknown encoder 'vgg'"),
                           ({'encoder': LITE, 'lateral': 'maybe'}, "'lateral' is 'maybe'"),
                           ({'encoder': LITE, 'lateral': 'false'}, r'left over: laterals\.0'),
                           ({'encoder': 'resnet50'}, 'resnet50')):
        safetensors.torch.save_file(lite.state_dict(), path, metadata)
        with pytest.raises(ValueError, match=text) as raised:
            load_network(path)
        assert str(path) in str(raised.value)


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, 'w')


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('suffix', ['.model', '.pth', '.pt'])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, suffix, zipped):
    mark, path = tmp_path / 'ran', tmp_path / f'bad{suffix}'
    torch.save({'conv1.weight': Malicious(str(mark))}, path,
               _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'more than tensors.*open.*refused') as raised:
        load_network(path)
    assert str(path) in str(raised.value)
    assert 'weights_only' not in str(raised.value)
    assert not mark.exists()


POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 258000000\n'


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('suffix', ['.safetensors', '.model'])
def test_files_that_are_not_weights(lite, lite_file, tmp_path, suffix):
    path = tmp_path / f'file{suffix}'
    if suffix == '.safetensors':
        whole = [lite_file.read_bytes()]
    else:
        for name, zipped in (('zip', True), ('legacy', False)):
            torch.save(lite.state_dict(), tmp_path / name, _use_new_zipfile_serialization=zipped)
        whole = [(tmp_path / name).read_bytes() for name in ('zip', 'legacy')]
    cuts = [data[:size] for data in whole
            for size in (3, 40, 3000, len(data) // 2, len(data) - 5)]
    for content, text in (
        (b'', 'is empty'), (POINTER, 'git lfs pull'), (b'\n<!DOCTYPE html><html>', 'web page'),
        *((content, 'safetensors file|cut short') for content in (
            b'these are no weights\n' * 99, bytes(999), b'\x80\x04\x95' + bytes(99), *cuts)),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=text) as raised:
            load_network(path)
        assert str(path) in str(raised.value)


def test_paths_that_are_no_weights_file(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        load_network(tmp_path)
    (tmp_path / 'depth.onnx').write_bytes(b'x')
    with pytest.raises(ValueError, match=r'depth\.onnx: .*\.safetensors, \.model, \.pth'):
        load_network(tmp_path / 'depth.onnx')
    with pytest.raises(FileNotFoundError, match=r'none\.pth.*lite-nyu, paper-nyu'):
        load_network(tmp_path / 'none.pth')
    with pytest.raises(FileNotFoundError, match=r'lite_nyu: .*did you mean lite-nyu\?'):
        load_network('lite_nyu')
    monkeypatch.setattr(registry, 'DATA', tmp_path)
    with pytest.raises(FileNotFoundError, match=r'lite-nyu\.safetensors.*install'):
        load_network('lite-nyu')


def test_home_folder_is_understood(lite_file, monkeypatch):
    monkeypatch.setenv('HOME', str(lite_file.parent))
    assert load_network('~/lite.safetensors').encoder_name == LITE


def test_lite_nyu_comes_from_the_package(lite, tmp_path, monkeypatch):
    assert weights.DATA.parent.samefile(os.path.dirname(os.path.dirname(weights.__file__)))
    monkeypatch.setattr(registry, 'DATA', tmp_path)
    save_network(lite, tmp_path / 'lite-nyu.safetensors')
    assert_same(load_network('lite-nyu'), lite)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv('HYBRID_DEPTH_CACHE', raising=False)
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert files.cache_folder() == tmp_path / '.cache' / 'hybrid_depth_ros'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert files.cache_folder() == tmp_path / 'xdg' / 'hybrid_depth_ros'
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path / 'own'))
    assert files.cache_folder() == tmp_path / 'own'


# ---- downloads -------------------------------------------------------------------------

class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every path; the attributes say how badly."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(('127.0.0.1', 0), Answer)
        self.content, self.etag, self.modified = content, '"1"', None
        self.ranges = True        # whether Range is understood
        self.length = True        # whether Content-Length is sent
        self.failures = []        # for the next requests: a status, bytes before a break
        self.stall = None         # an event: wait for it half-way
        self.html = False
        self.requests = []        # (Range, status) of each

    def handle_error(self, request, client_address):
        pass  # a client that gave up, as some tests want

    @property
    def address(self):
        return f'http://127.0.0.1:{self.server_port}/weights'


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers['Range']
        failure = server.failures.pop(0) if server.failures else None
        start, size, status = 0, len(server.content), 200
        unchanged = self.headers['If-Range'] in (None, server.etag, server.modified)
        if wanted and server.ranges and unchanged:
            start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
            status = 206 if start < size else 416
        if failure and failure[0] == 'status':
            status = failure[1]
        server.requests.append((wanted, status))
        self.send_response(status)
        if status == 206:
            self.send_header('Content-Range', f'bytes {start}-{size - 1}/{size}')
        for name, value in (('ETag', server.etag), ('Last-Modified', server.modified)):
            if value:
                self.send_header(name, value)
        body = server.content[start:] if status < 300 else b'no'
        if server.html:
            body = b'<html>Virus scan warning: confirm the download</html>'
        self.send_header('Content-Type', 'text/html; charset=utf-8' if server.html
                         else 'application/octet-stream')
        if server.length:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if failure and failure[0] == 'break':
            body = body[:failure[1]]
        half = len(body) // 2
        self.wfile.write(body[:half])
        if server.stall:
            server.stall.wait(20)
        self.wfile.write(body[half:])

    def log_message(self, *_):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / 'cache' / 'weights'
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(folder))
    monkeypatch.setattr(download, 'BACK_OFF', 0.01)
    monkeypatch.setattr(download, 'TIMEOUT', 5.0)
    for proxy in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(proxy, raising=False)
    return folder


def register(monkeypatch, address, sha256=None):
    monkeypatch.setitem(REGISTRY, 'paper-nyu', replace(
        REGISTRY['paper-nyu'], file='net.safetensors', address=address, sha256=sha256))


@pytest.fixture
def server(lite_file, cache, monkeypatch):
    server = Server(lite_file.read_bytes())
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    register(monkeypatch, server.address)
    yield server
    server.shutdown()
    server.server_close()


def assert_downloaded(cache, server):
    assert load_network('paper-nyu').encoder_name == LITE
    assert (cache / 'net.safetensors').read_bytes() == server.content
    assert sorted(os.listdir(cache)) == ['net.safetensors', 'net.safetensors.lock']


def assert_refused(cache, server, text):
    with pytest.raises(OSError, match=text) as raised:
        load_network('paper-nyu')
    message = str(raised.value)
    assert server.address in message
    assert str(cache / 'net.safetensors') in message
    assert 'by hand' in message
    assert not (cache / 'net.safetensors').exists()


def test_the_registered_address_is_the_authors():
    entry = REGISTRY['paper-nyu']
    assert entry.address.startswith('https://')
    assert entry.file == 'hyb_net_weights.model'


def test_download_once(cache, server, capfd):
    assert_downloaded(cache, server)
    out, err = capfd.readouterr()
    assert 'net.safetensors' in err
    assert '100%' in err
    assert not out
    server.shutdown()
    assert_downloaded(cache, server)
    assert server.requests == [(None, 200)]


@pytest.mark.parametrize(('etag', 'modified'), [
    ('"1"', None), ('W/"1"', 'Mon, 27 Aug 2018 10:00:00 GMT'), (None, None)])
def test_a_dropped_connection_is_resumed(cache, server, etag, modified):
    server.etag, server.modified = etag, modified
    server.failures = [('break', 100_000), ('status', 503), ('break', 50_000)]
    assert_downloaded(cache, server)
    assert server.requests == [(None, 200), ('bytes=100000-', 503), ('bytes=100000-', 206),
                               ('bytes=150000-', 206)]


def test_a_server_that_ignores_range_starts_over(cache, server):
    server.ranges = False
    server.failures = [('break', 100_000)]
    assert_downloaded(cache, server)
    assert server.requests == [(None, 200), ('bytes=100000-', 200)]


def stop_after(server, cache, size):
    """A download that was given up after `size` bytes."""
    server.failures = [('break', size), *[('status', 503)] * (download.ATTEMPTS - 1)]
    assert_refused(cache, server, '503')
    assert (cache / 'net.safetensors.part').stat().st_size == size
    server.requests.clear()


def test_a_later_call_resumes(cache, server):
    stop_after(server, cache, 200_000)
    assert_downloaded(cache, server)
    assert server.requests == [('bytes=200000-', 206)]


def test_a_file_that_changed_is_fetched_from_its_start(cache, server):
    whole = server.content
    for etags in (True, False):
        server.content, server.etag = bytes(len(whole) - 1000), '"1"' if etags else None
        stop_after(server, cache, 200_000)
        server.content, server.etag = whole, '"2"' if etags else None
        assert_downloaded(cache, server)
        assert server.requests == [('bytes=200000-', 200)] if etags else [
            ('bytes=200000-', 206), (None, 200)]
        (cache / 'net.safetensors').unlink()


def test_a_file_that_became_shorter_than_what_is_here(cache, server):
    whole, server.etag = server.content, None
    server.content = bytes(2 * len(whole))
    stop_after(server, cache, len(whole) + 7)
    server.content = whole
    assert_downloaded(cache, server)
    assert server.requests[0][1] == 416
    assert server.requests[-1] == (None, 200)


@pytest.mark.parametrize('note', ['', '3', '[1', '[null, null]'])
def test_a_start_without_its_note_is_not_trusted(cache, server, note):
    stop_after(server, cache, 200_000)
    (cache / 'net.safetensors.part').write_bytes(bytes(200_000))
    (cache / 'net.safetensors.part.json').write_text(note)
    assert_downloaded(cache, server)
    assert server.requests == [(None, 200)]


def test_a_whole_part_needs_no_connection(cache, server):
    cache.mkdir(parents=True)
    (cache / 'net.safetensors.part').write_bytes(server.content)
    (cache / 'net.safetensors.part.json').write_text(json.dumps([len(server.content), '"1"']))
    assert_downloaded(cache, server)
    assert server.requests == []


def test_unknown_length(cache, server):
    server.length = False
    assert_downloaded(cache, server)


def test_a_body_without_end(cache, server, monkeypatch):
    server.length = False
    monkeypatch.setattr(download, 'MAX_BYTES', 1 << 20)
    assert_refused(cache, server, 'more than 0.0009.* GB came')
    assert len(server.requests) == 1
    assert not (cache / 'net.safetensors.part').exists()


def test_a_body_that_is_always_cut_is_given_up(cache, server):
    server.ranges = False
    server.failures = [('break', 1000)] * download.ATTEMPTS
    assert_refused(cache, server, 'closed after 1000 of')
    assert len(server.requests) == download.ATTEMPTS


def test_a_cut_body_without_a_length_does_not_become_weights(cache, server):
    server.length = False
    server.failures = [('break', 300_000)]
    assert_refused(cache, server, 'not a whole safetensors file')
    assert not (cache / 'net.safetensors.part').exists()
    assert_downloaded(cache, server)


def test_a_missing_page_is_not_tried_again(cache, server):
    server.failures = [('status', 404)] * 9
    assert_refused(cache, server, '404')
    assert len(server.requests) == 1


def test_a_web_page_instead_of_weights(cache, server):
    server.html = True
    assert_refused(cache, server, 'web page')
    assert len(server.requests) == 1
    assert not (cache / 'net.safetensors.part').exists()


def test_a_web_page_leaves_the_start_of_a_download(cache, server):
    stop_after(server, cache, 200_000)
    server.html = True
    assert_refused(cache, server, 'web page')
    server.html = False
    server.requests.clear()
    assert_downloaded(cache, server)
    assert server.requests == [('bytes=200000-', 206)]


def test_hash(cache, server, monkeypatch):
    register(monkeypatch, server.address, sha256='0' * 64)
    assert_refused(cache, server, 'sha256')
    right = hashlib.sha256(server.content).hexdigest()
    register(monkeypatch, server.address, sha256=right)
    assert_downloaded(cache, server)


def test_a_stalled_server_is_given_up(cache, server, monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.1)
    monkeypatch.setattr(download, 'ATTEMPTS', 2)
    server.stall = threading.Event()
    try:
        assert_refused(cache, server, 'timed out')
    finally:
        server.stall.set()
    assert len(server.requests) == 2


def test_connection_refused(cache, server, monkeypatch):
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        register(monkeypatch, f'http://127.0.0.1:{unused.getsockname()[1]}/weights')
        with pytest.raises(OSError, match=r'(?i)refused.*by hand'):
            load_network('paper-nyu')


def test_unknown_host(cache, monkeypatch):
    def no_name(*_, **__):
        raise socket.gaierror(-2, 'Name or service not known')
    monkeypatch.setattr(socket, 'getaddrinfo', no_name)
    register(monkeypatch, 'http://weights.invalid/weights')
    with pytest.raises(OSError, match=r'weights\.invalid.*Name or service not known.*by hand'):
        load_network('paper-nyu')


def test_a_full_disk(cache, server):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        assert_refused(cache, server, 'File too large')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    server.requests.clear()
    assert_downloaded(cache, server)
    assert server.requests[0][1] == 206


def test_a_cache_that_cannot_be_made(cache, server, tmp_path):
    (tmp_path / 'cache').write_text('a file where the folder should be')
    assert_refused(cache, server, 'Not a directory|File exists')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_read_only_cache(cache, server):
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    assert_refused(cache, server, 'Permission denied')


def test_two_processes_at_once(cache, server):
    stop_after(server, cache, 200_000)
    server.stall = threading.Event()
    code = ('from hybrid_depth_ros.weights import REGISTRY, RegisteredWeights, load_network\n'
            f"REGISTRY['paper-nyu'] = RegisteredWeights('net.safetensors', {server.address!r})\n"
            "print(load_network('paper-nyu').encoder_name)")
    processes = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
                 for _ in range(2)]
    try:
        while not server.requests and processes[0].poll() is None:
            time.sleep(0.05)
        time.sleep(1)  # the other one has come to the lock, or will find the file
    finally:
        server.stall.set()
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [LITE, LITE]
    server.stall = None
    assert server.requests == [('bytes=200000-', 206)]
    assert_downloaded(cache, server)


def test_importing_costs_little_beyond_the_network():
    code = ('import time, hybrid_depth_ros.network\n'
            'start = time.perf_counter()\n'
            'import hybrid_depth_ros.weights\n'
            'print(time.perf_counter() - start)')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5
