"""Files: names that any library opens, files written whole or not at all, the cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path, folder: bool = False, shared: bool = False) -> Iterator[Path]:
    """Yield a path to write to; it is renamed to `path` once the block has ended without an error.

    What stood at `path` stays until then, a file is on the disk by then, and nothing half-written
    is left.

    Args:
        path: The file or folder to write.
        folder: Whether it is a folder; a new, empty one is yielded.
        shared: Whether other processes may write the same file at the same time.

    Raises:
        OSError: It can't be written.
    """
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial' if shared else
                             f'{path.name}.partial')
    if folder:
        partial.mkdir()  # of its own: nothing is written into or through what was there
    try:
        yield partial
        if not folder:
            with open(partial, 'rb') as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        if folder:
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(partial):
            error.filename = str(path)  # the name that the user knows
        raise


@contextmanager
def result_file(path: Path) -> Iterator[Path]:
    """Write a file of results that the user named, as :func:`atomic_write` does.

    A link is written through, and so is what is no ordinary file, such as ``/dev/stdout``.

    Raises:
        OSError: Nothing can be written there; raised before the block.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        with open(path, 'ab'):
            pass
        yield path
        return
    with atomic_write(path) as partial:
        with open(partial, 'wb'):
            pass
        yield partial


def check_writable(path: Path) -> None:
    """Raise OSError where :func:`result_file` can't write; for use before long work."""
    with contextlib.suppress(_WritableError), result_file(path):
        raise _WritableError


class _WritableError(Exception):
    """Leaves :func:`result_file` without writing."""


@contextmanager
def utf8_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a name of a file in UTF-8: some libraries, such as OpenCV, crash at another.

    It is the absolute path, or another name that holds while the block runs.

    Raises:
        OSError: The file is not there.
    """
    with open(path, 'rb') as file:
        name = os.path.abspath(path)
        try:
            name.encode()
        except UnicodeEncodeError:
            name = f'/proc/self/fd/{file.fileno()}'
        yield name


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Return a path whose ``~`` is replaced by the home folder.

    Raises:
        OSError: The home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        home = Path(path).parts[0]
        raise OSError(f'{path}: '
                      + (f'no user {home[1:]} is known here' if home[1:] else
                         'this user has no home folder')
                      + '; write the path from / on') from error


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write bytes by :func:`atomic_write`; other processes may do the same at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, shared=True) as partial:
        partial.write_bytes(data)


def cached_file(name: str, make: Callable[[], bytes]) -> Path:
    """Return a file of the cache; where it is missing, write it.

    Where nothing can be written there, it is a temporary file for this process.

    Args:
        name: Its path inside of the cache folder.
        make: Returns its bytes.
    """
    path = None
    with contextlib.suppress(OSError):
        path = cache_folder() / name
        if path.exists():
            return path
    data = make()
    with contextlib.suppress(OSError):
        if path:
            write_bytes_atomically(path, data)
            return path
    import tempfile
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix, delete=False) as file:
        file.write(data)
    return Path(file.name)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return the folder of downloads and exports.

    Raises:
        OSError: The user has no home folder.
    """
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = os.environ.get('HYBRID_DEPTH_CACHE') or f'{base}/hybrid_depth_ros'
    try:
        return expand_user(folder)
    except OSError as error:
        raise OSError(f'no folder {folder} for downloads and exports: set '
                      'HYBRID_DEPTH_CACHE') from error
