"""Pooled tables that are not as they were written are one error; what is asked of them is looked up, not searched."""

import pytest

from mat.errors import InputError
from mat.evidence.measures import over_seeds
from mat.evidence.measures.curves import Convergence
from mat.evidence.runs import pooled
from mat.records.seal import SEAL
from tests.evidence.synthetic import collected

DAMAGES = {
    "emptied": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "noise": lambda content: bytes(reversed(content)),
    "other letters": lambda content: content.translate(bytes.maketrans(b"0123456789", b"abcdefghij")),
    "one bit": lambda content: content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1])
    + content[len(content) // 2 + 1 :],
}  # fmt: skip


@pytest.fixture(scope="module")
def tables():
    return collected()


@pytest.mark.parametrize("name", (*pooled.FILES, SEAL))
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pooled_tables_are_one_error_that_says_to_collect_them_again(tables, tmp_path, name, damage):
    pooled.save(tables, tmp_path)
    path = tmp_path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(InputError, match="collect the runs again") as error:
        pooled.load(tmp_path)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_pooled_tables_of_two_collections_do_not_mix(tables, tmp_path):
    pooled.save(tables, tmp_path / "a")
    pooled.save(collected(seeds=(0, 1)), tmp_path / "b")
    for name in pooled.FILES:
        pooled.save(tables, tmp_path / "mixed")
        (tmp_path / "mixed" / name).write_bytes((tmp_path / "b" / name).read_bytes())
        with pytest.raises(InputError, match=f"{name} is not what {SEAL} beside it was written for"):
            pooled.load(tmp_path / "mixed")


def test_a_run_is_measured_once_however_often_it_is_asked_for(tables):
    asked = []

    def length(run, curve):
        asked.append(run["run"])
        return len(curve)

    some = tables.part(tables.runs[tables.runs["seed"] != 1])
    for _ in range(3):
        assert tables.by_seed("digits", "mat", length).index.tolist() == [0, 1, 2]
        assert some.by_seed("digits", "mat", length).index.tolist() == [0, 2]
    assert sorted(asked) == sorted(tables.finished("digits", "mat")["run"])


def test_a_part_gives_what_its_runs_alone_give(tables):
    """By an index that it shares with the whole, and by one of its own."""
    runs = tables.runs[tables.runs["seed"] < 2]
    part, own = tables.part(runs), collected(seeds=(0, 1))
    rule = Convergence()
    for task in own.tasks:
        assert part.methods(task) == own.methods(task)
        for method in own.methods(task):
            found, wanted = (over_seeds.convergence_macs(each, task, method, "executed", rule) for each in (part, own))
            assert found.equals(wanted)
            assert part.finished(task, method)["run"].tolist() == own.finished(task, method)["run"].tolist()
    assert part.part(runs[runs["seed"] == 0]).whole is tables
    names = list(runs["run"][:3])
    assert part.probes_of(*names).groupby("run").size().equals(own.probes_of(*names).groupby("run").size())
