"""Fetching one file over HTTP: from addresses that a recipe allows, in bounded size and time, with retries.

What an answer means for the row and the unit:

    answer                                             is
    ─────────────────────────────────────────────────  ──────────────────────────────────────────────────────────────
    404, 410                                           the row's fault: RowError `missing_image`
    a URL or redirect that the recipe does not allow   the row's fault: RowError `path_refused`
    larger than the bound                              the row's fault: RowError `too_large`
    408, 425, 429, 5xx; refused, cut off or timed out  tried again, then UnitError: the next run makes the unit again
    everything else (401, 403, ...)                    UnitError at once
    ─────────────────────────────────────────────────  ──────────────────────────────────────────────────────────────

A name is resolved once a request and the connection goes to the address that was checked, so a name that answers
differently the second time leads nowhere. Proxies are not used: one would resolve names itself.
"""

import email.utils
import functools
import socket
import time
from urllib.parse import SplitResult, urljoin

import urllib3

from pipeline.errors import RowError, UnitError
from pipeline.messages import error_line
from pipeline.shards.links.url_rules import UrlRules, host_of, port_of, split

ATTEMPTS = 5
FIRST_WAIT_S = 0.5
"""Seconds before the second attempt; each further wait is twice as long."""
LONGEST_WAIT_S = 60.0
"""Longest wait that a server may ask for by Retry-After."""
MAX_REDIRECTS = 5
TIMEOUT = urllib3.Timeout(connect=10.0, read=30.0)
MAX_SECONDS = 300.0
"""Longest time for one body, however slowly it arrives."""
_CHUNK = 1 << 18
_AGAIN = (408, 425, 429)
_GONE = (404, 410)
_MOVED = (301, 302, 303, 307, 308)
_HEADERS = {"User-Agent": "palimpsest", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}


class _BusyError(Exception):
    """An answer that may change if the request is repeated later."""

    def __init__(self, said: str, wait_s: float = 0.0) -> None:
        super().__init__(said)
        self.wait_s = wait_s


def fetch(url: str, rules: UrlRules, max_bytes: int) -> bytes | RowError:
    """Return the bytes of a file, or the error of the row, by the table above.

    Raises:
        UnitError: the server is at fault.
    """
    wait_s = FIRST_WAIT_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _follow(url, rules, max_bytes)
        except _BusyError as busy:
            if attempt == ATTEMPTS:
                raise UnitError(
                    f"{url}: {busy}, {ATTEMPTS} times; the same command makes the unit again when it answers"
                ) from None
            time.sleep(min(max(wait_s, busy.wait_s), LONGEST_WAIT_S))
            wait_s *= 2
    raise AssertionError("unreachable")


def _follow(url: str, rules: UrlRules, max_bytes: int) -> bytes | RowError:
    at = url
    for _ in range(MAX_REDIRECTS + 1):
        named = url if at == url else f"{url} leads to {at}, which"
        refused = rules.refusal(at)
        if refused is not None:
            return RowError("path_refused", f"{named}: {refused}")
        answer = _request(at, named, rules, max_bytes)
        if not isinstance(answer, str):
            return answer
        at = urljoin(at, answer)
    raise UnitError(f"{url}: more than {MAX_REDIRECTS} redirects")


def _request(url: str, named: str, rules: UrlRules, max_bytes: int) -> bytes | RowError | str:
    """Return the bytes, the error of the row, or the URL of a redirect."""
    parts = split(url)
    assert parts is not None
    address = _address(url, parts, rules)
    if isinstance(address, RowError):
        return RowError(address.code, f"{named}: {address.message}")
    port = port_of(parts)
    assert port is not None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {**_HEADERS, "Host": parts.netloc.encode("idna").decode("ascii")}
    pool = _pool(parts.scheme, host_of(parts), address, port)
    try:
        response = pool.urlopen(
            "GET", target, headers=headers, redirect=False, retries=False, preload_content=False, decode_content=False,
            assert_same_host=False,
        )  # fmt: skip
        with response:
            return _answer(response, named, max_bytes)
    except urllib3.exceptions.SSLError as error:
        raise UnitError(f"{url}: no secure connection: {error}") from error
    except urllib3.exceptions.HTTPError as error:
        raise _BusyError(f"cannot be fetched: {error_line(error)}") from error


def _answer(response: urllib3.BaseHTTPResponse, named: str, max_bytes: int) -> bytes | RowError | str:
    status = response.status
    if status in _MOVED and response.headers.get("Location"):
        return response.headers["Location"]
    if status in _GONE:
        return RowError("missing_image", f"{named}: the server answers {status}")
    if status in _AGAIN or status >= 500:
        raise _BusyError(f"the server answers {status}", _asked_wait_s(response.headers.get("Retry-After")))
    if status != 200:
        raise UnitError(f"{named}: the server answers {status}, which is neither an image nor that there is none")
    data, started = bytearray(), time.monotonic()
    while chunk := response.read1(_CHUNK):  # what has come, so that the clock is looked at however slowly it comes
        data += chunk
        if len(data) > max_bytes:
            return RowError("too_large", f"{named}: more than {max_bytes} bytes (input.max_image_bytes)")
        if time.monotonic() - started > MAX_SECONDS:
            raise _BusyError(f"not whole after {MAX_SECONDS:.0f} s")
    return bytes(data)


def _address(url: str, parts: SplitResult, rules: UrlRules) -> str | RowError:
    """Return the first allowed IP address of a URL's host, or the error of the row."""
    try:
        found = socket.getaddrinfo(host_of(parts), port_of(parts), type=socket.SOCK_STREAM)
    except UnicodeError:
        return RowError("path_refused", "its host is no name that there can be")
    except OSError as error:
        raise _BusyError(f"its host cannot be found: {error}") from error
    refused = ""
    for *_, place in found:
        address = str(place[0])
        why = rules.refuses_address(url, address)
        if why is None:
            return address
        refused = why
    return RowError("path_refused", refused or "its host has no address")


@functools.lru_cache(maxsize=64)
def _pool(scheme: str, host: str, address: str, port: int) -> urllib3.HTTPConnectionPool:
    """Return a connection pool for one IP address; a certificate must be valid for `host`."""
    if scheme == "https":
        return urllib3.HTTPSConnectionPool(
            address, port, timeout=TIMEOUT, maxsize=8, server_hostname=host, assert_hostname=host
        )
    return urllib3.HTTPConnectionPool(address, port, timeout=TIMEOUT, maxsize=8)


def _asked_wait_s(text: str | None) -> float:
    """Return the seconds of a Retry-After header (a number or a date); 0 if it is neither."""
    if not text:
        return 0.0
    if text.strip().isdecimal():
        return min(float(text), LONGEST_WAIT_S)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
