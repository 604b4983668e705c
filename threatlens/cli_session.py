"""What commands work with: the settings of the environment, and the app's services without a web server."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from threatlens import create_app

if TYPE_CHECKING:
    from threatlens.settings import Settings
    from threatlens.web.context import Services


def current_settings() -> Settings:
    """Raises SettingsError."""
    from threatlens.settings import load_settings

    return load_settings(os.environ)


@contextmanager
def services() -> Iterator[Services]:
    """The services of an app in which nothing was started. Raises ThreatLensError."""
    from threatlens.logs import configure

    configure(sys.stderr, json=not sys.stderr.isatty(), level="ERROR")
    app = create_app()
    with app.app_context():
        yield cast("Services", app.extensions["threatlens"])
