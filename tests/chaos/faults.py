"""All that goes wrong."""

from tests.chaos.kills import KILLS
from tests.chaos.machines import MACHINES
from tests.chaos.network import NETWORK
from tests.chaos.rivals import RIVALS

FAULTS = (*KILLS, *NETWORK, *RIVALS, *MACHINES)
