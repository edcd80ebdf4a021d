"""Why a parameter is differentiated sample by sample: every reason there is, in the words of the warning."""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """What keeps a parameter from being followed in one pass."""

    NO_RULE = "no rule follows their use"
    UNSEEN = "code that calls no torch function uses them (scripted or compiled)"
    COMPLEX = "they are used in complex arithmetic"
    MIXED = "their uses, or their slices, are not those of one matrix"
    UNEVEN = "some outputs do not depend on all of their uses"
    UNTRACED = "their rows could not be traced to one sample each"
    DIFFERENT = "a comparison with plain automatic differentiation failed"
