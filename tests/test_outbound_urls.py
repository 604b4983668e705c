"""Where outgoing requests may be configured to go (R33, as far as can be told without the network)."""

from __future__ import annotations

import ipaddress

import pytest

from threatlens.errors import ConfigError
from threatlens.outbound_urls import Permissions, check_url, take_apart

NOTHING = Permissions()
LOOPBACK = Permissions((ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")))
EVERYTHING = Permissions((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))

NEVER = [
    "http://169.254.169.254/latest/meta-data",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[fd00:ec2::254]/",
    "http://100.100.100.200/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://METADATA.google.internal./",
    "http://169。254。169。254/",
    "http://1⑥9.254.169.254/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "http://[ff02::1]/",
    "http://[::]/",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org:70/_x",
    "javascript:alert(1)",
    "example.org/hook",
    "//example.org/hook",
    "http://user:p@example.org/",
    "http://user@example.org/",
    "http://@example.org/",
    "http://example.org\\@127.0.0.1/",
    "http://exa mple.org/",
    "http://example.org/\r\nHost: x",
    "http://example.org/\t",
    "http:///x",
    "http://",
    "",
    "http://[::1",
    "http://example.org:99999/",
    "http://example.org:x/",
    "http://example.org:0/",
    "http://exa%6dple.org/",
    "http://a,b/",
    "http://" + "a" * 254 + "/",
    "http://" + "\u00e4" * 64 + ".example/",
]
PRIVATE = [
    "http://127.0.0.1:11434/v1",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.localhost/",
    "http://127.1/",
    "http://2130706433/",
    "http://0177.0.0.1/",
    "http://0x7f.1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://10.1.2.3/",
    "http://172.16.0.1/",
    "http://192.168.1.1:8080/",
    "http://100.64.0.1/",
    "http://[fd12::1]/",
    "http://[2002:7f00:1::]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[::ffff:0:a00:1]/",
    "http://[fec0::1]/",
    "http://198.18.0.1/",
    "http://240.0.0.1/",
]
FINE = [
    "https://hooks.example.org/tl?a=b#c",
    "http://93.184.216.34:8443/x",
    "https://[2606:4700::1111]/",
    "HTTPS://ä.example/",
]


@pytest.mark.parametrize("url", NEVER)
def test_what_may_never_be_called_is_refused_even_where_every_network_is_allowed(url):
    with pytest.raises(ConfigError):
        check_url(url, EVERYTHING)


@pytest.mark.parametrize("url", PRIVATE)
def test_a_private_address_in_any_spelling_needs_permission(url):
    with pytest.raises(ConfigError, match="allowed_private_networks"):
        check_url(url, NOTHING)


@pytest.mark.parametrize("url", FINE)
def test_public_addresses_and_names_are_fine(url):
    assert check_url(url, NOTHING) == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:11434/v1", "http://localhost/", "http://127.1/", "http://[::1]/"])
def test_an_allowed_network_may_be_reached_and_no_other(url):
    assert check_url(url, LOOPBACK) == url
    with pytest.raises(ConfigError):
        check_url("http://10.0.0.1/", LOOPBACK)


def test_a_message_never_shows_the_url():
    with pytest.raises(ConfigError) as caught:
        check_url("ftp://hooks.example.org/services/CANARY?token=CANARY", NOTHING)
    assert "CANARY" not in str(caught.value)


def test_a_public_address_is_called_on_ports_of_the_web_and_on_those_that_were_named():
    with pytest.raises(ConfigError, match="allowed_ports"):
        check_url("http://93.184.216.34:6379/", NOTHING)

    assert check_url("http://93.184.216.34:6379/", Permissions((), frozenset({6379})))


def test_a_url_goes_onto_the_wire_as_ascii_without_its_fragment():
    target = take_apart("HTTPS://B\u00fccher.Example.:8443/a b".replace(" ", "%20") + "/\u00e9?q=\u00e9&x=%2F#secret")

    assert target.origin == ("https", "xn--bcher-kva.example", 8443)
    assert target.path == "/a%20b/%C3%A9?q=%C3%A9&x=%2F"
