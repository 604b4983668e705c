"""What strangers wrote passes through the whole of ThreatLens and every page of it, in a real browser, as text.

Every hostile text names elements, attributes and addresses that nothing of ours has (tlx...): one of them in the tree
of a page, one request for one of them, one word of the browser about its policy, and something has become markup.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
import socket
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from accounts import PASSWORD, cookie, log_in
from aiosmtpd.controller import Controller
from click.testing import CliRunner
from pace import wait_for
from test_browser import CHROMIUM, COOKIES, HOSTILE, Watched, chromium  # noqa: F401 - fixtures
from werkzeug.serving import make_server

from threatlens import create_app
from threatlens.cli import main
from threatlens.clock import now_us
from threatlens.event import EventFilter
from threatlens.settings import load_settings
from threatlens.store import DeadLetter
from threatlens.store_analyses import ModelAnalysis

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

EVIL = "<tlx-a onmouseover=alert(1)>tlx</tlx-a><script src=//tlx.example/x.js></script>"
TEXTS = [
    EVIL,
    "\"><tlx-b tlx1=1><img src=//tlx.example/1.png onerror=alert(1)>",
    "' tlx2='1 \" tlx3=\"1 onclick=alert(1) x=",
    "<div hx-get=/api/v1/tokens hx-trigger=load hx-on::load=alert(1)>tlx</div>",
    "</textarea></title></script></td></table><tlx-c><style>@import '//tlx.example/'</style>",
    "javascript:alert(1)//tlx https://tlx.example/ [tlx](https://tlx.example/) ![tlx](//tlx.example/2.png)",
    "{{7*191}} ${7*191} #{7*191} <%= 7*191 %> {0.__class__} %(tlx)s",
    "=HYPERLINK(\"//tlx.example\",\"tlx\")",
    "\x1b[31mtlx\x1b]0;tlx\x07 \u202etlx\u202c \u2066tlx\u2069 \u200btlx\u0085\u009b31m",
    "<!channel> @everyone <@tlx> <https://tlx.example|tlx> *tlx*",
    *HOSTILE,
]  # fmt: skip
RULE = f"""
title: {json.dumps(EVIL)}
id: 00000000-0000-4000-8000-00000000717c
level: critical
tags: [attack.t1110, "attack.<tlx-tag>"]
author: {json.dumps(EVIL)}
description: {json.dumps(EVIL)}
references: ["javascript:alert('tlx')", "https://tlx.example/"]
falsepositives: [{json.dumps(EVIL)}]
logsource: {{product: linux}}
detection:
  here: {{message|contains: tlx}}
  condition: here
threatlens:
  explanation: {json.dumps(EVIL + " {user.name} {source.ip}")}
  recommendations: [{json.dumps(EVIL + " {user.name}")}]
  matching: ["Nov 23 06:51:07 web1 app[1]: tlx"]
  decoys: ["Nov 23 06:51:07 web1 app[1]: harmless"]
