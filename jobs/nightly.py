"""The night of the CronJob: make tonight's RayJob from its template and end as it ends: `python -m jobs.nightly`."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from tagfleet.errors import TagfleetError
from tagfleet.job import end_with, say, stoppable
from tagfleet.settings import load_settings
from tagfleet.submit.nightly import ApiServer, forget_old, run_night, tonight


def main(words: list[str]) -> int:
    """Run the night; returns the exit code. A second start of the same night goes on with it."""
    parser = argparse.ArgumentParser(prog="python -m jobs.nightly")
    parser.add_argument("--template", default="tagfleet-retag", help="the suspended RayJob that is copied")
    parser.add_argument("--namespace", help="default: that of the pod")
    parser.add_argument("--run-id", help="default: nightly-<date in the settings' time zone>")
    parser.add_argument("--timeout", type=float, default=8.5 * 3600, help="seconds until it is given up")
    given = parser.parse_args(words)
    try:
        with stoppable():
            now, zone = datetime.now(UTC), load_settings().settings.tz
            run_id = given.run_id or tonight(now, zone)
            api = ApiServer(given.namespace)
            run_night(api, given.template, run_id, say=say, timeout_s=given.timeout)
            forget_old(api, now, zone)
    except KeyboardInterrupt:
        say("Only the watching ends: the RayJob runs on, and the next start finds it.")
        return 6
    except TagfleetError as error:
        return end_with(error)
    say(f"{run_id} is done.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
