"""Weights files: their names, and reading and writing them."""

from hybrid_depth_ros.weights.loading import load_network, weights_path
from hybrid_depth_ros.weights.registry import DATA, HELD_OUT, REGISTRY, RegisteredWeights
from hybrid_depth_ros.weights.saving import save_network

__all__ = ['DATA', 'HELD_OUT', 'REGISTRY', 'RegisteredWeights', 'load_network', 'save_network',
           'weights_path']
