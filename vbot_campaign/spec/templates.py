"""The files in ``templates/``, and new files made from them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.paths import name_problem
from vbot_campaign.spec.assembly import value_at
from vbot_campaign.spec.checks import run_name_problems
from vbot_campaign.spec.document import Document, parse_value, read_document, scalar_spans
from vbot_campaign.spec.kinds import Kind, get_kind, require_kind
from vbot_campaign.spec.problems import KeyPath
from vbot_campaign.spec.trainable import require

_CHECKOUT = Path(__file__).parents[2]
_SCHEMA_LINE = re.compile(r"^# yaml-language-server: \$schema=.*$", re.MULTILINE)


def templates_folder() -> Path:
    """Return the folder of the templates: that of the checkout, or what an installation brought along.

    Raises:
        SpecError: There is neither.
    """
    own = _CHECKOUT / "templates"
    if (own / "automl_config.yaml").is_file():
        return own
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("vbot-campaign") or ():
            if file.name == "automl_config.yaml":
                return Path(str(file.locate())).resolve().parent
    raise SpecError(
        "the templates did not come with this installation; copy templates/ from the source and use --from."
    )


def schema_file(kind: str) -> Path:
    """Return where the JSON schema of a kind lies, for the line at the top of a file that editors read."""
    folder = templates_folder()
    return folder.parent / "studies" / "study.schema.json" if kind == "study" else folder / f"{kind}.schema.json"


def find_template(kind: Kind, name: str | None) -> Path:
    """Return the file that a new one is made from.

    Args:
        kind: What it must be.
        name: A file's path, or the name of a template with or without its ending; None for the usual one.

    Raises:
        SpecError: There is no such file.
    """
    folder = templates_folder()
    if name is None:
        return folder / kind.templates[0]
    for path in (Path(name), folder / name, folder / f"{name}.yaml"):
        if path.is_file():
            return path
    raise SpecError(
        f"--from {name}: no such file or template.{did_you_mean(name, kind.templates)} Templates of "
        f"{kind.words}: {', '.join(kind.templates)}."
    )


def new_file(kind_name: str, name: str, source: str | None = None, target: Path | None = None) -> tuple[Path, Path]:
    """Copy a template and fill in the name.

    Comments and layout stay; paths in it lead to the same files as before.

    Args:
        kind_name: One of `vbot_campaign.spec.kinds.KINDS`.
        name: Name of the study, training or plan; a file of another kind is only called so.
        source: Template or file to copy; None for the usual template.
        target: File to write; None for ``studies/NAME.yaml``.

    Returns:
        The new file, and what it was made from.

    Raises:
        SpecError: The name cannot be used, the source is of another kind, or the target is there already.
    """
    kind = get_kind(kind_name.replace("-", "_"))
    if (problem := name_problem(name)) is not None:
        raise SpecError(f"{kind.name.replace('_', ' ')} {problem}")
    if kind.name in ("study", "plan"):
        require(run_name_problems(name, kind.name))
    path = target or Path("studies") / f"{name}.yaml"
    template = find_template(kind, source)
    document = read_document(template)
    require_kind(str(template), document.value, kind.name)
    text = _filled(template.read_text(encoding="utf-8-sig"), document, kind, name, template, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise SpecError(f"{path}: is there already, and stays as it is. Give another NAME, or --to FILE.") from None
    return path, template


def _filled(text: str, document: Document, kind: Kind, name: str, template: Path, path: Path) -> str:
    edits = dict(_moved(document, template.parent, path.parent))
    written = name if parse_value(name) == name else f'"{name}"'
    if kind.name_key is not None and kind.name_key in document.value:
        edits[(kind.name_key,)] = written
    elif kind.name_key is not None:
        text = f"{text.rstrip()}\n\n{kind.name_key}: {written}\n"
    spans = scalar_spans(text, document.source)
    for place in sorted(edits, key=lambda key: spans[key], reverse=True):
        text = _replaced(text, *spans[place], edits[place])
    schema = _relative(schema_file(kind.name), path.parent)
    text = _SCHEMA_LINE.sub(lambda _: f"# yaml-language-server: $schema={schema}", text, count=1)
    return text.replace(f"templates/{template.name}", path.as_posix())


def _replaced(text: str, start: int, end: int, value: str) -> str:
    """Return a text with one value replaced; a comment behind it stays in its column where there is room."""
    gap = re.match(r" +(?=#)", text[end:])
    width = len(gap[0]) if gap is not None else 0
    spaces = " " * max(width + end - start - len(value), min(width, 1))
    return text[:start] + value + spaces + text[end + width :]


def _moved(document: Document, old: Path, new: Path) -> Iterator[tuple[KeyPath, str]]:
    """Yield the paths to other files that a document has, as they are from its new folder."""
    for place in document.lines:
        value = value_at(document.value, place)
        inside = place[-2:-1] in (("search_space",), ("reward",), ("warm_start",)) and place[-1] in (
            "file",
            "checkpoint",
        )
        if isinstance(value, str) and (inside or place == ("checkpoint",)) and not Path(value).is_absolute():
            yield place, f'"{_relative(old / value, new)}"' if " " in value else _relative(old / value, new)


def _relative(file: Path, folder: Path) -> str:
    """Return the way from a folder to a file: relative where they lie near each other, or else absolute."""
    try:
        relative = Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return file.resolve().as_posix()
    return file.resolve().as_posix() if relative.startswith("../../../") else relative