"""
#: Rules of the map of addresses -> what is asked for, and whether text of strangers must be seen there.
SHOWING, PLAIN = True, False
PAGES: dict[str, tuple[bool, tuple[str, ...]]] = {
    "/answer/<token>": (PLAIN, ("/answer/" + urllib.parse.quote(EVIL, safe=""),)),
    "/events/exports": (PLAIN, ("/events/exports",)),
    "/": (SHOWING, ("/",)),
    "/searches/cells": (SHOWING, ("/searches/cells",)),
    "/searches/<int:search_id>/send": (SHOWING, ("/searches/1/send",)),
    "/confirm": (PLAIN, ("/confirm?next=" + urllib.parse.quote(EVIL),)),
    "/dead-letters": (SHOWING, ("/dead-letters",)),
    "/decode": (SHOWING, tuple("/decode?" + urllib.parse.urlencode({"lines": text}) for text in TEXTS[:4])),
    "/entities/<kind>/<path:value>": (SHOWING, ("{user}", "{host}")),
    "/events": (
        SHOWING,
        ("/events", "/events?range=all&" + urllib.parse.urlencode({"q": '"tlx'}),
         *("/events?" + urllib.parse.urlencode({"q": text, "source": text, "category": text, "before": text})
           for text in TEXTS[:6])),
    ),
    "/events/<int:event_id>": (SHOWING, ("{events}",)),
    "/events/<int:event_id>/trace": (SHOWING, ("{event}/trace",)),
    "/events/compare": (SHOWING, ("/events/compare?range=24h", "/events/compare?q=" + urllib.parse.quote(EVIL))),
    "/events/survey": (SHOWING, ("/events/survey?range=24h",)),
    "/events/query": (SHOWING, ("/events/query?" + urllib.parse.urlencode({"q": f'severity>=x "{EVIL}'}),)),
    "/health": (SHOWING, ("/health",)),
    "/incidents": (SHOWING, ("/incidents", "/incidents?" + urllib.parse.urlencode({"q": EVIL, "status": EVIL}))),
    "/incidents/<int:incident_id>": (SHOWING, ("{incidents}",)),
    "/incidents/<int:incident_id>/mute": (SHOWING, ("{incident}/mute",)),
    "/login": (PLAIN, ("/login?next=" + urllib.parse.quote(EVIL),)),
    "/notifications": (SHOWING, ("/notifications",)),
    "/notifications/<int:notification_id>": (SHOWING, ("/notifications/1",)),
    "/notifications/channels/<name>": (PLAIN, ("/notifications/channels/hook",)),
    "/notifications/channels/add": (PLAIN, ("/notifications/channels/add?type=webhook",)),
    "/notifications/preview": (PLAIN, ("/notifications/preview?" + urllib.parse.urlencode({"category": EVIL}),)),
    "/notifications/rules/<name>": (PLAIN, ("/notifications/rules/all",)),
    "/notifications/rules/add": (PLAIN, ("/notifications/rules/add",)),
    "/palette": (SHOWING, ("/palette?" + urllib.parse.urlencode({"find": "tlx"}),)),
    "/reports": (PLAIN, ("/reports",)),
    "/reports/<int:report_id>": (SHOWING, ("{report}",)),
    "/rules": (SHOWING, ("/rules",)),
    "/rules/<rule_id>": (SHOWING, ("/rules/00000000-0000-4000-8000-00000000717c",)),
    "/rules/<rule_id>/edit": (SHOWING, ("/rules/00000000-0000-4000-8000-00000000717c/edit",)),
    "/rules/lists": (PLAIN, ("/rules/lists",)),
    "/rules/threats": (PLAIN, ("/rules/threats",)),
    "/rules/new": (PLAIN, ("/rules/new",)),
    "/settings": (SHOWING, ("/settings",)),
    "/settings/audit": (SHOWING, ("/settings/audit?verify=1", "/settings/audit?action=" + urllib.parse.quote(EVIL))),
    "/settings/configuration": (PLAIN, ("/settings/configuration",)),
    "/settings/configuration/<int:version_id>": (PLAIN, ("/settings/configuration/1",)),
    "/settings/language-model": (PLAIN, ("/settings/language-model",)),
    "/settings/tokens": (PLAIN, ("/settings/tokens",)),
    "/settings/users": (PLAIN, ("/settings/users",)),
    "/settings/users/<int:user_id>": (SHOWING, ("/settings/users/1",)),
    "/setup": (PLAIN, ("/setup?code=" + urllib.parse.quote(EVIL),)),
    "/sources": (SHOWING, ("/sources",)),
    "/sources/<int:source_id>": (PLAIN, ("/sources/1",)),
    "/sources/add": (PLAIN, ("/sources/add?" + urllib.parse.urlencode({"path": EVIL, "name": EVIL}),)),
    "/unknown": (SHOWING, ("/unknown",)),
    "/upload": (PLAIN, ("/upload",)),
    "/nope/<path>": (PLAIN, ("/nope/" + urllib.parse.quote(EVIL, safe=""),)),
}  # fmt: skip
#: What answers with no page: the browser shows none of it.
NO_PAGES = {
    "/healthz", "/readyz", "/metrics", "/events/export", "/reports/<int:report_id>/pdf", "/rules/coverage.json",
    "/settings/audit.ndjson", "/settings/configuration.yaml", "/unknown/decoders/<name>.yml",
    "/incidents/<int:incident_id>/sent",
}  # fmt: skip
#: Where a link may lead beside our own pages.
ELSEWHERE = ("https://attack.mitre.org/",)


def lines() -> Iterator[str]:
    """Lines as programs write them, with hostile text in every place that a stranger chooses."""
    now = dt.datetime.now(dt.UTC)
    stamp = now.isoformat(timespec="seconds")
    for number, text in enumerate(TEXTS):
        address = f"203.0.113.{number + 1}"
        path = urllib.parse.quote(text, safe="<>/'()=:;@[]{}$!*,")
        yield from (
            f"{stamp} web1 sshd[42]: Failed password for invalid user {text} from {address} port 9 ssh2"
            for _ in range(1 if number else 12)
        )
        yield f"{stamp} web1 sshd[42]: Accepted password for {text} from {address} port 9 ssh2"
        yield (
            f'{address} - {path} [{now:%d/%b/%Y:%H:%M:%S} +0000] "GET /{path}?x=union+select HTTP/1.1" 200 9'
            f' "{path}" "tlx {path}"'
        )
        yield json.dumps({"time": stamp, "level": "error", "msg": text, "user": text, "hostname": text, text: text})
        yield f"{stamp} <tlx-host> app[1]: tlx {text}"
        yield f"tlx {text} of no known kind"


class Taken:
    """A mail server's hands."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - the library's name
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"


