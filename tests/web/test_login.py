"""Coming in and going out."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from accounts import PASSWORD, log_in, person

from threatlens.passwords import Passwords
from threatlens.store_accounts import COMMAND_LINE
from threatlens.store_database import Database, connect
from threatlens.store_logins import LoginFailures
from threatlens.web.limits import FREE, LONGEST_S, LoginLimits, keys_for, network


@pytest.fixture(autouse=True)
def forms(app: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False


def try_in(
    client: Any, password: str | bytes = PASSWORD, name: str = "an-admin", address: str = "192.0.2.9", **more: Any
) -> Any:
    return client.post(
        "/login", data={"name": name, "password": password, **more}, environ_base={"REMOTE_ADDR": address}
    )


def test_the_printed_link_makes_one_administrator_once(app: Any, services: Any) -> None:
    client = app.test_client()
    assert client.get("/").headers["Location"] == "/login"
    assert client.get("/login").headers["Location"] == "/setup"
    assert client.get("/setup").status_code == client.post("/setup", data={"code": "x"}).status_code == 403
    code = services.setup_link().split("code=")[1]
    assert client.get(f"/setup?code={code}").status_code == 200
    form = {"code": code, "name": "Anna", "password": PASSWORD, "again": PASSWORD}
    assert client.post("/setup", data=form | {"again": "another"}).status_code == 400
    assert client.post("/setup", data=form | {"password": "password1234", "again": "password1234"}).status_code == 400
    assert client.post("/setup", data=form).status_code == 303
    assert client.get("/").status_code == 200
    assert client.get(f"/setup?code={code}").status_code == client.post("/setup", data=form).status_code == 404
    assert [(user.name, user.role) for user in services.store.users()] == [("anna", "admin")]


def test_the_right_password_lets_in_and_leads_where_one_wanted_to_go(app: Any) -> None:
    person(app)
    client = app.test_client()
    assert client.get("/events?q=a").headers["Location"] == "/login?next=/events?q%3Da"
    answer = try_in(client, next="/events?q=a")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/events?q=a")
    assert client.get("/events").status_code == 200
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie


def test_under_tls_the_cookie_is_for_this_host_alone(app: Any) -> None:
    person(app)
    answer = app.test_client().post(
        "/login",
        data={"name": "an-admin", "password": PASSWORD},
        base_url="https://localhost",
        headers={"Origin": "https://localhost"},
    )
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-threatlens=")
    assert "Secure" in cookie
    assert "Domain" not in cookie
    assert "max-age" in answer.headers["Strict-Transport-Security"]


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "https:evil", "%2f%2fevil", "javascript:alert(1)", "http://[::1", "/\t/evil"],
)
def test_a_login_leads_to_this_site_only(app: Any, target: str) -> None:
    person(app)
    assert app.test_client().get("/login", query_string={"next": target}).status_code == 200
    assert try_in(app.test_client(), next=target).headers["Location"] == "/"


@pytest.mark.parametrize(
    ("name", "password"),
    [("an-admin", "wrong"), ("nobody", PASSWORD), ("disabled", PASSWORD), ("an-admin", ""), ("", ""),
     ("an-admin\x00", PASSWORD),
     ("\u0430n-admin", PASSWORD), ("an-admin", "x" * 100_000), ("<b>", "x"), ("an-admin", "\ud800")],
)  # fmt: skip
def test_whatever_is_wrong_the_answer_is_the_same(app: Any, services: Any, name: str, password: str) -> None:
    person(app)
    services.store.set_enabled(person(app, "viewer", "disabled").id, False, COMMAND_LINE)
    client = app.test_client()
    form = {"name": name, "password": password}
    data = {key: value.encode("utf-8", "surrogatepass") for key, value in form.items()}
    answer = client.post("/login", data=data)
    assert answer.status_code == 401
    assert re.sub(r'value="[^"]*"', "", answer.text).count("The name or the password is not right.") == 1
    [entry] = services.store.audit.page(action="login.failed")
    assert entry.target in {"an-admin", "disabled", "no account of that name"}
    assert client.get("/events").status_code == 303


def test_a_session_that_was_planted_does_not_become_the_victims(app: Any) -> None:
    attacker, victim = log_in(app, "viewer", "eve"), app.test_client()
    person(app)
    planted = attacker.get_cookie("threatlens").value
    victim.set_cookie("threatlens", planted)
    try_in(victim)
    assert victim.get_cookie("threatlens").value != planted
    assert "an-admin" in victim.get("/settings").text
    assert attacker.get("/events").status_code == 303


def test_who_logs_out_is_out_with_every_copy_of_the_cookie(app: Any) -> None:
    client, copy = log_in(app), app.test_client()
    copy.set_cookie("threatlens", client.get_cookie("threatlens").value)
    assert copy.get("/events").status_code == 200
    answer = client.post("/logout")
    assert "storage" in answer.headers["Clear-Site-Data"]
    assert copy.get("/events").status_code == 303


@pytest.fixture
def instant(services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the tries take, they are of one moment: after a second one more would be free."""
    moment = services.limits._clock()
    monkeypatch.setattr(services.limits, "_clock", lambda: moment)


