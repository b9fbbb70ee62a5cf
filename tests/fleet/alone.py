"""A training in this very process, without Ray: for tests of what comes after it."""

from tagfleet.fleet.dataset import rows_of, stored_examples
from tagfleet.fleet.evaluation import evaluate, evaluation_folder
from tagfleet.fleet.features import index_of, read_index
from tagfleet.fleet.runs import open_run, write_metrics
from tagfleet.fleet.team import Team
from tagfleet.fleet.train import make_tagger, publish, write_evaluation
from tagfleet.fleet.train_loop import WorkerJob, run_epochs
from tagfleet.fleet.training_data import resolve
from tests.fleet.synthetic import FOLDER, settings


def prepared(root, **changes):
    """The data, the index and the job of a training."""
    data = resolve(root, settings(**{"workers": {"n_workers": 1}} | changes))
    index = index_of(data.tracks, read_index(root, FOLDER), {})
    sides = {split: stored_examples(rows_of(data.examples, split), index) for split in ("train", "validation")}
    return data, index, WorkerJob(root=root, recipe=data.recipe, **sides)


def trained(root, run_id="r", **changes):
    """The calibrated tagger of a run whose folder is as `train` leaves it, and its data and index."""
    data, index, job = prepared(root, **changes)
    open_run(root, run_id, data.recipe)
    progress = run_epochs(job, Team())
    write_metrics(root, run_id, progress.history)
    return make_tagger(root, data.recipe, job, progress.best, run_id=run_id, epoch=progress.best_epoch), data, index


def published(root, run_id="r", **changes):
    """The reference of a published, measured model."""
    tagger, data, index = trained(root, run_id, **changes)
    found = evaluate(root, tagger, data, index, model=data.recipe.train.model)
    write_evaluation(root, evaluation_folder(run_id, "test"), found)
    return publish(root, tagger, found.evaluation, data)
