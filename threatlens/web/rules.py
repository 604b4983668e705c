"""Rules: which there are and how they do, each with its text, its state, its exceptions and a test on stored events."""

from __future__ import annotations

import io
import json
import os
import time
import uuid
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, flash, jsonify, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from threatlens.analyzers.novelty import LEARNING_US
from threatlens.attack import navigator_layer
from threatlens.clock import now_us
from threatlens.detectors import Rule, backtest
from threatlens.errors import RuleFileError
from threatlens.event import Decoded, EventFilter
from threatlens.mutes import until_words
from threatlens.rule_library import RuleLibrary
from threatlens.web.auth import actor, doer, needs
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID, whole
from threatlens.web.overview import trust
from threatlens.web.presentation import plural, zone
from threatlens.web.rule_forms import MAX_RULE_CHARS, TEMPLATE, ExceptionForm, ListForm, RuleForm, StateForm, UploadForm
from threatlens.web.rule_list import (
    FIRED,
    KINDS,
    LEVELS,
    MAX_CHANGED,
    NO_NUMBERS,
    ORDERS,
    ROWS,
    STATES,
    RuleRow,
    RuleView,
    choices,
    rows_of,
    tag_words,
)

DAY_US = 86_400_000_000
SHOWN_DAYS = 30
#: A backtest ends after this time or this many events and says how far it came.
BACKTEST_S, BACKTEST_EVENTS = 8.0, 200_000
#: Bounds of an uploaded archive.
MAX_ARCHIVE_FILES, MAX_ARCHIVE_BYTES, MAX_FILE_BYTES = 2_000, 20_000_000, 1_000_000
MAX_CONDITIONS = 20

blueprint = Blueprint("rules", __name__)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a rule would have said about stored events."""

    hits: int
    first: tuple[tuple[int, int], ...]  # (event id, time) of some of them
    events: int  # looked at
    days: float  # that they cover
    complete: bool  # all events of the time were looked at


@blueprint.get("/rules")
@needs("viewer")
def index() -> str:
    """All rules, as the URL filters them."""
    library, store = services().rules, services().store
    loaded, view = library.loaded(), RuleView.of(request.args)
    rows, found, coverage = _found(view)
    absent, pages = _absent(coverage), max(1, -(-len(found) // ROWS))
    page = min(view.page, pages)
    may_act = actor().may("analyst")
    last = session.get("switched", {}) if may_act else {}
    return render_template(
        "rules/index.html",
        view=view,
        rows=found[(page - 1) * ROWS : page * ROWS],
        found=len(found),
        page=page,
        pages=pages,
        choices=choices(rows),
        tag_words=tag_words,
        LEVELS=LEVELS,
        KINDS=KINDS,
        FIRED=FIRED,
        ORDERS=ORDERS,
        steps=sum(row.is_step for row in rows),
        more_steps=sum(row.is_step and not view.kind and view.fits(row, absent, any_kind=True) for row in rows),
        total=sum(not row.is_step for row in rows),
        problems=[(library.short_path(each.path), each) for each in loaded.problems],
        mutes=(mutes := store.mutes(now=now_us())),
        until={mute.id: until_words(mute, now_us(), zone()) for mute in mutes},
        lists=loaded.lists,
        may_act=may_act,
        undoable=f"{plural(last['n'], 'rule')} {last['state']}" if last else "",
        upload=UploadForm(),
        learning_until=_learning_until(),
        coverage=coverage,
        volumes_learned=_volumes_learned(),
        trust=trust(),
    )


def _found(view: RuleView) -> tuple[list[RuleRow], list[RuleRow], dict[str, Any]]:
    """All rules, those that the view asks for in its order, and what is known of their samples."""
    library, store, coverage = services().rules, services().store, _coverage()
    numbers = store.rule_numbers(now_us() - SHOWN_DAYS * DAY_US)
    rows = rows_of(library.loaded().rules, store.rule_states(), numbers, library.short_path)
    absent = _absent(coverage)
    return rows, view.ordered([row for row in rows if view.fits(row, absent)]), coverage


def _absent(coverage: Mapping[str, Any]) -> Collection[str]:
    absent: Collection[str] = coverage.get("absent") or {}
    return absent


@blueprint.post("/rules")
@needs("analyst")
def switch_many() -> Response:
    """What one button does to every rule that is ticked, or to all that the filter finds; and undoing that."""
    view, store, deed = RuleView.of(request.form), services().store, request.form.get("do", "")
    if deed == "undo":
        last = session.pop("switched", None)
        entries = store.audit.page(action="rule.state", actor=doer().name, limit=MAX_CHANGED) if last else []
        before = {
            entry.target: json.loads(entry.detail)["before"] or "on"
            for entry in entries
            if last and entry.request_id == last["request"]
        }
        if before:
            store.set_rule_states(before, doer())
        flash(f"{plural(len(before), 'rule is', 'rules are')} as before, in force within seconds.", "done")
    elif deed in STATES:
        _, found, _ = _found(view)
        known = {rule.id for rule in services().rules.loaded().rules}
        ticked = [rule_id for rule_id in request.form.getlist("rule") if rule_id in known]
        chosen = [row.rule.id for row in found] if request.form.get("all") else ticked
        states = store.rule_states()
        changed = {rule_id: deed for rule_id in chosen[:MAX_CHANGED] if states.get(rule_id, "on") != deed}
        if changed:
            store.set_rule_states(changed, doer())
            session["switched"] = {"request": doer().request_id, "n": len(changed), "state": deed}
            words = {"on": "on", "observe": "only observed", "off": "off"}[deed]
            flash(f"{plural(len(changed), 'rule is', 'rules are')} {words} now, in force within seconds.", "done")
        else:
            flash("They are so already." if chosen else "Tick at least one rule.", "done" if chosen else "error")
    else:
        abort(400)
    return redirect(view.url(page=view.page if view.page > 1 else None), 303)


def _coverage() -> dict[str, Any]:
    """What the rules' own samples gave, as the engine last tried them; {} while that is not known."""
    found = dict(services().engine_status().get("coverage") or {})
    if found:
        found["reasons"] = {each["id"]: each["reason"] for each in found["failing"]}
    return found


