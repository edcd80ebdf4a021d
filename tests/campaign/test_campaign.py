"""The campaign carries out its attacks and tells good ends from bad ones."""

import pickle
import random
import re
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mat.records.files import CURVE
from tests.end_to_end import warm

IMPORTED = ("mat.experiments.tasks.digits", "mat.experiments.models.vgg", "mat.methods.mat")


def _small_campaign(root: Path, out: Path) -> None:
    """A few attacks of each kind on two runs; the last on a command whose reader hides what is wrong."""
    from mat.errors import InputError
    from mat.evidence.report import terminal
    from mat.experiments.cli import serve
    from tests.campaign import bench, configs, disks, files, kills, permissions, together

    serve.import_all(IMPORTED)
    made = bench.made(root, ("first", "second"))
    curve = next(one for one in files.TARGETS if one.pattern.endswith("curve.csv"))
    shown = replace(curve, readers=(files.show,))
    attacks = [
        kills.Kill("first", (0.5,), True, signal.SIGKILL, True),
        kills.Kill("first", (0.6,), False, signal.SIGKILL, True),
        files.Damage(shown, "emptied", 0.0, 0),
        configs.Alteration("specification", ("recipe", "lr"), "lrr", misspelt=True),
        configs.Alteration("scale", ("seeds",), "text"),
        configs.Alteration("specification", ("recipe", "momentum"), 0),
        disks.Disk("first", "limit on files", 100.0),
        permissions.Permission(f"{{run}}/{CURVE}", "first", "finished", "nothing"),
        together.Together("first", "the same", 0.3),
    ]
    found = [attack.carry_out(made) for attack in attacks]
    read = terminal.run

    def hiding(folder: Path) -> str:
        try:
            return read(folder)
        except InputError:
            return "all is well"

    terminal.run = hiding
    hidden = files.Damage(shown, "emptied", 0.0, 0).carry_out(made)

    def failing(folder: Path) -> str:
        raise ValueError("not one line")

    terminal.run = failing
    out.write_bytes(pickle.dumps([*found, hidden, files.Damage(shown, "cut", 0.5, 0).carry_out(made)]))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "found"
    process = warm.PROCESSES.Process(target=_small_campaign, args=(tmp_path_factory.mktemp("campaign"), out))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return [(verdict.value, why) for verdict, why in pickle.loads(out.read_bytes())]


def test_attacks_that_the_commands_withstand_end_well(found):
    from tests.campaign.permissions import matter

    permissions_matter = matter()
    *ends, permission, together = [verdict for verdict, _ in found[:9]]
    clear, recovered = "clear error", "recovered"
    assert ends == [recovered, recovered, clear, clear, clear, recovered, recovered], found
    assert permission == (clear if permissions_matter else recovered)
    assert together in (clear, recovered)  # the second one finds the first one at work, or done


def test_a_reader_that_hides_damage_is_called_silent(found):
    assert found[9] == ("silent", "show: show says something else")


def test_an_error_of_more_than_a_line_is_called_a_traceback(found):
    assert found[10] == ("traceback", "show: ValueError: not one line")


def test_attacks_are_the_same_for_the_same_seed_and_as_many_as_promised():
    from tests.campaign.__main__ import PARTS

    planned = {name: [part.planned(random.Random(seed)) for seed in (1, 1, 2)] for name, part in PARTS.items()}
    for name, (one, same, other) in planned.items():
        assert [attack.what for attack in one] == [attack.what for attack in same], name
        assert [attack.what for attack in one] != [attack.what for attack in other], name
    counts = Counter({name: len(one) for name, (one, _, _) in planned.items()})
    assert counts["kills"] >= 100
    assert counts["workflow"] >= 20
    assert counts["files"] >= 200
    assert counts["configs"] >= 300


def test_every_key_is_misspelt_and_no_misspelt_one_is_a_known_one():
    from tests.campaign import configs

    attacks = [one for one in configs.planned(random.Random(0)) if getattr(one, "misspelt", False)]
    keys = {one.path for one in attacks if one.carrier == "specification"}
    assert keys == {path for path in configs.paths(configs.SPEC) if isinstance(path[-1], str)}
    for one in attacks:
        assert one.value not in configs.at(one.original, one.path[:-1])


def test_the_table_counts_each_attack_once_and_names_those_that_ended_badly():
    from tests.campaign import table
    from tests.campaign.outcomes import Outcome, Verdict

    ends = [Outcome(f"files/{n}", "files: cut", "a file", verdict, "why") for n, verdict in enumerate(Verdict)]
    page = table.page(ends, {"files": 2.0}, {"files": 9}, "python -m tests.campaign")
    assert "| files: cut | 5 | 1 | 1 | 1 | 1 | 1 |" in page
    assert re.findall(r"--only (\S+)`", page) == ["files/2", "files/3", "files/4"]
    assert "Of 9 planned attacks 5 were tried, because the time was over" in page


def test_what_was_kept_is_not_tried_again_unless_code_or_seed_are_others(tmp_path):
    from argparse import Namespace

    from tests.campaign.__main__ import keep, known
    from tests.campaign.outcomes import Outcome, Verdict

    asked = Namespace(keep=tmp_path / "kept", seed=3)
    ends = [Outcome(f"files/{n}", "files: cut", "a file", verdict, "why", 0.5) for n, verdict in enumerate(Verdict)]
    for one in ends:
        keep(one, asked, "this code")
    assert known(asked, "this code") == {one.attack: one for one in ends}
    assert known(asked, "other code") == known(Namespace(keep=asked.keep, seed=4), "this code") == {}


def test_states_of_runs_are_no_results_of_a_workflow_but_may_not_stay(tmp_path):
    from tests.campaign import workflow

    runs = tmp_path / "results/mini/runs"
    (runs / "one").mkdir(parents=True)
    (runs / ".state/one-0123/000001").mkdir(parents=True)
    (runs / ".state/one.lock").touch()
    assert {name.partition("/")[0] for name in workflow.results(tmp_path)} == {"one"}
    assert workflow.states(tmp_path) == ["one-0123"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_command_that_does_not_end_is_ended(waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.campaign import commands

    monkeypatch.setattr(commands, "LIMIT", 1)

    def run(argv: list[str]) -> None:
        while True:
            time.sleep(waits)

    ended = commands.Command([], tmp_path, run=run).wait(*([0.1] if waits else []))
    assert ended.status is None
