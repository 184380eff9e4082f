"""Rules of URLs: what each covers, what each resolves to, and what is no rule."""

import pytest

from pipeline.shards.links.url_rules import UrlRules, bad_rule

COVERED = [
    ("https://images.example.org/cats/", "https://images.example.org/cats/1.png"),
    ("https://images.example.org/cats", "https://images.example.org/cats/1.png?size=2"),
    ("https://images.example.org", "https://IMAGES.example.org:443/a b.png".replace(" ", "%20")),
    ("https://*.example.org/", "https://a.b.example.org/1.png"),
    ("http://*/", "http://anywhere.net/1.png"),
    ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/1.png"),
    ("http://[::1]:8000/", "http://[::1]:8000/1.png"),
    ("images.example.org", "http://images.example.org:8080/1.png"),
    ("images.example.org/cats", "https://images.example.org/cats/1.png"),
    ("s3://bucket/prefix", "s3://bucket/prefix/1.png"),
]
NOT_COVERED = [
    ("https://images.example.org/cats/", "https://images.example.org/catsanddogs/1.png"),
    ("https://images.example.org/cats/", "https://images.example.org/cats/../dogs/1.png"),
    ("https://images.example.org/cats/", "https://images.example.org/cats/%2e%2e/dogs/1.png"),
    ("https://images.example.org/cats/", "https://images.example.org/cats/%252e%252e/dogs/1.png"),
    ("https://images.example.org/", "http://images.example.org/1.png"),
    ("https://images.example.org/", "https://images.example.org:8443/1.png"),
    ("https://images.example.org/", "https://images.example.org.evil.net/1.png"),
    ("https://images.example.org/", "https://images.example.org@evil.net/1.png"),
    ("https://images.example.org/", "https://evil.net\\@images.example.org/1.png"),
    ("https://images.example.org/", "https://images.example.org/1\n.png"),
    ("https://*.example.org/", "https://example.org/1.png"),
    ("https://*.example.org/", "https://evilexample.org/1.png"),
    ("s3://bucket/prefix", "s3://bucket/prefixes/1.png"),
    ("s3://bucket/", "s3://Bucket/1.png"),
    ("s3://bucket/", "zip://a::s3://bucket/1.zip"),
    ("http://127.0.0.1:8000/", "http://127.0.0.1:8001/1.png"),
    ("http://127.0.0.1:8000/", "http://2130706433:8000/1.png"),
]


@pytest.mark.parametrize(("rule", "url"), COVERED)
def test_what_a_rule_covers(rule, url):
    assert bad_rule(rule) is None
    assert UrlRules((rule,)).refusal(url) is None
    assert UrlRules(()).refusal(url) is not None


@pytest.mark.parametrize(("rule", "url"), NOT_COVERED)
def test_what_a_rule_does_not_cover(rule, url):
    assert bad_rule(rule) is None
    assert UrlRules((rule,)).refusal(url) is not None


INNER = ["127.0.0.1", "::1", "169.254.169.254", "fe80::1%2", "fd00:ec2::254", "100.100.100.200", "0.0.0.0"]
MAPPED = ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "168.63.129.16", "224.0.0.1"]


@pytest.mark.parametrize("address", INNER + MAPPED)
@pytest.mark.parametrize("rule", ["http://images.example.org/", "http://*/", "images.example.org"])
def test_no_name_leads_to_this_machine(rule, address):
    assert "leads to" in UrlRules((rule,)).refuses_address("http://images.example.org/1.png", address)


def test_private_addresses_need_a_whole_host():
    url = "http://images.example.org/1.png"
    assert UrlRules(("http://images.example.org/",)).refuses_address(url, "10.0.0.8") is None
    assert "private" in UrlRules(("http://*.example.org/",)).refuses_address(url, "10.0.0.8")
    assert UrlRules(("http://*.example.org/",)).refuses_address(url, "8.8.8.8") is None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.8", "169.254.169.254", "::1"])
def test_a_manifest_leads_nowhere_inside_this_network_whatever_it_names(address):
    url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
    for rule in (url, "http://*/"):
        assert "no public address" in UrlRules((rule,), public_only=True).refuses_address(f"{url}1.png", address)
    assert UrlRules(("http://*/",), public_only=True).refuses_address("http://a.example/1.png", "8.8.8.8") is None


@pytest.mark.parametrize("named", ["http://127.0.0.1/", "http://localhost/", "http://169.254.169.254/", "127.0.0.1"])
def test_an_address_that_is_named(named):
    host = named.removeprefix("http://").rstrip("/")
    address = "127.0.0.1" if host == "localhost" else host
    assert UrlRules((named,)).refuses_address(f"http://{host}/1.png", address) is None


@pytest.mark.parametrize(
    "text", ["", "/", "file:///tmp", "http://", "https://a.*.org/", "http://a/?b", "a b", "true://"]
)
def test_no_rules(text):
    assert bad_rule(text) is not None
