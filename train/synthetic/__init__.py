"""Photoreal furnished rooms seen through robots' cameras: ``python -m train.synthetic``."""
