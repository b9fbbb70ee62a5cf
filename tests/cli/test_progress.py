import re

import pytest

from tagfleet.cli.progress import progress
from tagfleet.fleet import heartbeat as module


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)


def test_off_a_terminal_it_beats_while_nothing_is_finished(capsys):
    said = ""
    with progress("Tagging", 10) as advance:
        advance(2, 1)
        while said.count("Tagging: 2/10") < 2:
            said += capsys.readouterr().err
        advance(10, 1)
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"Tagging: 10/10, [0-9.]+/s, 1 failed", last)


def test_quiet_says_nothing(capsys):
    with progress("Tagging", None, quiet=True) as advance:
        advance(1, 0)
    assert capsys.readouterr().err == ""