@pytest.mark.usefixtures("instant")
def test_a_hundred_wrong_tries_are_slowed_down_and_the_known_address_still_gets_in(app: Any, services: Any) -> None:
    person(app)
    assert try_in(app.test_client(), address="192.0.2.7").status_code == 303
    client = app.test_client()
    one = [try_in(client, "wrong", address="192.0.2.66").status_code for _ in range(30)]
    many = [try_in(client, "wrong", address=f"198.51.100.{n}").status_code for n in range(100)]
    assert one[: FREE["account"]] == [401] * FREE["account"]
    assert set(one[FREE["account"] :]) == {429}
    assert many.count(429) >= 98
    refused = try_in(client, address="198.51.100.200")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert try_in(client, address="192.0.2.7").status_code == 303


@pytest.mark.usefixtures("instant")
def test_no_name_that_is_typed_locks_the_known_address_out(app: Any) -> None:
    person(app)
    assert try_in(app.test_client(), address="192.0.2.7").status_code == 303
    client = app.test_client()
    names = ("an-admin from 192.0.2.7", "192.0.2.7 an-admin", "an-admin")
    for name in names:
        assert [try_in(client, "wrong", name, f"198.51.100.{n}").status_code for n in range(12)][-1] == 429
    assert try_in(client, "wrong", address="192.0.2.7").status_code == 401
    assert try_in(client, address="192.0.2.7").status_code == 303


@pytest.mark.usefixtures("instant")
def test_what_a_client_says_about_its_address_does_not_reset_the_limit(app: Any) -> None:
    client = app.test_client()
    statuses = [
        client.post(
            "/login", data={"name": f"user{n}", "password": "x"}, headers={"X-Forwarded-For": f"192.0.2.{n}"}
        ).status_code
        for n in range(25)
    ]
    assert statuses[-1] == 429


def test_limits_double_forget_and_stay_bounded(services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000]
    failures = LoginFailures(services.store.database)
    limits = LoginLimits(failures, "secret", lambda: now[0])
    keys = keys_for("anna", "192.0.2.1", known=False)
    for _ in range(FREE["account"]):
        assert limits.begin(keys) == 0
    waits = []
    for _ in range(15):
        waits.append(limits.wait_s(keys))
        assert limits.begin(keys) == waits[-1]
        now[0] += int(waits[-1] * 1e6)
        assert limits.begin(keys) == 0
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == LONGEST_S
    now[0] -= 86_400_000_000  # the clock was set back
    assert limits.wait_s(keys) == LONGEST_S
    now[0] += 86_400_000_000 + 3_601_000_000
    assert limits.begin(keys) == 0
    assert limits.wait_s(keys) == 0
    monkeypatch.setattr("threatlens.store_logins.MAX_KEYS", 20)
    for number in range(30):
        now[0] += 1
        limits.begin([("address", str(number))])
    with services.store.database.reading() as connection:
        kept = connection.exec_driver_sql("SELECT key_hash, count FROM login_failures").all()
    assert len(kept) == 20
    assert not any("anna" in key or "192.0.2.1" in key for key, _ in kept)


def test_processes_count_tries_together(services: Any) -> None:
    """As many as one process allows, however the tries are spread and whoever comes at the same time."""
    keys = keys_for("anna", "192.0.2.1", known=False)
    processes = [
        LoginLimits(LoginFailures(Database(connect(services.settings.database_url))), "secret", lambda: 10**15)
        for _ in range(4)
    ]
    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda number: processes[number % 4].begin(keys), range(40)))
    assert waits.count(0) == FREE["account"]
    assert set(waits) == {0, 1}
    processes[0].succeeded(keys)
    assert processes[3].begin(keys) == 0


