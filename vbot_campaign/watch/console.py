"""The console of what runs for days: one whose reader may leave."""

from __future__ import annotations

import os
import sys

from rich.console import Console


class LastingConsole(Console):
    """A console that falls silent when nobody reads it any more, as in ``vbot-campaign run FILE | head``.

    Rich's own console ends the program then, which would stop a study, or a training, for want of a reader.
    """

    def on_broken_pipe(self) -> None:
        """Print nothing from here on; what others still write to stdout goes nowhere."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
