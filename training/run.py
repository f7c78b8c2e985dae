"""Training of one rank, from loading the data to the result.

Runs in a task of a Spark barrier stage or in a process started by torchrun or by hand.
"""

import threading
from dataclasses import replace
from typing import Any

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_json_atomically
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.streaming.events.writer import EventWriter
from longtail.training.distributed import Rank
from longtail.training.evaluation import predict_all
from longtail.training.heartbeat import Heartbeat
from longtail.training.loop import build_optimizer, fit
from longtail.training.method import method_of
from longtail.training.precision import with_precision
from longtail.training.run_directory import RESULT_FILE, RunPaths
from longtail.training.run_events import RunEvents, report_failure
from longtail.training.run_log import RunLog
from longtail.training.run_record import RunRecord
from longtail.training.run_result import run_result
from longtail.training.run_start import restore

_SET_UP = threading.Lock()
"""Of one training at a time in a process (training/side_by_side.py): PyTorch has one generator for initial weights."""


def run_training(options: RunOptions, paths: RunPaths, rank: Rank, *, attempt: int) -> dict[str, Any]:
    """Train or resume a run; rank 0 writes result.json and returns its content, other ranks return {}.

    Raises UserError for bad input.
    """
    with Heartbeat(paths.heartbeats_dir, rank=rank.rank) as heartbeat:
        rank = replace(rank, beat=heartbeat.beat)
        if not rank.is_first:
            return _run_training(options, paths, rank, attempt=attempt, log=None)
        log = RunLog(paths.run_dir, attempt=attempt)
        try:
            result = _run_training(options, paths, rank, attempt=attempt, log=log)
        except BaseException as error:
            log.ended(error)
            raise
        log.ended(None)
        return result


def _run_training(
    options: RunOptions, paths: RunPaths, rank: Rank, *, attempt: int, log: RunLog | None
) -> dict[str, Any]:
    """log: of rank 0, which other ranks have not"""
    method = method_of(options)
    manifest = read_manifest(paths.set_dir)
    with _SET_UP:
        task = method.task(options, paths, manifest, rank)
        task, network = method.network(options, task, rank)
        options = with_precision(options, network, manifest.image_shape, paths, rank)
        task, model = method.trained_module(network, options, paths, task, rank)
    optimizer = build_optimizer(model, options)
    first_epoch, best = restore(model, network, optimizer, task, options, paths)
    if log is None:
        fit(model, optimizer, task, options, rank, first_epoch=first_epoch, on_epoch=lambda report: None)
        predict_all(model, task, rank)
        return {}
    run = paths.run_dir.name
    writer = EventWriter(paths.events_dir, run=run, attempt=attempt)
    events = RunEvents(writer, task.data, options, run=run, attempt=attempt)
    with report_failure(writer, options, run=run, attempt=attempt, describe=_failure_line):
        events.started(epoch=first_epoch)
        log.began(options, manifest, rank, first_epoch=first_epoch)
        with RunRecord(
            model, network, optimizer, task, options, paths, events, log, first_epoch=first_epoch, best=best
        ) as record:
            totals = fit(
                model,
                optimizer,
                task,
                options,
                rank,
                first_epoch=first_epoch,
                on_epoch=record.add,
                on_steps=events.steps,
            )
        predictions = predict_all(model, task, rank)
        result = run_result(
            run,
            task,
            phase=options.phase,
            epoch=options.epochs,
            totals=totals,
            predictions=predictions,
            best=record.best,
            manifest=manifest,
        )
        write_json_atomically(paths.run_dir / RESULT_FILE, result)
        events.finished()
    return result


def _failure_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
