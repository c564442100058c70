"""Resolves the broker's jars from their Maven coordinates into the local Maven repository; run as a process of its own.

    python -m callstream.streams.broker.fetch COORDINATE…

Prints one JSON object a line: `{"text", "done", "total"}` while it works (the first one names the `repository` too),
`{"jars": [path, …]}` last, or `{"error": text}` and exit code 1. It is a process of its own so that the whole has one
time-out, and the resolver's libraries never load into the caller.
"""

import hashlib
import json
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import requests
from jgo.maven import Artifact, MavenContext, PythonResolver
from jgo.util import http

from callstream.streams.broker.maven import MavenSettings, parse_settings

WORKERS = 4
CHUNK_BYTES = 256 * 1024
SCOPES = (None, "compile", "runtime")


class SafeResolver(PythonResolver):
    """jgo's resolver, whose downloads appear whole or not at all and must match their published SHA-1."""

    def download(self, artifact: Artifact) -> Path:
        """Downloads one file into the local repository and returns its path there."""
        context = artifact.context
        target = artifact.cached_path
        if target is None:
            raise RuntimeError(f"no local repository for {artifact}")
        prefix = artifact.component.path_prefix.as_posix()
        answers = []
        for base in context.remote_repos.values():
            url = f"{base}/{prefix}/{artifact.filename}"
            with http.get(url, stream=True, timeout=context.timeout) as response:
                if response.status_code == 200:
                    save(response, target, published_sha1(url, context.timeout))
                    return target
                answers.append(f"{url} answered {response.status_code}")
        raise RuntimeError(f"{artifact} was not found: {'; '.join(answers)}")


def published_sha1(url: str, timeout: int) -> str | None:
    """The checksum beside a file in its repository, if it has one."""
    response = http.get(f"{url}.sha1", timeout=timeout)
    words = response.text.split() if response.status_code == 200 else []
    return words[0].lower() if words else None


def save(response: requests.Response, target: Path, sha1: str | None) -> None:
    """Writes the body beside the target, checks it, and moves it there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.{os.getpid()}.part")
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with draft.open("wb") as file:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
        if sha1 is not None and digest.hexdigest() != sha1:
            raise RuntimeError(f"{response.url}: its SHA-1 is {digest.hexdigest()}, published is {sha1}")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def user_settings() -> MavenSettings:
    """The settings of `~/.m2/settings.xml`, where there is one."""
    path = Path.home() / ".m2" / "settings.xml"
    if not path.is_file():
        return MavenSettings()
    try:
        return parse_settings(path.read_bytes(), os.environ)
    except ValueError as error:
        raise RuntimeError(f"{path}: {error}") from error


def maven_context() -> MavenContext:
    """jgo's context: the ordinary local repository, Maven Central or its mirror."""
    settings = user_settings()
    local = Path(os.environ["M2_REPO"]) if os.environ.get("M2_REPO") else settings.local_repository
    remote = {"central": settings.central_url} if settings.central_url else None
    return MavenContext(resolver=SafeResolver(), repo_cache=local, remote_repos=remote, timeout=20)


def whole_jar(artifact: Artifact) -> Path:
    """The path of an artifact's jar, downloaded where it is missing or damaged."""
    path: Path = artifact.resolve()
    if not zipfile.is_zipfile(path):
        path.unlink()
        path = artifact.resolve()
    return path


def needed(coordinates: list[str]) -> list[Artifact]:
    """The artifacts of the coordinates with all they need; of two versions of one the first wins.

    One coordinate at a time: given several, jgo lets the versions managed by any of their parents overrule the others.
    """
    context = maven_context()
    say(text="resolving", done=0, total=None, repository=str(context.repo_cache))
    found: dict[tuple[str, str], Artifact] = {}
    for coordinate in coordinates:
        inputs, others = context.resolver.resolve([context.create_dependency(coordinate)])
        for dependency in [*inputs, *others]:
            if dependency.scope in SCOPES:
                found.setdefault((dependency.groupId, dependency.artifactId), dependency.artifact)
    return list(found.values())


def resolve(coordinates: list[str]) -> list[Path]:
    """All jars of the coordinates and of what they depend on at run time, in class path order."""
    artifacts = needed(coordinates)
    say(text="downloading", done=0, total=len(artifacts))
    with ThreadPoolExecutor(WORKERS) as pool:
        jars = [pool.submit(whole_jar, artifact) for artifact in artifacts]
        try:
            for done, jar in enumerate(as_completed(jars), start=1):
                say(text=jar.result().name, done=done, total=len(artifacts))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [jar.result() for jar in jars]


def say(**line: object) -> None:
    """Prints one line of the protocol."""
    print(json.dumps(line), flush=True)


def main(coordinates: list[str]) -> int:
    """Resolves and reports; any failure becomes one line."""
    try:
        say(jars=[str(jar.absolute()) for jar in resolve(coordinates)])
    except Exception as error:  # the caller gets every failure as text, a resolver's traceback helps nobody
        say(error=f"{type(error).__name__}: {error}"[:2000])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
