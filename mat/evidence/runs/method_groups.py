"""The labels of methods that the evidence knows, by group and in the order of tables and figures."""

from __future__ import annotations

from collections.abc import Iterable

GROUPS = {
    "reference": ("vanilla",),
    "MAT": ("mat", "mat_exact", "mat_residual", "mat_modular", "mat_temporal"),
    "baselines": ("random", "random_residual", "multirate"),
    "rivals": (
        "misa", "lisa", "badam", "freezeout", "autofreeze", "grades", "ssprop", "lcsb", "frozen_bottom", "vanilla_cut",
        "vanilla_short",
    ),
    "controls": (
        "largest", "gradient_norm", "random_exact", "random_once", "shuffled", "smallest", "depth_low", "depth_high",
        "kind_head", "kind_ffn",
    ),
    "equal compute": (
        *("vanilla_short_exact", "vanilla_short_residual"),
        *("random_short", "random_short_exact", "random_short_residual"),
        *("multirate_short", "multirate_short_exact", "multirate_short_residual"),
    ),
    "budgets": (
        *("vanilla_b10", "vanilla_b25", "vanilla_b50", "vanilla_b75", "mat_b25", "mat_b50", "mat_b75"),
        *("mat_exact_b25", "mat_exact_b50", "mat_exact_b75"),
    ),
    "doses": (
        *("largest_s10", "largest_s20", "largest_s34", "largest_s50", "largest_s75"),
        *("shuffled_s10", "shuffled_s20", "shuffled_s34", "shuffled_s50", "shuffled_s75"),
        *("smallest_s10", "smallest_s20", "smallest_s34", "smallest_s50", "smallest_s75"),
    ),
    "within": (
        *("shuffled_kind_s20", "shuffled_kind_s34", "shuffled_kind_s50"),
        *("shuffled_layer_s20", "shuffled_layer_s34", "shuffled_layer_s50"),
    ),
    "twins": ("vanilla_twin", "mat_twin", "mat_exact_twin"),
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
