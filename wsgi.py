"""What a WSGI server loads: the app, with its engine started (or following, where another process holds the lease)."""

from threatlens import create_app

app = create_app()
app.extensions["threatlens"].background.start()
