"""Branches: what trains and what does not move, first order, the run beside them, resuming, noise, and refusals."""

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mat.errors import InputError
from mat.experiments.studies.branches.fork import Fork
from mat.experiments.studies.branches.measure import MODULE, SET, Branch, Branches, shares
from mat.experiments.studies.branches.settings import SETS, Settings
from mat.experiments.tasks.base import Batch
from mat.experiments.training.code_version import code_hash
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine
from mat.kernels.probes.gradient_norms import gradient_norms
from mat.partition.partition import Partition
from tests import cases
from tests.experiments.studies import mini

CONFIG = mini.CONFIGS["branches"]
jobs_in, job = partial(mini.jobs_in, "branches"), partial(mini.job, "branches")


def fork_of(case):
    return Fork(case.model, case.partition), [(7, Batch(case.inputs, case.labels))] * 3


def loss_of(model, batch):
    return torch.nn.functional.cross_entropy(cases.logits(model, batch.inputs).flatten(0, -2), batch.labels.flatten())


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.1)


def moved(fork, before):
    """Names of modules, and "remainder", of which an entry is not bitwise the one before."""
    now = dict(fork.model.named_parameters())
    owners = [(m.name, m.slices) for m in fork.partition.modules] + [("remainder", fork.partition.remainder)]
    return {
        name
        for name, slices in owners
        for piece in slices
        if not torch.equal(piece.of(now[piece.parameter]), piece.of(before[piece.parameter]))
    }


def few_modules_case():
    """One filter group is a module; the other half of its parameters is the remainder's."""
    case = cases.vgg_case()
    return replace(case, partition=Partition.of(case.model, case.partition.modules[:1]))


@pytest.mark.parametrize("make", [cases.vgg_case, cases.bert_case, cases.switch_case, few_modules_case])
def test_what_does_not_train_is_bitwise_the_same(make):
    case = make()
    fork, batches = fork_of(case)
    before = {name: p.detach().clone() for name, p in case.model.named_parameters()}
    names = case.partition.names
    for chosen in (names[:1], names[-1:]):
        assert fork.train(batches, chosen, loss_of, sgd, remainder=False)
        assert moved(fork, before) == set(chosen)
    assert fork.train(batches, (), loss_of, sgd, remainder=False)
    assert moved(fork, before) == set()
    assert fork.train(batches, names[::2], loss_of, sgd, remainder=True)
    assert moved(fork, before) == {*names[::2], "remainder"}
    assert fork.train(batches, names, loss_of, sgd, remainder=True)
    assert moved(fork, before) == {*names, "remainder"}
    fork.reset()
    assert moved(fork, before) == set()
    for name, parameter in case.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


@pytest.mark.parametrize("make", [lambda: cases.vgg_case(batch_norm=False), cases.bert_case])
def test_one_small_step_decreases_the_loss_by_its_rate_times_the_squared_gradient(make):
    case = make()
    fork, batches = fork_of(case)
    rate, start = 1e-6, case.loss().item()
    norms = gradient_norms(
        case.model, case.partition, case.inputs, case.labels,
        lambda logits, labels: torch.nn.functional.cross_entropy(
            logits.flatten(0, -2), labels.flatten(), reduction="none"
        ).reshape(len(labels), -1).mean(1),
    )  # fmt: skip
    for name in case.partition.names:
        fork.train(
            batches[:1], (name,), loss_of, lambda model: torch.optim.SGD(model.parameters(), lr=rate), remainder=False
        )
        assert start - case.loss(fork.model).item() == pytest.approx(rate * norms[name] ** 2, rel=1e-3)


def test_an_annealed_branch_moves_by_its_falling_rates():
    """To first order each step moves by its rate times the same gradient: 1 + 2/3 + 1/3 of it in three steps, for 3."""
    case = cases.vgg_case(batch_norm=False)
    fork, batches = fork_of(case)
    name, rate = case.partition.names[0], 1e-5
    plain = lambda model: torch.optim.SGD(model.parameters(), lr=rate)  # noqa: E731
    drops = []
    for anneal in (False, True):
        fork.train(batches, (name,), loss_of, plain, remainder=False, anneal=anneal)
        drops.append(case.loss().item() - case.loss(fork.model).item())
    assert drops[1] == pytest.approx(drops[0] * 2 / 3, rel=1e-3)


