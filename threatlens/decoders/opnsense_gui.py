"""The web pages of pfSense and OPNsense: who signed in, and who failed to."""

from __future__ import annotations

from threatlens.decoders.application import IP, accepted, failed
from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table

_TABLE = Table(
    {
        "/index.php:": [
            failed(
                r"/index\.php: webConfigurator authentication error for (?:user )?'(?P<user>.*)' from:? " + IP + r".*"
            ),
            failed(r"/index\.php: Web GUI authentication error for '(?P<user>.*)' from:? " + IP + r".*"),
            accepted(r"/index\.php: Successful login for user '(?P<user>.*)' from: " + IP + r".*"),
            accepted(r"/index\.php: Web GUI authentication success for '(?P<user>.*)' from " + IP + r".*"),
        ],
    }
)

DECODER = MessageDecoder(
    name="opnsense.gui",
    about="pfSense's and OPNsense's web pages: sign-ins.",
    read=_TABLE.read,
    programs=("php-fpm", "audit", "opnsense"),
)
