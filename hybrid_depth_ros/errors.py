"""Exceptions as people read them: what happened, to what, what to do."""

import contextlib
import errno
import signal
import sys

# What can be done about an error of the system's; for others their own text says it.
MENDS = {
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


def print_anything():
    """A terminal whose encoding lacks a sign, as Latin-1 does δ, gets ``\\u03b4`` from here on.

    No name and no sign ends a command with a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # none there, or closed
            stream.reconfigure(errors='backslashreplace')


def setup_console():
    """To be called by each command, nodes apart, before it prints: :func:`print_anything`, and
    Ctrl-C raises KeyboardInterrupt from here on, which says nothing where nobody takes it."""
    print_anything()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # by interrupts.begin_command
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.excepthook = _without_interrupts


def _without_interrupts(kind, error, trace):
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def printable(text):
    """Text that UTF-8 can hold: bytes of a file's name that are not UTF-8 become ``\\xe9``."""
    try:
        return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')
    except UnicodeEncodeError:  # half of a pair that no name has
        return text.encode('utf-8', 'backslashreplace').decode()


def reason(error):
    """What happened, to what, on one line: ``/a/b: No such file or directory``.

    The class is named only where nothing else says what kind of trouble it is. A log takes it,
    whatever the name of a file is made of.
    """
    return printable(_reason(error))


def _reason(error):
    if isinstance(error, UnicodeEncodeError):  # of a library that takes names in UTF-8 alone
        return f'{error.object} is not UTF-8; give the file and its folders other names'
    if isinstance(error, OSError) and error.strerror:
        path = error.filename2 or error.filename
        return f'{path}: {error.strerror}' if path else error.strerror
    text = ' '.join(str(error).split())
    plain = isinstance(error, (OSError, ValueError)) or type(error) is RuntimeError
    return text if plain and text else ': '.join(filter(None, (type(error).__name__, text)))


def explain(error):
    """:func:`reason`, and what can be done about it where the system has named an error."""
    mend = MENDS.get(error.errno) if isinstance(error, OSError) and error.strerror else None
    return f'{reason(error)}; {mend}' if mend else reason(error)


def list_briefly(names):
    """The first three of some names, and how many there are besides."""
    first, more = ', '.join(map(str, list(names)[:3])), len(names) - 3
    return f'{first} and {more} more' if more > 0 else first or 'none'
