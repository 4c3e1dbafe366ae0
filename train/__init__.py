import hybrid_depth_ros  # noqa: F401  first: a Ctrl-C ends a command quietly while it starts
