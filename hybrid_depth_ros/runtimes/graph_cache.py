"""Compiled graphs, one for each shape of a batch."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

MAX_GRAPHS = 8


class GraphCache:
    """A runtime's graphs, which its ``_compile(shape)`` makes; the least recently used are dropped.
    """

    def __init__(self) -> None:
        self._graphs: OrderedDict[Any, Any] = OrderedDict()

    def ready(self, shape: Any) -> bool:
        """Whether there is a graph for a batch of this shape."""
        return shape in self._graphs

    def prepare(self, shape: Any) -> Any:
        """Return the graph for a batch of this shape; compile it where there is none yet."""
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
        else:
            self._graphs[shape] = self._compile(shape)
            while len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
        return self._graphs[shape]

    def _compile(self, shape: Any) -> Any:
        raise NotImplementedError
