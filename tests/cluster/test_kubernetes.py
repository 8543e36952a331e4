"""The manifests for Kubernetes: valid by its own schemas, and what they say of each other holds."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml

from tests.support.docker_context import ROOT
from vbot_campaign.cli import app

FOLDER = ROOT / "docker" / "kubernetes"
VERSION = "1.33"
"""Of Kubernetes; the manifests use nothing that is newer."""
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for name in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
]
RAY_SCHEMA = json.loads((Path(__file__).with_name("raycluster.schema.json")).read_text(encoding="utf-8"))


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> dict[str, dict[str, Any]]:
    """Return every pod template by the name of what makes it."""
    found = {one["metadata"]["name"]: one["spec"]["template"] for one in MANIFESTS if one["kind"] == "StatefulSet"}
    ray = named("RayCluster", "vbot")["spec"]
    workers = {group["groupName"]: group["template"] for group in ray["workerGroupSpecs"]}
    return {**found, "head": ray["headGroupSpec"]["template"], **workers}


def validate(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def identity(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", [one for one in MANIFESTS if one["kind"] != "RayCluster"], ids=identity)
def test_kubernetes_allows_it(manifest: dict[str, Any]) -> None:
    validate(manifest)


@pytest.mark.parametrize("name", sorted(pods()))
def test_kubernetes_allows_the_pods_of_all(name: str) -> None:
    validate({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": pods()[name]})


def test_kuberay_allows_its_cluster() -> None:
    jsonschema.Draft202012Validator.check_schema(RAY_SCHEMA)
    jsonschema.validate(named("RayCluster", "vbot"), RAY_SCHEMA)


def test_a_mistake_would_be_found() -> None:
    wrong = copy.deepcopy(named("StatefulSet", "campaign"))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        validate(wrong)
    cluster = copy.deepcopy(named("RayCluster", "vbot"))
    cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError, match="is not of type 'string'"):
        jsonschema.validate(cluster, RAY_SCHEMA)


def test_every_file_is_applied() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert there == set(KUSTOMIZATION["resources"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_puts_it_together() -> None:
    done = subprocess.run(["kubectl", "kustomize", FOLDER], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert len(made) == len(MANIFESTS)
    assert {one["metadata"].get("namespace", "vbot-campaign") for one in made} == {"vbot-campaign"}


def test_volumes_ports_and_services_fit_together() -> None:
    for name, pod in pods().items():
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        claims = [one for one in MANIFESTS if identity(one) == f"StatefulSet-{name}"]
        own = {claim["metadata"]["name"] for one in claims for claim in one["spec"].get("volumeClaimTemplates", [])}
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(volumes) | own
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                named("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
            if "configMap" in volume:
                named("ConfigMap", volume["configMap"]["name"])
    for service in (one for one in MANIFESTS if one["kind"] == "Service"):
        pod = pods()[service["metadata"]["name"]]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        open_ports = container_ports(pod)
        for port in service["spec"]["ports"]:
            assert open_ports[port["name"]] == port["port"]


def container_ports(pod: dict[str, Any]) -> dict[str, int]:
    ports = [port for one in pod["spec"]["containers"] for port in one.get("ports", [])]
    return {port["name"]: port["containerPort"] for port in ports}


def test_secrets_come_from_a_secret_that_is_in_no_file() -> None:
    assert not any(one["kind"] == "Secret" for one in MANIFESTS)
    document = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    made = set(re.findall(r"--from-literal=(\w+)=", document))
    for pod in pods().values():
        files = set()
        for volume in pod["spec"].get("volumes", []):
            if "secret" in volume:
                assert volume["secret"]["secretName"] == "vbot-campaign"
                assert f"create secret generic {volume['secret']['secretName']}" in document
                files |= made
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                assert "value" in variable
                if variable["name"].endswith("_FILE"):
                    assert Path(variable["value"]).name in files
                assert not re.search(r"(PASSWORD|TOKEN)$", variable["name"])


def test_the_supervisor_asks_ray_and_has_time_for_checkpoints() -> None:
    pod = pods()["campaign"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= 300
    assert pods()["gpu"]["spec"]["terminationGracePeriodSeconds"] > 120, "a worker has two minutes for its checkpoint"
    assert yaml.safe_load(named("ConfigMap", "campaign")["data"]["settings.yaml"]) == {
        "launcher": "ray",
        "ray_address": "auto",
    }
    cluster = named("RayCluster", "vbot")["metadata"]["name"]
    assert f"--address={cluster}-head-svc:6379 " in pod["containers"][0]["args"][0]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for container in pod["containers"]:
        command, *arguments = container["args"][-1].partition("entrypoint.sh ")[2].split() or container["args"]
        known = {text for parameter in commands[command].params for text in parameter.opts}
        assert {word for word in arguments if word.startswith("-")} <= known
        assert container["image"] in {image["name"] for image in KUSTOMIZATION["images"]}
    assert [container["name"] for container in pod["containers"]] == ["supervisor", "dashboard", "tensorboard"]
    assert named("StatefulSet", "campaign")["spec"]["replicas"] == 1


def test_all_nodes_have_the_ray_that_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.partition("==")[2] for line in lines if line.startswith("ray==")]
    assert pinned in ([], [named("RayCluster", "vbot")["spec"]["rayVersion"]])


def test_nothing_of_ours_runs_as_root() -> None:
    pod = pods()["campaign"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
