"""optuna-dashboard on this machine, behind our guard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import open_storage
from vbot_campaign.watch.address import Address, bind, check_port
from vbot_campaign.watch.guard import Guard
from vbot_campaign.watch.pages import Pages
from vbot_campaign.watch.server import QuietHandler, ThreadedServer, check_exposure

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from vbot_campaign.study.storage import CampaignStorage

DEFAULT_PORT = 8080


class Dashboard:
    """A dashboard that is bound to its port and answers while `serve_forever` runs."""

    def __init__(self, storage: CampaignStorage, application: WSGIApplication, host: str, port: int) -> None:
        def listen(candidate: int) -> ThreadedServer:
            server = ThreadedServer((host, candidate), QuietHandler)
            server.set_app(application)
            return server

        self._storage = storage
        self._server, address = bind(host, port, listen)
        chosen = self._server.server_port
        self.address = address if port else Address(host, chosen, chosen)

    def serve_forever(self) -> None:
        """Answer requests until `shutdown` is called from another thread."""
        self._server.serve_forever(poll_interval=0.2)

    def shutdown(self) -> None:
        """Let `serve_forever` return."""
        self._server.shutdown()

    def close(self) -> None:
        """Give back the port and the database."""
        self._server.server_close()
        self._storage.close()


def open_dashboard(
    paths: CampaignPaths,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str | None = None,
    allow_edit: bool = False,
    tensorboard: str | None = None,
) -> Dashboard:
    """Bind a dashboard of all studies.

    The database is opened so that nothing can be written, unless editing is allowed.

    Args:
        paths: The runs folder.
        host: Address to listen on. One that other machines can reach needs a token.
        port: Wanted port; the next free one is taken where it is in use, 0 lets the system choose.
        token: Secret that each request must carry.
        allow_edit: Let the page rename and delete studies, and tell trials.
        tensorboard: Address of TensorBoard, where it is served along with it.

    Raises:
        CampaignError: A reachable host without a token, no such port, or none that is free.
        StudyNotFoundError: There is no database yet.
    """
    check_port(port)
    check_exposure(host, port, token, page="dashboard")
    storage = open_storage(paths, read_only=not allow_edit)
    try:
        pages = Pages(_optuna_dashboard(storage, paths), paths, tensorboard)
        return Dashboard(storage, Guard(pages, token=token, allow_edit=allow_edit), host, port)
    except BaseException:
        storage.close()
        raise


def _optuna_dashboard(storage: CampaignStorage, paths: CampaignPaths) -> WSGIApplication:
    import optuna_dashboard  # half a second, and only this command needs it
    from bottle import HTTPResponse
    from optuna.artifacts import FileSystemArtifactStore
    from optuna.artifacts.exceptions import ArtifactNotFound

    class Store(FileSystemArtifactStore):
        def open_reader(self, artifact_id: str) -> BinaryIO:
            try:
                return super().open_reader(artifact_id)
            except ArtifactNotFound:
                text = "This file is gone: removed to keep within the disk budget, or not in the backup.\n"
                raise HTTPResponse(text, status=404, headers={"Content-Type": "text/plain"}) from None

        def write(self, artifact_id: str, content_body: BinaryIO) -> None:
            paths.artifacts.mkdir(parents=True, exist_ok=True)
            super().write(artifact_id, content_body)

    application: WSGIApplication = optuna_dashboard.wsgi(storage.optuna, artifact_store=Store(paths.artifacts))
    return application


def serve(
    paths: CampaignPaths,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str | None = None,
    allow_edit: bool = False,
    ready: Callable[[Address], None],
) -> None:
    """Serve the dashboard until Ctrl-C.

    Args:
        paths: The runs folder.
        host: See `open_dashboard`.
        port: See `open_dashboard`.
        token: See `open_dashboard`.
        allow_edit: See `open_dashboard`.
        ready: Called once with the address as soon as it answers.
    """
    dashboard = open_dashboard(paths, host=host, port=port, token=token, allow_edit=allow_edit)
    try:
        ready(dashboard.address)
        dashboard.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        dashboard.close()
