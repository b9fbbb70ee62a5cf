from pathlib import Path

from tagfleet.cli.reference import reference


def test_the_reference_is_what_the_commands_say():
    written = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert reference() == written, "run: python -m tagfleet.cli.reference > docs/cli.md"
