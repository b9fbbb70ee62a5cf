"""`tagfleet submit`: the same commands on a Ray cluster."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from tagfleet.cli import evaluate, retag, train, tune
from tagfleet.cli.output import DryRun, Json, complain, emit_facts, emit_json, printable, say
from tagfleet.cli.session import Session
from tagfleet.errors import UsageError
from tagfleet.fleet.recipes import packaged_recipes
from tagfleet.fleet.runs import check_run_id, new_run_id

if TYPE_CHECKING:
    from tagfleet.submit.cluster import Cluster, Job
    from tagfleet.submit.request import Request

DETACHED = 130

app = typer.Typer(help="Run a command on a Ray cluster: the same options, and where to run it.")

Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Of the cluster's Jobs API; default: $RAY_API_SERVER_ADDRESS, else port 8265 here."
    ),
]
ProfileName = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="A cluster of cluster/profiles.toml.")
]


@dataclass(frozen=True, kw_only=True)
class Sending:
    """Options of every `submit`, beside those of the command."""

    address: Address = None
    profile: ProfileName = None
    submission_id: Annotated[
        str | None, typer.Option(help="Name of the job; the same name twice is one job, and one run.")
    ] = None
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow its log and end with its exit code; Ctrl-C detaches.")
    ] = False
    timeout: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="With --wait: exit with 7 after this time.")
    ] = None
    upload: Annotated[
        bool, typer.Option("--upload", help="Send this checkout's code though the cluster has the same version.")
    ] = False
    dry_run: DryRun = False
    as_json: Json = False


Send = Callable[[Session, dict[str, Any]], tuple[Session, list[str]]]
"""From the options of a command: the session with its settings, and the words that no setting says."""


def _like(kind: str, local: Callable[..., None], send: Send) -> None:
    """The local command's options and those of sending, as one command."""
    hints = {**get_type_hints(local, include_extras=True), **get_type_hints(Sending, include_extras=True)}
    sending = inspect.signature(Sending).parameters
    own = [p for p in inspect.signature(local).parameters.values() if p.name not in sending]
    extra = [p.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in sending.values()]
    parameters = [p.replace(annotation=hints[p.name]) for p in (*own, *extra)]

    @wraps(local)
    def command(context: typer.Context, **options: Any) -> None:
        given = Sending(**{name: options.pop(name) for name in sending})
        _submit(context.obj, kind, options, send, given)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(kind)(command)


def _training(session: Session, options: dict[str, Any]) -> tuple[Session, list[str]]:
    recipe = options.get("recipe")
    if options["resume"]:
        train.only_resume(**{name: options[name] for name in options if name not in ("resume", "trials", "max_hours")})
        return session, ["--resume", options["resume"]]
    if recipe and options.get("from_tune"):
        raise UsageError("--recipe and --from-tune both name settings", hint="give one of them; -s overrides")
    session = session.with_values("train", {"init_from": options.get("init_from")})
    names = ("workers", "gpu", "settings")
    session = train.chosen(session, recipe=recipe, **{name: options.get(name) for name in names})
    if recipe:
        packaged = recipe in packaged_recipes()
        words = ["--recipe", recipe] if packaged else ["--called", Path(recipe).stem]
    else:
        words = ["--from-tune", options["from_tune"]] if options.get("from_tune") else []
    return session, words


def _tune(session: Session, options: dict[str, Any]) -> tuple[Session, list[str]]:
    session, words = _training(session, options)
    if options["space"] and not options["resume"]:
        from tagfleet.fleet.tune_space import read_space

        space = read_space(options["space"], session.settings.training)
        for name, one in space.distributions.items():
            described = one.model_dump(mode="json", exclude_defaults=True)
            parts = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in described.items())
            words += ["--vary", f"{name}={{ {parts} }}"]
    return session, words + _plain(options, "trials", "max_hours")


def _evaluate(session: Session, options: dict[str, Any]) -> tuple[Session, list[str]]:
    names = ("split", "labels", "folds", "baseline", "min_accuracy")
    return session, [options["model"], *_plain(options, *names)]


def _retag(session: Session, options: dict[str, Any]) -> tuple[Session, list[str]]:
    session = retag.with_error_rate(session, options["max_error_rate"], options["settings"])
    words = _plain(options, "model", "catalog", "only", "limit")
    words += ["--retry-failed"] if options["retry_failed"] else []
    return session, words + ([] if options["publish"] else ["--no-publish"])


def _plain(options: dict[str, Any], *names: str) -> list[str]:
    given = {name: options[name] for name in names if options[name] is not None}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


_like("train", train.train, _training)
_like("tune", tune.tune, _tune)
_like("evaluate", evaluate.evaluate, _evaluate)
_like("retag", retag.retag, _retag)


