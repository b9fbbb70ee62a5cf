"""Thin programs that run on a cluster: `python -m jobs.<name>`."""
