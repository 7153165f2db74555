"""Turn the colours of a light page into those of a dark one, hue kept, in OKLab.

The matrices are those of Björn Ottosson's "A perceptual color space for image processing" (2020).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

_NAMES = (
    "white:ffffff black:000000 gray:808080 grey:808080 silver:c0c0c0 gainsboro:dcdcdc"
    " whitesmoke:f5f5f5 snow:fffafa ivory:fffff0 linen:faf0e6 beige:f5f5dc seashell:fff5ee"
    " azure:f0ffff aliceblue:f0f8ff ghostwhite:f8f8ff floralwhite:fffaf0 cornsilk:fff8dc"
    " lightgray:d3d3d3 lightgrey:d3d3d3 darkgray:a9a9a9 darkgrey:a9a9a9 dimgray:696969"
    " dimgrey:696969 slategray:708090 lavender:e6e6fa navy:000080 blue:0000ff"
    " darkblue:00008b royalblue:4169e1 steelblue:4682b4 lightblue:add8e6 teal:008080"
    " green:008000 darkgreen:006400 lightgreen:90ee90 red:ff0000 darkred:8b0000"
    " crimson:dc143c maroon:800000 purple:800080 indigo:4b0082 orange:ffa500"
    " tomato:ff6347 yellow:ffff00 lightyellow:ffffe0 gold:ffd700 pink:ffc0cb"
)
NAMED = dict(entry.split(":") for entry in _NAMES.split())
COLOUR = re.compile(
    r"#(?:[0-9a-f]{8}|[0-9a-f]{6}|[0-9a-f]{3,4})\b|\b(?:rgb|hsl)a?\([^()]*\)"
    rf"|(?<![\w#.$-])(?:{'|'.join(NAMED)})(?![\w(-])",
    re.IGNORECASE,
)


class Colour(NamedTuple):
    """Red, green, blue and opacity, each from 0 to 1."""

    red: float
    green: float
    blue: float
    alpha: float = 1.0

    def __str__(self) -> str:
        """Return #rrggbb, or #rrggbbaa where it is not opaque."""
        parts = [self.red, self.green, self.blue, *([self.alpha] if self.alpha < 1 else [])]
        return "#" + "".join(f"{round(255 * min(1, max(0, part))):02x}" for part in parts)


def parse(text: str) -> Colour | None:
    """Read a hexadecimal, rgb(), hsl() or named colour; None if it is none of these."""
    text = text.strip().lower()
    if text in NAMED:
        text = "#" + NAMED[text]
    if text.startswith("#"):
        digits = text[1:] if len(text) > 5 else "".join(digit * 2 for digit in text[1:])
        return Colour(*(int(digits[at : at + 2], 16) / 255 for at in range(0, len(digits), 2)))
    name, _, inner = text.partition("(")
    parts = re.split(r"[\s,/]+", inner.rstrip(") ").strip())
    try:
        alpha = _share(parts[3], 1) if len(parts) > 3 else 1.0
        if name.startswith("rgb"):
            return Colour(*(_share(part, 255) for part in parts[:3]), alpha)
        hue = float(parts[0].removesuffix("deg"))
        return _from_hsl(hue, _share(parts[1], 100), _share(parts[2], 100), alpha)
    except (ValueError, IndexError, TypeError):
        return None


def surface(light: float) -> float:
    """Return the lightness of a background in the dark; dark ones stay as they are."""
    return light if light < 0.5 else min(0.45, 0.19 + 0.9 * (1 - light))


def ink(light: float) -> float:
    """Return the lightness of text in the dark; light ones stay as they are."""
    return light if light > 0.65 else 0.98 - 0.42 * light


def line(light: float) -> float:
    """Return the lightness of a border in the dark."""
    return min(0.6, 0.26 + 0.9 * (1 - light)) if light >= 0.5 else 0.9 - 0.5 * light


def recolour(value: str, shade: Callable[[float], float]) -> str:
    """Return a CSS value with each of its colours at the lightness that `shade` gives it."""

    def change(match: re.Match[str]) -> str:
        colour = parse(match[0])
        if colour is None:
            return match[0]
        light, a, b = _to_oklab(colour)
        return str(_from_oklab(shade(light), a, b, colour.alpha))

    return COLOUR.sub(change, value)


def _share(text: str, whole: float) -> float:
    number = float(text.removesuffix("%"))
    return number / 100 if text.endswith("%") else number / whole


def _from_hsl(hue: float, saturation: float, light: float, alpha: float) -> Colour:
    def part(step: int) -> float:
        k = (step + hue / 30) % 12
        return light - saturation * min(light, 1 - light) * max(-1, min(k - 3, 9 - k, 1))

    return Colour(part(0), part(8), part(4), alpha)


def _to_oklab(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]
    )
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def _from_oklab(light: float, a: float, b: float, alpha: float) -> Colour:
    """Return the colour; less colourful where the screen can't show it that light or dark."""
    for _ in range(24):
        parts = _linear(light, a, b)
        if all(-0.0005 <= part <= 1.0005 for part in parts):
            break
        a, b = a * 0.9, b * 0.9
    shown = (
        12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055
        for part in (max(0.0, part) for part in parts)
    )
    return Colour(*shown, alpha)


def _linear(light: float, a: float, b: float) -> tuple[float, float, float]:
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
