"""What Docker makes of a Dockerfile and a .dockerignore, as far as tests ask."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


@dataclass
class Stage:
    """One stage of a Dockerfile: its instructions in order, as name and text with continued lines joined."""

    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def texts(self, instruction: str) -> list[str]:
        """Return the texts of all instructions of one name."""
        return [text for name, text in self.instructions if name == instruction]

    def installed(self) -> set[str]:
        """Return the Debian packages that its steps install."""
        found = set()
        for text in self.texts("RUN"):
            for command in re.split(r"&&|;", text):
                words = shlex.split(command)
                if words[:2] == ["apt-get", "install"]:
                    found |= {word for word in words[2:] if not word.startswith("-")}
        return found

    def copied(self) -> list[str]:
        """Return the sources of its COPY instructions that come from the context."""
        words = [shlex.split(text) for text in self.texts("COPY")]
        return [source for line in words if not line[0].startswith("--from") for source in line[:-1]]


def stages(text: str) -> list[Stage]:
    """Split a Dockerfile into its stages; what stands before the first FROM is none."""
    found: list[Stage] = []
    for entry in DockerfileParser(fileobj=io.BytesIO(text.encode())).structure:
        name, value = entry["instruction"], entry["value"]
        if name == "FROM":
            _, _, alias = value.partition(" AS ")
            found.append(Stage(alias))
        elif name != "COMMENT" and found:
            found[-1].instructions.append((name, value))
    return found


def is_ignored(path: str, patterns: str) -> bool:
    """Tell whether a .dockerignore keeps a path out: the last pattern that fits it, or a folder above it, decides."""
    parts = PurePosixPath(path).parts
    prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    ignored = False
    for line in patterns.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            fits = re.compile(_expression(pattern.removeprefix("!")))
            if any(fits.fullmatch(prefix) for prefix in prefixes):
                ignored = not pattern.startswith("!")
    return ignored


def _expression(pattern: str) -> str:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(meaning.get(piece, re.escape(piece)) for piece in pieces)
