"""Exceptions as people read them: what happened, to what, what to do."""

import errno

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


def reason(error):
    """What happened, to what, on one line: ``/a/b: No such file or directory``.

    The class is named only where nothing else says what kind of trouble it is.
    """
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
