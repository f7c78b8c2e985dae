"""Prepares a long-tailed set from the images of its sources."""

import errno
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.names import with_examples
from longtail.conf.base.optional_packages import deltalake
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.base.shown_text import printable
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, UNLABELED
from longtail.data.contract import ID, IMAGE, ROWS_DIRECTORY, SKIPPED, SPLIT, read_skipped_image
from longtail.data.copies import labelled_copy_lines, unlabeled_copy_lines
from longtail.data.delta import write_log
from longtail.data.draws import Draw, DrawLimits
from longtail.data.fingerprints import has_near_copies
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.new_set import is_prepared, new_set
from longtail.data.sources.base import Located
from longtail.data.sources.own_files import state_of_own_files
from longtail.data.sources.registry import source_of
from longtail.data.verification import check_parameters, verify_set
from longtail.spark_jobs.cluster.cancellation import Call, run_to_their_end
from longtail.spark_jobs.cluster.visibility import check_shared
from longtail.spark_jobs.display.activity import Activity
from longtail.spark_jobs.display.label_statistics import duplicate_lines
from longtail.spark_jobs.frames.long_tail import (
    BucketCount,
    LongTail,
    collect_limits,
    keep_long_tail,
    with_bucket_counts,
)
from longtail.spark_jobs.frames.reading import persisted
from longtail.spark_jobs.steps.copies import Copies, found_copies, with_all_candidates
from longtail.spark_jobs.steps.part_sizes import plan_counts
from longtail.spark_jobs.steps.prepared_set import (
    SKIPPED_FILE,
    channels_of,
    describe_set,
    duplicates_of,
    prepared_set_dir,
    write_skipped_images,
)
from longtail.spark_jobs.steps.published_layout import ids_of_published_source
from longtail.spark_jobs.steps.set_sources import (
    LocatedSource,
    fingerprints_of,
    image_names,
    unlabeled_sources,
    unread_images,
)
from longtail.spark_jobs.steps.set_writing import write_rows

NO_ROOM = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]


def prepare(spark: SparkSession, options: DataOptions, *, as_delta: bool = False) -> Location:
    """Prepare the set unless it exists; return its directory. Raises UserError for invalid input.

    as_delta: make its rows a Delta table too
    """
    if as_delta:
        deltalake()  # a missing package is reported before any work
    set_dir, source_state = prepared_set_dir(options), state_of_own_files(options)
    exists = is_prepared(set_dir)
    if exists and (prepared := read_manifest(set_dir)).source_state == source_state:
        remedy = "delete it, so that it is prepared again"
        check_parameters(prepared, options.set_parameters(), set_dir=set_dir, remedy=remedy)
        verify_set(set_dir, prepared)
        if as_delta:
            write_log(set_dir / ROWS_DIRECTORY, partition_column=SPLIT)
        _print_lines(unlabeled_copy_lines(prepared))
        return set_dir
    if exists:
        print(f"the files that {set_dir.name} was prepared from have changed: it is prepared again")
    check_can_be_written(set_dir.parent, option="--data_dir")
    check_shared(spark, set_dir.parent, option="--data_dir")
    with Activity(spark, "finding the images") as activity:
        manifest, unread = _make(
            spark, options, set_dir, activity, source_state=source_state, is_replaced=exists, as_delta=as_delta
        )
    _print_remarks(manifest, set_dir, unread=unread)
    return set_dir