def _submit(session: Session, kind: str, options: dict[str, Any], send: Send, sending: Sending) -> None:
    from tagfleet.submit.cluster import Cluster
    from tagfleet.submit.profiles import find_profile
    from tagfleet.submit.request import Request, root_of, setting_words

    profile = find_profile(sending.profile, sending.address)
    session, words = send(session.with_profile(profile.layer), options)
    submission_id = check_run_id(sending.submission_id or options.get("run_id") or new_run_id(kind))
    recipe = options.get("recipe")
    skip = [f"recipe {recipe}"] if recipe in packaged_recipes() else []
    request = Request(
        kind=kind,
        submission_id=submission_id,
        run_id=check_run_id(options.get("run_id") or options.get("resume") or submission_id),
        words=(*words, *setting_words(session.loaded, root_of(session.settings), skip)),
        settings=session.settings,
    )
    if sending.dry_run:
        _emit_request(request, profile.address, sending)
        return
    cluster = Cluster(profile.address)
    job, new = _sent(cluster, request, sending)
    _tell_sent(job, new)
    if sending.wait:
        job = _followed(cluster, job, sending)
    facts = {"submission_id": job.submission_id, "run_id": job.run_id, "status": job.status, "new": new}
    if sending.wait:
        facts |= {"exit_code": job.exit_code, "result": _result(cluster.logs(job.ray_id))}
    if sending.as_json:
        emit_json(facts)
    else:
        emit_facts({name: value for name, value in facts.items() if name not in ("new", "result")})


def _sent(cluster: Cluster, request: Request, sending: Sending) -> tuple[Job, bool]:
    """The job of the request, after everything was looked at that can be before it costs machine time."""
    from tagfleet.fleet.resources import refuse_unfit
    from tagfleet.submit.checks import ask, check_root
    from tagfleet.submit.package import checkout, package
    from tagfleet.submit.submission import submit, there_already

    if before := there_already(cluster, request):
        return before, False
    say(f"Asking the cluster at {cluster.address} …")
    settings = [word for word in request.words if word.startswith(("root=", "storage.", "ray.address="))]
    asked = ask(cluster, [w for word in settings for w in ("-s", word)], send=sending.upload)
    check_root(asked.inside)
    refuse_unfit(request.kind, request.demand, asked.inside.machines, request.settings.ray.limit)
    code = None
    if sending.upload or not asked.same_tagfleet:
        code = package(checkout())
        say(f"Sending {len(code.files)} files of code, {code.n_bytes / 1e6:.1f} MB: the cluster has {asked.tagfleet}")
    submitted = submit(cluster, request, code)
    return submitted.job, submitted.new


def _tell_sent(job: Job, new: bool) -> None:
    what = "Submitted" if new else ("Was finished before:" if job.ended else "Runs already:")
    attempt = f" (attempt {job.attempt})" if job.attempt > 1 else ""
    say(f"{what} {job.submission_id}{attempt}, run {job.run_id}")
    if not job.ended:
        say(f"Follow it: tagfleet jobs logs {job.submission_id} -f; stop it: tagfleet jobs stop {job.submission_id}")


def _followed(cluster: Cluster, job: Job, sending: Sending) -> Job:
    from tagfleet.submit.submission import follow, raise_for_end

    try:
        job = follow(cluster, job, _log, say=say, timeout_s=sending.timeout)
    except KeyboardInterrupt:
        complain(f"\nDetached; the job runs on. Come back: tagfleet jobs logs {job.submission_id} -f")
        raise typer.Exit(DETACHED) from None
    raise_for_end(job, cluster.logs(job.ray_id))
    return job


def _log(text: str) -> None:
    for line in text.splitlines():
        say(printable(line.expandtabs()))


def _result(logs: str) -> Any:
    """The document that the job printed last."""
    for line in reversed(logs.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None


def _emit_request(request: Request, address: str, sending: Sending) -> None:
    from tagfleet.fleet.resources import total
    from tagfleet.submit.package import RUNTIME_ENV

    needed = total(request.demand)
    facts: dict[str, Any] = {
        "address": address,
        "submission_id": request.submission_id,
        "entrypoint": request.entrypoint,
        "metadata": request.metadata(1),
        "runtime_env": request.runtime_env(None),
        "upload": f"this checkout's code, by {RUNTIME_ENV}"
        if sending.upload
        else "only to a cluster of another tagfleet",
        "needs": {"cpus": needed.cpus, "gpus": needed.gpus, "memory_mb": needed.memory_mb},
        "price_per_hour": request.settings.price_per_hour,
    }
    emit_json(facts) if sending.as_json else emit_facts(facts)
