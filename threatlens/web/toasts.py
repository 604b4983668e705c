"""Toasts: what is urgent comes to every page that is open, as a fragment that a screen reader reads out."""

from __future__ import annotations

from collections import OrderedDict

from flask import render_template, url_for

from threatlens.event import EventUpdate

URGENT = 7  # severity
REMEMBERED = 500
MOST = 20  # in one frame; the page shows a few and counts the others


class Toasts:
    """What one browser has been told; an incident is told of again only when it has become worse."""

    def __init__(self, *, is_analyst: bool, reading: int = 0) -> None:
        """reading: the incident whose page it is, which needs no telling; 0: none."""
        self._reading = reading
        self._is_analyst = is_analyst
        self._told: OrderedDict[object, tuple[int, bool]] = OrderedDict()

    def html(self, updates: tuple[EventUpdate, ...]) -> str:
        """The fragment for these updates, the newest of them where they are many; "" for none."""
        parts = [part for update in updates if (part := self._one(update))]
        return f'<div hx-swap-oob="beforeend:#toasts">{"".join(parts[-MOST:])}</div>' if parts else ""

    def _one(self, update: EventUpdate) -> str:
        data = update.data
        severity = int(data.get("severity") or 0)
        if update.event_type == "incident" and severity >= URGENT and data.get("status") == "open":
            if data["id"] == self._reading:
                return ""
            worth = (severity, data.get("outcome") == "success")
            if not self._is_news(("incident", data["id"]), worth):
                return ""
            text = "Somebody got in." if worth[1] else ""
            return _toast(str(data["title"]), text, severity, url_for("incidents.detail", incident_id=data["id"]))
        if update.event_type == "notification" and self._is_analyst:
            failed, about = data.get("status") == "failed", data.get("incident_id")
            if not failed and (severity < URGENT or (about and about == self._reading)):
                return ""
            key: object = ("incident", about) if about else ("event", data.get("event_id") or data.get("title"))
            if failed:  # each channel that fails is news; that several were told of one thing is not
                key = ("failed", data.get("id"))
            if not self._is_news(key, (severity, failed)):
                return ""
            sent = f"{'Could not be sent by' if failed else 'Sent by'} {data.get('channel')}"
            link = url_for("notifications.detail", notification_id=data["id"]) if data.get("id") else ""
            return _toast(str(data.get("title")), sent, max(severity, 1), link)
        return ""

    def _is_news(self, key: object, worth: tuple[int, bool]) -> bool:
        if key in self._told and worth <= self._told[key]:
            return False
        self._told[key] = worth
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return True


def _toast(title: str, text: str, severity: int, link: str) -> str:
    return render_template("_toast.html", title=title, text=text, severity_number=min(severity, 10), link=link)
