"""The depth node and its parts."""
