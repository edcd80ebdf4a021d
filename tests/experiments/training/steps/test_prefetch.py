"""Batches made ahead are the batches themselves, in whatever order and from whatever step they are asked for."""

import threading

import pytest
import torch

from mat.experiments.tasks import hmm
from mat.experiments.training.steps.prefetch import Prefetch

SETTINGS = hmm.Settings(length=8, train=20, validation=4, test=4)


@pytest.fixture
def task(tmp_path):
    return hmm.load(SETTINGS, None, tmp_path)


def expected(task, step, size):
    return task.batch(3, step // task.steps_per_epoch(size), step % task.steps_per_epoch(size), size)


def equal(one, other):
    return torch.equal(one.inputs["input_ids"], other.inputs["input_ids"]) and torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("order", [range(9), range(5, 9), (4, 4, 0, 8, 1)])
def test_every_step_gets_its_own_batch(task, order):
    feed = Prefetch(task, 3, 6, steps=9)
    for step in order:
        assert equal(feed.take(step), expected(task, step, 6))
    feed.close()


def test_the_next_batches_are_made_while_nobody_waits(task, monkeypatch):
    made, last = [], threading.Event()
    real = task.batch

    def batch(seed, epoch, step, size):
        made.append((threading.current_thread() is threading.main_thread(), epoch, step))
        if len(made) == 5:
            last.set()
        return real(seed, epoch, step, size)

    monkeypatch.setattr(task, "batch", batch)
    feed = Prefetch(task, 3, 6, steps=7)
    feed.take(2)
    assert last.wait(10)
    assert made == [(False, step // 3, step % 3) for step in (2, 3, 4, 5, 6)]
    for step in (3, 4, 5, 6):
        feed.take(step)
    feed.close()
    assert len(made) == 5  # each once, and nothing beyond the last step


def test_an_error_in_the_background_reaches_the_one_who_asks(task, monkeypatch):
    def broken(*_):
        raise ValueError("row 7")

    monkeypatch.setattr(task, "batch", broken)
    feed = Prefetch(task, 3, 6, steps=9)
    with pytest.raises(ValueError, match="row 7"):
        feed.take(0)
    feed.close()


def test_it_computes_with_as_many_threads_as_the_run(task):
    torch.set_num_threads(2)
    feed = Prefetch(task, 3, 6, steps=9)
    assert feed._pool.submit(torch.get_num_threads).result() == 2
    feed.close()
