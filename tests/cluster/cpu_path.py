"""What a CPU worker does with the image's packages, run by the image's python: decode, log-mel, a step, a forward.

Says on the last line, as JSON, which of CUDA's libraries were loaded from outside `sys.prefix`: on a machine that has
CUDA of its own, one that is missing in the image would not be missed.
"""

import io
import json
import re
import sys
import wave
from pathlib import Path

import ray
import torch
import torchaudio

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import decode_clips
from tagfleet.audio.logmel import LogMel
from tagfleet.model.config import NetworkConfig
from tagfleet.model.losses import masked_loss
from tagfleet.model.network import TagNet, for_inference

CUDA = re.compile(r"/lib(cu|nv|nccl)[^/]*\.so")

file, audio = io.BytesIO(), AudioConfig()
with wave.open(file, "wb") as sound:
    sound.setparams((1, 2, 44_100, 0, "NONE", ""))
    sound.writeframes((torch.rand(10 * 44_100) * 20_000 - 10_000).to(torch.int16).numpy().tobytes())
file.seek(0)
clips, duration_s = decode_clips(file, audio, DecodeLimits())
log_mel = LogMel(audio.log_mel)(torch.from_numpy(clips))
net = TagNet(NetworkConfig(), {"genre": 3})
optimizer = torch.optim.AdamW(net.parameters())
loss = masked_loss(net(log_mel), {"genre": torch.eye(3)[: len(clips)]}, {"genre": True})["genre"]
loss.backward()
optimizer.step()
logits = for_inference(net)(log_mel)["genre"]
loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if CUDA.search(line)}
told = {
    "versions": {each.__name__: each.__version__ for each in (ray, torch, torchaudio)},
    "duration_s": duration_s,
    "finite": bool(torch.isfinite(loss)) and bool(torch.isfinite(logits).all()),
    "shape": list(logits.shape),
    "n_cuda_libraries": len(loaded),
    "from_elsewhere": sorted(path for path in loaded if not path.startswith(sys.prefix)),
}
print(json.dumps(told))
