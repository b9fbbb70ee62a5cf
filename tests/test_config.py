import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.config import Layer, assignment_layer, digest_of, env_layer, merge_layers
from tagfleet.errors import ConfigError


def test_later_layers_win_leaf_by_leaf_and_are_named():
    values, sources = merge_layers(
        [
            Layer(name="file", values={"train": {"epochs": 1, "seed": 5}}),
            Layer(name="flag", values={"train": {"epochs": 2}}),
        ]
    )
    assert values == {"train": {"epochs": 2, "seed": 5}}
    assert sources == {"train.epochs": "flag", "train.seed": "file"}


def test_assignments_are_read_as_toml_else_as_text():
    layer = assignment_layer(["train.epochs=3", "root=s3://b/プレ #1", "lang=en", 'tz="UTC"', "a.b.c=[1, 2]"])
    assert layer.values == {
        "train": {"epochs": 3},
        "root": "s3://b/プレ #1",
        "lang": "en",
        "tz": "UTC",
        "a": {"b": {"c": [1, 2]}},
    }


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_an_assignment_without_a_key_is_refused(text):
    with pytest.raises(ConfigError, match="cannot read setting"):
        assignment_layer([text])


def test_an_environment_variable_that_names_nothing_is_refused():
    with pytest.raises(ConfigError, match="TAGFLEET_TRIAN__EPOCHS"):
        env_layer({"TAGFLEET_TRIAN__EPOCHS": "3"}, ["train"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abが\n"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc", min_size=1), json_values))
def test_a_digest_does_not_depend_on_key_order(value):
    assert digest_of(value) == digest_of(dict(reversed(value.items())))
