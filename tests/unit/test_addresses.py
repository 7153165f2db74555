"""Which address a deployment may go to, and which it needs for itself."""

from __future__ import annotations

import pytest

from tasks import addresses

SHOP = "https://staging.shop.example"
PREVIEWS = "https://*.preview.shop.example:8443"


@pytest.mark.parametrize(
    ("url", "patterns"),
    [
        ("https://staging.shop.example/", [SHOP]),
        ("https://STAGING.shop.example:443/a/b?c=d", [SHOP]),
        ("https://x.preview.shop.example:8443/", [SHOP, PREVIEWS]),
        ("http://127.0.0.1:9000", ["http://127.0.0.1:9000/"]),
    ],
)
def test_a_url_at_an_allowed_origin_is_allowed(url, patterns):
    assert addresses.is_allowed(url, patterns)


@pytest.mark.parametrize(
    ("url", "patterns"),
    [
        ("http://staging.shop.example/", [SHOP]),
        ("https://staging.shop.example:444/", [SHOP]),
        ("https://staging.shop.example.evil.example/", [SHOP]),
        ("https://evil.example/https://staging.shop.example", [SHOP]),
        ("https://staging.shop.example@evil.example/", [SHOP]),
        ("https://a.b.preview.shop.example:8443/", [PREVIEWS]),
        ("https://preview.shop.example:8443/", [PREVIEWS]),
        ("https://x.preview.shop.example/", [PREVIEWS]),
        ("https://xpreview.shop.example:8443/", [PREVIEWS]),
        ("https://staging.shop.example/", []),
    ],
)
def test_a_url_anywhere_else_is_not(url, patterns):
    assert not addresses.is_allowed(url, patterns)


@pytest.mark.parametrize("text", ["", "shop", "ftp://a.b", "https://a.b/path", "https://*", "*"])
def test_what_is_no_origin_is_refused_with_how_to_write_one(text):
    with pytest.raises(ValueError, match=r"write it like https://staging\.shop\.example"):
        addresses.pattern_of(text)


@pytest.mark.parametrize(
    ("wanted", "patterns", "known", "needed"),
    [
        (f"{SHOP}/sale", [SHOP, PREVIEWS], f"{SHOP}/sale", [f"{SHOP}:443"]),
        ("", [SHOP], f"{SHOP}/", [f"{SHOP}:443"]),
        ("", [PREVIEWS], "", [PREVIEWS]),
        ("", [SHOP, PREVIEWS], "", [PREVIEWS, f"{SHOP}:443"]),
    ],
)
def test_a_deployment_needs_the_address_that_is_known_or_else_all_of_them(
    wanted, patterns, known, needed
):
    assert addresses.known_url(wanted, patterns) == known
    assert addresses.addresses_of(wanted, patterns) == needed


def test_two_ways_to_write_an_origin_need_the_same_address():
    written = ["https://Shop.example", "https://shop.example:443/", "https://shop.example/deep?x"]
    assert len({tuple(addresses.addresses_of(url, [SHOP])) for url in written}) == 1


def test_paths_are_appended_to_a_url_without_its_query():
    assert addresses.base_url_of("https://shop.example/app/?x=1#y") == "https://shop.example/app"


def test_a_host_that_no_network_knows_is_no_address():
    with pytest.raises(ValueError, match="not an http"):
        addresses.origin_of(f"https://{'a' * 254}/")


@pytest.mark.parametrize(
    ("one", "other", "is_so"),
    [
        ("https://a.shop.example:443", "https://a.shop.example:443", True),
        ("https://*.shop.example:443", "https://a.shop.example:443", True),
        ("https://*.shop.example:443", "https://a.b.shop.example:443", False),
        ("https://*.shop.example:443", "https://shop.example:443", False),
        ("https://*.shop.example:443", "http://a.shop.example:80", False),
        ("https://a.shop.example:443", "https://b.shop.example:443", False),
    ],
)
def test_addresses_overlap_where_a_star_stands_for_a_label_of_the_other(one, other, is_so):
    assert addresses.overlap(one, other) is is_so
    assert addresses.overlap(other, one) is is_so
