"""What holds for every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer
    from tests.support.ray_cluster import RayCluster

# Other work on the machine must not fail a test.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def heard() -> None:
    """Hear our own loggers: a library that configures logging (Alembic does) silences all that were there before."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("vbot_campaign") and isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the settings of whoever runs the tests out of them: they may name a database with real studies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VBOT_CAMPAIGN_STORAGE", raising=False)
        patch.delenv("VBOT_CAMPAIGN_SETTINGS", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the tests of this process."""
    from tests.support.postgres import running_server

    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster of three nodes for the tests of this process; two of them have a CPU."""
    from tests.support.ray_cluster import running_cluster

    with running_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Address of an empty database of its own."""
    from vbot_campaign.study.study import close_readers

    with postgres_server.database() as url:
        yield url
        close_readers()
