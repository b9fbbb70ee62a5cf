"""The full harness: `python -m tests.chaos`. Prints a table; exit 1 when anything was lost, doubled or wrong."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests import s3server
from tests.chaos.faults import FAULTS
from tests.chaos.harness import try_fault, world
from tests.chaos.report import line, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--fault", action="append", help="only faults whose name holds this; may be given again")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tracks", type=int, default=400)
    parser.add_argument("--logs", type=Path, help="folder for what the starts wrote to stderr")
    given = parser.parse_args()
    faults = [f for f in FAULTS if not given.fault or any(part in f.name for part in given.fault)]
    if given.logs:
        given.logs.mkdir(parents=True, exist_ok=True)
    results, left_out = [], {fault.name: why for fault in faults if (why := fault.missing())}
    with s3server.running() as server, tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as folder:
        os.environ.update(server.environment, RAY_TMPDIR=folder)
        with world(server, given.tracks) as made:
            for fault in faults:
                for seed in range(given.seeds) if fault.name not in left_out else ():
                    results.append(try_fault(made, fault, seed, given.logs))
                    print(line(results[-1]), file=sys.stderr, flush=True)
    print(table(results, left_out))
    return int(not all(result.survived for result in results))


if __name__ == "__main__":
    sys.exit(main())
