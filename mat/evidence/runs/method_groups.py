"""The labels of methods that the evidence knows, by group and in the order of tables and figures."""

from __future__ import annotations

from collections.abc import Iterable

GROUPS = {
    "reference": ("vanilla",),
    "MAT": ("mat", "mat_exact", "mat_residual", "mat_modular", "mat_temporal"),
    "baselines": ("random", "multirate"),
    "rivals": ("misa", "lisa", "badam", "freezeout", "autofreeze", "vanilla_cut", "vanilla_short"),
    "controls": (
        "largest", "gradient_norm", "random_exact", "random_once", "shuffled", "smallest", "depth_low", "depth_high",
        "kind_head", "kind_ffn",
    ),
    "learning rates": ("vanilla_lr_half", "vanilla_lr_double", "mat_lr_half", "mat_lr_double"),
    "sensitivity": (
        "mat_threshold_top", "mat_threshold_quantile", "mat_threshold_share", "mat_alpha_low", "mat_alpha_high",
        "mat_beta_zero", "mat_beta_high", "mat_sum_of_logits", "mat_loss_kernel", "mat_n16", "mat_cosine",
        "mat_per_parameter", "mat_head_inputs", "mat_heads_only", "mat_groups", "mat_thaw", "mat_integral_full",
        "mat_probe_seldom", "mat_per_kind", "mat_layers", "mat_routed", "mat_late", "multirate_k2",
    ),
}  # fmt: skip
METHOD_ORDER = tuple(label for labels in GROUPS.values() for label in labels)
OTHERS = "others"
MAIN = ("reference", "MAT", "baselines", OTHERS)  # what the results page shows; the rest has tables of its own


def group(label: str) -> str:
    """The group of a method's label; ``OTHERS`` for one that is not known."""
    return next((name for name, labels in GROUPS.items() if label in labels), OTHERS)


def ordered(found: Iterable[str]) -> list[str]:
    """The known labels in their fixed order, then the others by name."""
    found = set(found)
    return [name for name in METHOD_ORDER if name in found] + sorted(found - set(METHOD_ORDER))


def of_groups(found: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Those of ``found`` that are in one of ``groups``, ordered."""
    return [label for label in ordered(found) if group(label) in tuple(groups)]
