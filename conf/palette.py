"""Colours that mean the same on the live page, in notebooks and in reports.

Any two of NEUTRAL and GROUP_COLOURS differ by a CIEDE2000 distance of at least 20, also for readers with protanopia,
deuteranopia or tritanopia (Machado et al. 2009), and all of them are legible on light and on dark grounds.
"""

from longtail.conf.vocabulary import FEW, MANY, MEDIUM, ShotGroup

NEUTRAL = "#9a9a8e"
"""Of reference values: true shares, the previous round, the mean over all classes."""
GROUP_COLOURS: dict[ShotGroup, str] = {MANY: "#1f74fa", MEDIUM: "#b0307d", FEW: "#e77d22"}
