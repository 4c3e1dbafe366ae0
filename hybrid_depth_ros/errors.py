"""Errors in one sentence: what happened, to what, what to do. The console of a command."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
from collections.abc import Collection
from types import TracebackType

from hybrid_depth_ros.interrupts import exit_without_package

# What to do about an error of the system; other errors say it themselves.
ADVICE = {
    errno.ENOENT: 'check the path',
    errno.ENOTDIR: 'check the path',
    errno.EISDIR: 'name a file, not a folder',
    errno.EEXIST: 'remove it or choose another path',
    errno.EACCES: 'let this user read and write it, or choose another path',
    errno.EPERM: 'let this user read and write it, or choose another path',
    errno.EROFS: 'choose another path',
    errno.ENOSPC: 'make room there',
    errno.EDQUOT: 'make room there',
}


def escape_unprintable() -> None:
    """Print ``\\u03b4`` for a character that the terminal's encoding lacks, as Latin-1 does δ.

    Otherwise a name with such a character ends a command with a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # none there, or closed
            stream.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]


def setup_console() -> None:
    """Prepare a command's console; each command but the nodes calls this before it prints.

    It calls :func:`escape_unprintable`. From here on Ctrl-C raises KeyboardInterrupt, which prints
    nothing where nobody catches it.
    """
    escape_unprintable()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # by interrupts.begin_command
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.excepthook = _without_interrupts


def _without_interrupts(kind: type[BaseException], error: BaseException,
                        trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        exit_without_package(kind, error, trace)


def printable(text: str) -> str:
    """Return text as UTF-8 holds it: other bytes of a file's name become ``\\xe9``."""
    try:
        return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')
    except UnicodeEncodeError:  # half of a pair that no name has
        return text.encode('utf-8', 'backslashreplace').decode()


def reason(error: BaseException) -> str:
    """Say on one line what happened, and to what: ``/a/b: No such file or directory``.

    The class is named only where the text alone would not be understood. The line is UTF-8,
    whatever the name of a file is made of.
    """
    return printable(_reason(error))


def _reason(error: BaseException) -> str:
    if isinstance(error, UnicodeEncodeError):  # of a library that takes names in UTF-8 alone
        return f'{error.object} is not UTF-8; give the file and its folders other names'
    if isinstance(error, OSError) and error.strerror:
        path = error.filename2 or error.filename
        return f'{path}: {error.strerror}' if path else error.strerror
    text = ' '.join(str(error).split())
    plain = isinstance(error, (OSError, ValueError)) or type(error) is RuntimeError
    return text if plain and text else ': '.join(filter(None, (type(error).__name__, text)))


def explain(error: BaseException) -> str:
    """Return :func:`reason`, and what to do about an error of the system."""
    advice = None
    if isinstance(error, OSError) and error.strerror and error.errno:
        advice = ADVICE.get(error.errno)
    return f'{reason(error)}; {advice}' if advice else reason(error)


def list_briefly(names: Collection[object]) -> str:
    """Return the first three of some names, and how many more there are."""
    first, more = ', '.join(map(str, list(names)[:3])), len(names) - 3
    return f'{first} and {more} more' if more > 0 else first or 'none'
