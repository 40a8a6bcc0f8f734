"""The status page: one HTML document with everything in it, from one snapshot.

It is a set of tables that need no script. With scripts on, ``page.js`` asks for the same page every two
seconds and changes what differs, so there is one rendering only.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from typing import Any

from damocles_worker import units
from damocles_worker.control.markup import Html, tag
from damocles_worker.control.status import Status
from damocles_worker.processors.scheduler import Usage
from damocles_worker.processors.supervisor import ChildStatus
from damocles_worker.sealing.plans import PLANS
from damocles_worker.stores.measure import StoreSpace

#: Seconds after which a page without scripts loads itself again.
_RELOAD = 5
#: The part of a store that may be used before its bar turns red.
_TIGHT = 0.95
#: Seconds for which the last trouble of a processor that is ready again is news.
_TROUBLE_IS_NEWS = 900
_STATES = ("Running", "Waiting", "Paused", "Idle")
_ICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>"
    "<path d='M8 1l6 3.5v7L8 15l-6-3.5v-7z' fill='%230a6a94'/></svg>"
)

_STYLE = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
_SCRIPT = resources.files(__package__).joinpath("page.js").read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


#: Headers of the page and of its JSON: nothing but the page's own style and script runs or is loaded.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash_source(_STYLE)}",
            f"script-src {_hash_source(_SCRIPT)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def render(status: Status) -> str:
    """The page."""
    troubles = _troubles(status)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", _title(status, len(troubles))),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href=_ICON),
        tag("noscript", tag("meta", http_equiv="refresh", content=str(_RELOAD))),
        tag("style", Html(_STYLE)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the threads", href="#threads", class_="skip"),
        tag("div", tag("p"), id="offline", role="alert", hidden=True),
        tag("div", *_content(status, troubles), id="page"),
        tag("script", Html(_SCRIPT)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _title(status: Status, troubles: int) -> str:
    running = sum(thread["thread_state"]["state"] == "Running" for thread in status.threads)
    trouble = f"{_counted(troubles, 'error')} · " if troubles else ""
    return f"{trouble}{running}/{len(status.threads)} running · {status.name}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _content(status: Status, troubles: Sequence[Html]) -> list[Html]:
    parts = [_header(status), _trouble_section(troubles), _threads(status.threads)]
    if status.processors:
        parts.append(_processors(status.processors))
    if status.limits:
        parts.append(_limits(status.limits, status.processors))
    if status.stores:
        parts.append(_stores(status.stores))
    footer = tag(
        "footer", "Read-only; the same facts are in ", tag("a", "status.json", href="status.json"), "."
    )
    return [tag("main", *parts), footer]


def _header(status: Status) -> Html:
    at = datetime.fromtimestamp(status.at).astimezone()
    answers = tag("span", "answers", class_="state up")
    if not status.manager_up:
        last = status.manager_last_ok_at
        since = "since this worker started" if last is None else f"for {_duration(status.at - last)}"
        answers = tag("span", f"has not answered {since}", class_="state down")
    states = [thread["thread_state"]["state"] for thread in status.threads]
    counts = [
        tag(
            "li",
            tag("b", str(states.count(state))),
            state.lower(),
            class_=None if states.count(state) else "none",
        )
        for state in _STATES
    ]
    return tag(
        "header",
        tag("h1", status.name),
        tag(
            "p",
            f"damocles-worker {status.version}, up {_duration(status.uptime)}, as of ",
            tag("time", f"{at:%H:%M:%S}", datetime=at.isoformat(timespec="seconds")),
            class_="quiet",
        ),
        tag("p", "Manager ", tag("span", status.manager, class_="mono"), " ", answers),
        tag("ul", *counts, class_="counts", aria_label="Sealing threads by state"),
    )


# ---- what needs somebody's attention --------------------------------------------------------------


def _troubles(status: Status) -> list[Html]:
    found = [
        _trouble(
            tag("a", f"Thread {thread['index']}", href=f"#thread-{thread['index']}"),
            f"{thread['job_id'] or thread['location']}, {thread['thread_state']['state'].lower()}",
            thread["last_error"],
        )
        for thread in status.threads
        if thread["last_error"]
    ]
    for child in status.processors:
        for text in (*child.problems, _news(child)):
            if text:
                found.append(_trouble(tag("b", child.path), child.state, text))
    found += [
        _trouble(
            tag("b", f"Store {store.name}"), store.role, store.problem or "The file system does not answer."
        )
        for store in status.stores
        if store.space is None
    ]
    return found


def _news(child: ChildStatus) -> str:
    """The last trouble of a processor while it matters; its row shows it for good."""
    over = child.state == "ready" and child.state_for >= _TROUBLE_IS_NEWS
    return "" if over else child.last_error


def _trouble(what: Html, state: str, text: str) -> Html:
    return tag("li", what, tag("span", f" · {state}", class_="quiet"), tag("p", text))


def _trouble_section(troubles: Sequence[Html]) -> Html:
    heading = tag("h2", _counted(len(troubles), "error"), id="errors") if troubles else Html()
    body = (
        tag("div", tag("ul", *troubles), class_="sheet trouble")
        if troubles
        else tag("p", "No errors.", class_="well")
    )
    return tag("section", heading, body, aria_label="Errors")


# ---- tables ---------------------------------------------------------------------------------------


def _table(name: str, identity: str, columns: Sequence[str], rows: Sequence[Html]) -> Html:
    """A table. Its roles are spelled out: narrow screens lay its parts out as blocks."""
    head = tag("tr", *(tag("th", column, scope="col", role="columnheader") for column in columns), role="row")
    table = tag(
        "table",
        tag("thead", head, role="rowgroup"),
        tag("tbody", *rows, role="rowgroup"),
        role="table",
        aria_labelledby=identity,
    )
    return tag(
        "section",
        tag("h2", name, id=identity),
        tag("div", table, class_="sheet", tabindex="0", role="region", aria_labelledby=identity),
    )


def _cell(label: str, *children: str, class_: str | None = None) -> Html:
    # One child: on a narrow screen the label and what is in the cell stand side by side.
    inner = tag("div", *children) if any(children) else Html()
    return tag("td", inner, role="cell", data_label=label, class_=class_)


def _row(head: Html, *cells: Html, identity: str | None = None) -> Html:
    return tag("tr", head, *cells, role="row", id=identity)


def _head(*children: str) -> Html:
    return tag("th", *children, scope="row", role="rowheader", class_="path")


def _threads(threads: Sequence[Mapping[str, Any]]) -> Html:
    columns = ("Thread", "Sector", "Stage", "State", "Progress", "Left")
    return _table("Sealing threads", "threads", columns, [_thread(thread) for thread in threads])


def _thread(thread: Mapping[str, Any]) -> Html:
    state = thread["thread_state"]
    running = state["state"] != "Idle"
    since = _duration(thread["elapsed"]) if running else ""
    notes = [text for text in (state.get("proc"), "drains" if thread["draining"] else None) if text]
    if thread["last_error"]:
        notes.append("has an error")
    done, total = thread["progress"] or (0, 0)
    eta = thread["eta"] if running else None
    return _row(
        _head(f"{thread['index']} ", tag("span", thread["location"], class_="mono")),
        _cell("Sector", thread["job_id"] or "–", tag("small", thread["plan"]), class_="nowrap"),
        _cell("Stage", *_stage(thread)),
        _cell(
            "State",
            tag("span", state["state"], class_=f"state {state['state']}"),
            f" {since}",
            tag("small", ", ".join(notes)) if notes else "",
        ),
        _cell("Progress", *_progress(done, total), class_=None if total else "bare"),
        _cell("Left", "" if eta is None else _duration(eta), class_="nowrap" if eta is not None else "bare"),
        identity=f"thread-{thread['index']}",
    )


def _stage(thread: Mapping[str, Any]) -> list[str]:
    """The stage in words and its place among the stages of the plan."""
    plan, state = PLANS.get(thread["plan"]), thread["job_state"]
    words = [thread["job_stage"] or "–"]
    if plan is None or not thread["job_id"]:
        return words
    places = [name for name, row in plan.states.items() if row.stage != "-"]
    if state in places:
        at = places.index(state)
        marks = ["done"] * at + ["now"] + [None] * (len(places) - at - 1)
        words.append(
            tag(
                "span",
                *(tag("i", class_=mark) for mark in marks),
                class_="track",
                role="img",
                aria_label=f"step {at + 1} of {len(places)}",
            )
        )
    return [*words, tag("small", state)]


def _progress(done: int, total: int, *, tight: bool = False) -> list[str]:
    if not total:
        return []
    share = f"{100 * done // total}%"
    bar = tag(
        "progress",
        share,
        max=str(total),
        value=str(done),
        aria_label=share,
        class_="tight" if tight else None,
    )
    return [bar, tag("small", share)]


def _processors(processors: Sequence[ChildStatus]) -> Html:
    columns = ("Processor", "State", "Tasks", "Cpus", "Locks", "Restarts")
    return _table("External processors", "processors", columns, [_processor(child) for child in processors])


def _processor(child: ChildStatus) -> Html:
    silent = f"silent for {_duration(child.silent_for)}" if child.tasks and child.silent_for >= 60 else ""
    memory = f"memory {child.memory}" if child.memory else ""
    bound = f"{child.cpus} ({child.bound_by})" if child.bound_by else child.cpus
    return _row(
        _head(child.path.removeprefix("processors."), tag("small", child.program)),
        _cell(
            "State",
            tag("span", child.state, class_=f"state {child.state}"),
            f" {'in ' if child.state == 'restarting' else ''}{_duration(child.state_for)}",
            tag("small", ", ".join(filter(None, (f"pid {child.pid}" if child.pid else "", silent)))),
            tag("small", f"last: {child.last_error}") if child.last_error and not _news(child) else "",
        ),
        _cell("Tasks", _of(child.tasks, child.concurrent)),
        _cell("Cpus", bound or "–", tag("small", memory) if memory else ""),
        _cell("Locks", ", ".join(child.locks) or "–"),
        _cell("Restarts", str(child.restarts)),
    )


def _limits(limits: Sequence[Usage], processors: Sequence[ChildStatus]) -> Html:
    columns = ("Limit", "In use", "Waiting", "Held by")
    return _table("Stage limits and locks", "limits", columns, [_limit(one, processors) for one in limits])


def _limit(usage: Usage, processors: Sequence[ChildStatus]) -> Html:
    holders = [
        child.path.removeprefix("processors.")
        for child in processors
        if usage.kind == "lock" and usage.name in child.locks and child.tasks
    ]
    return _row(
        _head(usage.name, tag("small", usage.kind)),
        _cell("In use", _of(usage.held, usage.permits)),
        _cell("Waiting", str(usage.waiting)),
        _cell("Held by", ", ".join(holders), class_=None if holders else "bare"),
    )


def _stores(stores: Sequence[StoreSpace]) -> Html:
    columns = ("Store", "Used", "Free", "Promised to sectors")
    return _table("Stores", "stores", columns, [_store(store) for store in stores])


def _store(store: StoreSpace) -> Html:
    head = _head(tag("span", store.name, class_="mono"), tag("small", store.role))
    if store.space is None:
        used = "not in use" if store.problem else "no answer"
        return _row(head, _cell("Used", used), _cell("Free"), _cell("Promised"))
    size, free = store.space["size"], store.space["free"]
    tight = bool(size) and free < (1 - _TIGHT) * size
    reserved = store.space.get("reserved")
    return _row(
        head,
        _cell("Used", *_progress(size - free, size, tight=tight)),
        _cell("Free", f"{units.format_size(free)} of {units.format_size(size)}", class_="nowrap"),
        _cell(
            "Promised",
            "" if reserved is None else units.format_size(reserved),
            class_="nowrap" if reserved is not None else "bare",
        ),
    )


def _of(used: int, most: int | None) -> str:
    return str(used) if most is None else f"{used} of {most}"


def _duration(seconds: float) -> str:
    """At most the two largest units: nobody reads the seconds of a day."""
    return " ".join(units.format_duration(max(0, int(seconds))).split()[:2])
