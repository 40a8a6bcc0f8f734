"""The status page as it is served: what it shows, and that nothing in it can become markup."""

from __future__ import annotations

import asyncio
import re
import time
from html.parser import HTMLParser
from itertools import product

import msgspec

from damocles_worker.control import page
from damocles_worker.control.markup import Html, join, tag
from damocles_worker.control.status import Status, StatusReader
from damocles_worker.processors.scheduler import Scheduler, Usage
from damocles_worker.stores.measure import Store
from tests.unit.control.snapshots import Manager, child, reader, space, thread

NASTY = """<script>alert(1)</script>"'&<b onmouseover=x>"""


def rendered(status_reader: StatusReader) -> str:
    return page.render(asyncio.run(status_reader.read()))


class Words(HTMLParser):
    """The visible text of a page, and the elements in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.elements: list[str] = []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(name)
        self._hidden = name in ("style", "script", "title")

    def handle_endtag(self, name: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else f" {data} "

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", self.text)


def test_what_worker_list_says_is_on_the_page() -> None:
    threads = [
        thread(0, draining=True),
        thread(1, state="Waiting", progress=None, eta=None),
        thread(2, state="Paused", last_error="permanent: no space. Free some, then resume", progress=None),
        thread(3, state="Idle", job_id=None, job_state="", job_stage=None),
    ]
    words = Words(rendered(reader(threads))).words
    for expected in (
        "/mnt/s0", "s-t010000-0", "sealer", "PC1", "TicketAssigned", "Running 1m 3s", "builtin PC1, drains",
        "25%", "2h", "1 running", "1 waiting", "1 paused", "1 idle", "1 error", "Thread 2",
        "permanent: no space. Free some, then resume", "http://10.0.0.5:1789 answers", "v0.1.0-test",
    ):  # fmt: skip
        assert expected in words, expected


def test_processors_locks_and_stores_are_on_the_page_when_there_are_any() -> None:
    bare = Words(rendered(reader([thread()]))).words
    assert "No errors." in bare and "External processors" not in bare and "Stores" not in bare
    children = [
        child(0),
        child(1, tasks=0, state="restarting", state_for=4.0, last_error="ended with signal 9"),
    ]
    stores = [Store("/mnt/s0", "sealing", space), Store("gone", "attached", _no_answer)]
    limits = [Usage("stage", "pc1", 2, 3, 1), Usage("lock", "gpu0", 1, 1, 0)]
    words = Words(rendered(reader([thread()], processors=children, stores=stores, limits=limits))).words
    for expected in (
        "pc2[0]", "1 of 2", "0-11 (cgroup)", "gpu0 lock 1 of 1 0 pc2[0]", "pc1 stage 2 of 3 1",
        "restarting in 4s", "ended with signal 9", "/mnt/s0 sealing", "75%", "25 GiB of 100 GiB", "10 GiB",
        "Store gone", "The file system does not answer.",
    ):  # fmt: skip
        assert expected in words, expected


def test_a_restart_is_an_error_while_it_is_news_and_stays_in_the_row() -> None:
    def shown(state_for: float) -> str:
        children = [
            child(0, state="ready", state_for=state_for, restarts=1, last_error="ended with signal 9")
        ]
        return Words(rendered(reader([thread()], processors=children))).words

    assert "1 error" in shown(60) and "ended with signal 9" in shown(60)
    assert "No errors." in shown(3600) and "last: ended with signal 9" in shown(3600)


def _no_answer() -> dict[str, int]:
    raise OSError(5, "Input/output error")


def test_a_silent_manager_is_said() -> None:
    def words(manager: Manager) -> str:
        return Words(rendered(reader([thread()], manager=manager))).words

    assert "has not answered since this worker started" in words(Manager(up=False))
    # Early in the minute: this process may be kept waiting before it renders.
    assert "has not answered for 1h 5m" in words(Manager(up=False, last_ok_at=time.time() - 3910))


def test_no_text_becomes_markup() -> None:
    plain = [thread(last_error="x")]
    nasty = [
        thread(
            location=NASTY, plan=NASTY, job_id=NASTY, job_state=NASTY, job_stage=NASTY, processor=NASTY,
            last_error=NASTY,
        )
    ]  # fmt: skip
    children = [child(path=NASTY, program=NASTY, locks=(NASTY,), cpus=NASTY, memory=NASTY, problems=(NASTY,))]
    limits = [Usage("lock", NASTY, 1, 1, 0)]
    text = rendered(
        reader(nasty, name=NASTY, processors=children, limits=limits, stores=[Store(NASTY, NASTY, space)])
    )
    assert Words(text).words.count(NASTY) >= 12
    assert (
        Words(text).elements.count("script") == Words(rendered(reader(plain))).elements.count("script") == 1
    )
    assert "onmouseover=x>" not in text


def test_markup_escapes_what_is_not_markup() -> None:
    assert tag("p", "a<b", tag("b", "&"), title='"x"', hidden=True, data_label="y", class_=None) == (
        '<p title="&quot;x&quot;" hidden data-label="y">a&lt;b<b>&amp;</b></p>'
    )
    assert join(Html("<i>"), "<i>") == "<i>&lt;i&gt;"


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = rendered(reader([thread()]))
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", text)
    policy = page.HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_the_json_has_the_same_facts() -> None:
    status = asyncio.run(
        reader([thread()], processors=[child()], stores=[Store("s", "sealing", space)]).read()
    )
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status
    assert status.threads[0]["job_id"] == "s-t010000-0" and status.stores[0].space == space()


def test_colours_can_be_read_in_light_and_dark() -> None:
    """WCAG 2.1: contrast of text of at least 4.5 to 1."""
    light, dark = re.findall(r":root \{(.*?)\}", rendered(reader([])), re.DOTALL)
    for block in (light, dark):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for text, ground in [
            *product(("text", "quiet", "run"), ("ground", "raised", "bad-soft")),
            ("wait", "wait-soft"),
        ]:
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground, colours)


def _contrast(one: str, other: str) -> float:
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_limits_and_locks_in_use_are_told() -> None:
    async def use() -> None:
        scheduler = Scheduler({"pc2": 2}, {"pc1": 5.0}, {"gpu0": 1, "spare": 3})
        scheduler.set_up(scheduler.add_child("pc2", 1, ["gpu0"]), True)
        async with scheduler.hold("pc2"):
            second = asyncio.create_task(scheduler.hold("pc2").__aenter__())
            await asyncio.sleep(0)
            assert scheduler.usage() == [
                Usage("stage", "pc1", 0, None, 0),
                Usage("stage", "pc2", 1, 2, 1),
                Usage("lock", "gpu0", 1, 1, 1),
                Usage("lock", "spare", 0, 3, 0),
            ]
        await second
        assert scheduler.usage()[2] == Usage("lock", "gpu0", 1, 1, 0)

    asyncio.run(use())
