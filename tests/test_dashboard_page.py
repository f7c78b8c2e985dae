"""What the live page says of tables and a selection, and its server, over a real socket."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.live import DashboardOptions
from longtail.conf.options.training import TrainOptions
from longtail.streaming.dashboard import table_csv, table_reader
from longtail.streaming.dashboard.page import PageState, page_state, whole_page
from longtail.streaming.dashboard.selection import ALL_RUNS, MAX_COMPARED, Selection, read_selection
from longtail.streaming.dashboard.server import address, dashboard_page, is_private, listening_socket, serving
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.dashboard.table_rows import ReadTable
from longtail.streaming.live.own_alerts import OwnAlerts
from longtail.streaming.live.quarantine import Quarantine
from longtail.streaming.tables.manifest import ManifestState, RunManifest, manifest_states
from longtail.streaming.tables.progress import end_progress, write_progress
from longtail.streaming.tables.query_rows import ALERTS, query_directory, query_files
from longtail.streaming.tables.reading import latest_epochs, read_result_table
from longtail.streaming.tables.schemas import LATEST_EPOCHS, TABLES, TABLES_FORMAT_VERSION, schema_of
from longtail.streaming.tables.writing import write_run
from tests.refusals import refused
from tests.result_rows import PLAIN, class_rows, table, write_base

CHARTS_OF_A_RUN = {"accuracy_map", "loss", "class_accuracy", "accuracy_lines", "group_lines", "label_bias"}


def reader_of(tables: dict[str, pa.Table]) -> ReadTable:
    """Of these tables; the others are empty."""

    def read(name: str, run: str | None = None) -> pa.Table:
        rows = tables.get("epochs" if name == LATEST_EPOCHS else name, schema_of(name).empty_table())
        rows = latest_epochs(rows) if name == LATEST_EPOCHS else rows
        return rows if run is None else rows.filter(pc.equal(rows["run"], run))

    return read


def with_tables(**tables: pa.Table) -> ReadTable:
    return reader_of(tables)


ONE_RUN = {
    "runs": table("runs", {}),
    "epochs": table("epochs", {}, {"epoch": 2, "balanced_accuracy": 0.625, "few_shot_accuracy": 0.05}),
    "class_epochs": class_rows({0: [0.5, 0.75], 1: [0.25, 0.5], 2: [0.0, 0.25]}),
}
TWO_RUNS = {
    "runs": table("runs", {"status": "finished"}, {"run": "semi", "phase": "train_semi", "started_at": 2000.0}),
    "epochs": table(
        "epochs", {}, {"epoch": 2, "few_shot_accuracy": 0.125}, {"epoch": 3},
        {"run": "semi"}, {"run": "semi", "epoch": 2, "few_shot_accuracy": 0.25},
    ),
    "class_epochs": pa.concat_tables(
        [
            class_rows({0: [0.5, 0.5, 1.0], 1: [0.5, 0.25, 1.0]}),
            class_rows({0: [0.5, 0.25], 1: [0.5, 0.75]}, run="semi"),
        ]
    ),
}  # fmt: skip


def drawn(state: PageState) -> set[str]:
    return {name for name, figure in state.figures.items() if figure is not None}


def test_without_any_run_the_page_says_how_to_get_one() -> None:
    state = page_state(with_tables(), Selection())
    assert "No training has reported yet" in state.html["overview"] and "longtail pipeline" in state.html["overview"]
    assert drawn(state) == set()


def test_a_run_that_has_no_epoch_yet_is_listed_and_has_no_chart() -> None:
    state = page_state(with_tables(runs=table("runs", {"epoch": 0})), Selection())
    assert "0/4 epochs" in state.html["runs"] and "running" in state.html["overview"]
    assert drawn(state) == set()


def test_one_run_has_its_charts_and_nothing_to_compare_with() -> None:
    state = page_state(reader_of(ONE_RUN), Selection())
    assert drawn(state) == CHARTS_OF_A_RUN
    assert "no other run to compare with" in state.html["note-comparison"]
    assert "no confusion matrix of the test set yet" in state.html["note-confusion_matrix"]
    assert "neither makes nor uses pseudo-labels" in state.html["note-pseudo_labels"]


def test_the_key_figures_are_of_the_last_epoch_with_the_change_from_the_one_before() -> None:
    words = " ".join(page_state(reader_of(ONE_RUN), Selection()).html["overview"].split())
    assert '62.5<small> %</small> <span class="change better">+12.5</span>' in words
    assert '5.0<small> %</small> <span class="change worse">-5.0</span>' in words  # few-shot
    assert "<dt>medium-shot</dt> <dd>–" in words  # no such class


def test_without_a_choice_the_newest_running_run_is_shown() -> None:
    assert "semi" in page_state(reader_of(TWO_RUNS), Selection()).html["overview"]
    done = {**TWO_RUNS, "runs": table("runs", {"started_at": 1.0}, {"run": "semi", "status": "failed"})}
    assert '<p class="run-name">base' in page_state(reader_of(done), Selection()).html["overview"]


def test_a_run_that_is_not_there_is_waited_for() -> None:
    state = page_state(reader_of(ONE_RUN), Selection(run="../../etc/passwd"))
    assert "There is no run with this name yet" in state.html["overview"]
    assert drawn(state) == set()


def test_runs_are_compared_at_the_last_epoch_that_all_have_reached() -> None:
    state = page_state(reader_of(TWO_RUNS), Selection(run="base", compare=("semi",)))
    (bars,) = state.figures["class_changes"].data
    assert list(bars.y) == [-0.25, 0.5]  # at epoch 2, although base has 3
    assert "Epoch 2, the latest that all runs have finished" in state.html["note-comparison"]
    assert "+12.5" in state.html["note-comparison"]  # few-shot, 25.0 - 12.5 points
    assert {"compared_balanced", "compared_few"} <= drawn(state)


def test_a_run_of_other_classes_is_not_compared() -> None:
    other = class_rows({0: [0.5], 1: [0.5]}, run="semi", class_name="another")
    tables = {**TWO_RUNS, "class_epochs": pa.concat_tables([class_rows({0: [0.5], 1: [0.5]}), other])}
    state = page_state(reader_of(tables), Selection(run="base", compare=("semi",)))
    assert state.figures["class_changes"] is None
    assert "Not compared" in state.html["note-comparison"]


def test_held_out_data_is_shown_unless_training_data_is_asked_for() -> None:
    tables = {
        **ONE_RUN,
        "epochs": table("epochs", {"split": "train", "balanced_accuracy": 1.0}, {}),
        "class_epochs": pa.concat_tables([class_rows({0: [1.0]}, split="train"), class_rows({0: [0.5]})]),
    }
    (cells,) = page_state(reader_of(tables), Selection()).figures["accuracy_map"].data
    assert cells.z.tolist() == [[0.5]]
    (cells,) = page_state(reader_of(tables), Selection(split="train")).figures["accuracy_map"].data
    assert cells.z.tolist() == [[1.0]]
    (cells,) = page_state(reader_of(tables), Selection(split="nonsense")).figures["accuracy_map"].data
    assert cells.z.tolist() == [[0.5]]


def test_a_selection_without_a_class_says_so() -> None:
    state = page_state(reader_of(ONE_RUN), Selection(group="few", classes="dog"))
    assert drawn(state) == set()
    assert "No class of this run is few-shot and has “dog” in its name." in state.html["note-accuracy_map"]


def test_a_labelling_shows_its_confidence_and_what_it_says_of_the_unlabeled_part() -> None:
    labelling = {name: table(name, {}) for name in ("pseudo_labels", "unlabeled_estimates")}
    tables = {**ONE_RUN, **labelling}
    state = page_state(reader_of(tables), Selection())
    assert len(state.figures["pseudo_labels"].data) == 3
    assert "estimate for the unlabeled images <b>2.5</b>" in state.html["note-pseudo_labels"]


def test_a_labelling_whose_truth_is_known_shows_how_right_its_labels_are() -> None:
    labels = table(
        "pseudo_labels",
        {"class_id": 0, "pseudo_label_count": 8, "correct_count": 6, "unlabeled_count": 12},
        {"class_id": 1, "pseudo_label_count": 0, "correct_count": 0, "unlabeled_count": 4},
    )
    state = page_state(reader_of({**ONE_RUN, "pseudo_labels": labels}), Selection())
    precision, recall = state.figures["pseudo_label_classes"].data
    assert precision.x[0] == 0.75 and np.isnan(precision.x[1]) and list(recall.x[:2]) == [0.5, 0.0]
    assert (
        "Of 8 pseudo-labels that this run&#39;s classifier made, 75.0 % are right"
        in state.html["note-pseudo_label_quality"]
    )
    unknown = page_state(reader_of({**ONE_RUN, "pseudo_labels": table("pseudo_labels", {})}), Selection())
    assert unknown.figures["pseudo_label_classes"] is None and not unknown.html["note-pseudo_label_quality"].strip()


def test_a_contrastive_pre_training_shows_the_rank_of_the_same_image_and_its_learning_rate() -> None:
    phase = {"phase": "pretrain_moco", "split": "train"}
    ranks = [
        {**phase, "epoch": e, "positive_rank": 40.0 / e, "num_candidates": 129.0, "learning_rate": 0.1 / e}
        for e in (1, 2)
    ]
    tables = {
        **ONE_RUN,
        "runs": table("runs", {"phase": "pretrain_moco"}),
        "epochs": table("epochs", *ranks),
        "class_epochs": class_rows({0: [0.5, 0.5]}, **phase),
    }
    state = page_state(reader_of(tables), Selection())
    assert list(state.figures["positive_rank"].data[0].y) == [40.0, 20.0]
    assert list(state.figures["learning_rate"].data[0].y) == pytest.approx([0.1, 0.05])
    assert "among 129 by similarity" in state.html["note-pretraining"]
    assert "20.0" in state.html["overview"] and "-20.0" in state.html["overview"]


def test_a_run_shows_the_command_that_repeats_it_and_its_checkpoint() -> None:
    values = {"dataset": "cifar10", "loss_type": "LDAM", "epochs": 7, "runs_dir": "my runs"}
    recorded = json.dumps(resolve_options(TrainOptions, values).recorded())
    tables = {**ONE_RUN, "runs": table("runs", {"configuration": recorded})}
    shown = page_state(reader_of(tables), Selection()).html["overview"]
    assert "longtail train --dataset cifar10 --epochs 7 --runs_dir &#39;my runs&#39; --loss_type LDAM</code>" in shown
    assert "<code>my runs/base/ckpt.pth.tar</code>" in shown
    for other in ('{"dataset": "../../etc"}', '{"dataset": "cifar10", "epochs": "x"}', "[]", None):
        tables = {**ONE_RUN, "runs": table("runs", {"configuration": other})}
        assert "longtail train" not in page_state(reader_of(tables), Selection()).html["overview"]


def test_a_stream_that_the_checkpoint_predicts_has_a_panel() -> None:
    state = page_state(reader_of({**ONE_RUN, "predictions": table("predictions", {})}), Selection())
    assert {"prediction_shares", "prediction_windows"} <= drawn(state)
    assert "window of 1970-01-01 00:10 UTC, 30 images" in state.html["note-predictions"]
    assert "longtail predict --stream" in page_state(reader_of(ONE_RUN), Selection()).html["note-predictions"]


def test_a_second_round_is_set_against_that_of_the_run_before() -> None:
    labels = table("pseudo_labels", {"run": "first"}, {"round": 2, "previous_run": "first", "mean_confidence": 0.5})
    state = page_state(reader_of({**ONE_RUN, "pseudo_labels": labels}), Selection())
    *_, now, before = state.figures["pseudo_labels"].data
    assert (now.x[0], before.x[0]) == (0.5, PLAIN["pseudo_labels"]["mean_confidence"])


def test_the_pseudo_labels_of_the_steps_show_how_right_they_are_and_are_no_split_to_choose() -> None:
    of_steps = class_rows({0: [0.25, 0.5], 1: [0.75, 1.0]}, split="unlabeled", precision=0.125)
    tables = {
        **ONE_RUN,
        "runs": table("runs", {"phase": "train_semi"}),
        "class_epochs": pa.concat_tables([class_rows({0: [0.5], 1: [0.5]}), of_steps]),
    }
    state = page_state(reader_of(tables), Selection(split="unlabeled"))
    lines = {
        name: [list(t.y) for t in state.figures["pseudo_label_quality"].data if name in t.hovertemplate]
        for name in ("precision", "recall")
    }
    assert lines == {"precision": [[0.125, 0.125], [0.125, 0.125]], "recall": [[0.25, 0.5], [0.75, 1.0]]}
    assert "pseudo-labels that are correct" in state.html["note-pseudo_label_quality"]
    (cells,) = state.figures["accuracy_map"].data
    assert cells.z.tolist() == [[0.5], [0.5]]
    assert page_state(reader_of(ONE_RUN), Selection()).figures["pseudo_label_quality"] is None


def test_a_training_on_pseudo_labels_shows_how_many_it_has() -> None:
    rows = class_rows({0: [0.5]}, train_count=350, pseudo_label_count=300)
    state = page_state(reader_of({**ONE_RUN, "class_epochs": rows}), Selection())
    labels, pseudo = state.figures["pseudo_labels"].data
    assert (list(labels.x), list(pseudo.x)) == ([50], [300])


def test_the_most_mistaken_tail_classes_are_named() -> None:
    cells = ({"true_class": 2, "predicted_class": 0, "count": 7}, {"true_class": 2, "predicted_class": 2, "count": 3})
    state = page_state(reader_of({**ONE_RUN, "confusion": table("confusion", *cells)}), Selection())
    assert "<b>class 2</b> predicted as <b>class 0</b>: 70 %" in state.html["note-confusion_matrix"]
    assert state.figures["confusion_matrix"] is not None


def test_alerts_and_steps_of_a_running_epoch_are_shown() -> None:
    tables = {**ONE_RUN, "alerts": table("alerts", {}), "steps": table("steps", {}, {"step": 2})}
    state = page_state(reader_of(tables), Selection())
    assert "<b>class collapsed</b> class 9 fell to 0.0 %" in state.html["overview"] and "1 alert" in state.html["runs"]
    assert "in epoch 3: step 5/9, loss 0.125, 1,234 images/s" in " ".join(state.html["overview"].split())


def test_a_run_with_lines_that_could_not_be_read_is_broken_and_all_others_are_well() -> None:
    bad = [{"reason": "torn", "line": "{", "source": "x", "run": run} for run in ("semi", "semi", None, "unheard_of")]
    tables = {**TWO_RUNS, "quarantine": pa.Table.from_pylist(bad, schema=TABLES["quarantine"])}

    broken, well = (page_state(reader_of(tables), Selection(run=run)).html for run in ("semi", "base"))

    assert "2 of its events could not be read" in broken["overview"] and "not be read" not in well["overview"]
    assert broken["runs"].count(">broken<") == 1
    assert "2 lines of no run shown here could not be read" in broken["runs"]
    assert "broken" not in page_state(reader_of(TWO_RUNS), Selection()).html["runs"]


def test_what_failed_is_said() -> None:
    tables = {**ONE_RUN, "runs": table("runs", {"status": "failed", "message": "rank 1 <died>"})}
    assert "rank 1 &lt;died&gt;" in page_state(reader_of(tables), Selection()).html["overview"]


@pytest.mark.parametrize("configuration", ["", "not JSON", "[1]", "null", '{"dataset": null}'])
def test_a_run_that_tells_no_options_is_shown_all_the_same(configuration: str) -> None:
    tables = {**ONE_RUN, "runs": table("runs", {"configuration": configuration})}
    assert "<h1>labels alone</h1>" in page_state(reader_of(tables), Selection()).html["overview"]


def test_an_infinite_bias_is_shown_without_a_change() -> None:
    tables = {
        **ONE_RUN,
        "epochs": table("epochs", {"label_bias": float("inf")}, {"epoch": 2, "label_bias": float("inf")}),
    }
    state = page_state(reader_of(tables), Selection())
    assert "inf" in state.html["overview"] and "nan" not in state.html["overview"]


def test_nothing_from_an_event_becomes_markup() -> None:
    evil = "<script>alert(1)</script>"
    tables = {
        "runs": table(
            "runs", {"run": evil, "message": evil, "phase": evil, "configuration": json.dumps({"arch": evil})}
        ),
        "epochs": table("epochs", {"run": evil}),
        "class_epochs": class_rows({0: [0.5], 1: [0.5]}, run=evil, class_name=evil, shot_group="few"),
        "confusion": table("confusion", {"run": evil, "predicted_class": 1}),
        "alerts": table("alerts", {"run": evil, "rule": evil, "message": evil}),
    }
    page = whole_page(page_state(reader_of(tables), Selection(classes="script")))
    assert "alert(1)" in page and evil not in page


def test_a_thousand_classes_are_few_rows() -> None:
    rows = class_rows({i: [0.5] for i in range(1000)})
    state = page_state(reader_of({**ONE_RUN, "class_epochs": rows}), Selection())
    assert "1,000 classes in 100 bands" in state.html["note-accuracy_map"]
    assert len(state.figures["accuracy_map"].data[0].z) == 100
    assert len(state.figures["accuracy_lines"].data) == 12
    one = page_state(reader_of({**ONE_RUN, "class_epochs": rows}), Selection(classes="class 77"))
    assert len(one.figures["accuracy_map"].data[0].z) == 11  # class 77 and class 770 to 779


def test_of_eight_thousand_classes_a_band_shows_its_mean_and_the_search_each() -> None:
    """8,142 in 100 bands: 42 of 82 classes, then 58 of 81; the upper half is always right, the lower never."""
    rows = class_rows({i: [1.0 if i < 4071 else 0.0] for i in range(8142)}, train_count=10)
    read = reader_of({**ONE_RUN, "class_epochs": rows})
    state = page_state(read, Selection())
    bands = state.figures["accuracy_map"].data[0].z[:, 0]
    assert [*bands[:49], *bands[50:]] == [1.0] * 49 + [0.0] * 50
    assert bands[49] == pytest.approx((4071 - 42 * 82 - 7 * 81) / 81)
    assert {name: figure.layout.height < 600 for name, figure in state.figures.items() if figure} == dict.fromkeys(
        drawn(state), True
    )
    (one,) = page_state(read, Selection(classes="class 8141")).figures["accuracy_map"].data[0].z
    assert one == [0.0]


@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(classes="all"),
        Selection(run="a b&c", compare=("x", "y"), split="val", group="few", classes="ünï#?"),
        Selection(over="step", log=True, smooth=True),
        Selection(
            view=ALL_RUNS, find="a b=1", sort="-x&y", by="tags", columns=("a", "b"), choose=True, hidden=True, page=3
        ),
    ],
)
def test_an_address_says_the_whole_selection(selection: Selection) -> None:
    assert Selection().link() == "?"
    assert read_selection(parse_qsl(selection.link().removeprefix("?"))) == selection


def test_what_an_address_says_wrong_has_no_effect() -> None:
    wrong = [("group", "huge"), ("nonsense", "1"), ("run", ""), ("compare", "a"), ("compare", "a"), ("view", "x"),
             ("page", "-1"), ("hidden", "yes")]  # fmt: skip
    assert read_selection(wrong) == Selection(compare=("a",))
    assert {read_selection([("page", page)]).page for page in ("0", "x", "٣", "1" * 5000, "2.5", "")} == {1}


def test_a_run_is_added_to_the_comparison_and_taken_out_again() -> None:
    chosen = Selection(compare=("a",))
    assert chosen.toggled("b") == ("a", "b") and chosen.toggled("a") == ()
    most = tuple(f"run{i}" for i in range(MAX_COMPARED))
    assert Selection(compare=most).toggled("e") == (*most[1:], "e")


# --- the server


@pytest.fixture(scope="module")
def server() -> Iterator[socket.socket]:
    """A server of one run on a free port of the loopback interface."""
    listening = listening_socket("127.0.0.1", 0)
    with serving(dashboard_page(reader_of(ONE_RUN), lambda: "7", host="127.0.0.1"), listening):
        yield listening


def ask(
    server: socket.socket, path: str, *, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(*server.getsockname()[:2], timeout=60)
    connection.request(method, path, headers=headers)
    reply = connection.getresponse()
    try:
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


def test_who_waits_for_the_server_is_told_when_it_ends() -> None:
    listening = listening_socket("127.0.0.1", 0)
    with serving(dashboard_page(reader_of(ONE_RUN), lambda: "7", host="127.0.0.1"), listening) as ended:
        assert ask(listening, "/")[0] == 200
        assert not ended.is_set()
    assert ended.is_set()


def test_half_a_character_of_one_run_hides_no_other_run() -> None:
    """JSON may have one, and so may the options of a run; UTF-8 has none."""
    configuration = json.dumps({"dataset": "\ud800", "\udfff": 1})
    tables = {**TWO_RUNS, "runs": table("runs", {"configuration": configuration}, {"run": "semi"})}
    listening = listening_socket("127.0.0.1", 0)
    with serving(dashboard_page(reader_of(tables), lambda: "7", host="127.0.0.1"), listening):
        for path in ("/", "/state", "/?run=semi&compare=base", "/state?run=semi&compare=base"):
            status, _, body = ask(listening, path)
            assert status == 200 and b"semi" in body, path


def test_the_page_comes_with_all_that_it_needs_from_this_server_alone(server: socket.socket) -> None:
    status, headers, body = ask(server, "/")
    assert status == 200 and b"digits, labels alone" in body
    assert b"http://" not in body and b"https://" not in body and b"//cdn" not in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for path, kind in (
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/plotly.min.js", "text/javascript"),
    ):
        status, headers, body = ask(server, path)
        assert status == 200 and headers["Content-Type"].startswith(kind) and len(body) > 1000
        assert ask(server, path, **{"If-None-Match": headers["ETag"]})[0] == 304


def test_the_state_comes_once_a_version(server: socket.socket) -> None:
    status, _, body = ask(server, "/state?version=6")
    state = json.loads(body)
    assert status == 200 and state["version"] == "7"
    assert (
        state["figures"]["accuracy_map"]["data"][0]["type"] == "heatmap"
        and state["figures"]["confusion_matrix"] is None
    )
    assert ask(server, "/state?version=7")[0] == 204


def test_the_state_follows_the_address(server: socket.socket) -> None:
    query = urlencode({"run": "base", "classes": "class 2"})
    state = json.loads(ask(server, f"/state?{query}")[2])
    assert state["figures"]["accuracy_map"]["layout"]["yaxis"]["ticktext"] == ["<b>class 2  </b>98"]


def test_what_a_chart_draws_can_be_had_as_csv(server: socket.socket) -> None:
    state = json.loads(ask(server, "/state")[2])
    (link,) = re.findall(r'href="(data\.csv\?[^"]*)" download', state["html"]["note-accuracy_map"])
    status, headers, body = ask(server, f"/{unescape(link)}")
    names, *lines = body.decode().splitlines()
    assert status == 200 and headers["Content-Type"].startswith("text/csv") and len(lines) == 6
    assert headers["Content-Disposition"] == 'attachment; filename="base-class_epochs.csv"'
    assert names.startswith('"run","attempt"') and lines[0].startswith('"base",') and '"class 0"' in lines[0]
    for wrong in (
        "run=other&table=epochs", "run=base&table=quarantine", "run=base&table=../runs", "run=base",
        "run=base&table=epochs&split=none", f"run={'x' * 500}&table=epochs", "run=..&table=epochs",
    ):  # fmt: skip
        assert ask(server, f"/data.csv?{wrong}")[0] == 404


def test_a_long_table_comes_in_pieces_with_one_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_csv, "_ROWS_AT_ONCE", 4)
    parts = list(table_csv.csv_parts(pa.table({"a": range(10)})))
    assert [part.decode().split() for part in parts] == [['"a"', *"0123"], [*"4567"], [*"89"]]


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
        "/page.css/../../server.py", "/static/page.css", "/server.py", "/runs/base/manifest.json",
        "/page.css%00", "/state/../page", "/favicon.ico",
    ],
)  # fmt: skip
def test_a_path_that_is_none_of_the_page_s_own_is_not_found(server: socket.socket, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("run", ["../../etc", "/etc/passwd", "..", "base/../base", "\0", "x" * 5000])
def test_a_run_that_the_tables_do_not_know_reaches_no_file(tmp_path: Path, run: str) -> None:
    write_base(tmp_path / "tables")
    (tmp_path / "manifest.json").write_text("not a manifest")
    reader = TableReader(tmp_path / "tables")
    state = page_state(reader.read, Selection(run=run, compare=(run,)))
    assert "There is no run with this name" in state.html["overview"]
    assert len(reader.read("class_epochs", run)) == 0


def test_only_questions_are_answered(server: socket.socket) -> None:
    assert {ask(server, path, method="POST")[0] for path in ("/", "/state", "/page.js")} == {405}


def test_another_host_s_name_is_refused_on_loopback(server: socket.socket) -> None:
    assert ask(server, "/state", Host="rebound.example.org")[0] == 400
    assert ask(server, "/state", Host="localhost:8050")[0] == 200


def test_it_listens_on_loopback_only(server: socket.socket) -> None:
    host, port = server.getsockname()
    assert host == "127.0.0.1" and address(server) == f"http://127.0.0.1:{port}/"
    listening = {
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    }
    assert listening == {f"0100007F:{port:04X}"}  # 127.0.0.1, as Linux writes it


def test_a_port_that_is_taken_is_refused_in_a_line(server: socket.socket) -> None:
    with pytest.raises(UserError, match=r"cannot listen on 127.0.0.1 port \d+: .*; choose another --port"):
        listening_socket(*server.getsockname())


# --- the tables as the server reads them


def test_a_directory_without_tables_is_an_empty_page(tmp_path: Path) -> None:
    reader = TableReader(tmp_path / "nowhere")
    assert "No training has reported yet" in page_state(reader.read, Selection()).html["overview"]
    assert reader.version() == reader.version()


def test_new_rows_are_read_and_change_the_version(tmp_path: Path) -> None:
    write_base(tmp_path)
    reader = TableReader(tmp_path)
    before = reader.version()
    assert reader.read("class_epochs", "base")["accuracy"].to_pylist() == [0.5]
    assert reader.version() == before

    write_base(tmp_path, accuracies=(0.5, 0.75))

    assert reader.read("class_epochs", "base")["accuracy"].to_pylist() == [0.5, 0.75]
    assert reader.version() != before


def test_new_bad_lines_are_read_and_change_the_version(tmp_path: Path) -> None:
    write_base(tmp_path)
    reader = TableReader(tmp_path)
    before = reader.version()
    assert not len(reader.read("quarantine"))

    Quarantine(tmp_path).add(pa.table({"reason": ["torn"], "line": ['{"run": "base"'], "source": ["x"]}))

    assert reader.version() != before
    assert reader.read("quarantine")["run"].to_pylist() == ["base"]


def test_alerts_of_own_queries_are_shown_once_with_the_query_s_name(tmp_path: Path) -> None:
    """A run that the tables do not have, as a deleted one, has none; an alert without a run is above the runs."""
    write_base(tmp_path)
    reader = TableReader(tmp_path)
    before = reader.version()
    rows = [
        {"run": "base", "epoch": 2, "message": "tail <b>lost</b>"}, {"run": "base", "epoch": 3, "message": None},
        {"run": "deleted", "epoch": 2, "message": "x"}, {"run": None, "epoch": None, "message": "mean tail below 10 %"},
    ]  # fmt: skip
    for batch_id in (0, 1):
        OwnAlerts(tmp_path, "my_tail").add(pa.Table.from_pylist([*rows, rows[0]]), batch_id)

    assert reader.version() != before
    state = page_state(reader.read, Selection())
    (alert,) = re.findall(r'<ul class="alerts".*?</ul>', state.html["overview"], re.DOTALL)
    assert " ".join(alert.split()).endswith(
        '<li><b>query my_tail</b> tail &lt;b&gt;lost&lt;/b&gt; <span class="quiet">epoch 2</span></li> </ul>'
    )
    assert alert.count("query my_tail") == 1
    assert state.html["runs"].count("query my_tail") == 1 and "mean tail below 10 %" in state.html["runs"]
    assert [row["message"] for row in read_result_table(tmp_path, "alerts", "base").to_pylist()] == ["tail <b>lost</b>"]
    for run in ("deleted", "no_run"):
        assert not read_result_table(tmp_path, "alerts", run).num_rows


def test_new_own_alerts_are_told_and_those_of_a_killed_batch_again(tmp_path: Path) -> None:
    def messages(batch_id: int, *texts: str) -> list[str]:
        rows = pa.table({"run": ["base"] * len(texts), "message": pa.array(texts, pa.string())})
        return [alert["message"] for alert in OwnAlerts(tmp_path, "tail").add(rows, batch_id)]

    assert messages(0, "a", "b", "a") == ["a", "b"]
    assert messages(0, "a", "b", "a") == ["a", "b"]  # killed before it was told
    assert messages(1, "b", "c") == ["c"]
    assert messages(2) == messages(3, "a", "c") == []
    files = query_files(query_directory(tmp_path, "tail", ALERTS))
    assert [file.name for file in files] == ["rows-000000000.parquet", "rows-000000001.parquet"]


def test_the_page_says_how_far_the_query_is_with_the_events_that_waited(tmp_path: Path) -> None:
    reader = TableReader(tmp_path)

    def texts() -> dict[str, str]:
        return page_state(reader.read, Selection(), reader.notes()).html

    write_progress(tmp_path, 0, 12_000)
    nothing_yet = reader.version()
    assert "read 0 of 12,000 event files" in texts()["overview"]

    write_base(tmp_path)
    write_progress(tmp_path, 3000, 12_000)
    some = reader.version()
    assert "read 3,000 of 12,000 event files" in texts()["runs"] and "12,000" not in texts()["overview"]

    end_progress(tmp_path)
    assert "event files" not in texts()["runs"] and len({nothing_yet, some, reader.version()}) == 3


def test_an_unchanged_table_is_read_once(tmp_path: Path) -> None:
    write_base(tmp_path)
    reader = TableReader(tmp_path)
    assert reader.read("epochs").equals(reader.read("epochs"))
    for file in tmp_path.glob("runs/base/*.parquet"):
        file.unlink()
    assert len(reader.read("epochs")) == 1  # from memory


def test_a_table_of_a_thousand_runs_is_read_in_a_moment(tmp_path: Path) -> None:
    """What a run costs does not grow with the runs: by a sum over all of them for each this took half a minute."""
    for number in range(1000):
        run = f"run{number}"
        (tmp_path / "runs" / run).mkdir(parents=True)
        rows = {"runs": table("runs", {"run": run}).to_pylist()}
        manifest = json.dumps({"format_version": TABLES_FORMAT_VERSION, **vars(RunManifest(run, rows=rows))})
        (tmp_path / "runs" / run / "manifest.json").write_text(manifest)
    reader = TableReader(tmp_path)
    began = time.process_time()
    assert reader.read("runs").num_rows == 1000
    assert time.process_time() - began < 10


def test_of_a_long_run_only_the_file_that_an_epoch_changed_is_read_again(tmp_path: Path) -> None:
    segments = {"0": class_rows({0: [0.5]}), "1": table("class_epochs", {"epoch": 2, "accuracy": 0.25})}
    manifest = RunManifest(run="base", segment_epochs={"class_epochs": 1})
    manifest = write_run(tmp_path, manifest, {"class_epochs": segments}, {})
    reader = TableReader(tmp_path)
    assert reader.read("class_epochs", "base")["accuracy"].to_pylist() == [0.5, 0.25]
    (tmp_path / "runs" / "base" / manifest.files["class_epochs"]["0"]).write_text("not read")

    write_run(tmp_path, manifest, {"class_epochs": {"1": table("class_epochs", {"epoch": 2, "accuracy": 0.75})}}, {})

    assert reader.read("class_epochs", "base")["accuracy"].to_pylist() == [0.5, 0.75]


@pytest.mark.parametrize(
    ("host", "private"), [("127.0.0.1", True), ("127.0.0.2", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_whether_others_reach_the_page_is_seen_by_its_socket(host: str, private: bool) -> None:
    with listening_socket(host, 0) as listening:
        assert is_private(listening) == private


@pytest.mark.parametrize("host", ["", " ", "a b", "http://here", "é"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with refused() as messages:
        resolve_options(DashboardOptions, {"host": host})

    assert "a name or an address of this machine was expected, such as 127.0.0.1" in messages[0]


def test_the_host_of_another_machine_is_named() -> None:
    with refused() as messages:
        listening_socket("198.51.100.1", 0)

    assert messages == [
        "cannot listen on 198.51.100.1 port 0: Cannot assign requested address; "
        "choose another --host, a name or an address of this machine"
    ]


def test_to_find_that_nothing_has_changed_the_runs_are_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def counted(tables_dir: Path) -> dict[str, ManifestState]:
        looks.append(tables_dir)
        return manifest_states(tables_dir)

    write_base(tmp_path)
    reader = TableReader(tmp_path)
    before = reader.version()
    monkeypatch.setattr(table_reader, "manifest_states", counted)
    assert reader.version() == before and looks == [tmp_path]