def _learning_until() -> int:
    """When ThreatLens has learned what is usual; 0: it has."""
    since = services().store.learning_since()
    until = (since or now_us()) + LEARNING_US
    return until if until > now_us() else 0


def _volumes_learned() -> dict[str, int] | None:
    """Of how many sources it is known what is usual, and when the next one will be; None without sources."""
    found = services().volumes.learning()
    until = [each.until_us for each in found if each.until_us]
    return {"all": len(found), "known": len(found) - len(until), "next": min(until, default=0)} if found else None


@blueprint.route("/rules/<rule_id>", methods=["GET"])
@needs("viewer")
def detail(rule_id: str) -> str:
    """One rule."""
    return _page(_rule(rule_id))


def _page(rule: Rule, tried: Tried | None = None) -> str:
    library, store = services().rules, services().store
    seen = store.rule_numbers(now_us() - SHOWN_DAYS * DAY_US).get(rule.id, NO_NUMBERS)
    state = store.rule_states().get(rule.id, "on")
    return render_template(
        "rules/detail.html",
        rule=rule,
        advice=library.advice(rule.id),
        tag_words=tag_words,
        text=library.text(rule),
        own=library.is_own(rule.path),
        file=library.short_path(rule.path),
        seen=seen,
        days=_days(seen.by_day),
        state=StateForm(state=state),
        now=state,
        exceptions=[each for each in store.rule_exceptions() if each.rule_id == rule.id],
        exception=ExceptionForm(),
        latest=store.detections(rule_id=rule.id, limit=10),
        tried=tried,
        coverage=_coverage(),
        may_act=actor().may("analyst"),
        trust=trust(),
    )


def _days(by_day: Mapping[int, int]) -> list[tuple[int, float]]:
    """(hits, height in a box 20 high) of each of the last days."""
    today = now_us() // DAY_US
    counts = [by_day.get(day, 0) for day in range(today - SHOWN_DAYS + 1, today + 1)]
    highest = max(counts) or 1
    return [(n, max(20.0 * n / highest, 1.0) if n else 0.0) for n in counts]


@blueprint.post("/rules/<rule_id>/state")
@needs("analyst")
def switch(rule_id: str) -> Response:
    """Off, observe, on; in force within seconds."""
    form = StateForm()
    if rule_id not in {rule.id for rule in services().rules.loaded().rules}:
        abort(404)
    if form.validate_on_submit():
        services().store.set_rule_states({rule_id: form.state.data}, doer())
        flash("It is in force within seconds.", "done")
    return redirect(url_for("rules.detail", rule_id=rule_id), 303)


