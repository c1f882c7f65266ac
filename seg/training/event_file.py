"""TensorBoard's event files: records written whole, cut back to a step when a run is resumed, and their size known."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.pr_curve import metadata as pr_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto

from seg.data.files.storage import make_folder
from seg.errors import DataError
from seg.metrics.pr_curve import PrecisionRecall

PATTERN = "events.out.tfevents.*"
HEADER = struct.Struct("<Q4x")  # a record: length, its checksum, the bytes, their checksum (4 bytes)
_numbers = itertools.count()


class EventFile:
    """Appends events to a new file of a run's folder. One event, with all of a step's scalars, is one record: a reader
    sees all of it or nothing."""

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        """`first_step`: from it on, a TensorBoard that runs forgets what it has read of the folder, see `cut_back`."""
        make_folder(folder)
        # TensorBoard reads a folder's files in the order of their names.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):04d}"
        self.path = folder / name
        self._writer = tf.io.TFRecordWriter(str(self.path))
        self.num_bytes = 0
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=first_step, session_log=start))

    def add(self, step: int, summaries: Sequence[Any]) -> None:
        """Writes the values of some `Summary` messages as one event."""
        values = [value for summary in summaries for value in summary.value]
        if values:
            self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        """Hands everything to the operating system, where TensorBoard sees it."""
        with self._told():
            self._writer.flush()

    def close(self) -> None:
        """Flushes and ends the file."""
        with self._told():
            self._writer.close()

    def _write(self, event: Event) -> None:
        record = event.SerializeToString()
        self.num_bytes += len(record)
        with self._told():
            self._writer.write(record)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:  # a full disk, a folder that is gone
            raise DataError(f"{self.path}: cannot be written ({error.message.rpartition('; ')[2]})") from None


def cut_back(folder: Path, step: int) -> None:
    """Takes out of a folder's event files whatever is later than `step`, and a record that was torn off by a kill.

    Steps ascend within a file, so that cutting off its end is enough: nothing is copied. A file without any value left
    is removed.

    TensorBoard's own mark of a restart, SessionLog.START, does not do alone. Tried with TensorBoard 2.21: a second file
    that begins at an earlier step, with and without the mark; scalars, images and curves asked for over HTTP.
    `--load_fast=false` obeys the mark, if the first file begins with one too; without it every step stands twice.
    `--load_fast=true`, the default, does not read the mark: it replaces a tag's points once that tag comes at their
    step again, and keeps those of tags that do not come again (a worst tile, a precision that is undefined now). So the
    files are cut; and they begin with the mark for a TensorBoard that has read before what is cut now.
    """
    for path in sorted(folder.glob(PATTERN)):
        kept, has_values = _kept_bytes(path, step)
        if not has_values:
            path.unlink()
        elif kept < path.stat().st_size:
            os.truncate(path, kept)


def _kept_bytes(path: Path, step: int) -> tuple[int, bool]:
    """Where the first record that is later than `step`, or torn, begins; whether a value stands before it."""
    position, has_values = 0, False
    size = path.stat().st_size
    with path.open("rb") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            (length,) = HEADER.unpack(header)
            end = position + HEADER.size + length + 4
            if end > size:
                break
            try:
                event = Event.FromString(file.read(length))
            except DecodeError:  # bytes of something else, after a crash of the machine: no reader gets behind them
                break
            if event.step > step:
                break
            has_values = has_values or event.HasField("summary")
            file.seek(end)
            position = end
    return position, has_values


def folder_bytes(folder: Path) -> int:
    """The size of all event files in a folder and in those below it."""
    return sum(path.stat().st_size for path in folder.rglob(PATTERN))


# --- values -----------------------------------------------------------------------------------------------------------
def scalar(tag: str, value: float) -> Any:
    """A number."""
    return scalar_pb(tag, np.float32(value))


def text(tag: str, markdown: str) -> Any:
    """Markdown."""
    return text_pb(tag, markdown)


def image(tag: str, picture: np.ndarray) -> Any:
    """A picture (H, W, 3) uint8 RGB, as PNG."""
    # The strategy is zlib's own: OpenCV's default for it makes flat colours, as of masks, twice as large.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
    _, png = cv2.imencode(".png", picture[..., ::-1], options)
    height, width = picture.shape[:2]
    return png_image(tag, png.tobytes(), width, height)


def png_image(tag: str, png: bytes, width: int, height: int) -> Any:
    """A PNG file."""
    metadata = image_metadata.create_summary_metadata(display_name=tag, description="")
    content = [str(width).encode(), str(height).encode(), png]
    return one_value(tag, metadata, make_tensor_proto(content, dtype=np.object_, shape=(3,)))


def pr_curve(tag: str, curve: PrecisionRecall) -> Any:
    """A precision-recall curve with its counts."""
    metadata = pr_metadata.create_summary_metadata(
        display_name=tag, description="", num_thresholds=len(curve.precision)
    )
    rows = (
        curve.true_positives,
        curve.false_positives,
        curve.true_negatives,
        curve.false_negatives,
        curve.precision,
        curve.recall,
    )
    return one_value(tag, metadata, make_tensor_proto(np.stack(rows).astype(np.float32)))


def one_value(tag: str, metadata: SummaryMetadata, tensor: Any) -> Summary:
    """A `Summary` of one value."""
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
