"""The image of the repository, and the Dockerfile that ``snakemake --containerize`` makes of the environments."""

import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from prove import baseline_scripts_by_env
from running import REPOSITORY, images

# Snakemake asks conda for its version, platform and settings before it prints; nothing else of it is used.
CONDA = """#!/bin/sh
case "$1" in
  --version) echo "conda 25.1.0";;
  info) echo '{"platform": "linux-64", "conda_prefix": "/opt/conda"}';;
  config) echo '{"get": {"channel_priority": "strict"}}';;
  *) exit 1;;
esac
"""


def test_dockerfile_makes_every_environment(checkout, tmp_path_factory, monkeypatch):
    programs = tmp_path_factory.mktemp("programs")
    (programs / "conda").write_text(CONDA)
    (programs / "conda").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    command = [sys.executable, "-m", "snakemake", "--containerize"]
    done = subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    dockerfile = DockerfileParser(path=str(tmp_path_factory.mktemp("dockerfile")))
    dockerfile.content = done.stdout
    steps = [(step["instruction"], step["value"]) for step in dockerfile.structure]
    assert {name for name, _ in steps} == {"FROM", "LABEL", "COMMENT", "RUN", "COPY"}

    # Of the rules that this config has; baselines and the export to SpatialData come with conda, or with interpreters.
    others = {*baseline_scripts_by_env(), REPOSITORY / "envs/spatialdata.yaml"}
    envs = sorted(set((REPOSITORY / "envs").glob("*.yaml")) - others)
    content = b"".join(env.read_bytes() for env in envs)
    assert dockerfile.labels["io.github.snakemake.conda_env_hash"] == hashlib.sha256(content).hexdigest()
    copied = dict(value.split() for name, value in steps if name == "COPY")
    assert set(copied) == {f"envs/{env.name}" for env in envs}
    made = [shlex.split(part) for name, value in steps if name == "RUN" for part in value.split("&&")]
    created = {part[part.index("--file") + 1] for part in made if part[:3] == ["conda", "env", "create"]}
    assert created == set(copied.values())
    assert len(created) == len(envs)


@pytest.fixture
def image() -> list[tuple[str, str]]:
    return [(step["instruction"], step["value"]) for step in DockerfileParser(path=str(REPOSITORY)).structure]


def test_the_image_has_all_that_rules_need_and_no_more_rights_than_a_user(image):
    copied = [value.split() for name, value in image if name == "COPY" and not value.startswith("--from")]
    there = {source for *sources, _ in copied for source in sources}
    allowed = (REPOSITORY / ".dockerignore").read_text().split("!")[1:]
    assert there == {line.split()[0] for line in allowed}
    needed = (REPOSITORY / "workflow/sources.txt").read_text().split()
    assert {Path(name).parts[0] for name in needed} <= there
    # Folders keep their places, by which the workflow finds its files.
    assert all(target.endswith((f"/{source}", "/")) for source, target in copied if (REPOSITORY / source).is_dir())
    # A number, as Kubernetes wants to know that it is not root.
    assert [value for name, value in image if name == "USER"] == ["1000"]
    assert image[-2][0] == "ENTRYPOINT"
    assert "/opt/spamosaic/workflow/Snakefile" in image[-2][1]


def test_the_image_installs_the_lock_for_cpu_or_gpu(image, tmp_path):
    assert ("ARG", "DEVICE=cpu") in image
    torch, rest = (value for name, value in image if name == "RUN" and "pip install" in value)
    assert "--requirement /tmp/requirements.lock" in rest
    (version,) = re.findall(r"^torch==.+$", (REPOSITORY / "requirements.lock").read_text(), flags=re.MULTILINE)
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    pip.chmod(0o755)
    step = torch.replace("/opt/venv/bin/pip", str(pip)).replace("/tmp/requirements", str(REPOSITORY / "requirements"))

    def installed(device):
        command = ["sh", "-euc", step]
        return subprocess.run(command, env=os.environ | {"DEVICE": device}, capture_output=True, text=True, check=False)

    pypi = "https://pypi.org/simple"
    # The local version +cpu is in PyTorch's own index alone: without that index, nothing is found, rather than CUDA.
    for device, build, url in (("cpu", "+cpu", "https://download.pytorch.org/whl/cpu"), ("cuda", "", pypi)):
        words = installed(device).stdout.split()
        assert words[-5:] == [version + build, "--index-url", url, "--extra-index-url", pypi]
    refused = installed("gpu")
    assert refused.returncode != 0
    assert "DEVICE is cpu or cuda, not gpu" in refused.stderr
    assert not refused.stdout


def test_jobs_run_in_the_image_that_the_config_names(tmp_path, monkeypatch):
    """With a program that answers for Apptainer, which Snakemake asks for its version alone before jobs start."""
    (tmp_path / "apptainer").write_text("#!/bin/sh\necho apptainer version 1.4.0\n")
    (tmp_path / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    here = Path.cwd()
    try:
        found = images(REPOSITORY / ".test", ["container=docker://ghcr.io/acme/mosaic:v1.0.0"])
    finally:
        os.chdir(here)
    assert set.union(*(found[rule] for rule in ("qc", "train", "export"))) == {"docker://ghcr.io/acme/mosaic:v1.0.0"}
