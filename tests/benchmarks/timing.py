"""Ratios of times and of memory, taken in one process side by side, because machines are noisy."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Seconds(NamedTuple):
    """Of one run: by the clock, and of this process on all processors, which other processes delay less."""

    wall: float
    cpu: float


def side_by_side(runs: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, list[Seconds]]:
    """Seconds of every run, ``rounds`` times in turn after one round to warm up."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
    return seconds


def ratio(seconds: dict[str, list[Seconds]], above: str, below: str) -> str:
    """The median over rounds of the ratio of two runs, with its range, and of their CPU seconds."""
    pairs = list(zip(seconds[above], seconds[below], strict=True))
    ratios = [a.wall / b.wall for a, b in pairs]
    cpu = statistics.median(a.cpu / b.cpu for a, b in pairs)
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}], CPU {cpu:.2f}"


def _measure(prepare: Callable, name: str, threads: int, pipe) -> None:
    torch.set_num_threads(threads)
    run = prepare(name)
    # the high-water mark only rises: what stands before the run is taken off
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send((before * 1024, after * 1024))


def peak_memory(prepare: Callable[[str], Callable], name: str, threads: int) -> tuple[int, int]:
    """Resident bytes of a fresh process before ``prepare(name)()`` and at its peak (Linux, CPU)."""
    return _in_a_process(_measure, prepare, name, threads)


def _in_a_process(measure: Callable, prepare: Callable, name: str, threads: int):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=measure, args=(prepare, name, threads, there))
    process.start()
    there.close()
    try:
        result = here.recv()
    except EOFError:
        raise RuntimeError(f"the process measuring {name} ended with code {process.exitcode}") from None
    process.join()
    return result


def _allocate(prepare: Callable, name: str, threads: int, pipe) -> None:
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(threads)
    run = prepare(name)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = []
    waiting = list(profiler.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag.name == "Allocation":
            events.append((event.start_time_ns, event.extra_fields.alloc_size))
    held = peak = 0
    for _, size in sorted(events, key=lambda pair: pair[0]):
        held += size
        peak = max(peak, held)
    pipe.send(peak)


def peak_tensors(prepare: Callable[[str], Callable], name: str, threads: int) -> int:
    """Most bytes that tensors held at once while ``prepare(name)()`` ran in a fresh process (CPU), by PyTorch's own
    allocator: what ``torch.cuda.max_memory_allocated`` says of a GPU."""
    return _in_a_process(_allocate, prepare, name, threads)


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(row) + " |")
