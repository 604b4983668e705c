"""Webhook and Slack against a real HTTP server; signatures are checked by the specification's own library."""

from __future__ import annotations

import json
import threading

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from threatlens.channels import SlackNotifier, WebhookNotifier
from threatlens.channels.slack import payload as slack_payload
from threatlens.errors import ChannelError
from threatlens.outbound import Limits, OutboundClient
from threatlens.outbound_urls import Permissions

NEW, OLD = "whsec_bmV3LXNlY3JldC1vZi10ZW4tYnl0ZXM=", "whsec_b2xkLXNlY3JldC1vZi10ZW4tYnl0ZXM="


def test_a_webhook_is_verified_by_the_specifications_library(hook, client, message):
    WebhookNotifier("hook", hook.url, (NEW,), client).send(message)

    (request,) = hook.received
    document = Webhook(NEW).verify(request.body, request.headers)
    assert document["type"] == "threatlens.incident"
    assert document["data"]["count"] == 214
    assert document["data"]["title"] == message.title
    assert request.headers["webhook-id"] == request.headers["idempotency-key"] == message.key


def test_while_a_secret_changes_both_receivers_verify(hook, client, message):
    WebhookNotifier("hook", hook.url, (NEW, OLD), client).send(message)

    (request,) = hook.received
    assert Webhook(NEW).verify(request.body, request.headers) == Webhook(OLD).verify(request.body, request.headers)


def test_a_changed_body_is_not_verified(hook, client, message):
    WebhookNotifier("hook", hook.url, (NEW,), client).send(message)

    (request,) = hook.received
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(request.body.replace(b"214", b"215"), request.headers)


@pytest.mark.parametrize(
    ("status", "permanent"), [(500, False), (503, False), (429, False), (408, False), (404, True), (410, True)]
)
def test_an_answer_says_whether_trying_again_helps(hook, client, message, status, permanent):
    hook.answers = [(status, {"Retry-After": "120"})]

    with pytest.raises(ChannelError, match=str(status)) as caught:
        WebhookNotifier("hook", hook.url, (), client).send(message)

    assert caught.value.permanent is permanent
    assert caught.value.retry_after_s == 120
    assert caught.value.transcript[-1] == f"< {status}"


def test_a_redirect_is_not_followed(hook, client, message):
    hook.answers = [(302, {"Location": "http://127.0.0.1:1/"})]

    with pytest.raises(ChannelError, match="302"):
        WebhookNotifier("hook", hook.url, (), client).send(message)
    assert len(hook.received) == 1


def test_a_receiver_in_a_private_network_that_is_not_allowed_is_refused(hook, message):
    guarded = OutboundClient(Permissions)

    with pytest.raises(ChannelError) as caught:
        WebhookNotifier("hook", hook.url, (), guarded).send(message)

    assert caught.value.permanent
    assert hook.received == []


def test_a_receiver_that_is_gone_is_tried_again(client, message):
    with pytest.raises(ChannelError) as caught:
        WebhookNotifier("hook", "http://127.0.0.1:9/", (), client).send(message)

    assert not caught.value.permanent


def test_a_receiver_that_never_answers_is_left_in_time(hook, client, message):
    hook.hold = threading.Event()

    class Impatient:
        def request(self, method, url, **more):
            return client.request(method, url, **more, limits=Limits(total_s=0.2))

    with pytest.raises(ChannelError, match="in time"):
        WebhookNotifier("hook", hook.url, (), Impatient()).send(message)
    hook.hold.set()


def test_a_secret_that_is_no_secret_is_named(hook, client, message):
    with pytest.raises(ChannelError, match="whsec_") as caught:
        WebhookNotifier("hook", hook.url, ("whsec_!!!",), client).send(message)
    assert caught.value.permanent


def test_slack_gets_blocks_in_which_strangers_cannot_call_anybody(hook, client, message):
    SlackNotifier("ops", hook.url, client).send(message)

    (request,) = hook.received
    document = json.loads(request.body)
    assert document["blocks"][0]["type"] == "header"
    text = json.dumps(document, ensure_ascii=False)
    assert "@everyone" not in text
    assert document["text"].count("<") == 0
    assert text.index("What to do") < text.index("Acknowledge") < text.index("203.0.113.9")
    for block in document["blocks"]:
        for part in [block.get("text"), *block.get("fields", ())]:
            if part and part["type"] == "mrkdwn":
                assert "<" not in part["text"]


def test_slack_limits_are_kept(message):
    long = "x" * 10_000
    document = slack_payload(
        type(message)(
            key="k", kind="event", title=long, severity=9, timestamp="", text=long, facts=((long, long),) * 20,
            samples=(long,) * 9, todo=(long,) * 9, says=((long, long),),
        )
    )  # fmt: skip

    assert len(document["blocks"][0]["text"]["text"]) <= 150
    for block in document["blocks"]:
        for part in [block.get("text"), *block.get("fields", ())]:
            assert part is None or len(part["text"]) <= 3_000
        assert len(block.get("fields", ())) <= 10
