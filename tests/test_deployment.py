"""Deployment files: each is linted, and what it runs is parsed by the program itself and run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import typer
from wire_kit import free_port

from fpcodec.cli.app import app
from fpcodec.data import write_coco
from fpcodec_server.config_sources import load_config
from fpcodec_server.health import LIVENESS
from fpcodec_server.metrics import ServerMetrics

EDGE, SERVER = Path("edge/deploy"), Path("server/deploy")
DOCKERFILES = (EDGE / "Dockerfile", SERVER / "Dockerfile")
UNIT = EDGE / "fpcodec-edge.service"
METRICS_PORT = 9464


@pytest.fixture(scope="module")
def root(repository: Path) -> Path:
    """The repository, where it has its deployment files; an installed package has none."""
    if not (repository / SERVER).is_dir():
        pytest.skip("needs the repository's deployment files")
    return repository


def read_yaml(path: Path) -> list[Any]:
    yaml = pytest.importorskip("yaml", reason="needs the dev extra")
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def test_a_flag_that_is_not_there_would_be_found() -> None:
    with pytest.raises(Exception, match="--no-such-flag"):
        require_parses(["edge", "folder", "--server", "a:1", "--no-such-flag"])


def require_parses(arguments: list[str]) -> None:
    """Have the command line parse arguments without running them; an unknown flag raises."""
    group: Any = typer.main.get_command(app)
    command = group.commands[arguments[0]]
    command.make_context(arguments[0], list(arguments[1:]))


def env_file(path: Path) -> dict[str, str]:
    lines = path.read_text("utf-8").splitlines()
    return dict(x.split("=", 1) for x in lines if x and not x.startswith("#"))


def unit_command(root: Path) -> list[str]:
    """What the unit starts, with its variables as ``edge.env`` has them."""
    (line,) = re.findall(r"^ExecStart=(.*)$", (root / UNIT).read_text("utf-8"), re.MULTILINE)
    variables = env_file(root / EDGE / "edge.env")
    line = line.replace("%S", "/var/lib").replace("$FPCODEC_FLAGS", variables["FPCODEC_FLAGS"])
    return [re.sub(r"\$\{(\w+)\}", lambda x: variables[x[1]], word) for word in shlex.split(line)]


def instruction(root: Path, dockerfile: Path, name: str) -> str:
    """The last instruction of a name in a Dockerfile."""
    return re.findall(rf"^{name} (.*)$", (root / dockerfile).read_text("utf-8"), re.MULTILINE)[-1]


def compose(root: Path) -> dict[str, Any]:
    (found,) = read_yaml(root / SERVER / "compose.yaml")
    return dict(found)


def test_the_unit_is_one_that_systemd_takes(root: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    path = tmp_path / UNIT.name
    text = (root / UNIT).read_text("utf-8")
    path.write_text(text.replace("/opt/fpcodec/bin/fpcodec", shutil.which("true") or ""))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(path)],
        capture_output=True, text=True,
    )  # fmt: skip
    if "unrecognized option" not in rated.stderr:  # before systemd 250
        assert rated.returncode == 0, rated.stdout


def test_the_unit_starts_an_edge(root: Path) -> None:
    program, *arguments = unit_command(root)
    assert program.endswith("/fpcodec")
    assert not [word for word in arguments if "$" in word or "%" in word]
    require_parses(arguments)
    text = (root / UNIT).read_text("utf-8")
    for line in (
        "Restart=always",
        "DynamicUser=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "EnvironmentFile=/etc/fpcodec/edge.env",
        "StateDirectory=fpcodec-edge",
    ):
        assert f"\n{line}\n" in text


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=str)
def test_container_files(dockerfile: Path, root: Path) -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if linter is not None:
        linted = subprocess.run([linter, str(root / dockerfile)], capture_output=True, text=True)
        assert (linted.returncode, linted.stdout) == (0, "")
    assert instruction(root, dockerfile, "USER").isdecimal()
    assert json.loads(instruction(root, dockerfile, "ENTRYPOINT")) == ["fpcodec"]
    require_parses(json.loads(instruction(root, dockerfile, "CMD")))


def test_what_images_are_built_from_is_let_through(root: Path) -> None:
    lines = (root / ".dockerignore").read_text("utf-8").split()
    let_through = {x[1:] for x in lines if x.startswith("!")}
    assert all((root / x).exists() for x in let_through)
    assert {
        "fpcodec",
        "edge/fpcodec_edge",
        "server/fpcodec_server",
        "pyproject.toml",
    } <= let_through


def test_compose_services_are_complete(root: Path) -> None:
    found = compose(root)
    services, volumes = found["services"], found["volumes"]
    assert {"server", "edge-1", "edge-2", "prometheus", "grafana"} <= services.keys()
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("depends_on", {})) <= services.keys()
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (root / SERVER / source).is_file(), mount
            else:
                assert source in volumes, mount
        if "build" in service:
            context = root / SERVER / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file()
    for name in ("edge-1", "edge-2"):
        require_parses(services[name]["command"])
        assert "server:50051" in services[name]["command"]
    load_config(None, services["server"]["environment"])
    assert set(found["volumes"]) >= {"spool-1", "spool-2"}


def test_prometheus_asks_where_the_server_answers(root: Path) -> None:
    (found,) = read_yaml(root / SERVER / "prometheus.yml")
    (job,) = found["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"server:{METRICS_PORT}"]}]
    command = json.loads(instruction(root, SERVER / "Dockerfile", "CMD"))
    assert command[command.index("--metrics") + 1].endswith(f":{METRICS_PORT}")


def test_grafana_finds_its_data_and_its_dashboard(root: Path) -> None:
    folder = root / SERVER / "grafana"
    (source,), (provider,) = (read_yaml(folder / f"{x}.yaml") for x in ("datasource", "dashboards"))
    board = json.loads((folder / "fpcodec.json").read_text("utf-8"))
    (data,) = source["datasources"]
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {data["uid"]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    path = provider["providers"][0]["options"]["path"]
    mounts = compose(root)["services"]["grafana"]["volumes"]
    assert any(f":{path}/fpcodec.json" in mount for mount in mounts)
    assert data["url"] == "http://prometheus:9090"


def metric_names(root: Path) -> set[str]:
    """Every metric that the dashboard asks for."""
    board = json.loads((root / SERVER / "grafana" / "fpcodec.json").read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return {name for text in asked for name in re.findall(r"\b(?:fpcodec|process)_[a-z_]+", text)}


def test_every_metric_of_the_dashboard_is_counted(root: Path) -> None:
    names = metric_names(root)
    assert len(names) > 10
    kinds = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    counted = {
        f"{family.name}{ending}"
        for family in ServerMetrics().registry.collect()
        for ending in kinds[family.type]
    }
    assert names <= counted


def manifests(root: Path) -> dict[str, dict[str, Any]]:
    return {x["kind"]: x for x in read_yaml(root / SERVER / "kubernetes.yaml")}


def test_the_manifest_is_what_kubernetes_takes(root: Path) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs the dev extra")
    for kind, document in manifests(root).items():
        assert validator.validate(document, "1.30", strict=True) is not False, kind


def test_the_pod_has_no_rights_and_is_probed(root: Path) -> None:
    found = manifests(root)
    deployment, service = found["Deployment"]["spec"], found["Service"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    guarded = container["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(
        instruction(root, SERVER / "Dockerfile", "USER")
    )
    assert (guarded["readOnlyRootFilesystem"], guarded["allowPrivilegeEscalation"]) == (True, False)
    assert guarded["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"].keys() == {"requests", "limits"}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == 50051
    assert container["livenessProbe"]["grpc"]["service"] == LIVENESS
    assert "service" not in container["readinessProbe"]["grpc"]
    names = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {x["targetPort"] for x in service["ports"]} == names.keys()
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        service["selector"],
        deployment["selector"]["matchLabels"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_pods_server_reads_its_settings(root: Path) -> None:
    pod = manifests(root)["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    require_parses(container["args"])
    environment = {x["name"]: x["value"] for x in container["env"]}
    config = load_config(None, environment).config
    assert config.notice_s + config.grace_s < pod["terminationGracePeriodSeconds"]


@pytest.fixture
def served(root: Path, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The image's server, on ports of its own, with compose's settings: addresses of both."""
    grpc_port, metrics_port = free_port(), free_port()
    service = compose(root)["services"]["server"]
    command = json.loads(instruction(root, SERVER / "Dockerfile", "CMD"))
    command = [
        word.replace("0.0.0.0:50051", f"127.0.0.1:{grpc_port}").replace(
            f"0.0.0.0:{METRICS_PORT}", f"127.0.0.1:{metrics_port}"
        )
        for word in command
    ]
    environment = {**service["environment"], "PATH": "/usr/bin:/bin"}
    python_path = [x for x in sys.path if x]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "fpcodec.cli", *command, "--workers", "1"],
            stdout=subprocess.PIPE, stderr=log, text=True,
            env={**environment, "PYTHONPATH": ":".join(python_path)},
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready ")
            yield f"127.0.0.1:{grpc_port}", metrics_port
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_the_server_and_an_edge_as_the_files_start_them(
    root: Path, served: tuple[str, int], tmp_path: Path
) -> None:
    address, metrics_port = served
    write_coco(tmp_path / "scenes", range(3))
    command = [
        word.replace("server:50051", address)
        .replace("/scenes", str(tmp_path / "scenes"))
        .replace("/var/spool/fpcodec", str(tmp_path / "spool"))
        for word in compose(root)["services"]["edge-1"]["command"]
    ]
    shown = subprocess.run(
        [sys.executable, "-m", "fpcodec.cli", *command, "--threads", "1"],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    outcomes = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(outcomes) == 3
    with urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as answer:
        exposed = answer.read().decode()
    for name in metric_names(root) - {
        # Counted by a label that nothing has had yet.
        "fpcodec_shed_requests_total", "fpcodec_decode_errors_total",
    }:  # fmt: skip
        assert re.search(rf"^{name}[{{ ]", exposed, re.MULTILINE), name
    health = json.loads(instruction(root, SERVER / "Dockerfile", "HEALTHCHECK").split(" CMD ")[-1])
    code = health[-1].replace("127.0.0.1:50051", address)
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
    gone = code.replace(address, f"127.0.0.1:{free_port()}")
    assert subprocess.run([sys.executable, "-c", gone], stderr=subprocess.DEVNULL).returncode == 1
    assert time.monotonic() - start < 60
