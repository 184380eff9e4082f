"""Places that fail: a disk of a few MiB, and a bucket whose server is always busy."""

import contextlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Give a file system of `size` in memory at `folder`; skip the test where mounting is not allowed."""
    folder.mkdir(parents=True)
    if not _ran("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        _ran("umount", "-l", str(folder))


def remount(folder: Path, options: str) -> None:
    """Change a mounted file system: `ro`, `size=64m`."""
    assert _ran("mount", "-o", f"remount,{options}", str(folder))


def _ran(*command: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


class _Busy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # answers `Expect: 100-continue`, without which an upload waits

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b'<?xml version="1.0"?><Error><Code>ServiceUnavailable</Code><Message>too busy</Message></Error>'
        self.send_response(503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def busy_store() -> Iterator[str]:
    """Give the URL of an object store that answers 503 to everything."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
