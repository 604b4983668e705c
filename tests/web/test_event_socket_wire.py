"""/ws/events over real sockets: the handshake, what the protocol forbids, and how connections end."""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import websocket
from accounts import cookie, person
from builders import Filler
from pace import Stopwatch, wait_for
from werkzeug.serving import make_server

from threatlens.clock import now_us
from threatlens.event import Event, EventUpdate
from threatlens.store_accounts import COMMAND_LINE
from threatlens.web import seats as seats_module
from threatlens.web import socket_writer
from threatlens.web.socket_writer import SocketWriter

SUBSCRIBE = {"action": "subscribe", "event_types": ["new_event"], "after": None}


class Server:
    """The app behind a real socket, with a token for it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.services = app.extensions["threatlens"]
        self.token = self.services.store.create_token("reader", "viewer")
        self.http = make_server("127.0.0.1", 0, app, threaded=True)
        self.http.daemon_threads = False
        self.address = f"127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.clients: list[websocket.WebSocket] = []
        self.filler = Filler(self.services.store)
        self.thread.start()

    def connect(self, path: str = "/ws/events", *, token: str | None = "", **more: Any) -> websocket.WebSocket:
        token = self.token if token == "" else token
        header = [] if token is None else [f"Authorization: Bearer {token}"]
        client = websocket.create_connection(f"ws://{self.address}{path}", timeout=300, header=header, **more)
        self.clients.append(client)
        return client

    def publish(self, text: str) -> int:
        event_id = self.filler.add(text)
        event = self.services.store.event(event_id)
        self.services.broadcaster.publish(event_id, 1, lambda: (event,))
        return event_id

    def stop(self) -> None:
        self.services.broadcaster.close()
        for client in self.clients:
            client.shutdown()
        self.http.shutdown()
        self.http.server_close()  # waits for the threads of all connections
        self.thread.join(60)


@pytest.fixture
def server(app: Any) -> Iterator[Server]:
    before = set(threading.enumerate())
    server = Server(app)
    yield server
    server.stop()
    assert set(threading.enumerate()) == before, "a connection left a thread behind"


def say(client: websocket.WebSocket, message: Any) -> dict[str, Any]:
    client.send(json.dumps(message))
    return hear(client)


def hear(client: websocket.WebSocket) -> dict[str, Any]:
    return dict(json.loads(client.recv()))


def end_of(client: websocket.WebSocket) -> int | None:
    """The code the connection is closed with; None: it just ends."""
    try:
        while True:
            opcode, data = client.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int(struct.unpack("!H", data[:2])[0])
    except (OSError, websocket.WebSocketConnectionClosedException):
        return None


def test_a_stored_event_reaches_a_client(server: Server) -> None:
    client = server.connect()
    assert say(client, SUBSCRIBE)["event_type"] == "subscribed"

    event_id = server.publish("hello")

    update = hear(client)
    assert (update["id"], update["data"]["raw"]) == (event_id, "hello")
    client.close()


@pytest.mark.parametrize("token", [None, "tl_" + "A" * 43, "x", "tl_wrongwrongwrongwrong"])
def test_without_a_good_token_the_handshake_is_refused(server: Server, token: str | None) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        server.connect(token=token)
    assert refusal.value.status_code == 401
    assert b"A valid token is needed" in refusal.value.resp_body


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://{0}", "http://127.0.0.1:1", "http://evil-{0}", "http://{0}.evil.com",
     "http://{0}/", "file://", "http://localhost:{1}"],
)  # fmt: skip
def test_a_page_of_another_origin_is_refused_even_with_a_token(server: Server, origin: str) -> None:
    origin = origin.format(server.address, server.address.split(":")[1])
    for token in (server.token, None):
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            server.connect(token=token, origin=origin)
        assert refusal.value.status_code == 403


def test_the_own_origin_and_none_are_fine_with_a_token(server: Server) -> None:
    server.connect(origin=f"http://{server.address}").close()
    server.connect(suppress_origin=True).close()


def test_a_token_in_the_address_is_refused(server: Server) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        server.connect(f"/ws/events?token={server.token}")
    assert refusal.value.status_code == 400
    assert server.token.encode() not in refusal.value.resp_body


def test_a_plain_get_is_a_problem(server: Server) -> None:
    answer = server.app.test_client().get("/ws/events", headers={"Authorization": f"Bearer {server.token}"})

    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")


def masked(opcode: int, payload: bytes, *, first: int = 0x80, mask: bool = True) -> bytes:
    """One frame as a client sends it."""
    size = len(payload)
    bit = 0x80 if mask else 0
    head = bytes([first | opcode])
    head += (
        bytes([bit | size])
        if size < 126
        else struct.pack("!BH", bit | 126, size)
        if size < 65536
        else struct.pack("!BQ", bit | 127, size)
    )
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([masked(1, b"x" * (1 << 20))], 1009),
        ([masked(1, b"x" * 5000)], 1009),
        ([masked(2, b"\x00\xff\xfe")], 1003),
        ([masked(1, b"x", first=0), *([masked(0, b"x", first=0)] * 10_000), masked(0, b"x")], 1009),
        ([masked(9, b"x" * 126)], 1002),
        ([masked(1, b"{}", mask=False)], 1002),
        ([masked(1, b"{}", first=0xC0)], 1002),
        ([masked(3, b"{}")], 1002),
        ([masked(1, b"\xff\xfe")], 1007),
    ],
    ids=["1MiB", "5KiB", "binary", "fragments", "long-ping", "unmasked", "reserved-bit", "opcode-3", "not-utf8"],
)
def test_what_the_protocol_forbids_closes_this_connection_only(server: Server, frames: list[bytes], code: int) -> None:
    other, client = server.connect(), server.connect()
    say(other, SUBSCRIBE)

    try:
        for frame in frames:
            client.sock.sendall(frame)
    except OSError:
        pass  # closed before all was sent

    assert end_of(client) in {code, None} if len(frames[0]) > 100_000 else end_of(client) == code
    server.publish("still here")
    assert hear(other)["data"]["raw"] == "still here"
    other.close()


def test_errors_and_the_close_code_arrive(server: Server) -> None:
    client = server.connect()
    for _ in range(5):
        client.send("{not json")
    kinds = [hear(client)["event_type"] for _ in range(5)]

    assert (kinds, end_of(client)) == (["error"] * 5, 1008)


def subscribing(**changes: Any) -> str:
    return json.dumps({**SUBSCRIBE, **changes})


#: A code of the contract -> messages that are answered with it.
BAD_MESSAGES = {
    "invalid_json": ["{not json", "[" * 2_000, '{"action":"ping","action":"ping"}'],
    "invalid_message": ["[]", '"x"', "null", "1"],
    "unknown_action": ['{"action":"drop_tables"}', "{}"],
    "invalid_event_types": [
        subscribing(event_types=types) for types in ("new_event", [1], [], ["new_event"] * 200, ["../x"])
    ],
    "invalid_after": [subscribing(after=after) for after in (-1, "1 OR 1=1", {"$gt": 0}, 2**63)],
    "forbidden": [subscribing(event_types=["notification"])],
}


def test_a_bad_message_is_answered_with_its_code_over_the_wire(server: Server) -> None:
    for code, messages in BAD_MESSAGES.items():
        for start in range(0, len(messages), 4):
            client = server.connect()
            for message in messages[start : start + 4]:
                client.send(message)
                answer = hear(client)
                assert (answer["event_type"], answer["data"]["code"]) == ("error", code), message[:100]
            client.close()
    server.publish("nobody has subscribed")


def test_two_thousand_messages_at_once_end_with_an_error_and_1008(server: Server) -> None:
    client = server.connect()
    client.sock.sendall(masked(1, b'{"action":"ping"}') * 2000)
    heard = [hear(client) for _ in range(21)]

    assert heard[-1]["data"]["code"] == "rate_limited"
    assert end_of(client) == 1008


def test_compression_is_not_agreed_on(server: Server) -> None:
    with socket.create_connection(tuple(server.address.split(":")), timeout=300) as raw:  # type: ignore[arg-type]
        raw.sendall(
            f"GET /ws/events HTTP/1.1\r\nHost: {server.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode()
        )
        answer = raw.recv(4096)
        raw.sendall(masked(8, struct.pack("!H", 1000)))

    assert answer.startswith(b"HTTP/1.1 101")
    assert b"extensions" not in answer.lower()


def test_more_connections_than_seats_are_told_to_come_back(server: Server) -> None:
    server.app.extensions["threatlens_seats"] = seats_module.Seats(2)
    first, second = server.connect(), server.connect()
    for seated in (first, second):  # a seat is taken after the handshake, each in a thread of its own
        assert say(seated, {"action": "ping"})["event_type"] == "pong"

    assert end_of(server.connect()) == 1013
    first.close()
    assert end_of(first) is None
    assert wait_for(lambda: has_seat(server))


def has_seat(server: Server) -> bool:
    """Connect: is there a seat? The server frees one once it has noticed the goodbye."""
    client = server.connect()
    try:
        if say(client, {"action": "ping"})["event_type"] == "pong":
            client.close()
            return True
    except (OSError, websocket.WebSocketException, ValueError):
        pass
    return False


def test_a_revoked_token_closes_its_connections(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threatlens.web.event_socket.CHECK_S", 0.0)
    client = server.connect()
    say(client, SUBSCRIBE)
    [token] = server.services.store.tokens()

    server.services.store.revoke_token(token.id)

    assert end_of(client) == 4401


def test_a_stopping_server_closes_with_1001_and_leaves_no_thread(app: Any) -> None:
    before = set(threading.enumerate())
    server = Server(app)
    clients = [server.connect() for _ in range(5)]
    for client in clients[:3]:
        say(client, SUBSCRIBE)
    server.services.broadcaster.publish_update(EventUpdate("system_status", {}, now_us()))

    server.services.broadcaster.close()

    assert [end_of(client) for client in clients] == [1001] * 5
    server.stop()
    assert set(threading.enumerate()) == before


def test_a_client_that_reads_nothing_is_cut_off_and_keeps_nobody_waiting(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SocketWriter.__init__, "__defaults__", (0.5,))
    cut_off = threading.Event()
    hang_up = SocketWriter.hang_up
    monkeypatch.setattr(SocketWriter, "hang_up", lambda writer: (cut_off.set(), hang_up(writer)))
    deaf = server.connect(sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
    say(deaf, SUBSCRIBE)
    other = server.connect()
    say(other, SUBSCRIBE)

    for number in itertools.count(1):
        event = Event(number, 0, 0, "s", 1, "", "other", 3, "json", "m", "x" * 500_000, {})
        server.services.broadcaster.publish(number, 1, lambda event=event: (event,))
        assert hear(other)["id"] == number
        if cut_off.wait(0.02):
            break

    with pytest.raises((OSError, websocket.WebSocketException, ValueError)):  # noqa: PT012 - at some message it ends
        for _ in range(number + 1):
            hear(deaf)
    other.close()


def test_a_flood_without_a_look_of_the_handler_is_cut_off() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = SocketWriter(ours, lambda: False)
        theirs.sendall(b"x" * 60_000)
        assert len(writer.recv(100_000)) > 0
        writer.heard()
        with pytest.raises(ConnectionAbortedError):  # noqa: PT012 - at some read it ends
            for _ in range(socket_writer.MAX_UNHEARD // 1000 + 2):
                theirs.sendall(b"x" * 1000)
                writer.recv(1000)


def test_frames_of_two_threads_do_not_mix() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    size, rounds = 50_000, 20
    with ours, theirs:
        writer = SocketWriter(ours, lambda: False)
        threads = [
            threading.Thread(target=lambda letter=letter: [writer.send(letter * size) for _ in range(rounds)])
            for letter in (b"a", b"b")
        ]
        for thread in threads:
            thread.start()
        got = b""
        while len(got) < 2 * size * rounds:
            got += theirs.recv(1 << 20)
        for thread in threads:
            thread.join(60)

    pieces = [got[start : start + size] for start in range(0, len(got), size)]
    assert set(pieces) == {b"a" * size, b"b" * size}


def test_a_stopping_server_does_not_wait_for_a_client_that_reads_nothing() -> None:
    ours, theirs = socket.socketpair()
    stopping = threading.Event()
    with ours, theirs:
        writer = SocketWriter(ours, stopping.is_set, stall_s=60)
        timer = threading.Timer(0.05, stopping.set)
        timer.start()
        with pytest.raises(TimeoutError):
            writer.send(b"x" * 10_000_000)
        timer.join(60)


@pytest.mark.parametrize("path", ["/ws/events", "/ws/ui?page=other"])
@pytest.mark.parametrize("deed", ["log out", "role", "disable", "sources"])
def test_who_loses_their_rights_loses_the_open_socket_within_a_second(server: Server, path: str, deed: str) -> None:
    eve = person(server.app, "analyst", "eve")
    header = {"Cookie": f"threatlens={cookie(server.app, 'analyst', 'eve')}"}
    client = websocket.create_connection(
        f"ws://{server.address}{path}", timeout=300, header=header, origin=f"http://{server.address}"
    )
    server.clients.append(client)
    client.send('{"action": "ping"}') if path == "/ws/events" else None
    assert client.recv()

    store = server.services.store
    with Stopwatch() as stopwatch:
        {
            "log out": lambda: store.end_sessions(eve.id, COMMAND_LINE),
            "role": lambda: store.set_role(eve.id, "viewer", COMMAND_LINE),
            "disable": lambda: store.set_enabled(eve.id, False, COMMAND_LINE),
            "sources": lambda: store.set_sources(eve.id, ["web"], COMMAND_LINE),
        }[deed]()
        assert end_of(client) == 4401
    assert stopwatch.seconds < 1.5  # one second, and what a busy machine adds


def test_a_session_counts_only_for_a_page_of_ours(server: Server) -> None:
    header = {"Cookie": f"threatlens={cookie(server.app, 'viewer')}"}
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        websocket.create_connection(
            f"ws://{server.address}/ws/events", timeout=300, header=header, suppress_origin=True
        )
    assert refusal.value.status_code == 401


def test_a_person_has_five_sockets_at_most(server: Server) -> None:
    room = seats_module.Seats(200)
    assert [room.take("user eve") for _ in range(6)] == [True] * 5 + [False]
    assert room.take("user anna")
    room.leave("user eve")
    assert room.take("user eve")
    assert all(room.take() for _ in range(194))
    assert not room.take()
