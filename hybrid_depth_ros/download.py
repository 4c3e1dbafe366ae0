"""Downloads that resume where they broke off: encrypted, bounded, checked."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import file_digest

ATTEMPTS = 4     # connections before a download that keeps breaking is given up
BACK_OFF = 1.0   # seconds before the second of them; doubles each time
TIMEOUT = 30.0   # seconds without a byte before a connection counts as broken
MAX_BYTES = 1 << 30  # of a download: four times the largest network


def download(address: str, target: Path, sha256: str | None = None,
             check: Callable[[Path], object] = lambda path: None,
             headers: Mapping[str, str] | None = None, max_bytes: int | None = None) -> None:
    """Download a file; resume where an earlier download broke off.

    Args:
        address: Its URL.
        target: Where it is put, once it is complete and checked.
        sha256: Its digest, None where that is not known.
        check: Called with the file before it gets its name; raises ValueError where its content
            will not do.
        headers: Sent with the request.
        max_bytes: More are not taken; None: 1 GB.

    Raises:
        OSError: It names the address, the file and what to do.
    """
    import fcntl  # not everywhere that the rest runs
    part, note = (target.with_name(target.name + end) for end in ('.part', '.part.json'))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target.with_name(target.name + '.lock'), 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits while another process downloads
            if target.exists():  # as that one did
                return
            for attempt in range(ATTEMPTS):
                try:
                    _receive(address, part, note, headers or {}, max_bytes or MAX_BYTES)
                    break
                except (OSError, http.client.HTTPException) as error:
                    if not _is_temporary(error) or attempt + 1 == ATTEMPTS:
                        raise
                    if getattr(error, 'code', None) == 416:  # the file there is shorter now
                        part.unlink(missing_ok=True)
                    time.sleep(BACK_OFF * 2 ** attempt)
            try:
                digest = sha256 and file_digest(part)
                if digest != sha256:
                    raise ValueError(f'its sha256 is {digest}, not {sha256}')
                check(part)
            except ValueError:
                part.unlink()
                raise
            os.replace(part, target)
            note.unlink(missing_ok=True)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OSError(f'could not download {address} to {target}: {reason(error)}. '
                      f'Download it by hand and put it there, or pass its path') from error


class _EncryptedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to an unencrypted address."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str,
                         headers: Any, newurl: str) -> urllib.request.Request | None:
        if req.type == 'https' and not newurl.startswith('https:'):
            raise OSError(f'it leads from https to {newurl}, which is not encrypted')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(address: str, part: Path, note: Path, headers: Mapping[str, str],
             max_bytes: int) -> None:
    """Fetch the rest of `part`, or all where `note`, [size, validator], is of another file."""
    import tqdm
    have = 0
    size: Any = None
    validator: str | None = None
    try:
        size, validator = json.loads(note.read_text())
        have = part.stat().st_size if size else 0
    except (FileNotFoundError, ValueError, TypeError):
        pass  # no start to go on from
    if have and have == size:
        return
    headers = {'User-Agent': 'hybrid_depth_ros', **headers}
    if have:
        headers['Range'] = f'bytes={have}-'
        if validator:
            headers['If-Range'] = validator
    request = urllib.request.Request(address, headers=headers)
    opener = urllib.request.build_opener(_EncryptedRedirects)
    with opener.open(request, timeout=TIMEOUT) as response:
        if response.headers.get_content_type() == 'text/html':
            raise OSError('a web page came back instead of the file')
        if have and response.status == 206:
            if response.headers['Content-Range'] != f'bytes {have}-{size - 1}/{size}':
                part.unlink(missing_ok=True)
                raise ConnectionAbortedError('the file there has changed')
        else:
            length, validator = map(response.headers.get, ('Content-Length', 'ETag'))
            have, size = 0, int(length) if length else None
            if not validator or validator.startswith('W/'):  # weak: the bytes may differ
                validator = response.headers['Last-Modified']
            part.unlink(missing_ok=True)  # before the note: a stop in between must not mix them
            note.write_text(json.dumps([size, validator]))
        with open(part, 'ab') as file, tqdm.tqdm(
                desc=part.stem, total=size, initial=have, unit='B', unit_scale=True) as bar:
            while chunk := response.read(1 << 16):
                if file.tell() + len(chunk) > max_bytes:
                    part.unlink()
                    raise OSError(f'more than {max_bytes / 2**30:g} GB came')
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
            have = file.tell()
    if size is not None and have != size:
        raise ConnectionAbortedError(f'the connection closed after {have} of {size} bytes')


def _is_temporary(error: BaseException) -> bool:
    """Whether another try can help."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 416, 429)
    return isinstance(getattr(error, 'reason', error), (
        ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError,
        http.client.HTTPException))
