"""Git's own server (`git http-backend`), and dulwich's, on loopback."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server


class GitServer:
    """Serves the repositories of a folder as a host does; counts, and can be told to differ."""

    def __init__(self, root: Path) -> None:
        self.paths: list[str] = []
        self.authorizations: list[str | None] = []
        self.wanted = ""
        """What the header Authorization must be; empty for no matter what."""
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """What to answer instead, by the start of a path."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                return

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                outer.paths.append(self.path)
                given = self.headers.get("authorization")
                outer.authorizations.append(given)
                for start, instead in outer.answers.items():
                    if self.path.startswith(start):
                        return self.send(*instead)
                if outer.wanted and given != outer.wanted:
                    return self.send(401, {"WWW-Authenticate": "Basic"}, b"")
                return self.send(*self.backend(body))

            def backend(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                path, _, query = self.path.partition("?")
                env = {
                    "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "PATH_INFO": path,
                    "GIT_HTTP_EXPORT_ALL": "1", "QUERY_STRING": query, "REMOTE_ADDR": "127.0.0.1",
                    "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
                    "CONTENT_TYPE": self.headers.get("content-type", ""),
                    "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
                }  # fmt: skip
                done = subprocess.run(
                    ["git", "http-backend"], input=body, env=env, capture_output=True, check=False
                )
                head, _, rest = done.stdout.partition(b"\r\n\r\n")
                named = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                return int(named.pop("Status", "200")[:3]), named, rest

            def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815  (http.server's)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serve_git(root: Path) -> Iterator[GitServer]:
    """Serve the repositories below a folder by git's own server."""
    server = GitServer(root)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def serve_dulwich(repo: Path) -> Iterator[str]:
    """Serve one repository by dulwich's server, which speaks the first version of the protocol."""
    from dulwich.repo import Repo
    from dulwich.server import DictBackend
    from dulwich.web import WSGIRequestHandlerLogger, make_wsgi_chain

    class Quiet(WSGIRequestHandlerLogger):
        def log_message(self, *_: object) -> None:
            return

    repositories: dict[str, Any] = {"/": Repo(str(repo))}
    app = make_wsgi_chain(DictBackend(repositories))
    server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
