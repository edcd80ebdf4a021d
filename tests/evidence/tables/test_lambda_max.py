"""What tells modules apart in λ_max: variances and orders written by hand, and invented runs."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.evidence.measures.spectra import order_kept, variance_parts
from mat.evidence.tables.lambda_max import lambda_max, page
from tests.evidence.synthetic import METHODS, collected

KINDS, LAYERS = ("head", "head", "head", "head", "ffn", "ffn"), (0, 0, 1, 1, 0, 1)


def probes(*values):
    """One probe for each of ``values``, λ_max of six modules: two heads and an FFN in each of two layers."""
    return pd.DataFrame(
        [
            {"interval": t, "module": f"m{i}", "kind": KINDS[i], "layer": LAYERS[i], "lambda_max": value}
            for t, probe in enumerate(values)
            for i, value in enumerate(probe)
        ]
    )


@pytest.mark.parametrize(
    ("logs", "parts"),
    [
        ((1, 1, 1, 1, 4, 4), (1, 0, 0)),
        ((0, 0, 2, 2, 0, 2), (0, 1, 0)),
        ((0, 2, 0, 2, 1, 1), (0, 0, 1)),
        # heads -2, 0, 0, 2 around their layers' means -1 and 1: within 4, layers 4; the FFN is at 3: kinds 12
        ((-2, 0, 0, 2, 3, 3), (0.6, 0.2, 0.2)),
    ],
)
def test_parts_of_the_variance_by_hand(logs, parts):
    found = variance_parts(probes(np.exp(logs), 5 * np.exp(logs)))  # a factor for all is no difference between modules
    assert list(found.values()) == pytest.approx(parts, abs=1e-12)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1, 2, 7]), min_size=6, max_size=6), min_size=1, max_size=4))
@settings(deadline=None)
def test_parts_are_shares_of_a_whole_and_those_of_a_naive_sum(values):
    found, naive = variance_parts(probes(*values)), []
    for probe in values:
        logs = {i: math.log(value) for i, value in enumerate(probe) if value > 0}
        if len(set(logs.values())) > 1:
            mean = lambda these: sum(these) / len(these)  # noqa: E731
            kind = {i: mean([logs[j] for j in logs if KINDS[j] == KINDS[i]]) for i in logs}
            cell = {i: mean([logs[j] for j in logs if (KINDS[j], LAYERS[j]) == (KINDS[i], LAYERS[i])]) for i in logs}
            whole, grand = sum((x - mean(logs.values())) ** 2 for x in logs.values()), mean(logs.values())
            naive.append([sum((kind[i] - grand) ** 2 for i in logs), sum((cell[i] - kind[i]) ** 2 for i in logs),
                          sum((logs[i] - cell[i]) ** 2 for i in logs)])  # fmt: skip
            naive[-1] = [part / whole for part in naive[-1]]
    if naive:
        assert list(found.values()) == pytest.approx(np.mean(naive, axis=0), abs=1e-9)
        assert sum(found.values()) == pytest.approx(1) and min(found.values()) >= -1e-12
    else:
        assert all(map(math.isnan, found.values()))


def test_the_order_of_modules_from_probe_to_probe():
    up, down = (1, 2, 3, 4, 5, 6), (6, 5, 4, 3, 2, 1)
    seen = probes(up, up, down)
    assert order_kept(seen, step=1) == pytest.approx(0) and order_kept(seen, step=None) == -1
    assert order_kept(probes(up, (1, 3, 2, 4, 5, 6)), step=1) == pytest.approx(13 / 15)
    assert math.isnan(order_kept(probes(up), step=1)) and math.isnan(order_kept(probes((1,) * 6, up), step=None))


def test_vanilla_s_runs_are_read_and_without_them_another_s():
    tables = collected(tasks=["hmm"], methods={name: METHODS[name] for name in ("vanilla", "mat")})
    frame = lambda_max(tables).set_index("measure")
    assert set(frame["method"]) == {"vanilla"} and set(frame["n"]) == {3}
    assert frame.loc[["kind", "layer", "module"], "mean"].sum() == pytest.approx(100)
    runs = [run["run"] for run in tables.finished_runs("hmm", "vanilla")]
    each = [100 * variance_parts(tables.probes_of(run))["kind"] for run in runs]
    assert frame.loc["kind", "mean"] == pytest.approx(np.mean(each))
    shares = frame.loc[["kind", "layer", "module"], ["low", "high"]].to_numpy()
    assert ((shares >= 0) & (shares <= 100)).all()
    (section,) = page(frame.reset_index(), tables).sections
    assert section.header[3] == "kind, %" and section.rows[0][:3] == ("Markov text, small BERT", "vanilla", "3")
    other = collected(tasks=["hmm"], methods={"mat": METHODS["mat"]})
    assert set(lambda_max(other)["method"]) == {"mat"}


def test_without_a_spectrum_it_says_so():
    tables = collected(tasks=["hmm"], methods={"random": METHODS["random"]})
    assert page(lambda_max(tables), tables).sections[0].title == "Not tested"
