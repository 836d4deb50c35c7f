"""The files of deploy/ fit each other, the image, the lock, and what Dagster accepts."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.executor.init import InitExecutorContext
from dagster._core.executor.step_delegating import StepDelegatingExecutor
from dagster._core.system_config.objects import ResolvedRunConfig
from dagster_celery.executor import CeleryExecutor
from dagster_k8s import K8sRunLauncher
from dagster_k8s.executor import K8sStepHandler

from repl_pipelines.errors import DeclarationError
from repl_pipelines.orchestration import executor

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
PROGRAMS = Path(sys.executable).parent


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def variables() -> set[str]:
    """What deploy/environment.example has."""
    text = (DEPLOY / "environment.example").read_text()
    return set(re.findall(r"^(?:# )?([A-Z_]+)=", text, re.MULTILINE))


def image() -> dict[str, Path]:
    """Where the Dockerfile puts what: path in the image to path here."""
    found: dict[str, Path] = {}
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            *sources, target = line.split()[1:]
            for source in sources:
                folder = target.startswith("/") and target.endswith("/")
                place = f"{target}{Path(source).name}" if folder else target
                found[place] = ROOT / source
    return found


def commands() -> dict[str, str]:
    """Every command of systemd, compose and Kubernetes, as one text."""
    found = {
        path.name: " ".join(re.findall(r"^Exec.*?=-?(.*)$", path.read_text(), re.MULTILINE))
        for path in (DEPLOY / "systemd").iterdir()
    }
    for name, service in read(DEPLOY / "compose.yaml")["services"].items():
        if service.get("image") == "repl-pipelines":
            found[f"compose {name}"] = " ".join(service["command"])
    for path in KUBERNETES.iterdir():
        for manifest in yaml.safe_load_all(path.read_text()):
            spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
            for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
                found[f"{path.name} {container['name']}"] = " ".join(container["command"])
    return found


def test_every_command_is_in_the_lock_and_its_files_in_the_image() -> None:
    files = {path for path in image() if path.startswith("/opt/dagster/")}
    found = commands()
    assert len(found) == 13
    for name, command in found.items():
        programs = re.findall(r"(?:^|bin/|exec |- )(dagster[\w-]*|dg|celery)(?= )", command)
        assert programs, (name, command)
        assert all((PROGRAMS / program).exists() for program in programs), (name, programs)
        home = "/var/lib/repl-pipelines/" if name.endswith(".service") else "/opt/dagster/"
        wanted = re.findall(rf"{home}(\S+\.yaml)", command)
        assert {f"/opt/dagster/{file}" for file in wanted} <= files, name


def test_what_the_image_copies_is_there_and_let_in() -> None:
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for source in image().values():
        assert source.exists(), source
        assert f"!{source.relative_to(ROOT).parts[0]}" in let_in


def test_every_variable_is_in_the_example() -> None:
    texts = [path.read_text() for path in DEPLOY.rglob("*.yaml")]
    asked = {name for text in texts for name in re.findall(r"\{env: (\w+)\}", text)}
    resources = (ROOT / "resources" / "__init__.py").read_text()
    asked |= set(re.findall(r'(?:_setting|EnvVar)\("(\w+)"', resources))
    given = {"DAGSTER_K8S_NAMESPACE"}  # by the pod's own description
    assert asked - given <= variables()
    assert executor.VARIABLE in variables()


def test_compose_holds_together() -> None:
    compose = read(DEPLOY / "compose.yaml")
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in compose["volumes"], name
    assert services["code"]["build"]["dockerfile"] == "deploy/Dockerfile"
    assert services["code"]["env_file"] == "environment"
    port = re.findall(r"-p (\d+)", commands()["compose code"])
    assert f"DAGSTER_CODE_PORT={port[0]}" in (DEPLOY / "environment.example").read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    programs = tmp_path / "opt/repl-pipelines/.venv/bin"
    programs.mkdir(parents=True)
    for name in ("dagster", "dagster-webserver", "dagster-daemon", "celery", "dg"):
        (programs / name).symlink_to("/bin/true")
    units = []
    for path in (DEPLOY / "systemd").iterdir():
        unit = tmp_path / path.name
        unit.write_text(path.read_text().replace("/opt/", f"{tmp_path}/opt/"))
        units.append(unit)
    command = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "repl-pipelines" in line]
    assert not ours
    assert done.returncode == 0, done.stderr


def test_kubernetes_has_the_same_instance_but_for_its_run_launcher() -> None:
    here, there = read(DEPLOY / "dagster.yaml"), read(KUBERNETES / "dagster.yaml")
    assert here.pop("run_launcher") != there.pop("run_launcher")
    assert here == there


def test_kubernetes_files_hold_together() -> None:
    told = read(DEPLOY / "kustomization.yaml")
    parts = [m for f in told["resources"] for m in yaml.safe_load_all((DEPLOY / f).read_text())]
    names = {(part["kind"], part["metadata"]["name"]) for part in parts}
    [generated] = told["configMapGenerator"]
    assert all((DEPLOY / file.rpartition("=")[2]).exists() for file in generated["files"])
    for part in parts:
        pod = part["spec"]["template"]["spec"] if part["kind"] == "Deployment" else {}
        for volume in pod.get("volumes", ()):
            assert volume["configMap"]["name"] == generated["name"]
        if pod:
            assert ("ServiceAccount", pod["serviceAccountName"]) in names
    config = read(KUBERNETES / "dagster.yaml")["run_launcher"]["config"]
    assert config["instance_config_map"] == generated["name"]
    assert ("ServiceAccount", config["service_account_name"]) in names
    claims = {v["persistentVolumeClaim"]["claimName"] for v in config["volumes"]}
    assert {("PersistentVolumeClaim", claim) for claim in claims} <= names
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize", str(DEPLOY)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        images = re.findall(r"image: (\S+)", done.stdout)
        assert set(images) == set(re.findall(r"CURRENT_IMAGE\s+value: (\S+)", done.stdout))


@dg.job
def nothing() -> None:
    """A job to choose executors for."""


def created(path: Path, instance: dg.DagsterInstance, patch: pytest.MonkeyPatch) -> dg.Executor:
    """The executor that a job gets from a file of ours."""
    patch.setenv(executor.VARIABLE, str(path))
    chosen = executor.chosen()
    job = nothing.with_executor_def(chosen)
    config = ResolvedRunConfig.build(job, {}).execution.execution_engine_config
    origin = ReconstructableJob.for_file(__file__, "nothing")
    assert chosen.executor_creation_fn is not None
    return chosen.executor_creation_fn(
        InitExecutorContext(origin, chosen, config, instance)  # pyright: ignore[reportCallIssue]
    )


def test_steps_go_to_celery_by_the_file_that_its_workers_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CELERY_BROKER", "redis://broker/0")
    monkeypatch.setenv("CELERY_BACKEND", "redis://broker/1")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        made = created(DEPLOY / "celery.yaml", instance, monkeypatch)
    assert isinstance(made, CeleryExecutor)
    assert made.broker == "redis://broker/0"
    monkeypatch.syspath_prepend(str(DEPLOY))
    worker = importlib.import_module("dagster_celery_config")
    monkeypatch.delitem(sys.modules, "dagster_celery_config")
    assert (worker.broker_url, worker.result_backend) == (made.broker, made.backend)
    settings = vars(made.config_source)
    told = read(DEPLOY / "celery.yaml")["execution"]["config"]["config_source"]
    assert {name: settings[name] for name in told} == told
    assert {name: getattr(worker, name) for name in told} == told
    assert settings["task_acks_late"] is True


def test_runs_and_steps_go_to_kubernetes_by_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kubernetes.config, "load_incluster_config", lambda: None)
    monkeypatch.setenv("DAGSTER_K8S_NAMESPACE", "data")
    told = read(KUBERNETES / "dagster.yaml")["run_launcher"]
    with dg.instance_for_test(overrides={"run_launcher": told}, temp_dir=str(tmp_path)) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, K8sRunLauncher)
        assert launcher.supports_check_run_worker_health
        assert launcher.job_namespace == "data"
        made = created(KUBERNETES / "executor.yaml", instance, monkeypatch)
    assert isinstance(made, StepDelegatingExecutor)
    assert isinstance(made._step_handler, K8sStepHandler)


@pytest.mark.parametrize("text", ["", "executor: os.path.join\nexecution: {config: {}}", "- a"])
def test_a_file_that_names_no_executor_is_told(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "executor.yaml"
    path.write_text(text)
    monkeypatch.setenv(executor.VARIABLE, str(path))
    with pytest.raises(DeclarationError, match=r"executor\.yaml"):
        executor.chosen()
