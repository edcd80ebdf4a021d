"""Two processes train what one does with the whole batch, and reduce what is active only.

Both processes go through all cases of ``tests.replicas`` once, on gloo; losses are means, and each has as many samples
and tokens, so DDP's mean over the processes is the mean over the batch. Batch norms are left out, or in evaluation
mode: over a share of a batch their statistics are others, by PyTorch's own rule.
"""

import json
import multiprocessing
import signal

import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mat.experiments.config.spec import Spec
from mat.records.files import CURVE, read_whole
from tests import replicas
from tests.replicas import BUILDS, MODES, STEPS

TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
def both(place):
    """What the first and the second process have found, by case."""
    torch.save(replicas.trained("bert", "exact", steps=2)["state"], place / "half.pt")
    # torch and transformers' models are imported once for both
    multiprocessing.set_forkserver_preload([replicas.__name__, "tests.integrations.test_huggingface"])
    counts = {"min_nodes": 1, "max_nodes": 1, "nproc_per_node": 2, "max_restarts": 0}
    meeting = {"run_id": "replicas", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # what torchrun does with its options; the handlers that it leaves are a launcher's
    elastic_launch(LaunchConfig(**counts, **meeting, start_method="forkserver"), replicas.main)(place)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return [torch.load(place / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


ROUNDING32 = {"rel": 1e-4, "abs": 1e-6}  # of runs in float32, over eight steps of AdamW
COSTS = ("macs_nominal", "macs_executed", "macs_nominal_probe", "macs_executed_probe", "macs_eigen", "macs_optimizer")


def same(found, expected):
    torch.testing.assert_close(found, expected, **TOLERANCE)


def compare(both, case, alone):
    first, second = (found[case] for found in both)
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert first["active"] == second["active"] == alone["active"]
    same(first["weights"], alone["weights"])
    same(first["norms"], alone["norms"])
    assert first["moved"] == second["moved"] == []
    assert any(active != alone["active"][0] for active in alone["active"]), "control: the selection changes"
    return first


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("build", BUILDS)
def test_two_processes_train_what_one_does_and_what_sleeps_moves_in_neither(both, build, mode):
    compare(both, f"{build} {mode}", replicas.trained(build, mode))


@pytest.mark.parametrize(
    ("case", "options"),
    [
        (replicas.NORMS_FIXED, {"build": replicas.NORMS_FIXED, "mode": "detach"}),
        ("accumulated", {"build": "bert", "mode": "detach", "shares": 2}),
        ("recorded", {"build": "bert", "mode": "detach", "estimator": "step"}),
        ("wrapped before", {"build": "switch", "mode": "detach"}),
        *((f"checkpointed {way}", {"build": "bert", "mode": "detach"}) for way in (False, True)),
    ],
)
def test_so_they_do_however_they_are_wrapped_accumulated_probed_and_checkpointed(both, case, options):
    compare(both, case, replicas.trained(**options))


@pytest.mark.parametrize("build", BUILDS)
def test_what_is_reduced_is_what_is_active_and_one_short_message_a_step(both, build):
    found = both[0][f"{build} detach"]
    for own, calls in found["entries"]:
        gradients = sum(entries for kind, entries in calls if kind == "torch.float64")
        messages = [entries for kind, entries in calls if kind == "torch.int64"]
        assert gradients == own
        assert messages[-1] == 2 + found["leaves"]
        assert set(messages[:-1]) <= {2}, "whether partitions agree, once"
    active = [own for own, _ in found["entries"]]
    assert min(active) < max(active) <= found["all"], "control: the active share changes"


def test_accumulated_batches_are_reduced_once(both):
    calls = both[0]["accumulated"]["entries"][-1][1]
    assert [kind for kind, _ in calls] == ["torch.int64", "torch.float64"]


def test_an_expert_without_tokens_in_one_process_counts_as_zero_there_and_one_without_any_has_no_gradient(both):
    alone = replicas.one_expert_alone()
    first, second = (found["expert alone"] for found in both)
    assert both[0]["own experts"] != both[1]["own experts"], "control: they reach different experts"
    same(first, alone)
    same(second, alone)
    assert any(gradient is None for gradient in alone.values())


def test_processes_that_would_train_different_modules_are_told_before_a_gradient_is_mixed(both):
    for found in both:
        assert "do not have the same modules active (here " in found["disagreeing sets"]
        assert "do not have the same partition and mode" in found["disagreeing modes"]
        assert "there are 2 processes, and the model is not called through" in found["alone in a group"]


def test_the_first_process_decides_and_all_hear_its_errors(both):
    first, second = both
    assert first["own probes"] == second["own probes"]
    assert first["sets of chance"] == second["sets of chance"] == replicas.sets_of_chance()
    assert first["bad probe"] == second["bad probe"] == "IndexError"


def test_parameters_beside_the_sparse_model_are_averaged_too_and_ddp_clears_all(both):
    alone, _ = replicas.beside()
    for found, left in (both[0]["beside"], both[1]["beside"]):
        same(found, alone)
        assert not left


def test_ddp_reduces_by_itself_again_once_the_model_is_plain(both):
    same(both[0]["plain again"], replicas.plain_again())


def test_a_state_is_resumed_by_another_number_of_processes(both):
    whole = replicas.trained("bert", "exact")
    same(both[0]["resumed"]["weights"], whole["weights"])
    resumed = replicas.trained("bert", "exact", state=both[1]["half"], steps=STEPS - 2)
    same(resumed["weights"], whole["weights"])
    assert resumed["active"] == both[0]["resumed"]["active"] == whole["active"][2:]


@pytest.mark.parametrize("name", replicas.LOOPS)
def test_a_run_shared_by_two_processes_is_that_of_one_in_losses_choices_and_costs(both, name, tmp_path):
    curve, records, final = replicas.run(name, tmp_path)
    shared, chosen, end = both[0][f"loop {name}"]
    for row, other in zip(curve, shared, strict=True):
        for column in ("val_loss", "train_loss", "active_share", "reached_share"):
            assert other[column] == pytest.approx(row[column], nan_ok=True, **ROUNDING32)
        costs = [column for column in COSTS if name != "recorded" or "probe" not in column]  # which both record
        assert [other[column] for column in costs] == [row[column] for column in costs]
    assert [(r["module"], r["step"], r["active"]) for r in records] == [
        (r["module"], r["step"], r["active"]) for r in chosen
    ]
    assert end["test_loss"] == pytest.approx(final["test_loss"], **ROUNDING32)
    assert both[1][f"loop {name}"][2] == end


def test_mat_train_under_torchrun_is_that_run_and_one_process_speaks(both, place):
    curve, record = read_whole(place / "train" / CURVE), json.loads((place / "train" / "run.json").read_text())
    for row, other in zip(curve.to_dict("records"), both[0]["loop recorded"][0], strict=True):
        assert all(row[column] == other[column] for column in ("val_loss", *COSTS))
    assert record["name"] == Spec.of({**replicas.given_of("recorded"), "processes": 2}).name
    (status, said), (other, silence) = (found["command line"] for found in both)
    assert status == other == 0
    assert [said.count(line) for line in ("mat: finished after 8 steps", "step 4/8")] == [1, 1]
    assert "step" not in silence


def test_a_shared_run_that_is_taken_over_is_the_same_to_the_bit(both):
    (whole, _, end), (curve, final) = both[0]["loop recorded"], both[0]["gone on"]
    for row, other in zip(whole, curve, strict=True):
        names = [name for name in row if not name.startswith("seconds")]
        assert str([row[name] for name in names]) == str([other[name] for name in names])
    assert final == end


def test_trainer_in_two_processes_trains_clips_and_logs_as_in_one(both, tmp_path):
    alone, logs, _ = replicas.with_trainer(tmp_path)
    for found, said, left in (both[0]["trainer"], both[1]["trainer"]):
        same(found, alone)
        assert not left
        assert not said or said == [pytest.approx(entry) for entry in logs]
    assert min(norm for _, norm in logs) > 0.05, "control: all steps are clipped"
