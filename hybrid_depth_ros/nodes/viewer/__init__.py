"""The viewer node and its page in the browser."""
