"""Measurements against peers: they print ratios from one run and assert nothing about time."""
