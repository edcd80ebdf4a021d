"""What a report can hold: every table and figure by name, with its title, its caption and what it is made from.

A scale has some of them; what is not there is left out. A table or figure that is not listed is shown all the same,
at the end and without a caption, so that none is lost. A new one needs one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RUNS = ("runs.csv", "curves.parquet", "probes.parquet")
CLAIMS, LEVELS, REGISTER = "workflows/claims.yaml", "workflows/sanity.yaml", "workflows/ambiguities.yaml"
SHAPES = ("workflows/config/{scale}.yaml",)
# measured by jobs of their own, and too large to commit: recorded where they are
MEASURED = BRANCHES, AGREEMENT = "results/{scale}/branches/*.parquet", "results/{scale}/agreement/*.parquet"
_KINDS = (".md", ".csv", ".tex", ".parquet")


@dataclass(frozen=True)
class Item:
    """A table or figure: ``name`` of its files, ``title``, ``about`` (one or two sentences), ``sources`` it is made
    from: tables of the same folder by file name, other files by path from the repository's root, or a pattern of them;
    ``{scale}`` is replaced. ``held``: n, unit and ledger of a figure; ``{seeds}`` is replaced by the n of its runs, or
    of the table ``counted`` where one is named."""

    name: str
    title: str
    about: str = ""
    sources: tuple[str, ...] = RUNS
    held: str = "{seeds}; executed ledger, 1 MAC = 2 FLOP."
    counted: str = ""


TABLES = (
    Item("verdicts", "Verdicts by task", "",
         (*RUNS, "agreement.csv", "sanity.csv", "trainability.csv", "generalisation.csv", CLAIMS)),
    Item("results", "Quality, compute and saving", "", (*RUNS, CLAIMS)),
    Item("scores", "Every metric on the test split"),
    Item("sanity", "What vanilla reached, beside its levels", "", (*RUNS, LEVELS)),
    Item("controls", "Controls: is it λ_max?"),
    Item("rivals", "Rivals of today", "", (*RUNS, CLAIMS)),
    Item("learning_rate", "Vanilla with its learning rate re-tuned"),
    Item("wall_clock", "Saved FLOPs and saved seconds", "", (*RUNS, CLAIMS)),
    Item("trainability", "Trainability: one module trained alone", "", (BRANCHES,)),
    Item("trainability_modules", "Trainability by module", "One row per checkpoint and module.", (BRANCHES,)),
    Item("generalisation", "Generalisation: top and bottom modules", "", (BRANCHES,)),
    Item("sensitivity", "Open choices that change a number", "", (*RUNS, CLAIMS, REGISTER)),
    Item("ceiling", "What a step can save at most", "", SHAPES),
    Item("ceiling_parts", "What a step is made of", "", SHAPES),
    Item("agreement", "Agreement of kernel estimators", "", (AGREEMENT, CLAIMS)),
    Item("ambiguities", "What the paper leaves open", "", (REGISTER,)),
    Item("runs", "Every run", "One row per run: seed, outcome, test metrics, seconds, hashes, versions.", ()),
    Item("curves", "Curves of every run", "One row per evaluation: losses, metrics, every ledger, seconds.", ()),
    Item("probes", "Probes of every run", "One row per probe and module: spectrum, threshold, active, frozen.", ()),
)  # fmt: skip

_NO_LEDGER, _ONE_RUN = "{seeds}; no ledger.", "n = 1 run per task, named above its panels; no ledger."
FIGURES = (
    Item(
        "headline",
        "Quality and saving, task by task",
        "Difference to vanilla in the test metric, and saving in compute to convergence, with random selection beside.",
        (*RUNS, "results.csv"),
    ),
    Item(
        "loss_vs_compute",
        "Validation loss against compute",
        "Validation loss against the compute really spent, probes included where the method pays for them.",
    ),
    Item(
        "rivals",
        "Quality against compute at the end",
        "Test metric and compute at the end of training, of MAT, the paper's baselines and rivals of today.",
    ),
    Item(
        "improvement",
        "Probability of improvement",
        "How probable it is that a run of a method is better than one of vanilla's, in three senses of better.",
        (*RUNS, "rivals.csv"),
    ),
    Item(
        "controls",
        "Controls",
        "Modules chosen otherwise than by the largest λ_max, at an equal active share.",
    ),
    Item(
        "dynamics",
        "Dynamics of λ_max and effective rank",
        "Both, for every module, over training.",
        held=_ONE_RUN,
    ),
    Item(
        "joint_variation",
        "Joint variation",
        "λ_max beside effective rank, module by module.",
        held=_NO_LEDGER,
    ),
    Item(
        "active_map",
        "Which modules trained when",
        "The share of seeds in which each module was active.",
        held=_NO_LEDGER,
    ),
    Item(
        "trainability",
        "Trainability",
        "Decrease of the loss when one module trains alone, beside its λ_max.",
        (*RUNS, "trainability.csv", "trainability_modules.csv"),
        _NO_LEDGER,
        "trainability",
    ),
    Item(
        "generalisation",
        "Generalisation",
        "Training and held-out loss when only top or only bottom modules train.",
        (*RUNS, "generalisation.csv"),
        _NO_LEDGER,
        "generalisation",
    ),
    Item("wall_clock", "Seconds beside FLOPs", "Saved FLOPs beside saved seconds."),
    Item(
        "ceiling",
        "The ceiling",
        "What a training step is made of, and what it can save at most at a given share of active modules.",
        (*RUNS, "ceiling.csv", "ceiling_parts.csv"),
        "Closed-form ledger, 1 MAC = 2 FLOP; it needs no runs.",
    ),
    Item(
        "estimators",
        "Agreement of estimators",
        "Agreement of module rankings between kernel estimators, over n and over training, and what it costs.",
        (*RUNS, "agreement.csv"),
        "Kendall's τ_b; seeds and probe sets are in its footer; executed ledger for the cost.",
    ),
    Item(
        "tornado",
        "Open choices",
        "How far the alternatives of every open choice move the headline number.",
        (*RUNS, "sensitivity.csv"),
    ),
    Item(
        "sanity",
        "What vanilla learned",
        "Vanilla's training and validation loss and its metric over epochs, beside the level stated and what else is "
        "known.",
        (*RUNS, "sanity.csv"),
        _NO_LEDGER,
    ),
)


@dataclass(frozen=True)
class Found:
    """An item that is there: its files by ending (".csv")."""

    item: Item
    files: Mapping[str, Path]


def tables(folder: Path) -> list[Found]:
    """The tables in ``folder``, in the order of ``TABLES``, then those that are not listed there by name."""
    return _found(folder, TABLES, _KINDS)


def figures(folder: Path) -> list[Found]:
    """The figures in ``folder`` that have a PNG, in the order of ``FIGURES``, then the others by name."""
    return [found for found in _found(folder, FIGURES, (".png", ".pdf", ".svg")) if ".png" in found.files]


def _found(folder: Path, known: tuple[Item, ...], kinds: tuple[str, ...]) -> list[Found]:
    there: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix in kinds and not path.name.startswith("."):
            there.setdefault(path.stem, {})[path.suffix] = path
    listed = [Found(item, there.pop(item.name)) for item in known if item.name in there]
    return listed + [
        Found(Item(name, name.replace("_", " ").capitalize()), files) for name, files in there.items()
    ]
