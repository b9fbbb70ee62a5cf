"""Backends: what computes the network's blocks when tracks are tagged. The same network, at another cost.

A backend takes the place of `blocks` in what `for_inference` gives. Input norm, pooling and heads stay PyTorch's, in
float32, whatever the backend: they are 3 % of the work, and rounding decibels to bf16 (steps of 0.25 dB at -40 dB)
was most of what bf16 did to the logits. docs/performance.md has the costs, and how often top labels agree.

Each gives the same bits for the same clips on the same kind of processor, whatever came before, and computes in one
thread. Another backend, or another kind of processor, gives other bits: the backend is part of a row's lineage.
"""

from __future__ import annotations

import sys
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from tagfleet.errors import ConfigError
from tagfleet.model.config import Backend
from tagfleet.model.network import ConvBlock, ResidualBlock, TagNet


def with_backend(net: TagNet, backend: Backend, device: str = "cpu") -> TagNet:
    """`net`, which `for_inference` has made, moved to `device` with its blocks run by `backend`; `net` is used up.

    ConfigError for a backend that is unknown, not installed, not for this device, or for which this processor lacks the
    instructions: it would emulate them at many times the cost, or quietly compute something else.
    """
    if backend not in get_args(Backend):
        raise ConfigError(f"there is no backend {backend!r}", hint=f"there are {', '.join(get_args(Backend))}")
    assert isinstance(net.blocks, nn.Sequential)
    if backend == "torch-bf16":
        if device == "cpu" and not _processor_has_bf16():
            raise _no_bf16(backend)
        net.blocks = Bf16Blocks(net.blocks)
    elif backend != "torch":
        if device != "cpu":
            raise ConfigError(
                f"backend {backend} computes on the CPU, not on {device}",
                hint="take torch there, or no GPUs (retag.gpu_workers = 0)",
            )
        net.blocks = OpenVinoBlocks(net.blocks, backend)
    return net.to(device)


class Bf16Blocks(nn.Module):
    """Blocks in bfloat16 between float32 ends."""

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__()
        self.blocks = blocks.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, bands, frames) -> (n, channels, fewer bands, fewer frames), both float32."""
        y: Tensor = self.blocks(x.to(torch.bfloat16))
        return y.float()


class OpenVinoBlocks(nn.Module):
    """Blocks compiled by OpenVINO for this processor, when the first clips of a size come. One thread may use it."""

    def __init__(self, blocks: nn.Sequential, backend: Backend) -> None:
        super().__init__()
        ov = _openvino(backend)
        self._core = ov.Core()
        precision = "bf16" if backend == "openvino-bf16" else "f32"
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise _no_bf16(backend)
        self._settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # all workers of a machine would sit on its first core
        }
        self._model = as_openvino(blocks)
        self._requests: dict[tuple[int, ...], Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, bands, frames) -> (n, channels, fewer bands, fewer frames), both float32."""
        size = tuple(x.shape[2:])
        if size not in self._requests:
            # Any number of clips, but of one size: with open sizes OpenVINO 2026.4 answered clips that a layer could
            # not take with the output of the clips before, not with an error.
            self._model.reshape([-1, 1, *size])
            self._requests[size] = self._core.compile_model(self._model, "CPU", self._settings).create_infer_request()
        request = self._requests[size]
        request.infer([x.contiguous().numpy()])
        return torch.from_numpy(request.output_tensors[0].data.copy())


def as_openvino(blocks: nn.Sequential) -> Any:
    """Blocks whose norms are folded, as an `openvino.Model` of (n, 1, bands, frames) float32.

    Built by hand: these are four kinds of operations, while torch.export and OpenVINO's converter take 2.7 s of every
    process that tags.
    """
    ov = _openvino("openvino")
    ops = ov.opset13

    def convolved(x: Any, conv: nn.Module) -> Any:
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None and conv.groups == 1
        assert not isinstance(conv.padding, str)
        weight, bias = conv.weight.detach().contiguous().numpy(), conv.bias.detach().numpy().reshape(1, -1, 1, 1)
        padding = list(conv.padding)
        y = ops.convolution(x, ops.constant(weight), list(conv.stride), padding, padding, list(conv.dilation))
        return ops.add(y, ops.constant(bias))

    x = clips = ops.parameter([-1, 1, -1, -1], np.float32)
    for block in blocks:
        if isinstance(block, ResidualBlock):
            inner = ops.relu(convolved(x, block.conv_1))
            x = ops.relu(ops.add(convolved(x, block.shortcut), convolved(inner, block.conv_2)))
        else:
            assert isinstance(block, ConvBlock)
            for conv in block.convs:
                x = ops.relu(convolved(x, conv))
            # Padded at the end, which is `ceil_mode` for pictures of one row or column too.
            x = ops.max_pool(x, [2, 2], [1, 1], [0, 0], [1, 1], [2, 2]).output(0)
    return ov.Model([x], [clips])


def _openvino(backend: Backend) -> Any:
    # Importing openvino tells Google Analytics about it, unasked, where this package of its can be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: the import fails
    try:
        import openvino
    except ImportError as error:
        raise ConfigError(
            f"backend {backend} needs the package openvino, which is not installed here",
            hint="pip install 'tagfleet[openvino]', or set retag.backend to torch",
        ) from error
    return openvino


def _processor_has_bf16() -> bool:
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


def _no_bf16(backend: Backend) -> ConfigError:
    return ConfigError(
        f"backend {backend} needs a processor that computes in bfloat16 (AVX512_BF16 or AMX); this one does not",
        hint="set retag.backend to openvino or torch, which compute in float32",
    )
