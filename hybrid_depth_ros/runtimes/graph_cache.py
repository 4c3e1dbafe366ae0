"""Compiled graphs that are kept, one for each shape of a batch."""

from collections import OrderedDict

KEPT_SHAPES = 8


class GraphCache:
    """A runtime's graphs, which its ``_make(shape)`` makes; the longest unused give way."""

    def __init__(self):
        self._graphs = OrderedDict()

    def ready(self, shape):
        """Whether there is a graph for a batch of this shape."""
        return shape in self._graphs

    def prepare(self, shape):
        """The graph for it, made where it is not there yet."""
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
        else:
            self._graphs[shape] = self._make(shape)
            while len(self._graphs) > KEPT_SHAPES:
                self._graphs.popitem(last=False)
        return self._graphs[shape]

    def _make(self, shape):
        raise NotImplementedError
