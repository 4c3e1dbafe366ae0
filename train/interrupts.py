"""A training can be killed at any moment, stopped politely, and resumed."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

# A second signal so much later ends the process at once. Launchers repeat the first one, sooner.
SECOND_SIGNAL_SECONDS = 3.0


class TrainingStopped(Exception):
    """The training was asked to stop, and its state is saved.

    Args:
        signal_number: The signal that asked for it.
        message: What people read.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Keep a folder for this process alone, and make it where it is missing.

    Yields the open lock file. The kernel releases the lock when the process ends, however it ends.

    Raises:
        OSError: Another process holds the lock.
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
def catch_stop_signals() -> Iterator[list[int]]:
    """Yields a list to which the number of each SIGINT or SIGTERM is appended.

    The signal does nothing else. A second one, SECOND_SIGNAL_SECONDS later, does what it did
    before.
    """
    received: list[int] = []
    first: list[float] = []  # time of the first signal, s
    trainer = os.getpid()

    def note(number: int, frame: FrameType | None) -> None:
        if os.getpid() != trainer:  # a loading process that has only just been forked
            return
        if first and time.monotonic() - first[0] > SECOND_SIGNAL_SECONDS:
            signal.signal(number, before[number])
            os.kill(os.getpid(), number)
        first.append(time.monotonic())
        received.append(number)
    before: dict[int, Any] = {number: signal.signal(number, note)
                              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
