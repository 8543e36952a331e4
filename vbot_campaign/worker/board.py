"""Learning curves in TensorBoard's file format."""

from __future__ import annotations

import socket
import struct
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter
    from torch.utils.tensorboard.summary import hparams


class Board:
    """Appends to one event file.

    Torch's writer hands everything to a thread, which writes when it likes and whose errors come out later or not at
    all. This one has written when it returns, so that nothing reaches the file once the folder belongs to another
    attempt, and a full disk is noticed where it can be dealt with.

    Args:
        folder: Where the file lies.
        attempt: Number of the attempt: a later one's file sorts after an earlier one's, also within a second.
        purge_step: TensorBoard drops the points at and beyond it of older files.
    """

    def __init__(self, folder: Path, *, attempt: int, purge_step: int | None = None) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{attempt:04d}.{socket.gethostname()}"
        self._file = (folder / name).open("ab", buffering=0)
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if purge_step is not None:
            self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve.

        Args:
            step: Env step.
            values: Numbers by tag, such as ``Loss/policy``.
        """
        points = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()]
        self._write(step=step, summary=Summary(value=points))

    def film(self, step: int, tag: str, gif: bytes) -> None:
        """Add a GIF to the images.

        Args:
            step: Env step.
            tag: Its name.
            gif: The file's content.
        """
        # Bytes 6 to 9 of a GIF are its width and height (GIF89a, section 18).
        width, height = struct.unpack("<HH", gif[6:10])
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        self._write(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def hyperparameters(self, point: Mapping[str, float | str | bool], metrics: Mapping[str, float]) -> None:
        """Add a row to the HParams page."""
        for summary in hparams(dict(point), dict(metrics)):
            self._write(summary=summary)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, **content: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
