"""The effective options: environment over config/chimera-daemon.yml over defaults, all typed.

Only chimera_site.settings calls `load`; everything else reads `settings.CHIMERA`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE_KEYS = {
    "database.path": "CHIMERA_DB_PATH",
    "api.host": "CHIMERA_API_HOST",
    "api.port": "CHIMERA_API_PORT",
    "executor.max_workers": "CHIMERA_MAX_WORKERS",
    "executor.poll_interval": "CHIMERA_POLL_INTERVAL",
    "executor.max_retries": "CHIMERA_MAX_RETRIES",
    "logging.level": "CHIMERA_LOG_LEVEL",
    "logging.format": "CHIMERA_LOG_FORMAT",
}


# What installing a project's dependencies may need to reach its registries; nothing else gets it.
NETWORK_NAMES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "NPM_CONFIG_REGISTRY",
)
LOG_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]


class OptionError(Exception):
    """An option has an unknown name or a value that does not fit."""


@dataclass(frozen=True)
class Options:
    """What the operator may choose; see docs/configuration.md."""

    home: Path
    db_path: Path
    database_url: str
    log_level: str
    log_format: str
    api_host: str
    api_port: int
    max_workers: int
    max_browsers: int
    poll_interval_s: float
    max_retries: int
    lease_s: float
    priority_aging_s: int
    sandbox: str
    chromium: str
    staging_domain: str
    max_deployments: int
    staging_hours: int
    keep_days: int
    keep_gb: float
    min_free_mb: int
    demo: bool
    auth: str
    share_commits: str
    network_env: Mapping[str, str]

    @property
    def shares_commits(self) -> bool:
        """Say whether tasks' commits go to the projects' remotes: where several hosts may work."""
        return self.share_commits == "on" or (
            self.share_commits == "auto" and self.database_url != ""
        )


def default_home() -> Path:
    """Return the user's data folder for Chimera."""
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "chimera"


def environment(**changes: str) -> dict[str, str]:
    """Return the environment for a child of this process that reads the same options.

    The child may have another current folder, so paths are made absolute.
    """
    paths = {
        name: str(Path(os.environ[name]).expanduser().resolve())
        for name in ("CHIMERA_HOME", "CHIMERA_DB_PATH", "CHIMERA_CONFIG")
        if os.environ.get(name)
    }
    return {**os.environ, **paths, **changes}


def load(environ: Mapping[str, str], config_file: Path | None) -> Options:
    """Read and check every option. Raises OptionError, whose text says what to do."""
    values = _from_file(config_file)
    values |= {name: value for name, value in environ.items() if name.startswith("CHIMERA_")}
    pick = _Picker(values)
    home = Path(pick.text("CHIMERA_HOME", str(default_home()))).expanduser().resolve()
    return Options(
        home=home,
        db_path=Path(pick.text("CHIMERA_DB_PATH", str(home / "tasks.db"))).expanduser().resolve(),
        database_url=pick.starting_with("CHIMERA_DATABASE_URL", ("postgres://", "postgresql://")),
        log_level=pick.one_of("CHIMERA_LOG_LEVEL", "INFO", LOG_LEVELS),
        log_format=pick.one_of("CHIMERA_LOG_FORMAT", "text", ["text", "json"]),
        api_host=pick.text("CHIMERA_API_HOST", "127.0.0.1"),
        api_port=pick.whole("CHIMERA_API_PORT", 8000, 0, 65535),
        max_workers=pick.whole("CHIMERA_MAX_WORKERS", 5, 1, 200),
        max_browsers=pick.whole("CHIMERA_MAX_BROWSERS", os.cpu_count() or 1, 1, 200),
        poll_interval_s=pick.decimal("CHIMERA_POLL_INTERVAL", 0.01, 0.001, 60),
        max_retries=pick.whole("CHIMERA_MAX_RETRIES", 3, 0, 20),
        lease_s=pick.decimal("CHIMERA_LEASE_SECONDS", 30, 1, 3600),
        priority_aging_s=pick.whole("CHIMERA_PRIORITY_AGING", 600, 0, 86_400),
        sandbox=pick.one_of("CHIMERA_SANDBOX", "auto", ["auto", "off"]),
        chromium=pick.text("CHIMERA_CHROMIUM", ""),
        staging_domain=pick.text("CHIMERA_STAGING_DOMAIN", "localhost"),
        max_deployments=pick.whole("CHIMERA_MAX_DEPLOYMENTS", 20, 1, 1000),
        staging_hours=pick.whole("CHIMERA_STAGING_HOURS", 168, 0, 87_600),
        keep_days=pick.whole("CHIMERA_KEEP_DAYS", 30, 0, 36_500),
        keep_gb=pick.decimal("CHIMERA_KEEP_GB", 20, 0, 1_000_000),
        min_free_mb=pick.whole("CHIMERA_MIN_FREE_MB", 500, 0, 10_000_000),
        demo=pick.whole("CHIMERA_DEMO", 1, 0, 1) == 1,
        auth=pick.one_of("CHIMERA_AUTH", "auto", ["auto", "off"]),
        share_commits=pick.one_of("CHIMERA_SHARE_COMMITS", "auto", ["auto", "on", "off"]),
        network_env={name: environ[name] for name in NETWORK_NAMES if environ.get(name)},
    )


@dataclass(frozen=True)
class _Picker:
    values: Mapping[str, str]

    def text(self, name: str, default: str) -> str:
        return self.values.get(name) or default

    def one_of(self, name: str, default: str, allowed: list[str]) -> str:
        value = self.text(name, default)
        for choice in allowed:
            if value.lower() == choice.lower():
                return choice
        raise OptionError(f"{name}={value!r}: use one of {', '.join(allowed)}")

    def starting_with(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, "")
        if value and not value.startswith(allowed):
            raise OptionError(f"{name}: must start with {' or '.join(allowed)}")
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        return int(self._number(name, default, low, high, int, "a whole number"))

    def decimal(self, name: str, default: float, low: float, high: float) -> float:
        return float(self._number(name, default, low, high, float, "a number"))

    def _number(
        self, name: str, default: Any, low: Any, high: Any, kind: Callable[[str], Any], word: str
    ) -> Any:
        raw = self.text(name, str(default))
        try:
            value = kind(raw)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise OptionError(f"{name}={raw!r}: use {word} from {low} to {high}")
        return value


def _from_file(config_file: Path | None) -> dict[str, str]:
    if config_file is None or not config_file.is_file():
        return {}
    try:
        content = yaml.safe_load(config_file.read_text()) or {}
    except yaml.YAMLError as error:
        raise OptionError(f"{config_file}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise OptionError(f"{config_file}: must hold sections such as api: and executor:")
    values: dict[str, str] = {}
    for section, entries in content.items():
        for key, value in (entries or {}).items() if isinstance(entries, dict) else [("", "")]:
            name = f"{section}.{key}" if key else str(section)
            if name not in FILE_KEYS:
                known = ", ".join(FILE_KEYS)
                raise OptionError(f"{config_file}: unknown key {name!r}; known are {known}")
            if value is None:
                raise OptionError(f"{config_file}: {name} has no value; give one, or take it out")
            values[FILE_KEYS[name]] = str(value)
    return values
