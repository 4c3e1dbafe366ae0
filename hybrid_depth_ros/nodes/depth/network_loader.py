"""Networks that are loaded in a thread of their own while the node goes on with the one it has."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.nodes.depth.settings import DepthSettings

Network = TypeVar('Network')


class NetworkLoader(Generic[Network]):
    """Loads the network that was asked for last; what it replaces goes on until it is there.

    One network is loaded at a time, since each takes memory: a request that comes meanwhile waits,
    and the newest of those wins.

    Args:
        load: Makes a network from the node's settings. Called in the loader's thread.
        loaded: Takes the settings and the network. Called in the loader's thread.
        failed: Takes the settings and the reason, a sentence. Called in the loader's thread.
    """

    def __init__(self, load: Callable[[DepthSettings], Network],
                 loaded: Callable[[DepthSettings, Network], None],
                 failed: Callable[[DepthSettings, str], None]) -> None:
        self._load, self._loaded, self._failed = load, loaded, failed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._request: DepthSettings | None = None
        self._current: DepthSettings | None = None

    @property
    def weights(self) -> str:
        """Name of the weights that are being loaded; empty: none are."""
        settings = self._request or self._current
        return settings.weights if settings else ''

    def request(self, settings: DepthSettings) -> None:
        """Load what these settings name; returns at once."""
        with self._lock:
            self._request = settings
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name='loader', daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """Drop what was asked for; what is being loaded is thrown away when it is there."""
        with self._lock:
            self._request = self._current = None

    def _run(self) -> None:
        while True:
            with self._lock:
                settings = self._current = self._request
                self._request = None
                if settings is None:
                    self._thread = None
                    return
            try:
                report = partial(self._loaded, settings, self._load(settings))
            except Exception as error:  # of whichever class the library likes
                report = partial(self._failed, settings, explain(error))
            with self._lock:  # neither newer settings nor a cancel came meanwhile
                if self._current is settings and self._request is None:
                    report()
                self._current = None
