"""The container files, as far as that goes without a daemon: names, values, sources, and the health check itself."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from callstream import settings
from callstream.services import services_of
from callstream.streams.loading import load_chains

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
WORKERS = {
    name: service["command"][1] for name, service in SERVICES.items() if service.get("command", [""])[0] == "worker"
}
GIVEN = {"POSTGRES_PASSWORD": "s3cret", "API_KEY": "0123456789abcdef"}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def filled(text: object) -> str:
    """A value as compose hands it on: `${NAME:-default}` and `${NAME:?message}` replaced."""
    return VARIABLE.sub(lambda found: GIVEN.get(found[1]) or (found[3] if found[2] == "-" else ""), str(text))


def image_environment() -> dict[str, str]:
    text = (DOCKER / "Dockerfile").read_text()
    return dict(re.findall(r"(CALLSTREAM_\w+)=(\S+)", text))


@pytest.mark.parametrize("name", WORKERS)
def test_each_container_starts_with_settings_that_exist_and_are_valid(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given nothing set but what the image and the compose file set,
    for variable in [variable for variable in os.environ if variable.startswith("CALLSTREAM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    environment = image_environment() | {key: filled(value) for key, value in SERVICES[name]["environment"].items()}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    # when the settings are read, then they are taken, and each variable is in force.
    in_force = settings.origins(settings.load())
    assert {variable for one in in_force for variable in environment if variable in str(one.origin)} == set(environment)


def test_each_service_has_a_container_and_each_container_a_service() -> None:
    reference = image_environment()["CALLSTREAM_CHAINS"].replace("/srv/callstream", str(ROOT))
    assert sorted(WORKERS.values()) == sorted(services_of(load_chains([reference])))
    assert all(name == service for name, service in WORKERS.items())


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_restarted_watched_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or service["image"] == "callstream"
    assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"])
    assert service["logging"]["options"]["max-size"]
    assert service["image"] == "callstream" or not service["image"].endswith(("latest", ":"))
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_what_must_be_set_is_in_the_example_and_is_refused_when_empty() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    named = {found[1] for found in VARIABLE.finditer(text)}
    example = re.findall(r"^#?(\w+)=", (DOCKER / ".env.example").read_text(), re.MULTILINE)
    assert named == set(example)
    assert {found[1] for found in VARIABLE.finditer(text) if found[2] == "?"} == set(GIVEN)


def test_the_image_copies_what_is_there_and_runs_as_nobody_in_particular() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for word in line.split()]
    kept = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert [source for source in sources if not (ROOT / source).exists() or f"!{source}" not in kept] == []
    assert re.search(r"^USER [1-9]\d+$", text, re.MULTILINE)


def healthcheck(command: str, tmp_path: Path, **environment: str) -> int:
    """Run the health check as in a container whose first process is that command."""
    first = tmp_path / "cmdline"
    first.write_text(command.replace(" ", "\0") + "\0")
    code = (DOCKER / "healthcheck.py").read_text().replace("/proc/1/cmdline", str(first))
    script = tmp_path / "healthcheck.py"
    script.write_text(code)
    return subprocess.run([sys.executable, script], env=environment, timeout=30, check=False).returncode


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the containers run on Linux, and so does their check")
def test_a_service_is_well_while_it_is_connected_to_the_broker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        address = f"127.0.0.1:{broker.getsockname()[1]}"
        assert healthcheck("python callstream worker infer", tmp_path, CALLSTREAM_BROKER=address) == 1
        with socket.create_connection(broker.getsockname()):
            assert healthcheck("python callstream worker infer", tmp_path, CALLSTREAM_BROKER=address) == 0


def test_a_gateway_that_does_not_answer_is_not_well(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    assert healthcheck("python callstream worker gateway", tmp_path, CALLSTREAM_WEB__PORT=port) == 1


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="needs docker with its compose plugin",
)
def test_docker_itself_reads_the_compose_file() -> None:
    command = ["docker", "compose", "-f", str(DOCKER / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, env=os.environ | GIVEN, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
