"""A report as one HTML page that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vbot_campaign import __version__
from vbot_campaign.exporters import plain_yaml
from vbot_campaign.exporters.report import charts, tables
from vbot_campaign.exporters.report.data import ReportData
from vbot_campaign.exporters.report.evaluations import missing_engines
from vbot_campaign.exporters.report.markup import Child, Markup, el, join
from vbot_campaign.exporters.report.style import CSS
from vbot_campaign.exporters.report.tables import Row, Table
from vbot_campaign.exporters.report.verdict import Verdict, judge
from vbot_campaign.spec.loading import definition

# Nothing may be loaded, whatever a name in the study contains; the style sheet and the empty icon are in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(data: ReportData) -> str:
    """Return the whole page."""
    verdict, name = judge(data), data.snapshot.spec.study
    sections = [section for section in _sections(data) if section is not None]
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{name}: report"),
        el("style", Markup(CSS)),
    )
    links = [el("a", title, href=f"#{anchor}") for anchor, title, _ in sections]
    body = el(
        "body",
        el(
            "main",
            _header(data, links),
            _verdict(data, verdict),
            [_section(anchor, title, body) for anchor, title, body in sections],
            _footer(data),
        ),
    )
    return "<!doctype html>\n" + el("html", head, body, lang="en") + "\n"


Section = tuple[str, str, list[Child]]


def _sections(data: ReportData) -> Iterator[Section | None]:
    yield _history(data)
    yield _parameters(data)
    yield _outcomes(data)
    yield _top(data)
    yield _policies(data)
    yield _training(data)
    yield _failures(data)
    yield _alerts(data)
    yield "cost", "Cost", [_table(tables.cost(data))]
    yield _again(data)


def _header(data: ReportData, links: Sequence[Markup]) -> Markup:
    spec, snapshot = data.snapshot.spec, data.snapshot
    reason = f": {snapshot.reason}" if snapshot.reason else ""
    return el(
        "header",
        el("h1", spec.study),
        el("p", f"{spec.environment}, {spec.physics} · {snapshot.state}{reason}", class_="soft"),
        el("p", f"begun {_time(snapshot.created)}, reported {_time(data.made)} UTC", class_="soft small"),
        el("nav", links, aria_label="Sections"),
    )


def _verdict(data: ReportData, verdict: Verdict) -> Markup:
    return el(
        "section",
        el("h2", verdict.headline),
        el("p", verdict.achieved),
        el(
            "div",
            [el("div", el("b", v), el("span", what), class_="tile") for v, what in tables.tiles(data)],
            class_="tiles",
        ),
        el("h3", f"Can it be trusted? {verdict.trust}"),
        el("ul", [el("li", f.text, class_=f.level.value) for f in verdict.findings], class_="findings"),
        el("p", f"The score is {objective(data)}.", class_="soft small"),
        class_=f"verdict {verdict.level.value}",
    )


def objective(data: ReportData) -> str:
    """Return the score's formula in words."""
    terms = data.snapshot.spec.objective.terms().items()
    words = []
    for name, term in terms:
        scaled = name if term.scale == 1 else f"{name}/{term.scale:g}"
        words.append(f"{term.weight:g} × {f'(1 − {scaled})' if term.invert else scaled}")
    return " + ".join(words)


def _history(data: ReportData) -> Section | None:
    if not data.history:
        return None
    return "history", "History", [_grid(charts.history(data))]


def _parameters(data: ReportData) -> Section | None:
    slices, parallel = charts.slices(data), charts.parallel(data)
    if not slices:
        return None
    importances = charts.importances(data)
    body: list[Child] = [] if importances else [el("p", "Too few complete trials to say which matter.", class_="soft")]
    body += [_grid(importances)] if importances else []
    body += [
        el("h3", "Score over each parameter"),
        el("p", "Blue: complete. Grey: pruned, with their last score.", class_="soft small"),
        _grid(slices, small=True),
    ]
    body += [el("h3", "Together"), el("div", parallel, class_="wide")] if parallel else []
    return "parameters", "Parameters", body


