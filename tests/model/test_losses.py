import math

import pytest
import torch

from tagfleet.model.losses import masked_loss

NAN = float("nan")
EXCLUSIVE = {"genre": True, "instrument": False}


def loss(logits, targets):
    return masked_loss(
        {axis: torch.tensor(x) for axis, x in logits.items()},
        {axis: torch.tensor(x) for axis, x in targets.items()},
        EXCLUSIVE,
    )


def test_undecided_logits_cost_the_entropy_of_guessing():
    losses = loss(
        {"genre": [[0.0, 0.0, 0.0]], "instrument": [[0.0, 0.0]]},
        {"genre": [[0.0, 1.0, 0.0]], "instrument": [[1.0, 0.0]]},
    )
    assert float(losses["genre"]) == pytest.approx(math.log(3))
    assert float(losses["instrument"]) == pytest.approx(math.log(2))


def test_unknown_rows_weigh_nothing():
    logits = {"genre": [[3.0, 1.0], [0.0, 9.0]], "instrument": [[2.0, -1.0], [50.0, 50.0]]}
    known = {"genre": [[1.0, 0.0], [1.0, 0.0]], "instrument": [[1.0, 1.0], [0.0, 0.0]]}
    masked = {"genre": [[1.0, 0.0], [NAN, NAN]], "instrument": [[1.0, 1.0], [NAN, NAN]]}
    first_row_only = loss(
        {axis: rows[:1] for axis, rows in logits.items()}, {axis: rows[:1] for axis, rows in known.items()}
    )
    for axis, value in loss(logits, masked).items():
        assert float(value) == pytest.approx(float(first_row_only[axis]))
    assert float(loss(logits, known)["genre"]) > float(first_row_only["genre"])


def test_an_axis_of_which_nothing_is_known_gives_zero_and_a_gradient_of_zeros():
    logits = {"genre": torch.ones(2, 3, requires_grad=True), "instrument": torch.ones(2, 2, requires_grad=True)}
    targets = {"genre": torch.full((2, 3), NAN), "instrument": torch.full((2, 2), NAN)}
    losses = masked_loss(logits, targets, EXCLUSIVE)
    sum(losses.values()).backward()
    assert [x.item() for x in losses.values()] == [0.0, 0.0]
    assert torch.equal(logits["genre"].grad, torch.zeros(2, 3))
    assert torch.equal(logits["instrument"].grad, torch.zeros(2, 2))


def test_the_gradient_of_an_unknown_row_is_zero():
    logits = torch.randn(2, 3, requires_grad=True)
    masked_loss({"genre": logits}, {"genre": torch.tensor([[0.0, 1.0, 0.0], [NAN] * 3])}, EXCLUSIVE)["genre"].backward()
    assert logits.grad[0].abs().sum() > 0
    assert torch.equal(logits.grad[1], torch.zeros(3))


def weighted(logits, targets, weights, **options):
    return masked_loss(
        {axis: torch.tensor(x) for axis, x in logits.items()},
        {axis: torch.tensor(x) for axis, x in targets.items()},
        EXCLUSIVE,
        {axis: torch.tensor(x) for axis, x in weights.items()},
        **options,
    )


LOGITS = {"genre": [[3.0, 1.0], [0.0, 2.0]], "instrument": [[2.0, -1.0], [1.0, 1.0]]}
TARGETS = {"genre": [[1.0, 0.0], [1.0, 0.0]], "instrument": [[1.0, 0.0], [0.0, 1.0]]}


def test_weights_of_one_change_nothing():
    ones = {axis: [[1.0, 1.0], [1.0, 1.0]] for axis in LOGITS}
    plain, same = loss(LOGITS, TARGETS), weighted(LOGITS, TARGETS, ones)
    assert {axis: float(x) for axis, x in same.items()} == pytest.approx({a: float(x) for a, x in plain.items()})


def test_a_light_label_pulls_less_and_what_is_no_label_weighs_one():
    light = {"genre": [[1.0, 1.0], [1e-6, 1.0]], "instrument": [[1.0, 1e-6], [1.0, 1e-6]]}
    found = weighted(LOGITS, TARGETS, light)
    first_row = loss({"genre": LOGITS["genre"][:1]}, {"genre": TARGETS["genre"][:1]})
    assert float(found["genre"]) == pytest.approx(float(first_row["genre"]), rel=1e-4)
    # The second instrument is a label of the second track only: there it hardly counts, on the first track it does.
    softplus = torch.nn.functional.softplus
    parts = [softplus(torch.tensor(-2.0)), softplus(torch.tensor(-1.0)), softplus(torch.tensor(1.0))]
    assert float(found["instrument"]) == pytest.approx(float(sum(parts)) / 4, rel=1e-4)


def test_label_smoothing_asks_for_less_certainty():
    sure = {"genre": [[20.0, -20.0]], "instrument": [[20.0, -20.0]]}
    right = {"genre": [[1.0, 0.0]], "instrument": [[1.0, 0.0]]}
    ones = {axis: [[1.0, 1.0]] for axis in sure}
    for axis in sure:
        assert (
            float(weighted(sure, right, ones)[axis])
            < 1e-6
            < 0.5
            < float(weighted(sure, right, ones, label_smoothing=0.1)[axis])
        )
