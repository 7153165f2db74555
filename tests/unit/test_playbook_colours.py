"""The dark theme is worked out from the site's own style sheets."""

from __future__ import annotations

import pytest

from tasks.agents.playbooks.dark_mode import colours, stylesheet, values


def dark(*styles: str, is_retry: bool = False) -> str:
    return values.values(styles, is_retry=is_retry)["rules"]


def brightness(text: str) -> float:
    colour = colours.parse(text)
    assert colour is not None
    return 0.2126 * colour.red + 0.7152 * colour.green + 0.0722 * colour.blue


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("#fff", "#ffffff"),
        ("#1E90FF", "#1e90ff"),
        ("#0008", "#00000088"),
        ("rgb(255, 0, 51)", "#ff0033"),
        ("rgb(255 0 51 / 50%)", "#ff003380"),
        ("rgba(0,0,0,.2)", "#00000033"),
        ("hsl(120, 100%, 25%)", "#008000"),
        ("hsl(210deg 50% 40%)", "#336699"),
        ("whitesmoke", "#f5f5f5"),
    ],
)
def test_a_colour_is_read_in_every_usual_notation(text, shown):
    assert str(colours.parse(text)) == shown


@pytest.mark.parametrize("text", ["rgb(from red r g b)", "hsl(x 1% 2%)", "rgb()", "hsl()"])
def test_what_is_no_plain_colour_is_left_alone(text):
    assert colours.parse(text) is None
    assert colours.recolour(f"1px solid {text}", colours.line) == f"1px solid {text}"


@pytest.mark.parametrize("code", ["#000000", "#8f3b22", "#3b82f6", "#ffffff", "#7f7f7f"])
def test_a_lightness_that_is_kept_keeps_the_colour(code):
    assert colours.recolour(code, lambda light: light) == code


def test_a_light_background_becomes_dark_and_a_dark_one_stays():
    assert brightness(colours.recolour("#fdfdfd", colours.surface)) < 0.15
    assert colours.recolour("#1b2a41", colours.surface) == "#1b2a41"


def test_dark_text_becomes_light_and_light_text_stays():
    assert brightness(colours.recolour("#222222", colours.ink)) > 0.75
    assert colours.recolour("#fafafa", colours.ink) == "#fafafa"


@pytest.mark.parametrize("ink", ["#000", "#333", "#1a0dab", "#8f3b22", "#666", "#999", "#00f"])
@pytest.mark.parametrize("ground", ["#fff", "#f4eee4", "#eee"])
def test_text_on_a_light_ground_stays_readable_in_the_dark(ink, ground):
    light = _luminance(colours.recolour(ink, colours.ink))
    dark_ground = _luminance(colours.recolour(ground, colours.surface))
    assert (light + 0.05) / (dark_ground + 0.05) >= 4.5


def test_custom_properties_are_overridden_by_what_they_paint():
    rules = dark(":root{--bg:#fff;--fg:#222}body{background:var(--bg);color:var(--fg)}")
    assert rules.startswith("html[data-theme=dark]{--bg:#")
    assert "body" not in rules


def test_a_property_that_paints_nothing_is_left_alone():
    assert "--unused" not in dark(":root{--unused:#fff;--shadow-colour:#000}")


def test_a_property_is_followed_through_another():
    rules = dark(":root{--white:#fff;--bg:var(--white)}body{background:var(--bg)}")
    assert "--white:#" in rules


def test_a_property_for_text_and_background_is_split_where_it_is_a_background():
    rules = dark(":root{--ink:#222}body{color:var(--ink)}footer{background:var(--ink)}")
    assert "html[data-theme=dark] footer{background:#222222}" in rules
    assert brightness(rules.split("--ink:")[1][:7]) > 0.75


def test_plain_colours_are_overridden_rule_by_rule():
    rules = dark("body{background:white;color:#333}.note,h1>a{border:1px solid #ddd}")
    assert "html[data-theme=dark] body{background:#" in rules
    assert "html[data-theme=dark] .note,html[data-theme=dark] h1>a{border:1px solid #" in rules


def test_a_site_without_colours_gets_a_dark_page():
    assert dark() == (
        "html[data-theme=dark] body{background-color:#17181c}\n"
        "html[data-theme=dark] body{color:#e6e4df}"
    )


def test_rules_under_a_condition_are_not_taken_for_the_page():
    assert "print" not in dark("@media print{.print{color:#000}}body{color:#111;background:#fff}")


def test_a_huge_style_sheet_leaves_only_the_page_itself():
    css = "body{background:#fff;color:#000}" + "".join(
        f".button-number-{number}{{color:#123456}}" for number in range(1000)
    )
    assert dark(css).count("\n") == 0


@pytest.mark.parametrize(
    "css",
    [
        "a[title='</style><script>alert(1)</script>']{color:#000}",
        "a{color:#000;border-color:{{ secret }} #fff}",
        "a[title='{% include x %}']{color:#000}",
        "a\\3c b{color:#000}",
        "a{color:#000 ${x}}",
        "a{background:#fff url(https://example.invalid/x)}",
    ],
)
def test_nothing_that_could_leave_the_style_element_is_copied(css):
    lines = dark(css).split("\n")
    assert all(stylesheet.is_plain(line.partition("{")[0]) for line in lines)
    assert not any(sign in dark(css) for sign in ("<", "{{", "{%", "\\", "url"))


def test_a_further_try_is_more_forceful():
    rules = dark("body{background:#fff;color:#000}", is_retry=True)
    assert rules.count("!important") >= 4
    assert "!important!important" not in dark("p{color:#000!important}", is_retry=True)


def _luminance(text: str) -> float:
    colour = colours.parse(text)
    assert colour is not None
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
