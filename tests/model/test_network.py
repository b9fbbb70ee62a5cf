import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tagfleet.model.config import NetworkConfig
from tagfleet.model.network import TagNet, for_inference
from tests.model.taggers import random_net


@pytest.mark.parametrize("n_blocks", [4, 7, 9])
@pytest.mark.parametrize(("n_mels", "n_frames"), [(96, 256), (64, 16), (128, 61)])
def test_one_row_of_logits_per_clip_and_axis(n_blocks, n_mels, n_frames):
    net = TagNet(NetworkConfig(width=4, n_blocks=n_blocks), {"genre": 3, "mood": 2}).eval()
    logits = net(torch.randn(5, n_mels, n_frames))
    assert {axis: x.shape for axis, x in logits.items()} == {"genre": (5, 3), "mood": (5, 2)}


def test_the_default_network_is_small():
    net = TagNet(NetworkConfig(), {"genre": 5, "instrument": 7, "mood": 2})
    assert 0.7e6 < sum(p.numel() for p in net.parameters()) < 0.8e6


def test_inference_gives_the_same_logits_without_a_batch_norm_in_the_blocks():
    net = random_net()
    fused = for_inference(net)
    clips = torch.randn(4, 96, 256) * 12 - 40
    with torch.inference_mode():
        expected, found = net.eval()(clips), fused(clips)
    for axis in expected:
        torch.testing.assert_close(found[axis], expected[axis], rtol=1e-4, atol=1e-4)
    assert [name for name, m in fused.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] == ["norm_db"]
    assert not any(p.requires_grad for p in fused.parameters())


def test_fusing_leaves_the_network_itself_as_it_was():
    net = random_net()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    for_inference(net)
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())


def test_every_parameter_learns():
    net = random_net()
    sum(x.square().sum() for x in net(torch.randn(4, 96, 64)).values()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_an_odd_width_is_refused():
    with pytest.raises(ValidationError, match="even number"):
        NetworkConfig(width=33)