@blueprint.post("/rules/<rule_id>/exceptions")
@needs("analyst")
def except_events(rule_id: str) -> Response:
    """Events that the rule leaves out from now on; or an end of that."""
    rule, form, store = _rule(rule_id), ExceptionForm(), services().store
    gone = request.form.get("remove", type=whole)
    if gone is not None:
        store.remove_rule_exception(gone, doer())
    elif form.validate_on_submit():
        conditions = {}
        for line in (form.conditions.data or "").splitlines()[:MAX_CONDITIONS]:
            name, _, value = line.partition("=")
            if name.strip() and value.strip():
                conditions[name.strip()[:100]] = value.strip()[:500]
        if conditions and any(set(value) - set("*?") for value in conditions.values()):
            store.add_rule_exception(rule.id, conditions, (form.reason.data or "")[:500], doer())
        else:
            flash("Name at least one field with a value, as in: user.name = backup", "error")
    return redirect(url_for("rules.detail", rule_id=rule_id), 303)


@blueprint.post("/rules/<rule_id>/try")
@needs("analyst")
def try_rule(rule_id: str) -> str:
    """What the rule would have said about stored events."""
    rule = _rule(rule_id)
    return _page(rule, tried(services().rules, rule.id))


def tried(library: RuleLibrary, rule_id: str, *, clock: Any = time.monotonic) -> Tried:
    """Run one rule over the stored events of the last days, oldest first, within bounds."""
    deadline = clock() + BACKTEST_S
    store, since = services().store, now_us() - SHOWN_DAYS * DAY_US
    ids: list[list[int]] = []
    span: list[int] = []
    state = {"events": 0, "complete": True}

    def batches() -> Iterator[list[tuple[Decoded, int]]]:
        last_id, newest = max(0, store.last_id() - BACKTEST_EVENTS), store.last_id()
        state["complete"] = last_id == 0
        while last_id < newest:
            if clock() > deadline:
                state["complete"] = False
                return
            events = store.page(EventFilter(start_us=since), after=last_id, limit=500)
            if not events:
                return
            last_id = events[-1].id
            state["events"] += len(events)
            ids.append([event.id for event in events])
            span.extend((events[0].timestamp_us, events[-1].timestamp_us))
            yield [(Decoded(e.format, e.timestamp_us, e.message, e.fields), e.timestamp_us) for e in events]

    hits = 0
    first: list[tuple[int, int]] = []
    for batch, match in backtest(library.engine(only=rule_id), batches()):
        if match.rule_id == rule_id:
            hits += match.count if match.kind == "rule" else 1
            if match.positions and len(first) < 10 and 0 <= match.positions[-1] < len(ids[batch]):
                first.append((ids[batch][match.positions[-1]], match.timestamp_us))
    days = (max(span) - min(span)) / DAY_US if span else 0.0
    return Tried(hits, tuple(first), int(state["events"]), days, bool(state["complete"]))


# -- files


@blueprint.route("/rules/new", methods=["GET", "POST"])
@needs("admin")
def add() -> Response | str:
    """A new file of rules, empty or as a copy of a rule."""
    form = RuleForm()
    if request.method == "GET":
        library = services().rules
        copied = library.rule(request.args.get("copy", ""))
        form.text.data = TEMPLATE.format(id=uuid.uuid4())
        if copied is not None:
            form.text.data = library.text(copied).replace(copied.id, str(uuid.uuid4()))
            form.name.data = "copy-" + os.path.basename(copied.path)
    return _edited(form, None)


@blueprint.route("/rules/<rule_id>/edit", methods=["GET", "POST"])
@needs("admin")
def edit(rule_id: str) -> Response | str:
    """The user's own file that holds a rule."""
    rule, library = _rule(rule_id), services().rules
    if not library.is_own(rule.path):
        return redirect(url_for("rules.add", copy=rule.id), 303)
    form = RuleForm()
    if request.method == "GET":
        form.name.data, form.text.data = os.path.relpath(rule.path, library.folder), library.text(rule)
    return _edited(form, rule)


def _edited(form: RuleForm, rule: Rule | None) -> Response | str:
    library = services().rules
    found, problems = (), ()
    if form.validate_on_submit():
        text = (form.text.data or "").replace("\r\n", "\n")[:MAX_RULE_CHARS]
        if request.form.get("do") == "remove" and rule is not None:
            library.remove(rule)
            services().store.audit_rule(doer(), "rule.removed", rule.id, {"file": library.short_path(rule.path)})
            flash(f"{rule.name} is gone.", "done")
            return redirect(url_for("rules.index"), 303)
        found, problems = library.check(text, path=form.name.data or "rule.yml")  # type: ignore[assignment]
        if request.form.get("do") == "save":
            try:
                saved = library.save(form.name.data or "", text)
            except RuleFileError as error:
                form.text.errors = [str(error)[:1].upper() + str(error)[1:] + "."]
            else:
                services().store.audit_rule(
                    doer(), "rule.saved", saved[0].id if saved else "", {"file": form.name.data}
                )
                flash("Saved. It is in force within seconds.", "done")
                return redirect(url_for("rules.detail", rule_id=saved[0].id) if saved else url_for("rules.index"), 303)
    return render_template(
        "rules/form.html", form=form, rule=rule, found=found, problems=problems, checked=form.is_submitted(),
        trust=trust(),
    )  # fmt: skip


