"""The colours of the dark theme, worked out from the style sheets that the site has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from . import colours, stylesheet

ROOT = "html[data-theme=dark]"
GROUND, TEXT = "#17181c", "#e6e4df"
MAX_RULES_BYTES = 16_000
_VAR = re.compile(r"var\(\s*(--[\w-]+)[^()]*\)")
_PAGE = {"html", "body", ":root"}
_FORCED = (
    f"{ROOT} :is(header,nav,main,section,article,aside,footer,div,form,table,tr,th,td,ul,ol,li,dl,"
    "dt,dd,p,h1,h2,h3,h4,h5,h6,span,label,blockquote,figcaption)"
    "{background-color:transparent!important;color:inherit!important}"
)

Shade = Callable[[float], float]
Roles = Mapping[str, frozenset[str]]
SHADES: Mapping[str, Shade] = {
    "ink": colours.ink,
    "surface": colours.surface,
    "line": colours.line,
}


def values(styles: Sequence[str], *, is_retry: bool) -> dict[str, str]:
    """Return what head.html needs: the rules, `!important` on a further try."""
    sheet = [rule for css in styles for rule in stylesheet.rules(css)]
    roles = _roles(sheet)
    lines = _dark_rules(sheet, roles)
    if sum(len(line) for line in lines) > MAX_RULES_BYTES:
        lines = _dark_rules([rule for rule in sheet if _PAGE & set(rule.selectors)], roles)
    lines += _page_rules(sheet, roles)
    if is_retry:
        lines = [re.sub(r"(?:!important)?([;}])", r"!important\1", line) for line in lines]
        lines += [f"{ROOT},{ROOT} body{{background:{GROUND}!important;color:{TEXT}!important}}"]
        lines += [_FORCED]
    return {"rules": "\n".join(lines)}


def _roles(sheet: Sequence[stylesheet.Rule]) -> Roles:
    """Return what each custom property is used for, directly or through another one."""
    roles: dict[str, frozenset[str]] = {}
    declarations = [entry for rule in sheet for entry in rule.declarations]
    for _ in range(3):
        for name, value in declarations:
            role = _role(name)
            given = roles.get(name, frozenset()) if role is None else frozenset([role])
            for used in _VAR.findall(value):
                roles[used] = roles.get(used, frozenset()) | given
    return roles


def _role(name: str) -> str | None:
    if name.startswith("--"):
        return None
    if name.startswith("background"):
        return "surface"
    if name.startswith(("border", "outline", "column-rule")):
        return "line"
    return "ink" if name in {"color", "fill", "stroke", "caret-color"} else None


def _dark_rules(sheet: Sequence[stylesheet.Rule], roles: Roles) -> list[str]:
    """Return the site's own rules with dark colours, in their order, each on a line."""
    known = {
        name: value
        for rule in sheet
        for name, value in rule.declarations
        if name.startswith("--") and colours.COLOUR.fullmatch(value)
    }
    lines = []
    for rule in sheet:
        changed = [
            f"{name}:{dark}"
            for name, value in rule.declarations
            if (dark := _dark_value(name, value, roles, known)) != value
        ]
        line = ",".join(map(_scoped, rule.selectors)) + "{" + ";".join(changed) + "}"
        if changed and all(map(stylesheet.is_plain, (*rule.selectors, *changed))):
            lines.append(line)
    return lines


def _dark_value(name: str, value: str, roles: Roles, known: Mapping[str, str]) -> str:
    role = _role(name)
    if name.startswith("--") and "shadow" not in name:
        used = roles.get(name, frozenset())
        role = next((role for role in SHADES if role in used), None)
    if role is None or "url(" in value:
        return value
    if role == "surface":
        value = _VAR.sub(lambda match: _as_surface(match, roles, known), value)
    return colours.recolour(value, SHADES[role])


def _as_surface(match: re.Match[str], roles: Roles, known: Mapping[str, str]) -> str:
    """Return the colour itself where a property paints both text and background.

    Such a property is turned into a colour for text, which would be no background.
    """
    is_both = {"ink", "surface"} <= roles.get(match[1], frozenset())
    return known.get(match[1], match[0]) if is_both else match[0]


def _scoped(selector: str) -> str:
    """Return the selector for the dark page only."""
    inner = re.sub(r"^(?::root|html)(?![\w-])", "", selector)
    return ROOT + inner if inner != selector else f"{ROOT} {selector}"


def _page_rules(sheet: Sequence[stylesheet.Rule], roles: Roles) -> list[str]:
    """Return rules for the page's own background and text where the site names none."""
    named = {
        _role(name)
        for rule in sheet
        if _PAGE & set(rule.selectors)
        for name, value in rule.declarations
        if colours.COLOUR.search(value) or _VAR.search(value)
    }
    lines = []
    if "surface" not in named:
        lines.append(f"{ROOT} body{{background-color:{GROUND}}}")
    if "ink" not in named:
        lines.append(f"{ROOT} body{{color:{TEXT}}}")
    return lines
