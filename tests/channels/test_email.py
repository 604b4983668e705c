"""E-mail against a real mail server, with TLS and log-in."""

from __future__ import annotations

import socket
from email import message_from_bytes, policy

import pytest
from receivers import noted

from threatlens.channels import Attachment, EmailNotifier, MailServer
from threatlens.channels.email import compose
from threatlens.errors import ChannelError
from threatlens.handing_over import handed_over
from threatlens.notifications_arrived import TAKEN
from threatlens.outbound import OutboundClient
from threatlens.outbound_urls import Permissions

CLIENT = OutboundClient(Permissions)  # with nothing allowed: mail needs no permission for loopback and private networks


def notifier(server, **changes):
    values = {"username": "lens", "password": "correct horse", "tls": "starttls", **changes}
    return EmailNotifier(
        "ops",
        ("a@example.org", "b@example.org"),
        "threatlens@example.org",
        MailServer("127.0.0.1", server.port, **values),
        CLIENT,
        tls=server.trusting,
    )


def plain(server, client=CLIENT, tls=None):
    return EmailNotifier("ops", ("a@example.org",), "t@example.org", server, client, tls=tls)


def parsed(envelope):
    return message_from_bytes(envelope.content, policy=policy.default)


def test_a_mail_arrives_in_text_and_html_with_what_strangers_wrote_inert(mail_server, message):
    note = noted()

    delivery = notifier(mail_server).send(message, note)

    (envelope,) = mail_server.mails
    assert TAKEN.match(note.room), "the answer to the message, and to nothing before it"
    mail = parsed(envelope)
    assert envelope.rcpt_tos == ["a@example.org", "b@example.org"]
    assert mail["Subject"].startswith("[ThreatLens] 8/10 Password guessing")
    assert mail["Message-ID"] == "<0123456789abcdef@example.org>"
    assert mail["References"] == "<incident-7@example.org>"
    assert "<script>" in mail.get_body(("plain",)).get_content()
    html = mail.get_body(("html",)).get_content()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert any(line.startswith("< 250") for line in delivery.transcript)


def test_what_to_do_and_where_to_click_come_before_the_evidence(message):
    mail = compose(message, "t@example.org", ("a@example.org",))
    for kind in ("plain", "html"):
        text = mail.get_body((kind,)).get_content()
        places = [text.index(each) for each in ("Password guessing", "It succeeded", "Lock it", "/a/x", "203.0.113.9")]
        assert places == sorted(places)
    assert "lock -- &#x27;&lt;script&gt;" in text, "a command is set apart, and still only text"
    assert "<code" in text


def test_the_transcript_holds_no_password(mail_server, message):
    delivery = notifier(mail_server).send(message)

    words = "\n".join(delivery.transcript)
    assert "AUTH ***" in words
    assert "correct horse" not in words
    assert "Y29ycmVjdCBob3JzZQ" not in words
    assert "bGVucw" not in words


def test_a_wrong_password_is_a_lasting_mistake(mail_server, message):
    note = noted()
    with pytest.raises(ChannelError, match="535") as caught:
        notifier(mail_server, password="wrong").send(message, note)
    assert not any(note.room)
    assert not handed_over(note.call)
    assert caught.value.permanent
    assert mail_server.mails == []


def test_an_unknown_certificate_is_refused(mail_server, message):
    server = MailServer("127.0.0.1", mail_server.port, "lens", "correct horse", "starttls")
    with pytest.raises(ChannelError, match="not trusted"):
        plain(server).send(message)


def test_one_refused_address_does_not_keep_the_mail_from_the_others(mail_server, message):
    mail_server.refuse["b@example.org"] = "550 no such user"

    delivery = notifier(mail_server).send(message)

    assert len(mail_server.mails) == 1
    assert any("b@example.org was refused: 550" in line for line in delivery.transcript)


def test_when_nobody_is_taken_the_reason_is_told(mail_server, message):
    mail_server.refuse |= {"a@example.org": "451 later", "b@example.org": "451 later"}

    with pytest.raises(ChannelError, match="451 later") as caught:
        notifier(mail_server).send(message)
    assert not caught.value.permanent


