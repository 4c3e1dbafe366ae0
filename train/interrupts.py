"""What lets a training be killed at any moment, stopped politely, and gone on with."""

import contextlib
import fcntl
import os
import signal
import time

# A second Ctrl-C so much later ends at once. Launchers repeat the first one, sooner.
SECOND_SIGNAL_SECONDS = 3.0


class TrainingStopped(Exception):
    """The training was asked to stop; what it had is saved. number: of the signal."""

    def __init__(self, number, sentence):
        super().__init__(sentence)
        self.number = number


@contextlib.contextmanager
def lock_folder(folder):
    """Keep a folder, made if need be, for this process alone; yields the open lock file.

    The kernel lets go of it when the process ends, however it does. Raises OSError where another
    process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / '.lock', os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f'another training writes to {folder}; wait for its end, or choose '
                          'another --out') from None
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def catch_stop_signals():
    """Yields a list that the number of a SIGINT or SIGTERM is put into, instead of ending there.

    A second one, IMPATIENT seconds later, does what it did before.
    """
    asked, first, trainer = [], [], os.getpid()

    def note(number, frame):
        if os.getpid() != trainer:  # a loading process that has only just been forked
            return
        if first and time.monotonic() - first[0] > SECOND_SIGNAL_SECONDS:
            signal.signal(number, before[number])
            os.kill(os.getpid(), number)
        first.append(time.monotonic())
        asked.append(number)
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
