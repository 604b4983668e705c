"""The reference for latency and sockets: follow one file by inotify, send each piece to every TCP client as it is.

Run: python -m benchmarks.bare_feed FILE CLIENTS; prints its port, then waits for that many clients. Nothing is decoded,
stored or framed: no product can be quicker in this language.
"""

from __future__ import annotations

import os
import socket
import sys

from inotify_simple import INotify, flags


def main() -> None:
    path, count = sys.argv[1], int(sys.argv[2])
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server, INotify() as inotify:
        print(server.getsockname()[1], flush=True)
        clients = [server.accept()[0] for _ in range(count)]
        with open(path, "rb", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            inotify.add_watch(path, flags.MODIFY)
            for client in clients:
                client.sendall(b"ready\n")
            while inotify.read():
                piece = file.read()
                for client in clients:
                    client.sendall(piece)


if __name__ == "__main__":
    main()
