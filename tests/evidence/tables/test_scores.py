"""The scores table: every metric in its unit, and GLUE's average over what there is of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mat.errors import InputError
from mat.evidence.measures.glue_average import AVERAGED
from mat.evidence.runs import metrics
from mat.evidence.runs import pooled as pooled
from mat.evidence.tables.scores import scores
from tests.evidence.synthetic import METHODS, TASKS, collected
from tests.evidence.written import write

TWO = {name: METHODS[name] for name in ("vanilla", "mat")}


def glue(*subsets, names=None):
    """Shapes of GLUE tasks that report the official metrics, or ``names``."""
    shapes = {}
    for subset in subsets:
        first, *more = names or AVERAGED[subset]
        shape = replace(TASKS["digits"], metric=first, more=tuple(more), task="glue", subset=subset)
        shapes[f"our-{subset}"] = shape
    return shapes


def made(shapes, methods=TWO, **options):
    return collected(shapes, methods, shapes=shapes, **options)


def row(frame, task, metric, method="vanilla"):
    found = frame[(frame["task"] == task) & (frame["metric"] == metric) & (frame["method"] == method)]
    assert len(found) == 1
    return found.iloc[0]


def test_one_row_per_task_metric_and_method():
    shapes = {"digits": replace(TASKS["digits"], more=("top5_accuracy",)), "hmm": TASKS["hmm"]}
    tables = made(shapes, diverged=[("digits", "mat", 0)])
    frame = scores(tables)
    assert list(zip(frame["task"], frame["metric"], frame["method"], strict=True)) == [
        (task, metric, method)
        for task, found in (("digits", ("accuracy", "top5_accuracy")), ("hmm", ("log_perplexity",)))
        for metric in found
        for method in ("vanilla", "mat")
    ]
    assert frame["higher_is_better"].tolist() == [True] * 4 + [False] * 2
    one = row(frame, "digits", "top5_accuracy")
    by_hand = 100 * tables.finished("digits", "vanilla")["test_top5_accuracy"]
    assert (one["mean"], one["unit"], one["n"]) == (pytest.approx(by_hand.mean()), "%", 3)
    half = 4.302652729911275 * by_hand.std(ddof=1) / np.sqrt(3)
    assert (one["low"], one["high"]) == pytest.approx((by_hand.mean() - half, by_hand.mean() + half))
    assert row(frame, "digits", "accuracy", "mat")["n"] == 2
    assert row(frame, "hmm", "log_perplexity")["unit"] == "nats"
    assert 2 < row(frame, "hmm", "log_perplexity")["mean"] < 3


@pytest.mark.parametrize(
    ("metric", "factor", "title"),
    [
        ("accuracy", 100, "accuracy, %"),
        ("top5_accuracy", 100, "top5 accuracy, %"),
        ("accuracy_mismatched", 100, "accuracy mismatched, %"),
        ("f1", 100, "f1, %"),
        ("matthews_correlation", 100, "matthews correlation × 100"),
        ("pearson", 100, "pearson × 100"),
        ("combined_score", 100, "combined score × 100"),
        ("gap_closed", 100, "gap closed, %"),
        ("log_perplexity", 1, "log perplexity, bits"),
        ("perplexity", 1, "perplexity"),
    ],
)
def test_a_metric_is_shown_as_its_field_shows_it(metric, factor, title):
    assert metrics.shown(metric, "bits").factor == factor
    assert metrics.title(metric, "bits") == title


def test_the_average_over_some_of_glue_is_not_called_its_score():
    tables = made(glue("mrpc", "cola"))
    found = row(scores(tables), "glue", "average over 2 of 9 tasks", "mat")
    mrpc, cola = (tables.finished(f"our-{name}", "mat") for name in ("mrpc", "cola"))
    mean = (mrpc["test_f1"] + mrpc["test_accuracy"]).mean() / 4 + cola["test_matthews_correlation"].mean() / 2
    assert found["mean"] == pytest.approx(100 * mean)
    assert (found["tasks"], found["missing"]) == ("cola mrpc", "sst2 stsb qqp mnli qnli rte wnli")


def test_all_nine_tasks_make_the_score():
    tables = made(glue(*AVERAGED), {"vanilla": METHODS["vanilla"]}, seeds=[0])
    found = row(scores(tables), "glue", "GLUE score")
    assert found["missing"] == ""
    assert found["tasks"].split() == list(AVERAGED)


def test_the_average_is_over_seeds_that_finished_every_task():
    tables = made(glue("mrpc", "cola"), diverged=[("our-cola", "mat", 1)])
    assert row(scores(tables), "glue", "average over 2 of 9 tasks", "mat")["n"] == 2
    assert row(scores(tables), "glue", "average over 2 of 9 tasks", "vanilla")["n"] == 3


def test_a_task_under_two_labels_has_no_one_score(tmp_path):
    shapes = glue("cola")
    pooled.save(made(shapes | {"again": shapes["our-cola"]}), tmp_path)
    write(tmp_path, "scores")
    assert (
        "No average: more than one label trains cola (again, our-cola), and none is called like the task."
        in (tmp_path / "scores.md").read_text()
    )
    assert "glue" not in set(pd.read_csv(tmp_path / "scores.csv")["task"])


def test_a_glue_task_without_its_official_metric_is_refused():
    with pytest.raises(InputError, match=r"GLUE's task mrpc is scored by f1, accuracy; .* does not report f1"):
        scores(made(glue("mrpc", names=("accuracy",))))


def test_a_subset_of_another_data_set_is_no_glue():
    shapes = {"images": replace(TASKS["digits"], task="cifar10", subset="cola")}
    assert set(scores(made(shapes))["task"]) == {"images"}


def test_pages_are_written_and_say_what_they_stand_on(tmp_path):
    shapes = glue("mrpc", "stsb") | {"hmm": TASKS["hmm"]}
    for folder in (tmp_path / "a", tmp_path / "b"):
        pooled.save(made(shapes, selection="only=glue,hmm"), folder)
        write(folder, "scores")
    for name in ("scores.csv", "scores.md", "scores.tex"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    page, source = ((tmp_path / "a" / f"scores.{kind}").read_text() for kind in ("md", "tex"))
    for part in (
        "scale demo (only=glue,hmm)",
        "average over 2 of 9 tasks × 100",
        "as GLUE gives them",
        "not public",
        "cola, sst2, qqp, mnli, qnli, rte, wnli",
        "| Markov text, small BERT | log perplexity, nats | lower |",
    ):
        assert part in page
    assert "GLUE score" not in page
    assert source.isascii()
    assert source.count(r"\\") == 1 + len(scores(pooled.load(tmp_path / "a")))