def test_a_server_that_is_not_there_is_tried_again(message):
    with pytest.raises(ChannelError, match="cannot be reached") as caught:
        plain(MailServer("127.0.0.1", 9)).send(message)
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"tls": "tls"}, "does not speak TLS from the start"), ({"host": "nowhere.invalid"}, "has no address"),
     ({"password": "wrong"}, "does not take the user name and password: 535"),
     ({"host": "127.0.0.2"}, "not trusted: IP address mismatch")],
)  # fmt: skip
def test_what_is_wrong_is_said_so_that_one_knows_what_to_change(mail_server, message, changes, words):
    values = {"host": "127.0.0.1", "port": mail_server.port, "username": "lens", "password": "correct horse",
              "tls": "starttls", **changes}  # fmt: skip
    server = MailServer(**values)
    with pytest.raises(ChannelError) as caught:
        EmailNotifier("ops", ("a@example.org",), "t@example.org", server, CLIENT, tls=mail_server.trusting).send(
            message
        )
    assert words in str(caught.value)


def test_a_server_that_never_says_anything_is_left_in_time(message, monkeypatch):
    monkeypatch.setattr("threatlens.channels.email.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = MailServer("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(ChannelError, match="A port for TLS"):
            plain(server).send(message)


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "2852039166", "0xa9fea9fe", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1%lo",
     "fd00:ec2::254", "100.100.100.200", "metadata.google.internal", "0.0.0.0", "::", "224.0.0.25", "ff02::1"],
)  # fmt: skip
@pytest.mark.parametrize("tls", ["none", "tls"])
def test_no_mail_goes_where_a_machine_gets_its_credentials(message, host, tls, monkeypatch):
    opened = []
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: opened.append(args))

    with pytest.raises(ChannelError, match=r"never called|not the address of one machine") as caught:
        plain(MailServer(host, 25, tls=tls)).send(message)

    assert caught.value.permanent
    assert opened == []


def test_a_name_of_a_mail_server_is_resolved_once_so_that_rebinding_gains_nothing(mail_server, message):
    answers = iter([["127.0.0.1"], ["127.0.0.1", "169.254.169.254"]])
    client = OutboundClient(Permissions, resolve=lambda *_: next(answers))
    server = MailServer("mail.example.org", mail_server.port, "lens", "correct horse", "starttls")

    with pytest.raises(ChannelError, match="not trusted: Hostname mismatch"):  # it went there, by a name of its own
        plain(server, client, mail_server.trusting).send(message)
    with pytest.raises(ChannelError, match=r"mail\.example\.org leads to a refused address") as caught:
        plain(server, client, mail_server.trusting).send(message)
    assert caught.value.permanent


def test_a_mail_server_in_a_private_network_needs_no_permission(message, monkeypatch):
    opened = []

    def unreachable(address, timeout):
        opened.append(address)
        raise OSError(113, "No route to host")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(ChannelError, match=r"10\.0\.0\.25:2525 cannot be reached: No route to host"):
        plain(MailServer("10.0.0.25", 2525)).send(message)
    assert opened == [("10.0.0.25", 2525)]


class Elsewhere(socket.socket):
    """A connection that says it leads to another machine."""

    def getpeername(self):
        return "192.0.2.25", 25


class LeadsElsewhere:
    def connect(self, host, port, timeout_s):
        connection = Elsewhere()
        connection.settimeout(timeout_s)
        connection.connect((host, port))
        return connection


def test_a_password_leaves_the_machine_sealed_or_not_at_all(mail_server, message):
    server = MailServer("127.0.0.1", mail_server.port, "lens", "correct horse", "none")
    with pytest.raises(ChannelError, match="unsealed to another machine") as caught:
        plain(server, LeadsElsewhere()).send(message)
    assert caught.value.permanent
    assert not any("AUTH" in line for line in caught.value.transcript)

    server = MailServer("127.0.0.1", mail_server.port, "lens", "correct horse", "starttls")
    assert plain(server, LeadsElsewhere(), mail_server.trusting).send(message)


def test_a_report_goes_along(message):
    report = Attachment("report.pdf", "application/pdf", b"%PDF-1.7")
    values = {name: getattr(message, name) for name in type(message).__slots__}
    mail = compose(type(message)(**{**values, "attachments": (report,)}), "t@example.org", ("a@example.org",))

    (part,) = mail.iter_attachments()
    assert (part.get_filename(), part.get_content_type(), part.get_content()) == (
        "report.pdf", "application/pdf", b"%PDF-1.7",
    )  # fmt: skip
