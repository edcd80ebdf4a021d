"""Contexts for methods, written by hand or drawn, and every method with settings that make it choose."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mat.experiments.config.plugins import find
from mat.experiments.contract.worlds import World
from mat.methods.base import Context, Method, Observation
from mat.settings.strict import read

MODULES = ("a", "b", "c", "d")
DEPTH = {"a": 0, "b": 0, "c": 1, "d": 2}
KIND = {"a": "head", "b": "ffn", "c": "head", "d": "ffn"}

# kinds are those of the drawn contexts, which always have a head
SETTINGS = [
    ("vanilla", {}),
    *(("mat", {"alpha": 0.5, "beta": 0.3, "threshold": way}) for way in ("rank", "top", "quantile", "share")),
    ("mat", {"alpha": 0.5, "beta": 0.3, "thaw": True}),
    *(("mat", {"alpha": 0.5, "beta": 0.3, "scope": scope}) for scope in ("kind", "layer")),
    ("multirate", {}),
    *(("early_stop", {"match": "mat", "schedule": way}) for way in ("cut", "compressed")),
    *(
        (name, {**given, **counted})
        for name, given in (
            *((name, {}) for name in ("random", "largest", "smallest", "shuffled", "gradient_norm")),
            *((name, {}) for name in ("random_once", "misa", "lisa")),
            *(("shuffled_within", {"within": classes}) for classes in ("kind", "layer")),
            ("depth", {"lowest": True}),
            ("depth", {"lowest": False}),
            ("kind", {"kind": "head"}),
        )
        for counted in ({"share": 0.5}, {"match": "mat"})
    ),
    ("lisa", {"layers": 2}),
    *(("badam", {"order": order, "layers": 2}) for order in ("random", "ascending", "descending")),
    *(("freezeout", {"t0": 0.4, "schedule": way}) for way in ("linear", "cubic")),
    ("autofreeze", {"percentile": 70.0}),
    *(("grades", {"tau": 0.4, "grace": 0.3, "criterion": way}) for way in ("change", "norm")),
    *(("ssprop", {"schedule": way}) for way in ("bar", "constant")),
    ("lcsb", {"layers": 2}),
    *(("lcsb", counted) for counted in ({"share": 0.5}, {"match": "mat"})),
    ("frozen_bottom", {"match": "mat"}),
]


def method(name: str, given: dict | None = None) -> Method:
    return read(find("method", name).METHOD, given or {}, f"method {name}")


def observe(*values, integral=(10.0, 4.0, 2.0, 1.0), **sums):
    """The values are λ_max of a, b, c and d, and their gradient norms as well."""
    named = dict(zip(MODULES, values, strict=True))
    return Observation(named, np.array(integral), named, **sums)


def context(history=(), interval=None, seed=0, counts=(), fixed=0, progress=None, size=(1, 1, 1, 1), **more):
    interval = len(history) - 1 if interval is None else interval
    rng, same = np.random.default_rng(seed), np.random.default_rng(fixed)
    sizes = dict(zip(MODULES, size, strict=True))
    return Context(
        interval=interval,
        modules=MODULES,
        depth=DEPTH,
        kind=KIND,
        size=sizes,
        history=tuple(history),
        counts=counts,
        rng=rng,
        fixed=same,
        progress=progress,
        **more,
    )


def chosen(name, history=(), interval=0, counts=(2,), seed=0, fixed=0, **given):
    """The active modules that a method which follows another run chooses."""
    asked = method(name, {"match": "mat", **given})
    return asked.select(context(history, interval, seed, counts, fixed)).active


@st.composite
def worlds(draw) -> World:
    """Few values, so that many are equal, zero among them."""
    n, probes = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    many = {"min_size": n, "max_size": n}
    seen = st.lists(st.integers(0, 8).map(lambda value: value / 2), **many).map(tuple)
    kinds = draw(st.lists(st.sampled_from(("head", "ffn")), **many))
    return World(
        tuple(sorted(draw(st.lists(st.integers(0, 4), **many)))),
        ("head", *kinds[1:]),
        tuple(draw(st.lists(st.integers(1, 5), **many))),
        tuple(draw(st.lists(seen, min_size=probes, max_size=probes))),
        tuple(draw(st.lists(st.integers(1, n), min_size=1, max_size=4))),
        draw(st.integers(0, 2**32)),
    )
