"""The ROS edge: nodes, and what turns messages into arrays and arrays into messages."""
