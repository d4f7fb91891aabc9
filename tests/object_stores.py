"""S3 on loopback, whole or failing on purpose."""

from __future__ import annotations

import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    # Bodies in chunks with a checksum behind them are more than a stand-in passes on.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


@contextmanager
def serve_s3() -> Iterator[str]:
    """Serve S3 and yield its address."""
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


OF_ONE_HOP = {"host", "expect", "connection", "accept-encoding", "transfer-encoding"}


class FaultyS3:
    """Stands before an S3 server: passes requests on, and fails some of them."""

    def __init__(self, behind: str) -> None:
        self.faults: dict[str, list[int]] = {}
        """Method → statuses to answer with, one per request; -1 as the last one repeats."""
        self.hang_s: dict[str, float] = {}
        self.seen: Counter[str] = Counter()
        self.is_away = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                return

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if outer.is_away:  # no connection outlives its server
                    self.close_connection = True
                    return
                outer.seen[self.command] += 1
                time.sleep(outer.hang_s.get(self.command, 0.0))
                status = outer.fault(self.command)
                if status:
                    code = "SlowDown" if status == 503 else "InternalError"
                    error = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
                    self.answer(status, error.encode(), {"content-type": "application/xml"})
                    return
                asked = urllib.request.Request(
                    behind + self.path, data=body or None, method=self.command,
                    headers={"content-type": "binary/octet-stream"}
                    | {k: v for k, v in self.headers.items() if k.lower() not in OF_ONE_HOP},
                )  # fmt: skip
                try:
                    with urllib.request.urlopen(asked) as found:
                        self.answer(found.status, found.read(), dict(found.headers))
                except urllib.error.HTTPError as error:
                    self.answer(error.code, error.read(), dict(error.headers))

            def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else len(body)
                self.send_header("content-length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = pass_on  # noqa: N815  (http.server's)

        self._handler = Handler
        self._serve(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _serve(self, place: Any) -> None:
        self._server = ThreadingHTTPServer(place, self._handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def leave(self) -> None:
        """Be gone: connections are refused."""
        self.is_away = True
        self.close()

    def refuse(self) -> None:
        """Answer with 503 alone."""
        self.faults = {method: [503, -1] for method in ("GET", "PUT", "HEAD", "POST", "DELETE")}

    def come_back(self) -> None:
        """Serve again, at the same address."""
        self.faults = {}
        if self.is_away:
            self.is_away = False
            self._serve(self._server.server_address)

    def fault(self, method: str) -> int:
        """Return the status to fail with; 0 passes the request on."""
        left = self.faults.get(method, [])
        if not left:
            return 0
        if len(left) == 2 and left[1] == -1:
            return left[0]
        return left.pop(0)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
