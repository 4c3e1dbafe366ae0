"""The six depth error measures of the paper, pooled over all pixels that were scored."""

import numpy as np

# Depth below this is scored as this, so that a predicted 0 has a logarithm.
MIN_DEPTH = 1e-3


class DepthErrors:
    """Running sums of depth errors; :meth:`metrics` divides them.

    With d the predicted and t the true depth over the valid pixels of every image added
    (Harsányi et al. 2018, section 4): RMSE = sqrt(mean((d − t)²)), REL = mean(|d − t|/t),
    log10 = mean(|log10 d − log10 t|), δk = share of pixels with max(d/t, t/d) < 1.25^k.
    """

    def __init__(self):
        self.pixels = 0
        self._sums = np.zeros(6)

    def add(self, predicted, truth, valid=None):
        """Add one image or a batch.

        predicted, truth: float arrays of one shape, metres. valid: bool array of that
        shape; left out, all pixels count whose truth is finite and above 0. Pixels whose
        prediction is not finite (no depth was claimed there) are never scored.
        Returns the number of pixels scored. Raises ValueError when the shapes differ.
        """
        predicted, truth = np.asarray(predicted), np.asarray(truth)
        if predicted.shape != truth.shape:
            raise ValueError(f'predicted depth is {predicted.shape}, true depth {truth.shape}: '
                             'resize one to the other first')
        scored = np.isfinite(truth) & (truth > 0) & np.isfinite(predicted)
        if valid is not None:
            scored &= valid
        d = np.maximum(predicted[scored].astype(np.float64), MIN_DEPTH)
        t = np.maximum(truth[scored].astype(np.float64), MIN_DEPTH)
        error = np.abs(d - t)
        ratio = np.maximum(d / t, t / d)
        self._sums += ((error ** 2).sum(), (error / t).sum(), np.abs(np.log10(d / t)).sum(),
                       (ratio < 1.25).sum(), (ratio < 1.25 ** 2).sum(), (ratio < 1.25 ** 3).sum())
        self.pixels += d.size
        return d.size

    def metrics(self):
        """``{'rmse', 'rel', 'log10', 'delta1', 'delta2', 'delta3'}``; NaN when no pixel counts.

        rmse is in metres; the others have no unit.
        """
        means = self._sums / self.pixels if self.pixels else np.full(6, np.nan)
        rmse, *others = means.tolist()
        return dict(zip(('rmse', 'rel', 'log10', 'delta1', 'delta2', 'delta3'),
                        (float(np.sqrt(rmse)), *others)))


def format_metrics(metrics):
    """One line for people: ``RMSE 0.593 m  REL 0.130  log10 0.057  δ1 0.833 …``."""
    return (f'RMSE {metrics["rmse"]:.3f} m  REL {metrics["rel"]:.3f}  '
            f'log10 {metrics["log10"]:.3f}  δ1 {metrics["delta1"]:.3f}  '
            f'δ2 {metrics["delta2"]:.3f}  δ3 {metrics["delta3"]:.3f}')
