"""Fetching over HTTP from a server of our own: what is the row's, what is the server's, and where it may lead."""

import http.server
import threading
import time
from collections import Counter

import pytest

from pipeline.errors import RowError, UnitError
from pipeline.shards.links import http_fetch
from pipeline.shards.links.http_fetch import fetch
from pipeline.shards.links.linked_images import ImageLinks
from pipeline.shards.links.url_rules import UrlRules

BODY = b"an image" * 100


class Answers(http.server.BaseHTTPRequestHandler):
    """`/N` answers status N; `/N/M` answers N the first M times, then the body."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        seen, server = self.path, self.server
        server.seen[seen] += 1
        parts = seen.partition("?")[0].strip("/").split("/")
        status = int(parts[0])
        if len(parts) > 1 and parts[1].isdigit() and server.seen[seen] > int(parts[1]):
            status = 200
        self.send_response(status)
        for name, value in server.headers.get(seen, {}).items():
            self.send_header(name, value)
        body = BODY if status == 200 else b""
        self.send_header("Content-Length", str(len(body) + server.short.get(seen, 0)))
        self.end_headers()
        for byte in server.drips.get(seen, ()):
            self.wfile.write(byte)
            time.sleep(0.02)
        self.wfile.write(body[len(server.drips.get(seen, ())) :])
        if server.short.get(seen):
            self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http_fetch, "FIRST_WAIT_S", 0.001)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as answering:
        answering.seen, answering.headers, answering.short, answering.drips = Counter(), {}, {}, {}
        answering.address = f"http://127.0.0.1:{answering.server_address[1]}"
        thread = threading.Thread(target=answering.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield answering
        answering.shutdown()
        thread.join()


def get(server, path, limit=10_000, rules=None):
    return fetch(server.address + path, UrlRules(rules or (server.address,)), limit)


def code(answer):
    return answer.code if isinstance(answer, RowError) else answer


def test_a_file(server):
    assert get(server, "/200") == BODY
    assert get(server, "/200?x=1") == BODY


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_gone_is_the_rows(server, status):
    assert code(get(server, f"/{status}")) == "missing_image"
    assert server.seen[f"/{status}"] == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_and_then_it_is_the_unit(server, status):
    assert get(server, f"/{status}/2") == BODY
    assert server.seen[f"/{status}/2"] == 3
    with pytest.raises(UnitError, match=f"answers {status}, 5 times"):
        get(server, f"/{status}")
    assert server.seen[f"/{status}"] == http_fetch.ATTEMPTS


@pytest.mark.parametrize("status", [400, 401, 403, 418, 206])
def test_other_answers_are_the_units_at_once(server, status):
    with pytest.raises(UnitError, match=f"answers {status}"):
        get(server, f"/{status}")
    assert server.seen[f"/{status}"] == 1


def test_a_server_says_how_long_to_wait(server, monkeypatch):
    server.headers["/429/1"] = {"Retry-After": "1"}
    began = time.monotonic()
    assert get(server, "/429/1") == BODY
    assert time.monotonic() - began >= 1
    monkeypatch.setattr(http_fetch, "LONGEST_WAIT_S", 0.01)
    server.headers["/503/1"] = {"Retry-After": "Fri, 31 Dec 2199 23:59:59 GMT"}
    assert get(server, "/503/1") == BODY


def test_a_body_that_is_cut_off_is_the_servers(server):
    server.short["/200"] = 7
    with pytest.raises(UnitError, match="cannot be fetched"):
        get(server, "/200")


def test_a_refused_connection_is_the_servers(monkeypatch):
    monkeypatch.setattr(http_fetch, "FIRST_WAIT_S", 0.001)
    with pytest.raises(UnitError, match="cannot be fetched"):
        fetch("http://127.0.0.1:9/1.png", UrlRules(("127.0.0.1",)), 100)


def test_a_body_is_bounded(server):
    assert code(get(server, "/200", limit=len(BODY))) == BODY
    assert code(get(server, "/200", limit=len(BODY) - 1)) == "too_large"


def test_a_body_that_drips_has_its_time(server, monkeypatch):
    monkeypatch.setattr(http_fetch, "MAX_SECONDS", 0.05)
    monkeypatch.setattr(http_fetch, "ATTEMPTS", 1)
    server.drips["/200"] = [b"x"] * 8
    with pytest.raises(UnitError, match="not whole after"):
        get(server, "/200")
    assert get(server, "/200?x=1") == BODY


def test_a_host_that_there_cannot_be_is_the_rows():
    for host in ("a" * 70, "a..b"):
        assert (
            code(fetch(f"http://{host}.example.org/1.png", UrlRules(("http://*.example.org/",)), 100)) == "path_refused"
        )


def test_redirects_are_checked_as_urls_are(server):
    port = server.server_address[1]
    server.headers |= {
        "/302": {"Location": "/200"},
        "/301": {"Location": f"http://localhost:{port}/200"},
        "/307": {"Location": "file:///proc/self/environ"},
        "/308": {"Location": "/308"},
    }
    assert get(server, "/302") == BODY
    assert code(get(server, "/301")) == "path_refused"
    assert get(server, "/301", rules=(server.address, "localhost")) == BODY
    assert code(get(server, "/307")) == "path_refused"
    with pytest.raises(UnitError, match="redirects"):
        get(server, "/308")


def test_a_name_that_leads_to_this_machine_makes_no_request(server):
    port = server.server_address[1]
    answer = fetch(f"http://localhost:{port}/200", UrlRules((f"http://*:{port}/",)), 10_000)
    assert code(answer) == "path_refused"
    assert "only a rule with that address" in str(answer)
    assert not server.seen


def test_the_rest_of_a_window_is_left_when_a_server_fails(server):
    names = [f"{server.address}/503?{row}" for row in range(400)]
    links = ImageLinks(urls=(server.address,))
    with pytest.raises(UnitError):
        links.read_all(names, "/nowhere")
    assert len(server.seen) < 100
    assert links.read_all([f"{server.address}/200?{row}" for row in range(9)], "/nowhere") == [BODY] * 9
