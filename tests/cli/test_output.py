import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tagfleet.cli.output import emit_json, emit_table, printable


@given(st.text())
def test_no_catalogue_text_moves_the_cursor_or_turns_the_line(text):
    shown = printable(text)
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") for c in shown)
    assert not any(c in shown for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def test_brackets_emoji_and_japanese_stay_as_they_are():
    assert printable("[bold]が [/] 👨‍👩‍👧") == "[bold]が [/] 👨‍👩‍👧"


def test_a_table_off_the_terminal_is_tab_separated_and_one_line_a_row(capsys):
    emit_table(("a", "b"), [("x\ty", "line\nbreak"), (None, 1)])
    assert capsys.readouterr().out.splitlines() == ["a\tb", "x\\ty\tline\\nbreak", "\t1"]


def test_json_is_one_document_and_has_no_nan(capsys):
    emit_json({"x": float("nan"), "名": (1, 2)})
    assert json.loads(capsys.readouterr().out) == {"x": None, "名": [1, 2]}
