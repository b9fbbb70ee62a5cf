"""`tagfleet jobs`: what runs on a cluster, what it says, how it is stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagfleet.cli.output import Json, complain, emit_facts, emit_json, emit_table, local_time, printable, say
from tagfleet.cli.session import Session
from tagfleet.cli.submit import DETACHED, Address, ProfileName
from tagfleet.errors import TimedOut

if TYPE_CHECKING:
    from tagfleet.submit.cluster import Cluster, Job

STOP_S = 60
POLL_S = 0.5

app = typer.Typer(help="Jobs of a Ray cluster: list, logs, status, stop.")

Id = Annotated[str, typer.Argument(metavar="ID", help="What `submit` called it.")]


@app.command("list")
def list_jobs(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Jobs of others, and earlier attempts, too.")] = False,
    address: Address = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """Jobs that tagfleet submitted and that the cluster remembers, with how far each is."""
    from tagfleet.submit.cluster import own

    session, cluster = _cluster(context, address, profile)
    found = cluster.jobs()
    jobs = found if everything else own(found)
    if as_json:
        emit_json([_facts(job) for job in jobs])
        return
    rows = [
        (
            job.submission_id,
            job.kind or "–",
            job.status,
            local_time(job.started_at, session.settings.tz),
            _duration(job),
            "" if job.ended else _progress(session, job),
        )
        for job in jobs
    ]
    emit_table(("id", "kind", "status", "started", "took", "progress"), rows)


@app.command()
def status(
    context: typer.Context,
    job_id: Id,
    wait: Annotated[bool, typer.Option("--wait", help="Until it ends; then exit with its code.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="With --wait: exit with 7 after this time.")
    ] = None,
    address: Address = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """One job: its state, how far its run is, and how it ended."""
    from tagfleet.submit.submission import follow, raise_for_end
    from tagfleet.submit.watching import progress_of

    session, cluster = _cluster(context, address, profile)
    job = cluster.job(job_id)
    if wait and not job.ended:
        try:
            job = follow(cluster, job, lambda text: None, say=say, timeout_s=timeout)
        except KeyboardInterrupt:
            raise typer.Exit(DETACHED) from None
    found = progress_of(job, session.settings.storage) if job.kind else {}
    if wait:
        raise_for_end(job, cluster.logs(job.ray_id))
    if as_json:
        emit_json({**_facts(job), **found})
        return
    zone = session.settings.tz
    record = found.get("record") or {}
    facts = {
        **{name: value for name, value in _facts(job).items() if value not in (None, "")},
        "started_at": local_time(job.started_at, zone),
        "ended_at": local_time(job.ended_at, zone),
        "progress": _progress(session, job),
        "starts": record.get("n_starts"),
        "error": (record.get("error") or {}).get("message") or (job.message if job.status == "FAILED" else None),
    }
    emit_facts({name: value for name, value in facts.items() if value not in (None, "")})


@app.command()
def logs(
    context: typer.Context,
    job_id: Id,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until it ends; Ctrl-C detaches.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N lines.")] = None,
    address: Address = None,
    profile: ProfileName = None,
) -> None:
    """What a job has said, on stdout."""
    from tagfleet.submit.submission import follow as follow_job

    _, cluster = _cluster(context, address, profile)
    job = cluster.job(job_id)
    text = cluster.logs(job.ray_id)
    lines = text.splitlines()
    for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
        typer.echo(printable(line.expandtabs()))
    if not follow or job.ended:
        return
    try:
        follow_job(cluster, job, _print, say=say, skip=len(text))
    except KeyboardInterrupt:
        complain("\nDetached; the job runs on.")
        raise typer.Exit(DETACHED) from None


@app.command()
def stop(
    context: typer.Context,
    job_id: Id,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it has ended.")] = True,
    address: Address = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """Ask a job to end, in a state from which the same submission id goes on; killed when it does not."""
    _, cluster = _cluster(context, address, profile)
    job = cluster.job(job_id)
    asked = not job.ended and cluster.stop(job.ray_id)
    deadline = time.monotonic() + STOP_S
    while asked and wait and not (job := cluster.job(job_id)).ended:
        if time.monotonic() > deadline:
            raise TimedOut(f"job {job_id} has not ended within {STOP_S} s", hint=f"tagfleet jobs status {job_id}")
        time.sleep(POLL_S)
    if as_json:
        emit_json({**_facts(job), "asked": asked})
    elif asked:
        say(f"Stopped {job.submission_id}; to go on: submit with --submission-id {job.submission_id}")
    else:
        say(f"{job.submission_id} had ended before: {job.status}")


def _cluster(context: typer.Context, address: str | None, profile: str | None) -> tuple[Session, Cluster]:
    from tagfleet.submit.cluster import Cluster
    from tagfleet.submit.profiles import find_profile

    found = find_profile(profile, address)
    session: Session = context.obj.with_profile(found.layer)
    return session, Cluster(found.address)


def _facts(job: Job) -> dict[str, Any]:
    from tagfleet.submit.watching import seconds_of

    return {
        "submission_id": job.submission_id,
        "attempt": job.attempt,
        "kind": job.kind,
        "run_id": job.run_id,
        "root": job.root,
        "status": job.status,
        "exit_code": job.exit_code,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "seconds": seconds_of(job),
        "entrypoint": job.entrypoint,
    }


def _progress(session: Session, job: Job) -> str:
    from tagfleet.submit.watching import in_a_line, progress_of

    return in_a_line(progress_of(job, session.settings.storage)) if job.kind else ""


def _duration(job: Job) -> str:
    from tagfleet.submit.watching import seconds_of

    seconds = seconds_of(job)
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _print(text: str) -> None:
    for line in text.splitlines():
        typer.echo(printable(line.expandtabs()))
