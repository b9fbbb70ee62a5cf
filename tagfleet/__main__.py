"""`python -m tagfleet`."""

from tagfleet.cli.main import run

run()
