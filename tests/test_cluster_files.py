"""The cluster files are valid as far as that can be known without a cluster: schemas, sizes, versions, paths, rights."""

from __future__ import annotations

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dyconv import recipes
from dyconv.resources import Machine, check_resources
from dyconv.stages.base import Resources

ROOT = Path(__file__).resolve().parent.parent
CLUSTERS = ROOT / "pipelines" / "clusters"
GIB = 2**30
RECIPES = ("demo", "dyconv", "research", "apart", "heads")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTERS / name).read_text()))


def kube(kind: str) -> dict[str, Any]:
    return next(item for item in documents("kuberay.yaml") if item["kind"] == kind)


def locked(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found
    return found[1]


# What KubeRay and Kubernetes take, as far as these files could use it. Anything else is a typo.


def closed(required: str = "", **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


def many(items: Any, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


TEXT = {"type": "string", "minLength": 1}
WHOLE = {"type": "integer", "minimum": 0}
TRUTH = {"type": "boolean"}
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
AMOUNTS = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?$"}}
AMOUNTS_BOTH = closed("requests limits", requests=AMOUNTS, limits=AMOUNTS)
REF = closed("name", name=NAME, optional=TRUTH)
PROBE = closed(
    "",
    httpGet=closed("path port", path=TEXT, port=WHOLE),
    exec=closed("command", command=many(TEXT, 1)),
    **dict.fromkeys(("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold"), WHOLE),
)
CONTAINER = closed(
    "name image resources securityContext",
    name=NAME,
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    command=many(TEXT),
    args=many(TEXT),
    ports=many(closed("containerPort", containerPort=WHOLE, name=NAME)),
    resources=AMOUNTS_BOTH,
    securityContext=closed(
        "allowPrivilegeEscalation capabilities",
        allowPrivilegeEscalation={"const": False},
        capabilities=closed("drop", drop={"const": ["ALL"]}),
        readOnlyRootFilesystem=TRUTH,
    ),
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    startupProbe=PROBE,
    envFrom=many(closed("", secretRef=REF, configMapRef=REF)),
    env=many(closed("name", name=TEXT, value={"type": "string"}, valueFrom={"type": "object"})),
    volumeMounts=many(closed("name mountPath", name=NAME, mountPath=TEXT, readOnly=TRUTH, subPath=TEXT)),
)
POD = closed(
    "spec",
    metadata=closed("", labels=TEXTS, annotations=TEXTS),
    spec=closed(
        "containers securityContext",
        containers=many(CONTAINER, 1),
        securityContext=closed(
            "runAsNonRoot runAsUser seccompProfile",
            runAsNonRoot={"const": True},
            runAsUser={"type": "integer", "minimum": 1},
            runAsGroup=WHOLE,
            fsGroup=WHOLE,
            seccompProfile=closed("type", type={"const": "RuntimeDefault"}),
        ),
        terminationGracePeriodSeconds=WHOLE,
        serviceAccountName=NAME,
        nodeSelector=TEXTS,
        tolerations=many(closed("", key=TEXT, operator={"enum": ["Exists", "Equal"]}, value=TEXT, effect=TEXT)),
        imagePullSecrets=many(REF),
        priorityClassName=NAME,
        restartPolicy={"enum": ["Always", "OnFailure", "Never"]},
        volumes=many(
            closed(
                "name",
                name=NAME,
                emptyDir=closed("sizeLimit", medium={"const": "Memory"}, sizeLimit=TEXT),
                configMap=REF,
                persistentVolumeClaim=closed("claimName", claimName=NAME, readOnly=TRUTH),
            )
        ),
    ),
)
GROUP = {"rayStartParams": TEXTS, "template": POD}
CLUSTER = closed(
    "rayVersion headGroupSpec workerGroupSpecs",
    rayVersion=TEXT,
    authOptions=closed("mode", mode={"enum": ["token", "disabled"]}, secretName=NAME),
    enableInTreeAutoscaling=TRUTH,
    autoscalerOptions=closed(
        "",
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        idleTimeoutSeconds=WHOLE,
        resources=AMOUNTS_BOTH,
        version={"enum": ["v1", "v2"]},
    ),
    headGroupSpec=closed("rayStartParams template", serviceType=TEXT, **GROUP),
    workerGroupSpecs=many(
        closed(
            "groupName minReplicas maxReplicas rayStartParams template",
            groupName=NAME,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            numOfHosts=WHOLE,
            idleTimeoutSeconds=WHOLE,
            **GROUP,
        ),
        1,
    ),
)
JOB = closed(
    "entrypoint",
    entrypoint=TEXT,
    clusterSelector=TEXTS,
    rayClusterSpec=CLUSTER,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterConfig=closed("", backoffLimit=WHOLE),
    submitterPodTemplate=POD,
    runtimeEnvYAML=TEXT,
    shutdownAfterJobFinishes=TRUTH,
    ttlSecondsAfterFinished=WHOLE,
    activeDeadlineSeconds=WHOLE,
    backoffLimit=WHOLE,
    entrypointNumCpus={"type": "number"},
)


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = closed("name", name={**NAME, "maxLength": 47}, labels=TEXTS)
    return closed(
        "apiVersion kind metadata spec", apiVersion={"const": "ray.io/v1"}, kind={"const": kind}, metadata=meta, spec=spec
    )


@pytest.mark.parametrize(("kind", "spec"), [("RayCluster", CLUSTER), ("RayJob", JOB)])
def test_kuberay_takes_every_field(kind: str, spec: dict[str, Any]) -> None:
    found = kube(kind)
    jsonschema.validate(found, resource(kind, spec))
    for broken in _broken(found):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, resource(kind, spec))


def _broken(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The same with a typo, a number for a text, a root user: so that the check itself is one."""
    group = "headGroupSpec" if found["kind"] == "RayCluster" else "submitterPodTemplate"
    made = []
    for change in range(3):
        item = copy.deepcopy(found)
        pod = item["spec"][group].get("template", item["spec"][group])["spec"]
        if change == 0:
            item["spec"]["rayVersoin"] = "2"
        elif change == 1:
            pod["containers"][0]["resources"]["limits"]["cpu"] = 4
        else:
            pod["securityContext"]["runAsUser"] = 0
        made.append(item)
    return made


def pods() -> dict[str, dict[str, Any]]:
    spec = kube("RayCluster")["spec"]
    found = {group["groupName"]: group["template"]["spec"] for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"]["spec"], **found}


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_every_pod_of_the_cluster_is_whole(name: str) -> None:
    pod = pods()[name]
    container = pod["containers"][0]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounts["shared-memory"] == "/dev/shm" and mounts["ray"] == "/tmp/ray"
    assert {"name": "TMPDIR", "value": mounts["scratch"]} in container["env"]
    on_disk = [
        volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "medium" not in volume.get("emptyDir", {"medium": 0})
    ]
    assert sum(map(amount, on_disk)) <= amount(container["resources"]["limits"]["ephemeral-storage"])
    assert container["readinessProbe"]["httpGet"] == {"path": "/api/healthz", "port": 52365}  # of Ray's agent, from 2.53 on
    assert container["envFrom"][0]["secretRef"]["name"] in (CLUSTERS / "kuberay.yaml").read_text().split("---")[0]


def amount(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(\D*)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}[unit]


def kube_machines() -> dict[str, Machine]:
    found = {}
    for name, pod in pods().items():
        limits = pod["containers"][0]["resources"]["limits"]
        shared = next(amount(item["emptyDir"]["sizeLimit"]) for item in pod["volumes"] if item["name"] == "shared-memory")
        memory = int(amount(limits["memory"]) - shared)
        found[name] = Machine(name, amount(limits["cpu"]), amount(limits.get("nvidia.com/gpu", "0")), memory)
    return found


def aws() -> dict[str, Any]:
    return documents("ray-up-aws.yaml")[0]


def aws_machines() -> dict[str, Machine]:
    nodes = {name: node["resources"] for name, node in aws()["available_node_types"].items()}
    return {name: Machine(name, has["CPU"], has.get("GPU", 0), has.get("memory", 0)) for name, has in nodes.items()}


@pytest.mark.parametrize("machines", [kube_machines, aws_machines], ids=["kuberay", "aws"])
def test_every_stage_fits_a_node_and_one_on_gpus_too(machines: Any) -> None:
    found = machines()
    for name in RECIPES:
        check_resources(recipes.load(name), found["cpu"])
    from dataclasses import replace

    dyconv = recipes.load("dyconv")
    asking = replace(dyconv, resources={"separate": Resources(cpus=2.0, gpus=1.0, memory=16 * GIB)})
    check_resources(asking, [found["cpu"], found["gpu"]])
    with pytest.raises(Exception, match="stage separate asks for"):
        check_resources(asking, found["cpu"])


def test_versions_are_those_of_the_lock() -> None:
    assert kube("RayCluster")["spec"]["rayVersion"] == locked("ray")
    docker = (CLUSTERS / "Dockerfile").read_text()
    images = re.findall(r"^FROM (\S+)", docker, re.MULTILINE)
    assert images and all(image.startswith("python:3.11-") for image in images)
    assert "Python 3.11" in (ROOT / "requirements.lock").read_text().splitlines()[0]
    assert "--require-hashes -r requirements.lock" in docker
    names = set(re.findall(r"REGISTRY/\S+", "".join(path.read_text() for path in CLUSTERS.iterdir())))
    assert names == {"REGISTRY/dyconv:TAG"}


def test_the_image_holds_what_the_jobs_start() -> None:
    docker = (CLUSTERS / "Dockerfile").read_text()
    context = (CLUSTERS / "Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)", docker, re.MULTILINE):
        *sources, _ = [part for part in line.split() if not part.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists() and f"!{source}" in context, source
    assert re.search(r"^USER 1000:1000$", docker, re.MULTILINE)
    assert "COPY --chown=ray:ray pipelines /opt/dyconv/pipelines" in docker


def command_lines() -> dict[str, list[str]]:
    head = " ".join(line.lstrip("# ").rstrip("\\ ") for line in (CLUSTERS / "ray-up-aws.yaml").read_text().splitlines()[:12])
    quoted = re.search(r"ray job submit --no-wait -- ([^']+)'", head)
    assert quoted
    return {"kuberay": shlex.split(kube("RayJob")["spec"]["entrypoint"]), "aws": shlex.split(quoted[1])}


@pytest.mark.parametrize("where", ["kuberay", "aws"])
def test_the_jobs_commands_are_understood(where: str) -> None:
    import typer

    from pipelines.build import command

    python, script, *options = command_lines()[where]
    assert python == "python" and (ROOT / script.removeprefix("/opt/dyconv/")).is_file()
    app = typer.Typer()
    app.command()(command)
    parsed = typer.main.get_command(app).make_context("build.py", list(options)).params
    assert recipes.load(parsed["recipe"]).pack
    assert str(parsed["out"]).startswith("s3://") and parsed["workers"] and parsed["wait"]
    mounted = {"kuberay": "/etc/dyconv/", "aws": "/home/ray/"}[where]
    assert str(parsed["manifest"]) == f"{mounted}manifest.csv"
    if where == "aws":
        assert (ROOT / aws()["file_mounts"][str(parsed["manifest"])]).is_file()


def test_ray_up_is_what_ray_takes() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(aws())
    validate_config(config)
    nodes = config["available_node_types"]
    assert sum(node["max_workers"] for name, node in nodes.items() if name != "head") <= config["max_workers"]
    assert all(node["node_config"]["MetadataOptions"]["HttpTokens"] == "required" for node in nodes.values())
    assert "InstanceMarketOptions" not in nodes["head"]["node_config"], "the driver is on the head"
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
    broken = aws()
    broken["available_node_types"]["cpu"]["max_wokers"] = 3
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(broken))


def test_amounts_are_what_the_machines_have() -> None:
    has = {"m6i.xlarge": (4, 16), "m6i.4xlarge": (16, 64), "g5.2xlarge": (8, 32)}  # CPUs and GiB, by Amazon's own pages
    for name, machine in aws_machines().items():
        cpus, memory = has[aws()["available_node_types"][name]["node_config"]["InstanceType"]]
        assert machine.cpus <= cpus and machine.memory <= 0.8 * memory * GIB


def test_nobody_but_the_namespace_reaches_ray() -> None:
    policy = kube("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"]["ray.io/cluster"] == kube("RayCluster")["metadata"]["name"]
    assert policy["policyTypes"] == ["Ingress"] and all(rule["from"] for rule in policy["ingress"])
    assert kube("RayCluster")["spec"]["authOptions"]["mode"] == "token"
    assert kube("RayJob")["spec"]["clusterSelector"] == {"ray.io/cluster": kube("RayCluster")["metadata"]["name"]}
    for path in CLUSTERS.iterdir():
        assert not re.search(r"AKIA[0-9A-Z]{16}|aws_secret_access_key\s*[:=]\s*\S{20}", path.read_text()), "a credential"
