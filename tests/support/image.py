"""The image as buildah makes it from our Dockerfile, on a Debian root that debootstrap makes: no engine, no registry.

Steps run in a chroot, with the network of this machine. pip is told what it is told here: its configuration, and the
local folders that this names, are mounted for the time of the steps and stay out of the image.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.docker_context import DOCKERFILE, ROOT

TAG = "localhost/vbot-campaign:test"
_BASE = "localhost/vbot-campaign-base"
_SETTINGS = ("cert", "client-cert", "find-links", "index-url", "proxy", "trusted-host")


class Builder:
    """buildah with a store of its own.

    Args:
        folder: For everything that it makes; several gigabytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a command line of buildah."""
        store = ["--root", f"{self._folder}/store", "--runroot", f"{self._folder}/run"]
        return ["buildah", *store, *map(str, arguments)]

    def call(self, *arguments: str | Path) -> str:
        """Run buildah to its end and return what it printed last to its standard output."""
        with (self._folder / "build.log").open("a+", encoding="utf-8") as log:
            done = subprocess.run(
                self.command(*arguments), stdout=subprocess.PIPE, stderr=log, text=True, env=_environ(), check=False
            )
            log.write(done.stdout)
        story = (self._folder / "build.log").read_text(encoding="utf-8")
        assert done.returncode == 0, f"buildah {arguments[0]}\n{story[-6000:]}"
        return done.stdout.strip()

    def close(self) -> None:
        """Remove everything that was made."""
        for command in (self.command("umount", "--all"), ["umount", f"{self._folder}/store/overlay"]):
            subprocess.run(command, capture_output=True)  # the store mounts its own folder onto itself
        shutil.rmtree(self._folder, ignore_errors=True)

    def make_base(self) -> None:
        """Make the image that the Dockerfile begins with: the smallest root of the same Debian."""
        (suite,) = re.findall(r"^ARG BASE=debian:([a-z]+)-", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
        root, archive = self._folder / "root", self._folder / "root.tar"
        with (self._folder / "debootstrap.log").open("w") as log:
            done = subprocess.run(["debootstrap", "--variant=minbase", suite, root], stdout=log, stderr=log)
        assert done.returncode == 0, (self._folder / "debootstrap.log").read_text()[-3000:]
        left_out = ["--exclude=./var/cache/apt/archives", "--exclude=./var/lib/apt/lists"]
        subprocess.run(["tar", "-C", root, "-cf", archive, *left_out, "."], check=True)
        container = self.call("from", "scratch")
        self.call("add", container, archive, "/")
        self.call("commit", container, _BASE)
        self.call("rm", container)

    def build(self, arguments: Mapping[str, str]) -> None:
        """Build our Dockerfile as it stands.

        Args:
            arguments: Build arguments, besides the base.
        """
        given = [f"--build-arg={name}={value}" for name, value in {"BASE": _BASE, **arguments}.items()]
        ignored = f"--ignorefile={ROOT / '.dockerignore'}"
        where = ["--file", DOCKERFILE, "--tag", TAG, ROOT]
        # What the steps leave is removed once, at the end: with all of torch in it that takes minutes each time.
        self.call("bud", "--format=docker", "--layers=false", "--rm=false", *given, ignored, *self._pip(), *where)

    def _pip(self) -> list[str]:
        """Return the mounts by which pip in the image finds packages as pip does here."""
        listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
        pairs = (line.partition("=") for line in sorted(listed.splitlines(), reverse=True))  # the environment's last
        found = {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in pairs if value}
        mounts, lines = [], ["[global]"]
        for name in _SETTINGS:
            places = found.get(name, "").split()
            for number, place in enumerate(places):
                if place.startswith("/") and Path(place).exists():
                    # Elsewhere than here: a step may write to the path itself.
                    places[number] = f"/mnt/pip/{name}{number}"
                    mounts.append(f"--volume={place}:{places[number]}:ro")
            if places:
                lines.append(f"{name} = " + "\n    ".join(places))
        file = self._folder / "pip.conf"
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")
        return [f"--volume={file}:/etc/pip.conf:ro", *mounts]

    def config(self) -> dict[str, Any]:
        """Return what the image says of itself, as Docker shows it."""
        found: dict[str, Any] = json.loads(self.call("inspect", "--type", "image", TAG))["Docker"]["config"]
        return found

    @contextlib.contextmanager
    def container(self) -> Iterator[tuple[str, Path]]:
        """Yield a container of the image, and the folder where all its files can be seen."""
        name = self.call("from", TAG)
        try:
            yield name, Path(self.call("mount", name))
        finally:
            self.call("umount", name)
            self.call("rm", name)

    def start(
        self, container: str, words: Sequence[str], log: Path, mounts: Sequence[str] = (), **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start the image's entry point with words after it."""
        config = self.config()
        environ = [f"--env={name}={value}" for name, value in {"TINI_SUBREAPER": "1", **variables}.items()]
        volumes = [f"--volume={mount}" for mount in mounts]
        program = [*config["Entrypoint"], *words]
        with log.open("ab") as output:
            return subprocess.Popen(
                self.command("run", *environ, *volumes, container, "--", *program),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environ(),
            )


def first_process(running: subprocess.Popen[bytes]) -> psutil.Process | None:
    """Return the process that Docker would signal: the entry point's first one; None before it is there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(running.pid).children(recursive=True):
            if child.name() == "tini":
                return child
    return None


def _environ() -> dict[str, str]:
    return {**os.environ, "BUILDAH_ISOLATION": "chroot"}
