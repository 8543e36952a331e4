"""What holds for every test."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def heard() -> None:
    """Hear our own loggers: a library that configures logging (Alembic does) silences all that were there before."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("vbot_campaign") and isinstance(logger, logging.Logger):
            logger.disabled = False
