"""Files as people name them, read by any library, and written whole or not at all."""

import contextlib
import hashlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path, folder=False, shared=False):
    """What to write to instead of `path`; it takes that name once the block has ended well.

    Yields a Path beside it: for a file a name, with `folder` a new, empty folder. What stood at
    `path` stays until then, a file is on the disk by then, and nothing half-written is left.
    shared: other processes may write the same file at the same time.
    Raises OSError where it can't be written.
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
            error.filename = str(path)  # the name that people know
        raise


@contextmanager
def result_file(path):
    """:func:`atomic_write` for a file of results that the user named.

    A link is written through, and what is no file, as ``/dev/stdout``. Raises
    OSError, at the start where nothing can be written there.
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


def check_writable(path):
    """Raise OSError where :func:`result_file` can't write; before long work, not after it."""
    with contextlib.suppress(_Tried), result_file(path):
        raise _Tried


class _Tried(Exception):
    pass


@contextmanager
def readable_name(path):
    """A name of a file that any library opens, OpenCV too, whatever bytes its own is made of.

    The absolute path, or while the block runs another name where it is not UTF-8: libraries that
    take UTF-8 alone crash or refuse. Raises OSError where the file is not there.
    """
    with open(path, 'rb') as file:
        name = os.path.abspath(path)
        try:
            name.encode()
        except UnicodeEncodeError:
            name = f'/proc/self/fd/{file.fileno()}'
        yield name


def expand_user(path):
    """A Path whose ``~`` is a home folder. Raises OSError where that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        home = Path(path).parts[0]
        raise OSError(f'{path}: '
                      + (f'no user {home[1:]} is known here' if home[1:] else
                         'this user has no home folder')
                      + '; write the path from / on') from error


def write_bytes_atomically(path, data):
    """Write bytes by :func:`atomic_write`; other processes may do the same at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, shared=True) as partial:
        partial.write_bytes(data)


def file_digest(path):
    """sha256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder():
    """Where downloads and exports go; OSError where the user has no home folder."""
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = os.environ.get('HYBRID_DEPTH_CACHE') or f'{base}/hybrid_depth_ros'
    try:
        return expand_user(folder)
    except OSError as error:
        raise OSError(f'no folder {folder} for downloads and exports: set '
                      'HYBRID_DEPTH_CACHE') from error
