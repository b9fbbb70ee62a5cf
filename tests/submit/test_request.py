import shlex

from tagfleet.config import Layer, assignment_layer
from tagfleet.settings import load_settings
from tagfleet.submit.request import Request, setting_words


def loaded(*assignments, file=None, **more):
    return load_settings(file=file, environ={}, flags=[assignment_layer(assignments)], **more)


def request(found, kind="retag", words=()):
    return Request(kind=kind, submission_id="s", run_id="r", words=words, settings=found.settings)


def assignments(words):
    return dict(word.split("=", 1) for word in words if word != "-s")


def test_what_somebody_set_is_sent_and_means_the_same_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.toml"
    file.write_text(
        'root = "根"\nlang = "en"\n[train]\nmodel = "a-b_1"\n[data]\naxes = ["genre"]\n[labels]\ntaxonomy = "t"\n'
    )
    found = loaded("train.epochs=3", "ray.n_cpus=2", "ray.max_cpus=64", file=file)
    words = setting_words(found, "s3://b/根 #1")
    sent = load_settings(environ={}, flags=[assignment_layer(words[1::2])], folder=tmp_path).settings
    assert (sent.root, sent.ray.address, sent.ray.n_cpus, sent.ray.max_cpus) == ("s3://b/根 #1", "auto", None, 64)
    assert sent.training == found.settings.training
    assert not any(name.startswith(("lang", "labels", "tz")) for name in assignments(words))


def test_what_a_packaged_recipe_says_goes_by_its_name():
    recipe = Layer(name="recipe smoke", values={"train": {"epochs": 2}})
    found = load_settings(environ={}, recipe=recipe, flags=[assignment_layer(["train.seed=5"])])
    assert set(assignments(setting_words(found, "s3://b/r", skip=["recipe smoke"]))) == {
        "root",
        "ray.address",
        "train.seed",
    }


def test_the_width_that_a_gpu_brings_is_left_to_the_cluster():
    words = setting_words(loaded("workers.use_gpu=true"), "s3://b/r")
    assert "network.width" not in assignments(words)
    assert load_settings(environ={}, flags=[assignment_layer(words[1::2])]).settings.network.width == 64


def test_a_command_line_survives_the_shell():
    words = ("--model", "it's; rm -rf / $(x) `y`\n曲")
    entry = request(loaded(), words=words).entrypoint
    assert shlex.split(entry) == ["python", "-m", "jobs.retag", "--run-id", "r", *words]


def test_demand_is_that_of_all_processes_at_once():
    found = loaded("workers.n_workers=2", "workers.cpus_per_worker=3", "workers.use_gpu=true")
    assert [(one.cpus, one.gpus) for one in request(found, "train").demand] == [(3, 1), (3, 1)]
    assert [(one.cpus, one.gpus) for one in request(loaded("retag.workers=2")).demand] == [(1, 0), (1, 0)]
    found = loaded("retag.gpu_workers=2", "retag.gpus_per_worker=0.5", "retag.cpus_per_worker=2")
    assert [(one.cpus, one.gpus) for one in request(found).demand] == [(1, 0.5), (1, 0.5), (2, 0)]


def test_nothing_of_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hunter3")
    made = request(loaded("train.epochs=3"))
    told = f"{made.entrypoint} {made.metadata(1)} {made.runtime_env(None)}"
    assert "hunter" not in told
