"""The grid of `theory` (conf/theory_grid.py): its points, what it refuses, and what the grid that ships holds."""

from pathlib import Path

import pytest

from longtail.conf.options.studies import TheoryOptions
from longtail.conf.theory_grid import T1Point, T2Point, T3Point, read_grid
from tests.refusals import refused

T1 = "mu1: 1, mu2: -1, sigma: 1, p: 0.9, q: 0.5, num_unlabeled: 100, rho_unlabeled: 1, delta: 0.1"
T2 = "p_positive: 0.1, b: 4, sigma: 1, t_norm: 1, c: 1"
T3 = "dimension: 3, p_positive: 0.1, b: 4, sigma: 1, k1: 1, k2: 1, num_positive: 2, num_negative: 2, epsilon: 0.1"


def write_grid(directory: Path, *sweeps: str) -> Path:
    file = directory / "grid.yaml"
    file.write_text("sweeps:\n" + "".join(f"  - {{{sweep}}}\n" for sweep in sweeps))
    return file


def sweep(theorem: str, parameters: str, *, more: str = "", name: str = "s") -> str:
    return f"name: {name}, theorem: {theorem}, repetitions: 10, parameters: {{{parameters}}}{more}"


def test_points_are_all_combinations_the_last_parameter_changing_fastest(tmp_path: Path) -> None:
    parameters = T2.replace("b: 4", "b: [4, 9]").replace("c: 1", "c: [-1, 1]")
    (found,) = read_grid(write_grid(tmp_path, sweep("T2", parameters))).sweeps
    assert [(point.b, point.c) for point in found.points()] == [(4, -1), (4, 1), (9, -1), (9, 1)]


@pytest.mark.parametrize(
    ("total", "rho", "sizes"),
    [(10_000, 1, (5000, 5000)), (2200, 10, (2000, 200)), (10_000, 100, (9901, 99)), (100, 0.25, (20, 80))],
)
def test_pseudo_labels_are_split_by_their_imbalance(total: int, rho: float, sizes: tuple[int, int]) -> None:
    point = T1Point(mu1=1, mu2=-1, sigma=1, p=0.9, q=0.6, num_unlabeled=total, rho_unlabeled=rho, delta=0.1)
    assert (point.num_positive, point.num_negative) == sizes
    assert point.difference == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("sweeps", "said"),
    [
        ([], "sweeps"),
        ([sweep("T4", T1)], "sweeps.0.theorem 'T4': input should be 'T1', 'T2' or 'T3'"),
        ([sweep("T1", T1.replace("mu2: -1", "mu2: 1"))], "mu1 (1.0) must be greater than mu2 (1.0)"),
        ([sweep("T1", T1.replace("rho_unlabeled: 1", "rho_unlabeled: 1000"))], "leaves a class empty"),
        ([sweep("T1", T1.replace("sigma: 1", "sigma: 0"))], "sigma"),
        ([sweep("T1", T1.replace("p: 0.9", "p: 1.1"))], "less than or equal to 1"),
        ([sweep("T1", T1.replace("delta: 0.1", "delta: .nan"))], "finite"),
        ([sweep("T1", T2)], "p_positive"),
        ([sweep("T2", T2.replace("b: 4", "b: 3"))], "greater than 3"),
        ([sweep("T2", T2.replace("p_positive: 0.1", "p_positive: 0.6"))], "less than or equal to 0.5"),
        ([sweep("T2", T2.replace("c: 1", "c: []"))], "the sweep has no point"),
        ([sweep("T3", T3.replace("epsilon: 0.1", "epsilon: 0.6"))], "(b-1)/(b+1) = 0.6"),
        ([sweep("T3", T3.replace("dimension: 3", "dimension: 2.5"))], "integer"),
        ([sweep("T2", T2, more=", plot: dimension")], "plot dimension shows T3, not T2"),
        ([sweep("T2", T2, more=", plots: dimension")], "plots"),
        ([sweep("T2", T2), sweep("T3", T3)], "used twice: s"),
    ],
)
def test_a_bad_grid_is_one_line_that_names_the_file_and_the_fault(tmp_path: Path, sweeps: list[str], said: str) -> None:
    file = write_grid(tmp_path, *sweeps)
    with refused() as messages:
        read_grid(file)
    assert str(file) in messages[0] and said in messages[0]


@pytest.mark.parametrize("content", ["sweeps: [", "- 1\n", "just text", ""])
def test_a_file_that_is_no_grid_is_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(content)
    with refused() as messages:
        read_grid(file)
    assert str(file) in messages[0]


def test_the_grid_that_ships_holds_the_known_checks_and_both_signs_of_c() -> None:
    sweeps = read_grid(TheoryOptions().grid).sweeps
    points = [point for found in sweeps for point in found.points()]
    t1 = {(p.num_positive, p.num_negative, p.p, p.q, p.delta) for p in points if isinstance(p, T1Point)}
    assert {(5000, 5000, 0.9, 0.5, 0.08), (2000, 200, 0.9, 0.6, 0.15)} <= t1
    t2 = [point.c for point in points if isinstance(point, T2Point)]
    assert min(t2) < 0 < max(t2)
    t3 = {(p.dimension, p.b, p.num_positive, p.num_negative, p.p_positive, p.epsilon) for p in points
          if isinstance(p, T3Point)}  # fmt: skip
    assert (200, 4, 20, 200, 0.1, 0.1) in t3
    assert {found.plot for found in sweeps} == {"threshold_bias", "unlabeled_imbalance", "dimension", None}