def test_clipping_is_by_what_trains_alone():
    case = cases.bert_case()
    fork, batches = fork_of(case)
    name, rate, clip = case.partition.names[0], 0.1, 1e-3
    before = {key: p.detach().clone() for key, p in case.model.named_parameters()}
    plain = lambda model: torch.optim.SGD(model.parameters(), lr=rate)  # noqa: E731
    fork.train(batches[:1], (name,), loss_of, plain, remainder=False, clip=clip)
    now = dict(fork.model.named_parameters())
    size = sum((now[key] - before[key]).square().sum().item() for key in before) ** 0.5
    assert size == pytest.approx(rate * clip, rel=1e-3)


def test_a_branch_that_overflows_ends_and_one_without_gradient_goes_on():
    case = cases.vgg_case()
    fork, batches = fork_of(case)
    names = case.partition.names
    assert not fork.train(batches, names, lambda model, batch: loss_of(model, batch) * math.inf, sgd, remainder=True)
    generators = torch.get_rng_state()
    assert fork.train(batches, names[:1], lambda model, batch: torch.zeros(()), sgd, remainder=False)
    assert moved(fork, dict(case.model.named_parameters())) == set()
    assert torch.equal(torch.get_rng_state(), generators)


def test_every_branch_is_there_once_and_says_what_it_trained(branches):
    assert not branches.duplicated(["step", "part", "branch"]).any()
    assert branches.groupby(["step", "part"]).size().to_dict() == {
        (step, part): n for step in (3, 8) for part, n in ((MODULE, 5), (SET, len(SETS)))
    }
    assert np.isfinite(branches[["train_loss_before", "train_loss_after", "val_loss_after"]]).all(axis=None)
    single = branches[(branches["part"] == MODULE) & (branches["branch"] != "none")]
    assert np.isfinite(single[["lambda_max", "trace", "effective_rank", "gradient_norm"]]).all(axis=None)
    for _, rows in branches.groupby("step"):
        ranked = rows[rows["part"] == MODULE].dropna(subset="lambda_max").sort_values("lambda_max")["branch"]
        sets = rows[rows["part"] == SET].set_index("branch")["members"]
        assert (sets["bottom"], sets["top"]) == (ranked.iloc[0], ranked.iloc[-1])
        assert sets["none"] == "" and set(sets["all"].split()) == set(ranked)
        assert sets["random"] in set(ranked)
    assert branches[["memorised_after", "true_after"]].isna().all(axis=None)
    assert branches["code_hash"].eq(code_hash(Branches.modules(job()))).all()


def test_the_run_goes_on_as_if_there_were_no_branches(tmp_path):
    for family in ("vgg", "switch"):
        one = job(family)
        session = Branches(one, tmp_path / "x", Machine(cache=tmp_path))
        loop = Loop(one.spec, tmp_path / "y", Machine(cache=tmp_path))
        step, share = session.checkpoints[0]
        for each in (session.loop, loop):
            for _ in range(step):
                each.advance(lambda line, share: None)
        for branch in session.branches(step):
            session.done[branch] = session.row(branch, share)
        for each in (session.loop, loop):
            for _ in range(3):
                each.advance(lambda line, share: None)
        states = [
            {**each.model.state_dict(), **{f"{k}.{n}": v for k, s in each.optimizer.state_dict()["state"].items()
                                           for n, v in s.items() if isinstance(v, torch.Tensor)}}
            for each in (session.loop, loop)
        ]  # fmt: skip
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            assert torch.equal(value, states[1][name]), name


@pytest.mark.parametrize(("recipe", "steps"), [("constant", 3), ("linear", 1)])
def test_the_branch_that_trains_everything_is_the_run_itself(tmp_path, recipe, steps):
    """The same batches and, without momentum and as long as the rate is the same, the steps that the run takes next."""
    config = copy.deepcopy(CONFIG)
    config["tasks"]["digits"]["recipe"] |= {"schedule": recipe, "momentum": 0.0}
    config["branches"] |= {"set_steps": steps, "shares": [0.5]}
    session = Branches(jobs_in(config)[0], tmp_path / "x", Machine(cache=tmp_path))
    step, share = session.checkpoints[0]
    while session.loop.progress.step < step:
        session.loop.advance(lambda line, share: None)
    session.row(Branch(step, SET, "all"), share)
    for _ in range(session.settings.set_steps):
        session.loop.advance(lambda line, share: None)
    trained = session._checkpoint.fork.model.state_dict()
    for name, value in session.loop.model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-6)


