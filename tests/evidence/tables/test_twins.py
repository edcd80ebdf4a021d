"""The twin study, on invented runs."""

import numpy as np
import pytest

from mat.evidence.measures import over_seeds
from mat.evidence.measures.curves import Convergence
from mat.evidence.tables.twins import page, twins
from tests.evidence.synthetic import METHODS, changed, collected

PAIRED = changed() | {"vanilla_twin": METHODS["vanilla"], "mat_twin": METHODS["mat"]}
RULE = Convergence()


@pytest.fixture(scope="module")
def made():
    tables = collected(
        tasks=["hmm"], methods={name: PAIRED[name] for name in ("vanilla", "mat", "vanilla_twin", "mat_twin")}
    )
    return tables, twins(tables, RULE)


def test_spreads_are_those_written_out(made):
    tables, frame = made
    assert list(frame["method"].unique()) == ["vanilla", "mat"]
    row = frame.set_index(["method", "measure"]).loc[("mat", "best validation loss")]
    own, twin = (np.log(over_seeds.best_losses(tables, "hmm", name)) for name in ("mat", "mat_twin"))
    assert row["twins"] == pytest.approx(100 * np.sqrt(sum((own - twin) ** 2) / 6))
    assert row["seeds"] == pytest.approx(100 * np.std(own, ddof=1))
    assert row["ratio"] == pytest.approx(row["twins"] / row["seeds"])
    assert (row["n_twins"], row["n_seeds"], row["unit"]) == (3, 3, "%")


def test_every_measure_that_a_claim_stands_on_is_there_and_levels_count_who_reached_them(made):
    tables, frame = made
    rows = frame[frame["method"] == "vanilla"].set_index("measure")
    assert list(rows.index) == [
        "compute to convergence", *(f"compute to {part} % of vanilla's way" for part in (50, 75, 90, 100)),
        "best validation loss", "test log perplexity", "active modules",
    ]  # fmt: skip
    assert rows.loc["compute to 100 % of vanilla's way", "n_seeds"] == 2  # its median end
    text = page(frame, tables)
    assert [section.title for section in text.sections] == ["hmm"]


def test_without_twins_it_says_so():
    tables = collected(tasks=["hmm"], methods={"vanilla": METHODS["vanilla"]})
    assert page(twins(tables, RULE), tables).sections[0].title == "Not tested"