@pytest.fixture
def lived(tmp_path: Path, hook: Any, make_hook: Any) -> Iterator[Any]:
    """An installation that has lived through all of it: (app, its address, mails, hook, chat)."""
    taken = Taken()
    chat = make_hook()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mail_server = Controller(taken, hostname="127.0.0.1", port=port, ready_timeout=300)
    mail_server.start()
    data, logs = tmp_path / "data", tmp_path / "logs"
    (data / "rules").mkdir(mode=0o700, parents=True)
    data.chmod(0o700)
    logs.mkdir()
    (data / "rules" / "tlx.yml").write_text(RULE)
    channels = [
        {"name": "hook", "type": "webhook", "url": hook.url},
        {"name": "chat", "type": "slack", "url": chat.url},
        {"name": "mail", "type": "email", "to": ["a@example.org"],
         "smtp": {"host": "127.0.0.1", "port": port, "tls": "none"}},
    ]  # fmt: skip
    (data / "threatlens.yaml").write_text(json.dumps({
        "allowed_roots": [str(logs)], "allowed_private_networks": ["127.0.0.0/8"], "channels": channels,
        "sources": [{"name": EVIL[:80], "path": str(logs), "file_pattern": "*.log"}],
        "notification_rules": [{"name": "all", "min_severity": 1, "channels": ["hook", "chat", "mail"]}],
    }))  # fmt: skip
    app = create_app(load_settings({
        "THREATLENS_DATA": str(data), "THREATLENS_ARGON2_MEMORY_KIB": "8", "THREATLENS_ARGON2_TIME": "1",
    }))  # fmt: skip
    app.config.update(TESTING=True, WTF_CSRF_ENABLED=False)
    services = app.extensions["threatlens"]
    client = log_in(app)
    client.post("/login", data={"name": "an-admin", "password": PASSWORD}, headers={"User-Agent": EVIL})
    (logs / "tlx <tlx-file tlx4=1>.log").write_text("\n".join(lines()) + "\n", encoding="utf-8")
    services.background.start()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    COOKIES[address] = cookie(app)
    yield app, address, taken.mails, hook, chat
    del COOKIES[address]
    server.shutdown()
    thread.join(60)
    server.server_close()
    services.background.stop()
    mail_server.stop()
    services.store.database.engine.dispose()


#: What the browser keeps: of the tab all but what was searched for in it, and what outlives the tab.
KEPT = """JSON.stringify([{...localStorage},
  Object.entries(sessionStorage).filter(([name]) => name !== "threatlens-searches")])"""
STRANGERS = """() => {
  const found = [];
  const say = (what, element) => found.push(`${what}: ${element.outerHTML.slice(0, 160)}`);
  for (const element of document.querySelectorAll("*")) {
    if (element.localName.includes("tlx")) say("element", element);
    if (["img", "iframe", "object", "embed", "base", "style", "template", "audio", "video"].includes(element.localName)
        || (element.localName === "script" && !/^[/][a-z/]*static[/]/.test(element.getAttribute("src") ?? ""))
        || element.matches("meta[http-equiv]")) say("element", element);
    for (const { name, value } of element.attributes) {
      if (/tlx|^on|^style$|^srcdoc$/.test(name)) say("attribute", element);
      if (/^(src|href|action|formaction|data|ping|xlink:href|hx-(get|post|put|patch|delete)|ws-connect)$/.test(name)
          && !/^([/](?![/\\\\])|#|[?])/.test(value) && value !== ""
          && !ELSEWHERE.some((site) => value.startsWith(site))) say("address", element);
    }
  }
  const bare = document.documentElement.outerHTML.match(
    /[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\u200b]/);
  if (bare) found.push(`a bare ${bare[0].codePointAt(0).toString(16)} in ${document.title}`);
  if (/[^0-9]1337[^0-9]/.test(document.body.innerText)) found.push("a template was filled in");
  return found;
}""".replace("ELSEWHERE", json.dumps(ELSEWHERE))