class CountingHasher:
    """Argon2id as it is, and at which cost it was asked for."""

    def __init__(self, hasher: Any) -> None:
        self.hasher, self.asked = hasher, []  # type: ignore[var-annotated]

    def verify(self, kept: str, password: str) -> bool:
        self.asked.append(kept.split("$")[3])
        return bool(self.hasher.verify(kept, password))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.hasher, name)


def test_every_login_that_fails_costs_one_verification_whoever_it_is_for(app: Any, services: Any) -> None:
    """What tells an account that exists from one that does not is the time of Argon2id, so that is counted."""
    person(app)
    services.store.set_enabled(person(app, "viewer", "disabled").id, False, COMMAND_LINE)
    client = app.test_client()
    try_in(client, "wrong", name="whoever asks first")
    hasher = services.passwords._hasher = CountingHasher(services.passwords._hasher)
    for name, password in (
        ("an-admin", "wrong"), ("nobody", "wrong"), ("disabled", "wrong"), ("disabled", PASSWORD),
        ("an-admin", "\ud800"), ("nobody", "\ud800"), ("<b>", "wrong"), ("", "wrong"),
    ):  # fmt: skip
        hasher.asked.clear()
        assert try_in(client, password.encode("utf-8", "surrogatepass"), name=name).status_code == 401
        assert hasher.asked == ["m=8,t=1,p=1"], name
    for name in ("an-admin", "nobody"):  # too long to be a password of anybody
        hasher.asked.clear()
        assert try_in(client, "x" * 129, name=name).status_code == 401
        assert hasher.asked == []


