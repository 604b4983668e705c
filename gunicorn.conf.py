"""gunicorn's settings, read by `threatlens serve` and by a bare `gunicorn wsgi:app` alike.

An open WebSocket holds its thread, and gunicorn waits for threads when it stops: so the worker's SIGTERM tells every
socket to close first. SIGTERM ends the process within graceful_timeout; SIGKILL is always safe.
"""

import os
import signal
import sys
from http import HTTPStatus

from gunicorn.workers.gthread import ThreadWorker

from threatlens.errors import ThreatLensError
from threatlens.settings import load_settings, prepare_data_folder
from threatlens.store_schema import has_admin, migrate, no_admin_words

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until gunicorn has handlers of its own: a kill is always safe
try:
    _settings = load_settings(os.environ)
except ThreatLensError as error:
    sys.exit(f"threatlens: {error}")


class Refusal:
    """A socket on which gunicorn says no by itself: what it writes becomes a problem as the API has it.

    What is no request never reaches the app, so nobody else puts the headers on it. Its words are left out, as they
    repeat what was sent.
    """

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def sendall(self, written):
        from threatlens.web.problems import PROBLEM_TYPE, ProblemError, new_request_id, problem_text  # noqa: PLC0415
        from threatlens.web.security_headers import HEADERS  # noqa: PLC0415 - the master process does without the app

        status = int(written.split(b" ", 2)[1])
        words = "Something went wrong here." if status == 500 else "This request cannot be read."
        if status == 414:  # whatever is too long in it is a parameter that cannot be used
            status, words = 400, f"The first line of a request holds {limit_request_line:,} bytes at most."
        request_id = new_request_id()
        body = problem_text(ProblemError(status, words), request_id)
        headers = {
            **HEADERS,
            "Cache-Control": "no-store",
            "Content-Type": PROBLEM_TYPE,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Request-Id": request_id,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._inner.sendall(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode("latin-1") + body)


class Worker(ThreadWorker):
    """gunicorn's worker with threads, whose refusals carry our headers."""

    def handle_error(self, req, client, addr, exc):
        super().handle_error(req, Refusal(client), addr, exc)


bind = [_settings.bind]
workers = 1
worker_class = Worker
threads = _settings.web_threads
worker_connections = _settings.web_threads + 100
graceful_timeout = 4
timeout = 60
keepalive = 5
limit_request_line = 4094  # every filter that the pages can make fits
limit_request_fields = 100
limit_request_field_size = 8190
forwarder_headers = "SCRIPT_NAME"  # what a proxy may say we are served below; not which path is asked for (PATH_INFO)
forwarded_allow_ips = "127.0.0.1,::1"  # a reverse proxy on this machine says which scheme it was asked with
preload_app = False  # threads do not survive a fork
accesslog = None
errorlog = "-"
loglevel = "warning"
umask = 0o077
control_socket_disable = True


def on_starting(server):
    try:
        prepare_data_folder(_settings)
        migrate(_settings)
    except ThreatLensError as error:
        sys.exit(f"threatlens: {error}")
    for address in server.cfg.address:
        host = address[0] if isinstance(address, tuple) else ""
        if host and not (host.startswith("127.") or host in {"::1", "localhost"}) and not has_admin(_settings):
            sys.exit(f"threatlens: {no_admin_words(host)}")


def when_ready(server):
    if _settings.socket_path:
        os.chmod(_settings.socket_path, 0o660)  # the proxy is in our group
        print(f"ThreatLens listens on {_settings.socket_path}", flush=True)
    else:
        print(f"ThreatLens listens on http://{_settings.bind}/", flush=True)


def post_worker_init(worker):
    services = worker.wsgi.extensions["threatlens"]
    background = services.background
    link = services.setup_link()
    if link is not None:
        print(f"There is no account yet. Make the first, within an hour: {link}", flush=True)
    inner = signal.getsignal(signal.SIGTERM)

    def stop(number, frame):
        background.request_stop()
        inner(number, frame)

    signal.signal(signal.SIGTERM, stop)


def worker_exit(server, worker):
    app = getattr(worker, "wsgi", None)
    if app is not None:
        app.extensions["threatlens"].background.stop()
