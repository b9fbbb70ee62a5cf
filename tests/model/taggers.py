"""A small taxonomy and an untrained tagger of it."""

import torch

from tagfleet.audio.config import AudioConfig
from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
from tagfleet.model.config import NetworkConfig
from tagfleet.model.network import TagNet
from tagfleet.model.tagger import Tagger, TrainingFacts, n_labels

SMALL = NetworkConfig(width=8)
FACTS = TrainingFacts(
    run_id="r1",
    recipe_digest="0123456789abcdef",
    epoch=1,
    n_train_tracks=3,
    parent="demo:1",
    labels_version=4,
    catalog_version=2,
)


def labels(*ids):
    return tuple(Label(id=name, ja=name, en=name) for name in ids)


TAXONOMY = Taxonomy(
    name="test",
    axes=(
        LabelSet(axis="genre", exclusive=True, labels=labels("rock", "fusion", "ballad")),
        LabelSet(axis="instrument", exclusive=False, labels=labels("piano", "drums")),
    ),
)


def random_net(seed=0, config=SMALL):
    """Weights as if trained a little: the batch norms' running statistics are not those of a fresh network."""
    torch.manual_seed(seed)
    net = TagNet(config, n_labels(TAXONOMY))
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, 96, 64) * 12 - 40)
    return net


def random_tagger(seed=0, **changes):
    settings = {"audio": AudioConfig(), "network": SMALL, "taxonomy": TAXONOMY, "facts": FACTS} | changes
    return Tagger(weights=random_net(seed, settings["network"]).state_dict(), **settings)
