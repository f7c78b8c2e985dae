"""Colours of the figures; those of the shot groups are in conf/palette.py."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
GRID_COLOUR = "0.88"
