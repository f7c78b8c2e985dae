"""Evaluation of a grid point: simulation of independent blocks of repetitions, and judgement of their sums."""

from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import betainccinv, betaincinv, ndtri

from longtail.conf.options.base import fingerprint
from longtail.conf.theory_grid import POINT_TYPES, Point
from longtail.training.theory import t1, t2, t3
from longtail.training.theory.blocks import BlockSums

THEOREMS = {"T1": t1, "T2": t2, "T3": t3}
PARAMETERS = {name: field.annotation for kind in POINT_TYPES.values() for name, field in kind.model_fields.items()}
"""Parameters of all theorems, each once, with their types."""

INTERVAL = "Clopper-Pearson"

Row = dict[str, Any]

RESULT_SCHEMA = pa.schema(
    [
        ("sweep", pa.string()),
        ("theorem", pa.string()),
        *((name, {int: pa.int64(), float: pa.float64()}[kind]) for name, kind in PARAMETERS.items()),
        ("repetitions", pa.int64()),
        ("represented_draws", pa.int64()),
        *((name, pa.float64()) for name in ("empirical", "low", "high", "bound", "error_bound")),
        *((name, pa.bool_()) for name in ("conditions_met", "vacuous", "holds")),
        *((name, pa.float64()) for name in ("exact", "mean", "std", "mean_low", "mean_high")),
        *((name, pa.float64()) for name in ("predicted_mean", "largest")),
    ]
)
"""One row per grid point: sweep, parameters (null for other theorems' parameters), and the result of `judge`."""


def simulate_block(point: Point, *, seed: int, block: int, repetitions: int) -> BlockSums:
    """Simulate one block; its sums depend on the arguments only, not on other points, blocks or machines."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_point_key(point), block))
    return THEOREMS[point.theorem].simulate(point, repetitions, np.random.default_rng(sequence))


def _point_key(point: Point) -> int:
    # From the parameter values, not the position in the grid, so that added points do not change other draws.
    return int(fingerprint({"theorem": point.theorem, **point.model_dump()}), 16)


def block_sizes(repetitions: int, block_repetitions: int) -> list[int]:
    """Number of repetitions of each block: all full except the last."""
    full, rest = divmod(repetitions, block_repetitions)
    return [block_repetitions] * full + ([rest] if rest else [])


def judge(point: Point, *, repetitions: int, sums: BlockSums, confidence: float) -> Row:
    """Compare measurements with the theorem; returns a row of RESULT_SCHEMA without its sweep.

    empirical, low, high: fraction of repetitions with the event, with its Clopper-Pearson interval (conservative: its
    coverage is at least the confidence, also at 0 and 1)
    mean, std, mean_low, mean_high, largest: statistics of the measured value (T1: bias of the threshold, T3: error);
    the interval is a normal approximation
    holds: True if the whole interval is at or above the bound, False if it is below; None if the interval contains the
    bound (more repetitions are needed) or if the bound is vacuous
    """
    claim = THEOREMS[point.theorem].claim(point)
    low, high = proportion_interval(sums.hits, repetitions, confidence=confidence)
    holds = None if claim.vacuous else True if low >= claim.bound else False if high < claim.bound else None
    parameters = point.model_dump()
    return {
        "theorem": point.theorem,
        **{name: parameters.get(name) for name in PARAMETERS},
        "repetitions": repetitions,
        "represented_draws": repetitions * claim.draws_per_repetition,
        "empirical": sums.hits / repetitions,
        "low": low,
        "high": high,
        "bound": claim.bound,
        "error_bound": claim.error_bound,
        "conditions_met": claim.conditions_met,
        "vacuous": claim.vacuous,
        "holds": holds,
        "exact": claim.exact,
        **_mean(sums, repetitions, confidence=confidence),
        "predicted_mean": claim.predicted_mean,
        "largest": sums.largest,
    }


def proportion_interval(hits: int, repetitions: int, *, confidence: float) -> tuple[float, float]:
    """Two-sided Clopper-Pearson interval of a probability, from quantiles of the beta distribution."""
    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, repetitions - hits + 1, tail)) if hits else 0.0
    high = float(betainccinv(hits + 1, repetitions - hits, tail)) if hits < repetitions else 1.0
    return low, high


def _mean(sums: BlockSums, repetitions: int, *, confidence: float) -> Row:
    if sums.total is None or sums.total_squares is None:
        return dict.fromkeys(("mean", "std", "mean_low", "mean_high"))
    mean = sums.total / repetitions
    variance = max(0.0, sums.total_squares - repetitions * mean**2) / (repetitions - 1)
    half_width = float(ndtri((1 + confidence) / 2)) * sqrt(variance / repetitions)
    return {"mean": mean, "std": sqrt(variance), "mean_low": mean - half_width, "mean_high": mean + half_width}
