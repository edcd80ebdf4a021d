"""C1b: C1, but the spread of λ_max is that within layers."""

from functools import partial

from mat.evidence.claims.rule import Rule
from mat.evidence.claims.rules.spread_and_rank import THRESHOLDS, evaluate
from mat.evidence.measures import spectra

within = partial(evaluate, spread_of=spectra.spread_within_layers, over=" within layers")
RULE = Rule(within, THRESHOLDS, any_of=("sources",), others=("kinds",))