def _outcomes(data: ReportData) -> Section | None:
    drawn = [chart for chart in (charts.outcomes(data), charts.states(data)) if chart is not None]
    return ("outcomes", "Outcomes", [_grid(drawn)]) if drawn else None


def _top(data: ReportData) -> Section | None:
    if not data.ranked:
        return None
    return (
        "top",
        "Best trials",
        [
            _table(tables.top(data)),
            el("h3", "Their configurations"),
            el("p", "Marked: other than in the best trial.", class_="soft small"),
            _table(tables.configurations(data)),
        ],
    )


def _policies(data: ReportData) -> Section | None:
    if not data.ranked:
        return None
    note = policies_note(data)
    body: list[Child] = [el("p", note, class_="soft")] if note else []
    if any(data.played.values()):
        body += [_table(tables.policies(data)), el("p", POLICIES_LEGEND, class_="soft small")]
    return "policies", "Best policies in both engines", body


POLICIES_LEGEND = (
    "In brackets: 95 % interval. To goal: seconds of those that arrive. Torque: share of joint-steps at the limit. "
    "Progress: share of the way covered."
)


def policies_note(data: ReportData) -> str:
    """Return how to have policies played that have not been; an empty text where all have."""
    complete = all(len(played) == 2 for played in data.played.values()) and data.played
    if complete:
        return ""
    missing = missing_engines()
    lacking = f" Not installed here: {', '.join(missing)}." if missing else ""
    command = f"vbot-campaign report {data.snapshot.spec.study} --evaluate"
    return f"To play the best policies in both engines: {command}.{lacking}"


def _training(data: ReportData) -> Section | None:
    drawn, terms = charts.curves(data), charts.terms(data)
    if not drawn:
        return None
    body: list[Child] = [
        el("p", "With the noise of exploration, averaged over even stretches of env steps.", class_="soft small"),
        charts.names_of_top(data),
        _grid(drawn, small=True),
        _grid([terms]) if terms else None,
    ]
    return "training", "Training of the best trials", body


def _failures(data: ReportData) -> Section | None:
    if not data.failures:
        return None
    return "failures", "Failures", [_table(tables.failures(data))]


def _alerts(data: ReportData) -> Section | None:
    if not data.snapshot.alerts:
        return None
    total, shown = len(data.snapshot.alerts), tables.SHOWN_ALERTS
    more = f"The newest {shown} of {total}; all are in supervisor.jsonl." if total > shown else ""
    return "alerts", "Alerts", [more and el("p", more, class_="soft small"), _table(tables.alerts(data))]


def _again(data: ReportData) -> Section:
    origin = tables.origin(data)
    text = plain_yaml.dump(definition(data.snapshot.spec))
    body: list[Child] = [
        [el("pre", command) for command in tables.commands(data)],
        el("p", f"Trained with {origin}.", class_="soft small") if origin else None,
        el("details", el("summary", "The study's definition"), el("pre", text)),
    ]
    return "again", "Do it again", body


def _section(anchor: str, title: str, body: Sequence[Child]) -> Markup:
    return el("section", el("h2", title), body, id=anchor)


def _grid(figures: Sequence[Child], *, small: bool = False) -> Markup:
    return el("div", figures, class_="charts small-multiples" if small else "charts")


def _table(table: Table) -> Markup:
    head = el(
        "tr", [el("th", name, class_="words" if i in table.words else None) for i, name in enumerate(table.columns)]
    )
    body = [_row(table, row) for row in table.rows]
    return el("div", el("table", el("thead", head), el("tbody", body)), class_="scroll")


def _row(table: Table, row: Row) -> Markup:
    if row.group:
        return el("tr", el("th", row.cells[0], colspan=len(table.columns)), class_="group")
    cells = []
    for i, cell in enumerate(row.cells):
        classes = [*(["words"] if i in table.words else []), *(["changed"] if i in row.marked else [])]
        cells.append(el("td", cell, class_=" ".join(classes) or None))
    return el("tr", cells)


def _footer(data: ReportData) -> Markup:
    again = f"vbot-campaign report {data.snapshot.spec.study}"
    return el("footer", join(["Made by vbot-campaign ", __version__, " from the database. Anew: ", el("code", again)]))


def _time(time: object) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
