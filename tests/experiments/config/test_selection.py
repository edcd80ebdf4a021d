"""What a selection keeps: the tasks and methods named, and the runs that those need."""

import pytest

from mat.errors import InputError
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import ScaleConfig, seeds_of
from mat.experiments.config.selection import choose, folder, select, terms_of, text

BERT = {"name": "bert", "width": 8, "heads": 2}
HMM = {"name": "hmm", "length": 8}
CONFIG = {
    "scale": "small",
    "seeds": [0, 1],
    "tasks": {
        "digits": {"task": {"name": "digits"}, "model": {"name": "vgg"}, "tags": ["images"]},
        "pretrain": {"task": HMM, "model": BERT, "methods": ["vanilla"]},
        "cola": {"task": {**HMM, "train": 100}, "start": {"task": "pretrain", "method": "vanilla"}, "tags": ["glue"]},
        "rte": {"task": {**HMM, "train": 90}, "model": BERT, "tags": ["glue", "small"]},
    },
    "methods": {
        "vanilla": {"name": "vanilla"},
        "mat": {"name": "mat"},
        "random": {"name": "random", "match": "mat"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def runs():
    return expand(ScaleConfig.of(CONFIG))


def labels(runs):
    return {(run.task, run.method) for run in runs}


def grid(tasks, methods=("vanilla", "mat", "random")):
    return {(task, method) for task in tasks for method in methods}


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ([], grid(["digits", "cola", "rte"]) | {("pretrain", "vanilla")}),
        (["digits"], grid(["digits"])),
        (["digits", "rte"], grid(["digits", "rte"])),
        (["images", "small"], grid(["digits", "rte"])),
        (["glue"], grid(["cola", "rte"])),
        (["vanilla"], grid(["digits", "pretrain", "cola", "rte"], ["vanilla"])),
        (["vanilla", "mat"], grid(["digits", "cola", "rte"], ["vanilla", "mat"]) | {("pretrain", "vanilla")}),
        (["glue", "vanilla", "digits"], grid(["digits", "cola", "rte"], ["vanilla"])),
    ],
)
def test_terms_restrict_tasks_and_methods_to_their_unions(runs, only, expected):
    found = choose(runs, only)
    assert labels(found) == expected
    assert len(found) == 2 * len(expected)  # both seeds


def test_what_the_selected_runs_need_comes_along(runs):
    found = select(runs, ["cola", "random"])
    assert labels(choose(runs, ["cola", "random"])) == {("cola", "random")}
    # random follows mat, and both start from the pretrained weights
    assert labels(found) == {("cola", "random"), ("cola", "mat"), ("pretrain", "vanilla")}
    names = {run.spec.name for run in found}
    assert all({run.follows, run.starts_from} - {None} <= names for run in found)
    assert [run for run in runs if run in found] == found


def test_needs_are_of_the_same_seed(runs):
    one = [run for run in runs if run.spec.seed == 1]
    assert {run.spec.seed for run in select(one, ["cola"])} == {1}


def test_an_unknown_term_is_refused_with_all_that_there_is(runs):
    message = (
        "nothing is called 'gleu' at this scale; tasks: cola, digits, pretrain, rte; tags: glue, images, small; "
        "methods: mat, random, vanilla"
    )
    with pytest.raises(InputError, match=message):
        select(runs, ["digits", "gleu"])


def test_terms_that_leave_no_run_are_refused(runs):
    with pytest.raises(InputError, match="no run is both of pretrain and by mat"):
        select(runs, ["pretrain", "mat"])


@pytest.mark.parametrize(
    ("given", "terms"),
    [
        (None, []),
        ("", []),
        ("glue", ["glue"]),
        ("glue, vanilla,,glue", ["glue", "vanilla"]),
        (["glue", "vanilla"], ["glue", "vanilla"]),
        (2, ["2"]),
    ],
)
def test_terms_as_they_are_given(given, terms):
    assert terms_of(given) == terms


def test_terms_that_are_no_names_are_refused():
    with pytest.raises(InputError, match="only must name"):
        terms_of([{"a": 1}])


@pytest.mark.parametrize(
    ("given", "seeds"), [(["0", "12"], [0, 12]), (3, [3]), ([1, 2], [1, 2]), (["x"], ["x"]), ([], []), ("0,1", [0, 1])]
)
def test_seeds_as_the_command_line_gives_them(given, seeds):
    assert seeds_of(given) == seeds


def test_a_selection_has_one_folder_and_says_how_it_is_made():
    assert folder(["vanilla", "glue"], None) == folder(["glue", "vanilla"], None) == "only/glue,vanilla"
    assert folder(["glue"], [0, 2]) == "only/glue,seeds-0-2"
    assert (folder([], None), text([], None)) == ("", "")
    assert text(["glue", "vanilla"], [0, 2]) == "only=glue,vanilla seeds=[0,2]"
    assert (folder([], [1]), text([], [1])) == ("only/seeds-1", "seeds=[1]")


@pytest.mark.parametrize("given", [",", "  ", " , ,", [""], ["", " "]])
def test_what_names_nothing_is_not_everything(given):
    with pytest.raises(InputError, match="only names nothing"):
        terms_of(given)
