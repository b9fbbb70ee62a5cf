"""Thin programs that run on the cluster: `python -m jobs.<name>`. No algorithms here."""
