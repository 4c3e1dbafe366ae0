"""Files and folders that are written whole or not at all, and where they are kept."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path, folder=False, shared=False):
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
    except BaseException:
        if folder:
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise


def write_whole(path, data):
    """Write bytes by :func:`whole`; other processes may do the same at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, shared=True) as partial:
        partial.write_bytes(data)


def cache_folder():
    """Where downloads and exports go; OSError where the user has no home folder."""
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = os.environ.get('HYBRID_DEPTH_CACHE') or f'{base}/hybrid_depth_ros'
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise OSError(f'no folder {folder} for downloads: set HYBRID_DEPTH_CACHE') from error
