"""What a WSGI server loads: the app, with its engine started (or following, where another process holds the lease)."""

import os
import sys

from threatlens import create_app
from threatlens.logs import configure
from threatlens.settings import load_settings

settings = load_settings(os.environ)
configure(sys.stderr, json=not sys.stderr.isatty(), level=settings.log_level)
app = create_app(settings)
app.extensions["threatlens"].background.start()
