#!/usr/bin/env bash
# s3fs 2026.9.0 with its own choice of aiobotocore (seen 2026-11-28).
#
# `rm` of a list of keys sends one DeleteObjects request, in quiet mode: S3 answers with status 200 and names in the body
# only the keys that it did not delete, and why (`<Error>`: AccessDenied for a locked or forbidden object, InternalError).
# s3fs does not look there: `rm` returns the same empty list whether all or none are gone. `rm_file` of one key raises
# PermissionError for the same object.
# Who is hurt: whoever removes what a run left over, or a data set that must go, under a policy or a lock: the objects
# stay, are paid for and are read by the next glob. Remedy: list again afterwards, or call `delete_objects` of the client
# and read `Errors`.
#
# Output seen:
#   rm of a list: returned []; the server's answer named b: AccessDenied
#   rm_file of b: PermissionError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet s3fs==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import s3fs

DENIED = "<Code>AccessDenied</Code><Message>Access Denied</Message>"
ANSWER = (
    '<?xml version="1.0" encoding="UTF-8"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    f"<Error><Key>b</Key>{DENIED}</Error></DeleteResult>"
)
asked = []


class Server(BaseHTTPRequestHandler):
    """Answers as S3 does where one of two keys may not be deleted."""

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "1")
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 00:00:00 GMT")
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert "<Quiet>true</Quiet>" in body
        asked.append([key for key in ("a", "b") if f"<Key>{key}</Key>" in body])
        self.answer(200, ANSWER)

    def do_DELETE(self):
        self.answer(403, f"<Error>{DENIED}</Error>")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
system = s3fs.S3FileSystem(
    key="key", secret="secret", endpoint_url=f"http://127.0.0.1:{server.server_port}",
    config_kwargs={"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 1}},
)
returned = system.rm(["bucket/a", "bucket/b"])
print(f"rm of a list: returned {returned}; the server's answer named b: AccessDenied")
try:
    system.rm_file("bucket/b")
    single = "returned"
except PermissionError as error:
    single = type(error).__name__
print(f"rm_file of b: {single}")
assert returned == [] and asked == [["a", "b"]] and single == "PermissionError"
PY
