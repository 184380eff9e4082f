"""Which URLs a recipe allows, and which network addresses they may lead to.

A rule is the beginning of a URL: `https://images.example.org/cats/`, `https://*.example.org/`, `s3://bucket/prefix/`.
Scheme, host and port must be equal and the path must begin with the rule's, whole folders at a time. A host alone
(`images.example.org`) stands for both of http and https at any port. What a name resolves to is checked as well, so
that no name leads a run to the machine it runs on:

    rule names                        it may lead to
    ────────────────────────────────  ─────────────────────────────────────────────────────────────
    an address, or `localhost`        that address
    a host                            public and private addresses
    hosts by a wildcard               public addresses
    ────────────────────────────────  ─────────────────────────────────────────────────────────────

Loopback, link-local, unspecified, multicast and reserved addresses, and those that cloud machines ask for their
credentials, are reached by an address rule alone.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

HTTP = ("http", "https")
_PORTS = {"http": 80, "https": 443}
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
"""Where machines of AWS, Google, Azure, Alibaba and Oracle ask for credentials: not all of them are link-local."""
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits
_ODD = re.compile(r"[\x00-\x20\x7f-\x9f\\]")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class UrlRules:
    """Prefixes of the URLs that may be opened. Can be pickled.

    `public_only`: only public addresses are allowed, since somebody else may have written the rules.
    """

    allowed: tuple[str, ...] = ()
    public_only: bool = False

    def refusal(self, url: str) -> str | None:
        """Return why a URL may not be opened; None if it may. Judges the text alone; resolves no name."""
        parts = split(url)
        if parts is None:
            return "is no plain URL (user names, control characters, `..` and backslashes are refused)"
        return None if self._matching(parts) else "is not below a URL of input.allow_urls"

    def refuses_address(self, url: str, address: str) -> str | None:
        """Return why an IP address of an allowed URL's host may not be reached; None if it may."""
        parts = split(url)
        assert parts is not None
        found = _plain(ipaddress.ip_address(address.partition("%")[0]))
        if self.public_only:
            return None if _is_public(found) else f"leads to {found}, which is no public address"
        hosts = [rule.host for rule in self._matching(parts)]
        if any(host == "localhost" or _as_address(host) is not None for host in hosts):
            return None  # named: the rule of an address matches that address alone, and `localhost` is no other's name
        if _is_inner(found):
            return f"leads to {found}, which only a rule with that address allows"
        if not found.is_global and all("*" in host for host in hosts):
            return f"leads to the private address {found}, which a rule with `*` does not allow"
        return None

    def _matching(self, parts: SplitResult) -> list["_Rule"]:
        rules = (_rule(text) for text in self.allowed)
        return [rule for rule in rules if rule is not None and rule.covers(parts)]


@dataclass(frozen=True)
class _Rule:
    """One rule, taken apart. `port` None: any."""

    schemes: tuple[str, ...]
    host: str
    port: int | None
    folder: str

    def covers(self, parts: SplitResult) -> bool:
        host = host_of(parts)
        named = host.endswith(self.host[1:]) if "*" in self.host else host == self.host
        port = self.port is None or self.port == port_of(parts)
        below = parts.path == self.folder or parts.path.startswith(self.folder + "/") or not self.folder
        return parts.scheme in self.schemes and named and port and below


def leads_inside(url: str) -> str | None:
    """Return why a URL without a rule may not be opened: it is not http(s), or its host is not public; else None.

    The host is resolved here, and again by the caller that opens the URL.

    Raises:
        OSError: the name cannot be resolved.
    """
    parts = split(url)
    if parts is None or parts.scheme not in HTTP:
        return "is no plain web address"
    for *_, place in socket.getaddrinfo(host_of(parts), port_of(parts), type=socket.SOCK_STREAM):
        found = _plain(ipaddress.ip_address(str(place[0]).partition("%")[0]))
        if not _is_public(found):
            return f"leads to {found}, which is no public address"
    return None


def bad_rule(text: str) -> str | None:
    """Return why a text is not a valid rule; None if it is."""
    rule = _rule(text)
    if rule is None or "?" in text or "#" in text:
        return "needs a host or the beginning of a URL, such as https://images.example.org/cats/"
    if rule.schemes[0] in ("file", "local"):
        return "is a local folder; put it in input.allow_paths"
    if "*" in rule.host.removeprefix("*.") and rule.host != "*":
        return "has a `*` inside its host; write https://*.example.org/ or the whole host"
    return None


def split(url: str) -> SplitResult | None:
    """Return the parts of a URL; None if it is malformed."""
    if _ODD.search(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError:
        return None
    chained = "::" in url and parts.scheme not in HTTP  # fsspec's chains of protocols; else an IPv6 address
    if not parts.scheme or not host_of(parts) or "@" in parts.netloc or chained or _climbs(parts.path):
        return None
    return parts


def host_of(parts: SplitResult) -> str:
    """Return the host of a URL in lower case; of an object store the bucket, unchanged."""
    return (parts.hostname or "").rstrip(".") if parts.scheme in HTTP else parts.netloc


def port_of(parts: SplitResult) -> int | None:
    """Return the port of a URL, by default that of its scheme; None for an object store."""
    return (parts.port or _PORTS[parts.scheme]) if parts.scheme in HTTP else None


def _rule(text: str) -> _Rule | None:
    alone = "://" not in text
    parts = split(f"http://{text}" if alone else text)
    if parts is None:
        return None
    port = parts.port if alone else port_of(parts)
    return _Rule(HTTP if alone else (parts.scheme,), host_of(parts), port, parts.path.rstrip("/"))


def _climbs(path: str) -> bool:
    """Return whether a path holds `..`, written plainly or percent-encoded."""
    texts = (path, unquote(path), unquote(unquote(path)))
    return any(part in ("..", ".") for text in texts for part in re.split(r"[/\\]", text))


def _as_address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address embeds; otherwise the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


def _is_public(address: Address) -> bool:
    return address.is_global and not _is_inner(address)


def _is_inner(address: Address) -> bool:
    return (
        address in _METADATA
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address.is_reserved
    )