def test_every_page_is_covered(app: Any) -> None:
    rules = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and not rule.rule.startswith(("/api/", "/ws/", "/static/"))
    }
    assert rules - {*PAGES, *NO_PAGES} == set(), "say in PAGES how this page is reached, and whether it shows log text"
    assert {*PAGES, *NO_PAGES} - rules <= {"/nope/<path>"}


def test_hostile_text_stays_text_in_every_view(chromium: Any, lived: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    app, address, mails, hook, chat = lived
    services = app.extensions["threatlens"]
    paths = complete(services, log_in(app))
    watched = Watched(chromium, address)
    found: list[str] = []
    for rule, (shows, templates) in PAGES.items():
        for path in [each for template in templates for each in paths.get(template, [template])]:
            watched.tab.goto(address + path)
            found += [f"{path}: {stranger}" for stranger in watched.tab.evaluate(STRANGERS)]
            if shows and not watched.tab.evaluate(SEEN):
                found.append(f"{rule}: nothing hostile is seen at {path}, so nothing is shown by it")
    live = watched.open("/events")
    log = next(Path(services.settings.data).parent.glob("logs/*.log"))
    more = [line.replace("203.0.113.", "198.51.100.") for line in lines() if "Accepted" in line or "no known" in line]
    last = services.store.last_id() + len(more)
    with log.open("a", encoding="utf-8") as file:
        file.write("\n".join(more) + "\n")
    watched.wait_for_row(last)
    live.wait_for_selector("#toasts .toast, #toasts > *")
    found += [f"live: {stranger}" for stranger in live.evaluate(STRANGERS)]
    kept = live.evaluate(KEPT)
    watched.context.close()

    assert not found, "\n".join(found)
    assert [url for url in watched.asked if not url.startswith(address) or "/api/" in url or "csp-reports" in url] == []
    assert [said for said in watched.complaints if not re.search("status of 4", said)] == []
    assert "tlx" not in kept, "of log text nothing is kept, and of what was searched nothing beyond the tab"
    assert "htmx-history" not in kept
    leaves(services, log_in(app))
    told(mails, hook, chat)
    terminal(services, monkeypatch)


SEEN = """() => [document.title, document.body.innerText, ...[...document.querySelectorAll("input, textarea")]
  .map((field) => field.value)].some((text) => /tlx/i.test(text))"""


def complete(services: Any, client: Any) -> dict[str, list[str]]:
    """Wait for what the engine makes of the lines, add what only people and models make; the paths of all of it."""
    store = services.store
    events = wait_for(lambda: (found := everything(store)) and len(found) == len(list(lines())) and found)
    incidents = wait_for(lambda: len(found := store.incidents(limit=500)) > len(TEXTS) and found)
    wait_for(lambda: {each.status for each in store.notifications(limit=500)} >= {"sent"})
    by_user = next(each for each in incidents if "tlx" in each.subject[1])
    store.put_analysis(
        ModelAnalysis(by_user.id, "f", "done", "openai", EVIL, "1", EVIL, (EVIL,), 9, EVIL, created_at=now_us())
    )
    store.put_analysis(
        ModelAnalysis(incidents[0].id, "f", "failed", "openai", EVIL, "1", error=EVIL, created_at=now_us())
    )
    source, stream = store.sources()[0].id, store.streams()[0].stream_id
    letter = DeadLetter(source, stream, 0, "/x/" + EVIL, EVIL.encode(), "utf-8", EVIL)
    store.commit([], [], dead=[letter])
    client.post("/settings/configuration", data={"do": EVIL})
    client.post("/upload", data={"case": "tlx", "lines": "\n".join(TEXTS)})
    client.post(f"/incidents/{by_user.id}", data={"do": "comment", "text": EVIL, "version": by_user.version})
    client.post("/searches", data={"name": EVIL, "params": "q=tlx", "pin": "1"})
    day = dt.datetime.now().astimezone().date().isoformat()
    report = client.post("/reports", data={"first": day, "last": day}).location
    one_of_a_kind = list({(each.format, each.category): each for each in events}.values())
    return {
        "{events}": [f"/events/{each.id}" for each in one_of_a_kind],
        "{event}/trace": [f"/events/{events[0].id}/trace"],
        "{incidents}": [f"/incidents/{each.id}" for each in (by_user, incidents[0], incidents[-1])],
        "{incident}/mute": [f"/incidents/{by_user.id}/mute"],
        "{report}": [report],
        "{user}": ["/entities/user/" + urllib.parse.quote(EVIL, safe="")],
        "{host}": ["/entities/host/" + urllib.parse.quote("<tlx-host>", safe="")],
    }


def everything(store: Any) -> list[Any]:
    found = list(store.page(EventFilter(), limit=500))
    while found and (more := store.page(EventFilter(), before=found[-1].id, limit=500)):
        found += more
    return found


def leaves(services: Any, client: Any) -> None:
    """What leaves as a file is no page, and no spreadsheet calculates it."""
    for kind in ("csv", "ndjson", "json"):
        answer = client.get(f"/events/export?format={kind}&range=all", buffered=True)
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"].startswith("attachment;")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "tlx" in answer.text
        if kind == "csv":
            cells = [cell for row in csv.reader(io.StringIO(answer.text)) for cell in row]
            assert [cell for cell in cells if cell[:1] in {"=", "+", "@", "\t", "\r", "\0"}] == []
    for path in ("/settings/audit.ndjson", "/settings/configuration.yaml", "/rules/coverage.json", "/metrics",
                 "/incidents/1/sent"):  # fmt: skip
        answer = client.get(path)
        assert (answer.status_code, answer.mimetype == "text/html") == (200, False), path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    report = client.get("/reports").text
    number = re.findall(r'href="/reports/(\d+)"', report)[0]
    with client.get(f"/reports/{number}/pdf") as answer:
        pdf = answer.data
    assert b"/URI" not in pdf
    assert b"/JavaScript" not in pdf
    text = subprocess.run(["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
    assert "tlx" in text
    assert not CONTROLS.search(text.replace("\f", ""))


def told(mails: list[Any], hook: Any, chat: Any) -> None:
    """What is sent to people says what strangers wrote, and does nothing."""
    bodies = [json.loads(each.body) for each in hook.received]
    assert "tlx" in json.dumps(bodies)
    for each in chat.received:
        said = json.loads(each.body)
        marked = [said["text"], *(text["text"] for text in parts(said) if text.get("type") == "mrkdwn")]
        assert not re.search(r"<!channel>|<@tlx>|<https://tlx\.example|<tlx-", "\n".join(marked))
    assert any(b"tlx" in each.body for each in chat.received)
    assert any("tlx" in str(mail["Subject"]) for mail in mails)
    for mail in mails:
        assert not CONTROLS.search(str(mail["Subject"]))
        html = mail.get_body(("html",)).get_content()
        assert not re.search(r"<[^<>]*(tlx-|tlx\d=|tlx\.example|script)[^<>]*>", html)
        assert not CONTROLS.search(mail.get_body(("plain",)).get_content().replace("\r\n", ""))


def parts(document: Any) -> Iterator[dict[str, Any]]:
    """Every object in it that holds a text."""
    if isinstance(document, list):
        for each in document:
            yield from parts(each)
    elif isinstance(document, dict):
        if isinstance(document.get("text"), str):
            yield document
        yield from parts(list(document.values()))


def terminal(services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command prints what a terminal would obey."""
    monkeypatch.setenv("THREATLENS_DATA", services.settings.data)
    log = str(next(Path(services.settings.data).parent.glob("logs/*.log")))
    for command in (["sources", "list"], ["decode", log], ["decode", "--explain", log], ["doctor"],
                    ["detect", "--rules", str(Path(services.settings.data) / "rules"), log],
                    ["rules", "check", str(Path(services.settings.data) / "rules")], ["severities", log],
                    ["config", "history"], ["audit", "verify"]):  # fmt: skip
        result = CliRunner().invoke(main, command)
        assert result.exit_code in {0, 1}, (command, result.output[-500:])
        assert result.exception is None or isinstance(result.exception, SystemExit), command
        assert not CONTROLS.search(result.output.replace("\n", "").replace("\t", "")), command


CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