def _make(
    spark: SparkSession,
    options: DataOptions,
    set_dir: Location,
    activity: Activity,
    *,
    source_state: str | None,
    is_replaced: bool,
    as_delta: bool,
) -> tuple[Manifest, list[str]]:
    """Write the set; its manifest, and the names of images that are not read. Raises UserError for invalid input.

    source_state: of the user's own files
    is_replaced: the set exists, prepared from other files
    """
    source = source_of(options)
    located = source.locate(options)
    sources = [LocatedSource(source, located), *unlabeled_sources(options, located)]
    activity.now("reading the images")
    with persisted(fingerprints_of(spark, sources)) as fingerprints:
        found, bucket_counts = _counted(fingerprints, options)
        if not any(split == TEST for split, _ in found):
            raise UserError(f"{options.dataset} has no test image left: repair the damaged ones")
        if options.unlabeled is not None and not any(split == UNLABELED for split, _ in found):
            raise UserError(f"--unlabeled {options.unlabeled} has no image left: repair the damaged ones")
        bad = _skipped_images(fingerprints, found)
        seed = options.rand_number
        counts = plan_counts(found, options, located)
        candidates = with_all_candidates(counts, found)
        limits, of_candidates = collect_limits(fingerprints, (counts, candidates), bucket_counts, seed=seed)
        near = has_near_copies(located.image_shape, located.encoding)
        names = image_names(sources)
        activity.now("looking for copies")
        with found_copies(
            fingerprints, candidates, of_candidates, options, names, num_images=sum(found.values()), near=near
        ) as copies:
            allowed, left_out = fingerprints, np.array([*bad], np.int64)
            if copies.left_out is not None:
                allowed = fingerprints.join(copies.left_out, ID, "left_anti")
                counts, limits = _counts_without(allowed, copies, options, located)
                left_out = np.union1d(left_out, copies.left_out.toArrow().column(ID).to_numpy())
            draw = Draw(limits, seed, left_out)
            try:
                with (
                    _write_errors_reported(set_dir),
                    new_set(set_dir, replace=is_replaced, source_state=source_state) as new,
                ):
                    activity.now("writing the set")
                    kept = keep_long_tail(allowed, limits, seed=seed)
                    channels = Call(partial(channels_of, kept, image_shape=located.image_shape))
                    duplicates = Call(partial(duplicates_of, kept))
                    written = Call(
                        partial(write_rows, spark, sources, new.directory, draw, num_images=counts.num_images)
                    )
                    run_to_their_end(spark, written, channels, duplicates)
                    described = [source.located for source in sources]
                    manifest = replace(
                        describe_set(written.value, channels.value, duplicates.value, options, described, counts),
                        num_bad_images=len(bad),
                        source_state=source_state,
                        unlabeled_ids=ids_of_published_source(options, described, found),
                        copies=copies.found,
                        num_label_conflicts=copies.num_label_conflicts,
                        label_conflicts=copies.label_conflicts,
                    )
                    write_skipped_images(new.directory, [*bad.values(), *unread_images(sources)])
                    if as_delta:
                        write_log(new.directory / ROWS_DIRECTORY, partition_column=SPLIT)
                    new.finish(manifest)
            except FileExistsError:
                manifest = read_manifest(set_dir)  # another process prepared the same set meanwhile
                verify_set(set_dir, manifest)
    return manifest, [name for name, _ in unread_images(sources)]


def _counted(fingerprints: DataFrame, options: DataOptions) -> tuple[Counter[tuple[str, int]], Sequence[BucketCount]]:
    """Images by split and label, and the rows of with_bucket_counts."""
    bucket_counts = [tuple(row) for row in with_bucket_counts(fingerprints, seed=options.rand_number).collect()]
    found: Counter[tuple[str, int]] = Counter()
    for split, label, _, count in bucket_counts:
        found[split, label] += count
    return found, bucket_counts


def _skipped_images(fingerprints: DataFrame, found: Mapping[tuple[str, int], int]) -> dict[int, tuple[str, str]]:
    """Name and reason of each image that cannot be decoded, by id."""
    if not any(split == SKIPPED for split, _ in found):
        return {}
    rows = fingerprints.where(F.col(SPLIT) == SKIPPED).select(ID, IMAGE).collect()
    return {image_id: read_skipped_image(content) for image_id, content in rows}


def _counts_without(
    images: DataFrame, copies: Copies, options: DataOptions, located: Located
) -> tuple[LongTail, DrawLimits]:
    """The sizes of the parts, and the limits of the draw, without the images that are left out.

    images: fingerprints of the others

    Raises UserError if too few unlabeled images remain.
    """
    found, bucket_counts = _counted(images, options)
    reason = f"{copies.num_left_out} images were left out of the unlabeled part, as copies of test or labelled images"
    try:
        counts = plan_counts(found, options, located)
    except UserError as error:
        raise UserError(f"{error} ({reason})") from None
    if not sum(counts.unlabeled) + counts.classless:
        raise UserError(f"--unlabeled {options.unlabeled} has no other images: {reason}; name other images")
    (limits,) = collect_limits(images, [counts], bucket_counts, seed=options.rand_number)
    return counts, limits


@contextmanager
def _write_errors_reported(set_dir: Location) -> Iterator[None]:
    """Raise UserError where the block fails because the set cannot be written."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot write {set_dir}: {error.strerror}; make the directory writable, or choose another --data_dir"
        ) from None
    except Exception as error:
        # Spark reports a full disk in the text of its exceptions.
        reason = next((reason for reason in NO_ROOM if reason in str(error)), None)
        if reason is None:
            raise
        raise UserError(f"cannot write {set_dir}: {reason}; free some or choose another --data_dir") from None


def _print_remarks(manifest: Manifest, set_dir: Location, *, unread: Sequence[str]) -> None:
    """Print what the user should know about the images: where they are from, what was left out, and copies."""
    print(f"images: {printable(manifest.source)}")
    if manifest.num_bad_images:
        print(
            f"left out {manifest.num_bad_images} images that are missing or cannot be decoded: {set_dir / SKIPPED_FILE}"
        )
    if unread:
        print(f"not read: {len(unread)} images of other kinds ({with_examples(unread)}): convert them to JPEG or PNG")
    _print_lines(duplicate_lines([row for row in manifest.duplicates if "+" in row["splits"]]))
    _print_lines([*labelled_copy_lines(manifest), *unlabeled_copy_lines(manifest)])


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)
