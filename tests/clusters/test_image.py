"""The image's steps in an empty root directory, where no builder is at hand: a Debian from debootstrap."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ENVS = REPOSITORY / "workflows/envs"
PLACE = "/opt/mat-reference"
# the host's network and certificates
PASSED = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def copied() -> list[str]:
    """What the Dockerfile puts into the image."""
    lines = re.findall("^COPY (.+)", (ENVS / "Dockerfile").read_text(), re.MULTILINE)
    return sorted(name for line in lines for name in line.split()[:-1])


def test_both_recipes_copy_the_same_files_and_run_the_same_steps():
    apptainer = (ENVS / "Apptainer.def").read_text()
    assert copied() == sorted(re.findall(rf"^ +(\S+) {PLACE}/$", apptainer, re.MULTILINE))
    assert all((REPOSITORY / name).exists() for name in copied())
    docker = (ENVS / "Dockerfile").read_text()
    assert f"WORKDIR {PLACE}" in docker and f"cd {PLACE}" in apptainer
    (base,) = re.findall("^FROM (.+)", docker, re.MULTILINE)
    assert re.findall("^From: (.+)", apptainer, re.MULTILINE) == [base]
    for recipe in (docker, apptainer):
        assert recipe.count("workflows/envs/image.sh") == 1
        assert "PATH=/opt/mat/bin:$PATH PYTHONPATH=." in recipe


def versions(listed: str) -> dict[str, str]:
    """By name, as indices write names."""
    pairs = re.findall(r"^([\w.-]+)==(\S+)$", listed, re.MULTILINE)
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in pairs}


@pytest.mark.slurm
def test_its_steps_make_the_pinned_environment_in_an_empty_root(tmp_path):
    if shutil.which("debootstrap") is None or os.getuid() != 0:
        pytest.skip("needs root and debootstrap: apt-get install debootstrap")
    root = tmp_path / "root"
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], check=True, capture_output=True)
    for name in copied():
        source, target = REPOSITORY / name, root / PLACE[1:] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copy("/etc/resolv.conf", root / "etc")
    environment = {name: os.environ[name] for name in PASSED if name in os.environ}
    if CERTIFICATES.is_file():
        shutil.copy(CERTIFICATES, root / "etc/host.crt")
        environment |= {"SSL_CERT_FILE": "/etc/host.crt", "PIP_CERT": "/etc/host.crt"}
    within = ["chroot", root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
    within += [f"{name}={value}" for name, value in environment.items()]
    command = [*within, "sh", "-c", f"cd {PLACE} && workflows/envs/image.sh"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    frozen = subprocess.run([*within, "/opt/mat/bin/pip", "freeze"], capture_output=True, text=True, check=True).stdout
    found = versions(frozen)
    assert found.items() <= versions((REPOSITORY / "constraints.txt").read_text()).items()
    assert {"torch", "snakemake", "snakemake-executor-plugin-slurm"} <= set(found)
    command = [*within, "PYTHONPATH=.", "/opt/mat/bin/mat", "list", "tasks"]
    assert "digits" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