def test_an_ipv6_host_is_its_network() -> None:
    assert network("2001:db8:1:2:3:4:5:6") == network("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network("192.0.2.1") == "192.0.2.1"


def test_a_hash_of_another_cost_is_renewed_at_login(app: Any, services: Any) -> None:

    user = person(app)
    kept = services.store.password_of(user.id)
    services.store.renew_hash(user.id, Passwords(16, 1).hash(PASSWORD), before=kept)
    assert try_in(app.test_client()).status_code == 303
    assert not services.passwords.is_outdated(services.store.password_of(user.id))


@pytest.mark.parametrize("path", ["/login", "/settings/password", "/confirm"])
def test_a_password_that_is_changed_while_the_old_one_is_checked_leaves_no_session(
    app: Any, services: Any, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    anna, new = person(app), "three lamps beside the sea"
    client = log_in(app) if path != "/login" else app.test_client()
    checks = services.passwords.matches

    def meanwhile(kept: str | None, password: str) -> bool:
        right = checks(kept, password)
        services.store.set_password(anna.id, services.passwords.hash(new), COMMAND_LINE)
        return right

    monkeypatch.setattr(services.passwords, "matches", meanwhile)
    monkeypatch.setattr(services.passwords, "is_outdated", lambda _kept: True)  # and the hash would be renewed
    hers = "a thief's own new password"
    client.post(path, data={"name": anna.name, "password": hers if path == "/settings/password" else PASSWORD,
                            "present": PASSWORD, "again": hers})  # fmt: skip
    monkeypatch.undo()

    assert services.store.sessions_of(anna.id) == []
    assert client.get("/events").status_code == 303
    assert [checks(services.store.password_of(anna.id), each) for each in (new, PASSWORD, hers)] == [True, False, False]


def test_one_changes_ones_password_and_stays_logged_in_here_only(app: Any) -> None:
    client, other = log_in(app), log_in(app)
    new = "three lamps beside the sea"
    wrong = client.post("/settings/password", data={"present": "wrong", "password": new, "again": new})
    assert wrong.status_code == 401
    form = {"present": PASSWORD, "password": new, "again": new}
    assert client.post("/settings/password", data=form | {"password": "x" * 129, "again": "x" * 129}).status_code == 400
    assert client.post("/settings/password", data=form).status_code == 303
    assert client.get("/events").status_code == 200
    assert other.get("/events").status_code == 303
    assert try_in(app.test_client(), new).status_code == 303


def test_one_ends_ones_other_sessions(app: Any, services: Any) -> None:
    client, other, third = log_in(app), log_in(app), log_in(app)
    client.post("/settings/sessions", data={"session": "others"})
    assert [each.get("/events").status_code for each in (client, other, third)] == [200, 303, 303]
    eve = log_in(app, "viewer", "eve")
    [hers] = services.store.sessions_of(person(app, "viewer", "eve").id)
    client.post("/settings/sessions", data={"session": hers.id_hash})
    assert eve.get("/events").status_code == 200


def test_accounts_are_made_changed_and_removed(app: Any, services: Any) -> None:
    client = log_in(app)
    form = {
        "name": "Ben",
        "role": "viewer",
        "password": "a lamp in the long grass",
        "again": "a lamp in the long grass",
    }
    assert client.post("/settings/users", data=form | {"role": "root"}).status_code == 400
    assert client.post("/settings/users", data=form).status_code == 303
    ben = services.store.user_named("ben")
    page = f"/settings/users/{ben.id}"
    assert "ben" in client.get(page).text
    for what, more in (("role", {"role": "analyst"}), ("disable", {}), ("enable", {}), ("log out", {})):
        assert client.post(page, data={"do": what, **more}).status_code == 303
    assert services.store.user(ben.id).role == "analyst"
    mine = f"/settings/users/{services.store.user_named('an-admin').id}"
    assert "last administrator" in client.post(mine, data={"do": "disable"}).text
    assert client.post(page, data={"do": "remove"}).status_code == 303
    assert client.get(page).status_code == 404


def test_a_token_made_on_the_page_is_shown_once_and_keeps_to_its_bounds(app: Any, services: Any) -> None:
    client = log_in(app)
    form = {"name": "shipper", "role": "analyst", "scope": ["ingest"], "sources": "web, app", "days": "30"}
    page = client.post("/settings/tokens", data=form).text
    token = re.findall(r"tl_[A-Za-z0-9_-]{43}", page)[0]
    assert token not in client.get("/settings/tokens").text
    headers = {"Authorization": f"Bearer {token}"}
    api = app.test_client()
    assert api.post("/api/v1/ingest?source=web", data="a\n", headers=headers).status_code == 202
    assert api.post("/api/v1/ingest?source=auth", data="a\n", headers=headers).status_code == 403
    assert api.get("/api/v1/events", headers=headers).status_code == 403
    [view] = services.store.tokens()
    assert client.post("/settings/tokens/revoke", data={"token": view.id}).status_code == 303
    assert api.post("/api/v1/ingest?source=web", data="a\n", headers=headers).status_code == 401


def test_the_audit_page_shows_what_happened_and_checks_the_chain(app: Any, services: Any) -> None:
    client = log_in(app)
    services.store.audit.append("user <b>eve</b>", "192.0.2.1", "refused", "\x1b[2J<script>", {"a": "b"})
    page = client.get("/settings/audit?verify=1").text
    assert "The chain holds" in page
    assert "&lt;b&gt;eve" in page
    assert "<script>" not in page
    assert "\x1b" not in page
    assert client.get("/settings/audit.ndjson").text.count("\n") == len(services.store.audit.page())


def test_a_link_that_is_pasted_somewhere_says_the_kind_of_page_and_nothing_else(app: Any) -> None:
    person(app)
    crawler = app.test_client()
    for path, words in (("/incidents/7", "An incident"), ("/events?q=user:secret", "A search of events"), ("/", "")):
        page = crawler.get(path, follow_redirects=True).text
        card = dict(re.findall(r'<meta property="og:(\w+)" content="([^"]*)">', page))
        assert card["title"] == (f"{words} · ThreatLens" if words else "ThreatLens")
        assert "secret" not in "".join(card.values())
        assert "secret" not in page.partition("</head>")[0]


def test_a_page_that_counts_anew_keeps_nobody_logged_in(app: Any, services: Any) -> None:
    client = log_in(app)
    user = services.store.user_named("an-admin")
    client.get("/events")
    (before,) = services.store.sessions_of(user.id)
    client.get("/events/survey", headers={"X-By-Itself": "1"})
    assert services.store.sessions_of(user.id) == [before]
    client.get("/events/survey")
    assert services.store.sessions_of(user.id)[0].seen_at > before.seen_at
