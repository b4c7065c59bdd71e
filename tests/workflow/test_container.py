"""The Dockerfile that ``snakemake --containerize`` makes of the environments."""

import hashlib
import os
import shlex
import subprocess
import sys

from dockerfile_parse import DockerfileParser
from prove import baseline_scripts_by_env
from running import REPOSITORY

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
