"""Downloads of weights, from a server on this machine."""

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
from filled_networks import LITE

from hybrid_depth_ros import download
from hybrid_depth_ros.weights import REGISTRY, load_network


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


@pytest.mark.parametrize('disk', [2], indirect=True)
def test_a_download_on_a_full_disk(disk, server, monkeypatch):
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(disk.path))
    with pytest.raises(OSError, match=r'net\.safetensors: .*No space left on device.*by hand'):
        load_network('paper-nyu')
    assert not (disk.path / 'net.safetensors').exists()
    have = (disk.path / 'net.safetensors.part').stat().st_size
    disk.grow(64)
    load_network('paper-nyu')  # goes on with what is there already
    assert server.requests == [(None, 200), (f'bytes={have}-', 206)]
    assert (disk.path / 'net.safetensors').read_bytes() == server.content
