"""States: what is saved is whole or passed over, runs nothing, and is there after an interrupt."""

import os
import resource
import signal
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments.cli import main as command_line
from mat.experiments.cli import stopping
from mat.experiments.training import resume
from mat.records.seal import SEAL, write_seal


class Count:
    """Work of counting to ten; ``at`` is what else happens, by number."""

    stands_on: ClassVar = {"data_hash": "d"}

    def __init__(self, **at):
        self.n, self.at = 0, at

    def work(self, report):
        while self.n < 10:
            self.n += 1
            self.at.get(f"n{self.n}", lambda: None)()
            yield

    def state(self):
        return {"n": self.n, "weights": torch.full((3,), float(self.n))}

    def restore(self, state):
        self.n = state["n"]


def saved(states, *numbers):
    for number in numbers:
        one = Count()
        one.n = number
        resume.save_state(states, {**one.state(), "identity": one.stands_on})


def test_the_two_newest_states_are_kept(tmp_path):
    saved(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002", "000003"]
    assert resume.load_state(tmp_path, {"data_hash": "d"})["n"] == 3


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([resume.STATE, SEAL]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.one_of(st.none(), st.integers(0, 7)),
)
def test_a_damaged_state_is_said_and_the_one_before_is_gone_on_from(tmp_path_factory, name, place, bit):
    states, said = tmp_path_factory.mktemp("states"), []
    saved(states, 1, 2)
    path = states / "000002" / name
    whole = path.read_bytes()
    at, damaged = int(place * len(whole)), bytearray(whole)
    if bit is None:
        del damaged[at:]
    else:
        damaged[at] ^= 1 << bit
    path.write_bytes(damaged)
    assert resume.load_state(states, {"data_hash": "d"}, lambda line, share: said.append(line))["n"] == 1
    assert len(said) == 1 and "000002" in said[0] and "damaged" in said[0]


def test_a_disk_that_takes_no_more_is_the_systems_error_and_leaves_the_state_before(tmp_path):
    saved(tmp_path, 1)
    limit, usual = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            resume.save_state(tmp_path, {"identity": {}, "weights": torch.zeros(10**6)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, usual)
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    assert resume.load_state(tmp_path, {})["n"] == 1


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_planted_state_runs_nothing(tmp_path):
    saved(tmp_path / "states", 1)
    folder = tmp_path / "states" / "000001"
    torch.save({"identity": {}, "n": Planted(tmp_path / "ran")}, folder / resume.STATE)
    write_seal(folder / SEAL, [resume.STATE])
    with pytest.raises(InputError, match="more than plain types and tensors"):
        resume.load_state(tmp_path / "states", {})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("number", stopping.STOPS)
def test_a_signal_that_stops_a_command_saves_the_state_too(number, foreground, tmp_path, monkeypatch, capsys):
    work = Count(n4=lambda: os.kill(os.getpid(), number))
    monkeypatch.setattr(command_line.cli, "invoke", lambda _: resume.complete(work, tmp_path, {}, save_every=1e9))
    assert command_line.main(["list", "methods"]) == 128 + number
    assert capsys.readouterr().err == "mat: interrupted; its state is saved, the same command goes on from there\n"
    assert list(tmp_path.glob(f"*/{resume.STATE}"))


def test_an_interrupt_saves_the_state_of_the_piece_that_it_came_in(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    with pytest.raises(KeyboardInterrupt, match="its state is saved"):
        resume.complete(Count(n4=lambda: os.kill(os.getpid(), signal.SIGINT)), tmp_path, {}, save_every=1e9)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    again = []
    resume.complete(Count(n4=lambda: again.append(4), n5=lambda: again.append(5)), tmp_path, {}, save_every=1e9)
    assert again == [5]


def test_two_at_once_are_refused_and_what_a_killed_one_left_is_removed(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".run.json.123").write_text("half")
    with resume.alone(out):
        assert list(out.iterdir()) == []
        with pytest.raises(InputError, match="another process is making"), resume.alone(out):
            pass
    with resume.alone(out):  # a lock that is left behind is nobody's
        pass