def test_a_run_or_a_branch_that_diverges_is_recorded(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["tasks"]["digits"]["recipe"] |= {"lr": 1e18, "warmup": 0.0}
    config["branches"]["shares"] = [0, 0.5]
    found = Branches.measure(jobs_in(config)[0], tmp_path / "x.csv.gz")
    assert found["diverged"].all() and set(found["step"]) == {0, 8}
    late, early = found[found["step"] == 8], found[found["step"] == 0]
    assert late[["lambda_max", "train_loss_before", "train_loss_after", "val_loss_after"]].isna().all(axis=None)
    assert early["train_loss_before"].notna().all()
    assert early.set_index(["part", "branch"])["train_loss_after"][SET, "all"] is not None
    assert early.loc[early["branch"] == "all", "train_loss_after"].isna().all()
    assert early.loc[(early["branch"] == "none") & (early["part"] == MODULE), "train_loss_after"].notna().all()


def test_where_runs_read_their_steps_a_checkpoint_is_measured_by_loss(tmp_path):
    seen = []
    for estimator in ("step", "loss"):
        config = copy.deepcopy(CONFIG)
        config["tasks"]["digits"]["probe"] |= {"estimator": estimator}
        session = Branches(jobs_in(config)[0], tmp_path / estimator, Machine(cache=tmp_path))
        assert session.estimator.name == "loss"
        seen.append(session._spectra(0))
    assert seen[0] == seen[1] and all(row["lambda_max"] > 0 for row in seen[0].values())


def test_wrong_labels_that_a_set_answers_with_are_counted(tmp_path, monkeypatch):
    """A task whose first samples have wrong labels: the next class; the shares are those of the model's answers."""
    session = Branches(job(), tmp_path / "x", Machine(cache=tmp_path))
    task, step = session.loop.task, session.checkpoints[0][0]
    probe = task.probe(5, 300)
    given = (probe.labels + 1) % 10
    true = torch.where(torch.arange(300) < 280, probe.labels, -100)  # the last ones are not counted
    monkeypatch.setattr(type(task), "corrupted", lambda self: (Batch(probe.inputs, given), true))
    session = Branches(job(), tmp_path / "x", Machine(cache=tmp_path))
    while session.loop.progress.step < step:
        session.loop.advance(lambda line, share: None)
    row = session.row(Branch(step, SET, "all"), 0.2)
    model = session._checkpoint.fork.model.eval()
    with torch.no_grad():
        answers = model(**probe.inputs).argmax(-1)[:280]
    assert row["memorised_after"] == pytest.approx((answers == given[:280]).double().mean().item())
    assert row["true_after"] == pytest.approx((answers == probe.labels[:280]).double().mean().item())
    assert row["true_after"] != row["true_before"]
    session.done = {branch: row for s, _ in session.checkpoints for branch in session.branches(s)}
    assert session.table()["corrupted"].eq(280).all()


def test_shares_of_no_answers_are_unknown():
    nothing = torch.zeros(0)
    assert all(math.isnan(value) for value in shares(nothing, nothing, nothing))
    assert shares(*(torch.tensor(v) for v in ([1, 2, 3, 4], [1, 2, 0, 0], [0, 0, 3, 0]))) == (0.5, 0.25)


def test_a_family_can_change_its_task():
    config = mini.config_of("branches", families={"still": {"of": "digits", "task": {"shift": 0}}})
    assert jobs_in(config)[0].spec.task.settings == replace(job().spec.task.settings, shift=0)


def test_a_set_has_its_share_of_the_modules():
    assert [Settings().set_size(n) for n in (1, 3, 10, 24)] == [1, 1, 3, 8]


def test_branches_longer_than_the_run_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="a branch of 20 steps from step 8 goes beyond the run's 15 steps"):
        Branches.measure(job(set_steps=20), tmp_path / "x.csv.gz")
