"""What concerns a download in the user's Maven settings: the mirror of Maven Central, the local repository. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class MavenSettings:
    """Where artifacts come from and where they are kept; None stands for Maven's default."""

    central_url: str | None = None
    local_repository: Path | None = None


def parse_settings(text: bytes, environment: Mapping[str, str]) -> MavenSettings:
    """The settings in the text of a `settings.xml`.

    Args:
        text: the file's bytes.
        environment: for `${env.NAME}`; `${user.home}` is its HOME.

    Raises:
        ValueError: the text is not XML.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    local = expand(root.findtext("localRepository") or "", environment)
    mirrors = (
        expand(mirror.findtext("url") or "", environment)
        for mirror in root.iterfind("mirrors/mirror")
        if covers_central(mirror.findtext("mirrorOf") or "")
    )
    url = next((mirror.rstrip("/") for mirror in mirrors if mirror), None)
    return MavenSettings(url, Path(local) if local else None)


def covers_central(pattern: str) -> bool:
    """Whether a `mirrorOf` pattern takes in the repository `central`: by `*`, `external:*` or its name."""
    parts = {part.strip() for part in pattern.split(",")}
    return "!central" not in parts and bool(parts & {"*", "external:*", "central"})


def expand(text: str, environment: Mapping[str, str]) -> str:
    """The text with `${env.NAME}` and `${user.home}` filled in; unknown names become empty."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return environment.get("HOME" if name == "user.home" else name.removeprefix("env."), "")

    return re.sub(r"\$\{([^}]*)\}", value, text.strip())