@blueprint.post("/rules/upload")
@needs("admin")
def upload() -> Response:
    """Many rules at once, from a zip; what cannot be a rule file is left out and said."""
    form = UploadForm()
    if form.validate_on_submit() and form.archive.data:
        saved, refused = 0, []
        try:
            for name, text in _members(form.archive.data.read()):
                try:
                    services().rules.save(name, text)
                    saved += 1
                except RuleFileError as error:
                    refused.append(f"{name}: {error}")
        except RuleFileError as error:
            refused.append(str(error))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError):
            refused.append("The zip is broken, encrypted, or packed in a way that is not taken; use deflate.")
        services().store.audit_rule(doer(), "rule.uploaded", "", {"saved": saved, "refused": len(refused)})
        flash(f"{saved} files of rules were saved.", "done" if saved else "error")
        for sentence in refused[:10]:
            flash(sentence[:300], "error")
    return redirect(url_for("rules.index"), 303)


def _members(content: bytes) -> Iterator[tuple[str, str]]:
    """Name (without folders) and text of every rule file in a zip; raises RuleFileError beyond the bounds."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = [info for info in archive.infolist() if info.filename.lower().endswith((".yml", ".yaml"))]
        if len(infos) > MAX_ARCHIVE_FILES or sum(info.file_size for info in infos) > MAX_ARCHIVE_BYTES:
            msg = f"the archive has more than {MAX_ARCHIVE_FILES:,} rule files or {MAX_ARCHIVE_BYTES // 1_000_000} MB"
            raise RuleFileError(msg)
        total = 0
        if any(info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} for info in infos):
            raise zipfile.BadZipFile
        for info in infos:
            with archive.open(info) as file:
                data = file.read(MAX_FILE_BYTES + 1)
            total += len(data)
            if total > MAX_ARCHIVE_BYTES:
                msg = "the archive holds more than it says"
                raise RuleFileError(msg)
            name = info.filename.rpartition("/")[2].replace(" ", "_")
            if len(data) > MAX_FILE_BYTES:
                continue
            yield name, data.decode("utf-8", "replace")


@blueprint.get("/rules/coverage.json")
@needs("viewer")
def coverage() -> Response:
    """What the rules in force look for, as a layer for the ATT&CK Navigator."""
    store = services().store
    states, numbers = store.rule_states(), store.rule_numbers(now_us() - SHOWN_DAYS * DAY_US)
    layer = navigator_layer(
        (rule.name, rule.tags, numbers.get(rule.id, NO_NUMBERS).hits)
        for rule in services().rules.loaded().rules
        if rule.kind != "filter" and states.get(rule.id, "on") != "off"
    )
    answer = jsonify(layer)
    answer.headers["Content-Disposition"] = 'attachment; filename="threatlens-attack-layer.json"'
    return answer


@blueprint.route("/rules/lists", methods=["GET", "POST"])
@needs("admin")
def lists() -> Response | str:
    """The lists that rules expand."""
    library, form = services().rules, ListForm()
    if request.method == "GET":
        form.name.data = request.args.get("name", "")[:80]
        form.entries.data = "\n".join(library.loaded().lists.get(form.name.data, ()))
    elif form.validate_on_submit():
        try:
            library.save_list(form.name.data or "", (form.entries.data or "").replace("\r\n", "\n"))
        except RuleFileError as error:
            form.name.errors = [str(error)]
        else:
            services().store.audit_rule(doer(), "rule.list.saved", form.name.data or "", {})
            flash("Saved. It is in force within seconds.", "done")
            return redirect(url_for("rules.index"), 303)
    return render_template("rules/lists.html", form=form, lists=library.loaded().lists, trust=trust())


@blueprint.post("/rules/mutes/<int:mute_id>/end")
@needs("analyst")
def end_mute(mute_id: int) -> Response:
    """Take a mute back."""
    if mute_id > MAX_ID or not services().store.end_mutes([mute_id], doer()):
        abort(404)
    flash("The mute is over.", "done")
    return redirect(url_for("rules.index"), 303)


def _rule(rule_id: str) -> Rule:
    rule = services().rules.rule(rule_id)
    if rule is None:
        abort(404)
    return rule
