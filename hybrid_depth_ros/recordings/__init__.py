"""Recordings with true depth: read, paired, registered, scored. The evaluator node does it live."""
