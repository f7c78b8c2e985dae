"""Colours of the figures."""

from longtail.conf.vocabulary import FEW, MANY, MEDIUM, ShotGroup

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
GROUP_COLOURS: dict[ShotGroup, str] = {MANY: COLOURS[0], MEDIUM: COLOURS[4], FEW: COLOURS[1]}
GRID_COLOUR = "0.88"
