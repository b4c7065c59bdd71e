"""A real SLURM of one node on this machine: no systemd, no cgroups, no accounting, and GPUs that are none."""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from debian import install_or_skip

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
# Snakemake's plug-in drops SLURM_CONF on its way into a job, so the configuration must lie where SLURM looks by itself.
ETC = Path("/etc/slurm")
MARK = "# Made by tests/cluster of the SpaMosaic workflow, and removed when they end.\n"
N_GPUS = 2

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={state}/munge.socket
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/node
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
Prolog={state}/prolog.sh
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
# Memory is watched once a second, and a job that outgrows what it asked for is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
KillWait=2
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerParameters=sched_interval=2,bf_interval=2
# A request that no node can ever meet is refused, not queued for ever; finished jobs stay on record.
EnforcePartLimits=ALL
MinJobAge=3600
# More cores and memory than the machine may have, so that jobs run side by side on a small one.
SlurmdParameters=config_overrides
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=24000 Gres=gpu:fake:{n_gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=1000 State=UP
"""


class Slurm:
    """A SLURM of one node whose state lies in ``state``."""

    def __init__(self, state: Path):
        self.state = state
        self._daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        host = socket.gethostname().split(".")[0]
        for name in ("controller", "node"):
            (self.state / name).mkdir()
        for number in range(N_GPUS):
            # A device that answers as /dev/null does.
            os.mknod(self.state / f"gpu{number}", 0o20666, os.makedev(1, 3))
        prolog = self.state / "prolog.sh"
        prolog.write_text(f'#!/bin/sh\necho "$SLURM_JOB_ID $SLURM_JOB_GPUS" >> {self.state}/handed_out\n')
        prolog.chmod(0o755)
        key = self.state / "munge.key-file"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        ports = _free_ports(2)
        configuration = MARK + CONFIGURATION.format(
            host=host, state=self.state, n_gpus=N_GPUS, controller_port=ports[0], node_port=ports[1]
        )
        gpus = f"AutoDetect=off\nNodeName={host} Name=gpu Type=fake File={self.state}/gpu[0-{N_GPUS - 1}]\n"
        # A socket and a key of its own, so that a munge of the machine's, if there is one, is left alone.
        own = [f"--{name}={self.state}/munge.{name}" for name in ("key-file", "pid-file", "seed-file", "socket")]
        self._run("munged", "--foreground", "--force", *own)
        ETC.mkdir(exist_ok=True)
        (ETC / "gres.conf").write_text(MARK + gpus)
        (ETC / "slurm.conf").write_text(configuration)
        self._run("slurmctld", "-D", "-c")
        self._run("slurmd", "-D")
        self._wait_for(lambda: self._ask("sinfo", "--noheader", "--format=%T") == "idle", 60)

    def stop(self) -> None:
        """Leave nothing: with its configuration in place and no daemon, every start of Snakemake would wait 10 s."""
        if "slurmctld" in self._daemons:
            self._ask("scancel", "--user=root")
            self._wait_for(lambda: not self._ask("squeue", "--noheader", "--states=R,PD,CG"), 20, fail=False)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def jobs(self, folder: Path) -> list[dict[str, str]]:
        """SLURM's own record of each job run in ``folder``, by their ids; ``Rule`` is read off ``Comment``."""
        records = []
        for line in self._ask("scontrol", "show", "job", "--oneliner").splitlines():
            record = dict(re.findall(r"(\w[\w:/]*)=(.*?)(?= \w[\w:/]*=|$)", line.strip()))
            if Path(record["WorkDir"]) == folder:
                record["Rule"] = record["Comment"].strip().removeprefix("rule_").split("_wildcards_")[0]
                records.append(record)
        return sorted(records, key=lambda record: int(record["JobId"]))

    def gpus_handed_out(self) -> dict[str, str]:
        """Numbers of the GPUs that SLURM gave to each job, as the node saw it before the job began."""
        lines = (self.state / "handed_out").read_text().splitlines()
        return {number: gpus for number, _, gpus in (line.partition(" ") for line in lines)}

    def _run(self, program: str, *arguments: str) -> None:
        # Its own log is what SLURM writes to stderr in the foreground.
        with (self.state / f"{program}.log").open("w") as log:
            self._daemons[program] = subprocess.Popen([program, *arguments], stdout=log, stderr=log)

    def _ask(self, *command: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip()

    def _wait_for(self, condition, seconds: float, *, fail: bool = True) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                if fail:
                    logs = "\n".join(f"== {p.name}\n{p.read_text()[-1500:]}" for p in self.state.glob("*.log"))
                    raise RuntimeError(f"SLURM did not come up ({', '.join(dead) or 'too slow'})\n{logs}")
                return
            time.sleep(0.3)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def installed_or_skip() -> None:
    """Install SLURM from Debian's packages; skips the tests where it can't be had, or where there is one already."""
    if os.geteuid() != 0:
        pytest.skip("a SLURM of one node needs root")
    if shutil.which("slurmctld") is None or shutil.which("munged") is None:
        install_or_skip("SLURM", *PACKAGES)
    found = ETC / "slurm.conf"
    if found.exists():
        if not found.read_text().startswith(MARK):
            pytest.skip(f"this machine belongs to a SLURM already ({found})")
        if subprocess.run(["scontrol", "ping"], capture_output=True, timeout=60, check=False).returncode == 0:
            pytest.skip("these tests are running on this machine already")
