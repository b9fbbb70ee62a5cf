"""The processes that train one network together, as the loop sees them: Ray's workers, a Tune trial, one alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")
CPU = torch.device("cpu")


def _alone(model: nn.Module) -> nn.Module:
    return model


def _nothing(line: dict[str, Any], write: Callable[[Path], None] | None) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Team:
    """One process' view; the defaults are a process by itself."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    wrap: Callable[[nn.Module], nn.Module] = _alone
    """Makes a model whose gradients are the team's (DDP)."""
    report: Callable[[dict[str, Any], Callable[[Path], None] | None], None] = _nothing
    """Tell that an epoch is finished, and keep what the function writes into a folder; a barrier."""
    restored: Callable[[], AbstractContextManager[Path | None]] = lambda: nullcontext(None)
    """The folder of the checkpoint to go on from."""

    def gather(self, value: T) -> list[T]:
        """What every process gives, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over all processes."""
        if self.size == 1:
            return value
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / self.size

    def share_buffers(self, *modules: nn.Module) -> None:
        """Give every process the buffers (running statistics of batch norms) of the first."""
        if self.size > 1:
            for module in modules:
                for buffer in module.buffers():
                    torch.distributed.broadcast(buffer, 0)

    def all_true(self, value: torch.Tensor) -> bool:
        """Whether a tensor holds True in every process."""
        if self.size == 1:
            return bool(value)
        agreed = value.to(torch.int32)
        torch.distributed.all_reduce(agreed, op=torch.distributed.ReduceOp.MIN)
        return bool(agreed)
