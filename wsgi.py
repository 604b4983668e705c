"""What a WSGI server loads: the app, with its engine started (or following, where another process holds the lease).

`flask --app wsgi threatlens COMMAND` loads it too, to learn that there is such a command, and then nothing is started.
"""

import os
import sys

import click

from threatlens.logs import configure

command = click.get_current_context(silent=True)  # of Flask's command line; None: a server asks
if command is not None and command.parent is None:
    from flask import Flask

    from threatlens.cli import main

    app = Flask("threatlens")  # not ours: `decode`, for one, makes no data folder
    app.cli.add_command(main)
else:
    from threatlens import create_app
    from threatlens.settings import load_settings

    settings = load_settings(os.environ)
    configure(sys.stderr, json=not sys.stderr.isatty(), level=settings.log_level)
    app = create_app(settings)
    if command is None or command.info_name == "run":
        app.extensions["threatlens"].background.start()
