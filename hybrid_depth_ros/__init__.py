"""Turns an RGB camera into a metric depth camera."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_depth_ros.predictor import DepthPredictor, Prediction, PredictionOptions

__all__ = ['DepthPredictor', 'Prediction', 'PredictionOptions']


def __getattr__(name: str) -> Any:
    """Import the predictor at its first use: nodes and commands without it start faster."""
    if name in __all__:
        from hybrid_depth_ros import predictor
        return getattr(predictor, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
