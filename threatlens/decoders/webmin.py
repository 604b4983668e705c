"""Webmin and Usermin (miniserv.pl): logins. The address is the last word."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_AT = r" from (?P<src>\S+)\s*"

_TABLE = Table(
    {
        "Invalid": [row(rf"Invalid login as (?P<user>.*){_AT}", "login", "failure")],
        "Non-existent": [row(rf"Non-existent login as (?P<user>.*){_AT}", "login", "failure")],
        "Successful": [row(rf"Successful login as (?P<user>.*){_AT}", "login", "success")],
        "Expired": [row(rf"Expired (?:login|session) as (?P<user>.*){_AT}", "login", "failure")],
        "Logout": [row(rf"Logout by (?P<user>.*){_AT}", "logout", category="session")],
        "Timeout": [row(r"Timeout of session for (?P<user>\S+)", "logout", category="session")],
        "Security": [
            row(r"Security alert: Host (?P<src>\S+) blocked after .*", "host_blocked", category="intrusion_detection"),
            row(r"Security alert: User (?P<user>\S+) blocked after .*", "account_locked", "failure"),
        ],
        "Webmin": [row(r"Webmin (?P<reason>starting|stopping|restarting)", "service_info", category="process")],
    }
)

DECODER = MessageDecoder(
    name="webmin",
    about="Webmin and Usermin: logins, blocked hosts.",
    read=_TABLE.read,
    programs=("webmin", "usermin", "miniserv.pl"),
)
