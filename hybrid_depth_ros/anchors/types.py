"""Distances that were measured, and where they lie in a picture: anchors."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Anchors:
    """Distances that were measured, where they lie in a picture.

    u, v: columns and rows in pixels, (0, 0) the middle of the top-left one. depth: metres along
    the optical axis (REP 118). sigma: their standard deviations, metres, or None where they are
    small. 1-D arrays, stored as float32; of what can't be (not finite, depth not above 0, sigma
    below 0, outside of the picture) no use is made. Raises ValueError where lengths differ.
    """

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    sigma: np.ndarray | None = None

    def __post_init__(self):
        for name in ('u', 'v', 'depth', 'sigma'):
            given = getattr(self, name)
            if given is None and name == 'sigma':
                continue
            try:
                values = np.asarray(given, np.float32)
            except (TypeError, ValueError) as error:
                raise ValueError(f'{name} of the anchors is not an array of numbers') from error
            if values.ndim != 1 or values.size != np.size(self.u):
                raise ValueError(f'{name} of the anchors has the shape {values.shape}; u, v, depth '
                                 'and sigma must be 1-D and of one length')
            object.__setattr__(self, name, values)

    def __len__(self):
        return self.u.size

    def inside(self, width, height):
        """Bool for each: of those that lie in a picture of this size, and can be."""
        good = ((self.u > -0.5) & (self.u < width - 0.5) & (self.v > -0.5) & (self.v < height - 0.5)
                & (self.depth > 1e-3) & (self.depth < 1e4))
        if self.sigma is not None:
            good &= (self.sigma >= 0) & (self.sigma < np.inf)
        return good

    @classmethod
    def joined(cls, parts):
        """All anchors of several Anchors, in their order."""
        parts = list(parts)
        if not parts:
            return cls(*np.empty((3, 0), np.float32))
        sigma = None if all(part.sigma is None for part in parts) else np.concatenate([
            np.zeros_like(part.u) if part.sigma is None else part.sigma for part in parts])
        return cls(*(np.concatenate([getattr(part, name) for part in parts])
                     for name in ('u', 'v', 'depth')), sigma)
