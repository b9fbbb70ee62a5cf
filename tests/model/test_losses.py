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
