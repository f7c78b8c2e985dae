"""The job `theory`: real Spark over a small grid; the same table on any partitioning; files, plots and screen."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from PIL import Image
from pyspark.sql import SparkSession
from rich.console import Console

from longtail.conf.arguments import resolve_options
from longtail.conf.options.studies import TheoryOptions
from longtail.conf.theory_grid import read_grid
from longtail.spark_jobs.display.theory import sweep_table
from longtail.spark_jobs.display.theory_plots import PLOTS
from longtail.spark_jobs.studies.theory import evaluate_grid, write_result
from longtail.spark_jobs.theory import main
from longtail.training.theory.evaluation import RESULT_SCHEMA, Row, simulate_block
from tests.conftest import RunJob
from tests.refusals import refused

GRID = """
sweeps:
  - {name: bias, theorem: T1, repetitions: 250, plot: threshold_bias, parameters: {mu1: 1, mu2: -1, sigma: 1,
     p: [0.5, 0.9], q: 0.7, num_unlabeled: 100, rho_unlabeled: [1, 4], delta: 0.5}}
  - {name: imbalance, theorem: T1, repetitions: 100, plot: unlabeled_imbalance, parameters: {mu1: 1, mu2: -1, sigma: 1,
     p: 0.9, q: 0.7, num_unlabeled: 1000, rho_unlabeled: [1, 4, 9], delta: [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}}
  - {name: offset, theorem: T2, repetitions: 1050, parameters: {p_positive: 0.1, b: 4, sigma: 1, t_norm: 1, c: [-3, 3]}}
  - {name: feature, theorem: T3, repetitions: 250, plot: dimension, parameters: {dimension: [10, 50, 100],
     p_positive: 0.1, b: [4, 10], sigma: 1, k1: 1, k2: 1, num_positive: 20, num_negative: 200, epsilon: [0.1, 0.3]}}
"""
NUM_POINTS = 4 + 21 + 2 + 12


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TheoryOptions:
    directory = tmp_path_factory.mktemp("theory")
    (directory / "grid.yaml").write_text(GRID)
    values = {"grid": str(directory / "grid.yaml"), "block_repetitions": 100, "output_dir": directory / "results"}
    return resolve_options(TheoryOptions, values)


@pytest.fixture(scope="module")
def rows(spark: SparkSession, options: TheoryOptions) -> list[Row]:
    return evaluate_grid(spark, options, read_grid(options.grid), num_partitions=3)


@pytest.mark.parametrize("num_partitions", [1, 8])
def test_the_table_does_not_depend_on_partitions(
    spark: SparkSession, options: TheoryOptions, rows: list[Row], num_partitions: int
) -> None:
    assert evaluate_grid(spark, options, read_grid(options.grid), num_partitions=num_partitions) == rows


def test_a_point_s_row_is_the_sum_of_its_blocks(options: TheoryOptions, rows: list[Row]) -> None:
    (sweep, *_) = read_grid(options.grid).sweeps
    sizes = [100, 100, 50]
    for point, row in zip(sweep.points(), rows, strict=False):
        blocks = [simulate_block(point, seed=0, block=i, repetitions=size) for i, size in enumerate(sizes)]
        assert row["repetitions"] == 250 and row["represented_draws"] == 250 * 100
        assert row["empirical"] == sum(block.hits for block in blocks) / 250
        assert row["mean"] == pytest.approx(sum(block.total for block in blocks) / 250, rel=1e-12)
        assert row["largest"] == max(block.largest for block in blocks)


def test_a_point_is_drawn_alike_in_any_grid(spark: SparkSession, options: TheoryOptions, rows: list[Row]) -> None:
    grid = read_grid(options.grid)
    last_sweep_alone = grid.model_copy(update={"sweeps": grid.sweeps[-1:]})
    assert evaluate_grid(spark, options, last_sweep_alone) == rows[-12:]


def test_repetitions_can_be_set_for_all_points(spark: SparkSession, options: TheoryOptions, rows: list[Row]) -> None:
    fewer = evaluate_grid(spark, options.model_copy(update={"repetitions": 20, "seed": 1}), read_grid(options.grid))
    assert {row["repetitions"] for row in fewer} == {20}
    assert [row["bound"] for row in fewer] == [row["bound"] for row in rows]
    assert [row["mean"] for row in fewer] != [row["mean"] for row in rows]


def test_a_row_has_the_parameters_of_its_theorem_and_null_for_the_others(rows: list[Row]) -> None:
    assert len(rows) == NUM_POINTS
    assert all(list(row) == RESULT_SCHEMA.names for row in rows)
    t2 = next(row for row in rows if row["theorem"] == "T2")
    assert (t2["sweep"], t2["p_positive"], t2["c"], t2["mu1"], t2["dimension"]) == ("offset", 0.1, -3, None, None)
    assert t2["mean"] is None and t2["error_bound"] is None


def flags(options: TheoryOptions, *more: Any) -> list[str]:
    given = ["--grid", options.grid, "--block_repetitions", 100, "--output_dir", options.output_dir, *more]
    return [str(value) for value in given]


def test_main_writes_the_table_and_the_plots_and_replaces_them_as_a_whole(
    spark: SparkSession, options: TheoryOptions, rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    main(flags(options))

    said = capsys.readouterr().out
    (result,) = options.output_dir.iterdir()
    assert said.splitlines()[-1] == f"theory: {result}"
    table = pq.read_table(result / "points.parquet")
    assert table.schema == RESULT_SCHEMA and table.to_pylist() == rows
    summary = json.loads((result / "points.json").read_text())
    assert summary["points"] == rows
    assert (summary["interval"], summary["confidence"], summary["seed"]) == ("Clopper-Pearson", 0.99, 0)
    assert len(summary["statements"]) == 7 and all(sentence in said for sentence in summary["statements"])
    for name in PLOTS:
        with Image.open(result / f"{name}.png") as image:
            assert image.format == "PNG" and min(image.size) >= 900

    (result / "points.json").write_text("older")
    (result / "leftover").touch()
    write_result(rows, options, read_grid(options.grid))
    assert [path.name for path in options.output_dir.iterdir()] == [result.name]
    assert json.loads((result / "points.json").read_text()) == summary
    assert not (result / "leftover").exists()


def test_results_of_other_options_do_not_share_a_directory(
    options: TheoryOptions, rows: list[Row], tmp_path: Path
) -> None:
    grid = read_grid(options.grid)
    plain = options.model_copy(update={"output_dir": tmp_path})
    changes = [{}, {"seed": 1}, {"repetitions": 9}, {"block_repetitions": 9}, {"confidence": 0.9}]
    offset = grid.sweeps[2]
    one_sweep = grid.model_copy(update={"sweeps": [offset]})
    other_sweep = grid.model_copy(update={"sweeps": [offset.model_copy(update={"repetitions": 9})]})
    results = {write_result(rows[:2], plain.model_copy(update=change), one_sweep) for change in changes}
    results |= {write_result(rows[:2], plain, other_sweep)}
    assert len(results) == 6 and set(tmp_path.iterdir()) == results
    elsewhere = plain.model_copy(update={"master": "local[3]", "verbose": True})
    assert write_result(rows[:2], elsewhere, one_sweep) in results


def test_a_place_that_cannot_be_written_is_one_line(
    spark: SparkSession, options: TheoryOptions, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with refused() as messages:
        main(flags(options, "--output_dir", tmp_path / "file", "--repetitions", 2))
    assert messages[0].startswith("--output_dir") and "is a file, a directory was expected" in messages[0]


def _plot(name: str, options: TheoryOptions, rows: list[Row]) -> tuple[Figure, list[Row]]:
    sweeps = {sweep.name for sweep in read_grid(options.grid).sweeps if sweep.plot == name}
    shown = [row for row in rows if row["sweep"] in sweeps]
    return PLOTS[name](shown), shown


def _marked(figure: Figure) -> list[tuple[float, float]]:
    """The measured points of a figure: where error bars have their markers."""
    (axes,) = figure.axes
    lines = [container.lines[0] for container in axes.containers]
    return sorted((float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True))


@pytest.mark.parametrize("name", list(PLOTS))
def test_a_plot_names_its_axes_and_tells_each_series_apart(name: str, options: TheoryOptions, rows: list[Row]) -> None:
    figure, _ = _plot(name, options, rows)
    (axes,) = figure.axes
    assert axes.get_xlabel() and axes.get_ylabel() and axes.get_title()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == len(set(labels)) >= 3
    assert any("measured" in label for label in labels)
    assert any("bound" in label or "prediction" in label for label in labels)


def test_the_imbalance_plot_shows_every_point(options: TheoryOptions, rows: list[Row]) -> None:
    figure, shown = _plot("unlabeled_imbalance", options, rows)
    assert _marked(figure) == sorted((row["rho_unlabeled"], row["empirical"]) for row in shown)


def test_the_bias_plot_shows_every_point_in_units_of_half_the_gap(options: TheoryOptions, rows: list[Row]) -> None:
    figure, shown = _plot("threshold_bias", options, rows)
    marked = _marked(figure)
    assert sorted(y for _, y in marked) == sorted(row["mean"] for row in shown)  # half the gap is 1 here
    # Moved aside by less than a tenth of the distance between two D.
    expected = sorted(row["p"] - row["q"] for row in shown)
    assert [x for x, _ in marked] == pytest.approx(expected, abs=0.04)


def test_the_dimension_plot_shows_each_error_once_and_each_bound(options: TheoryOptions, rows: list[Row]) -> None:
    figure, shown = _plot("dimension", options, rows)
    # Both epsilon have the same draws' worth of errors: one of them is shown.
    assert len(_marked(figure)) == 3 * 2
    (axes,) = figure.axes
    bold = [line for line in axes.lines if line.get_alpha() == 1.0]
    drawn = sorted(float(y) for line in bold for y in line.get_ydata() if y == y)
    assert drawn == sorted(row["error_bound"] for row in shown if not row["vacuous"])


def test_the_tables_fit_a_terminal_and_show_verdicts(options: TheoryOptions, rows: list[Row]) -> None:
    console = Console(width=80, record=True)
    for sweep in read_grid(options.grid).sweeps:
        console.print(sweep_table(sweep, [row for row in rows if row["sweep"] == sweep.name]))
    text = console.export_text()
    assert "…" not in text
    cells = [line.split() for line in text.splitlines()]
    (offset,) = [line for line in cells if line[:1] == ["-3"]]
    assert offset[3:7] == ["0.250", "fails", "(c", "<="] and offset[-1] == "0.1600"
    assert ["10", "4", "0.1", "1.0000"] in [line[:4] for line in cells]
    assert text.count("vacuous") >= 2 and "|t| 1" in text


@pytest.mark.long
def test_spark_submit_on_another_master_finds_the_same(
    spark_submit: RunJob, options: TheoryOptions, rows: list[Row], tmp_path: Path
) -> None:
    submitted = spark_submit("theory", *flags(options, "--output_dir", "submitted"), submit=("--master", "local[1]"))
    assert submitted.returncode == 0, submitted.stderr
    (table,) = tmp_path.glob("submitted/*/points.parquet")
    assert pq.read_table(table).to_pylist() == rows
