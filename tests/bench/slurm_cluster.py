"""A real Slurm cluster of one node on loopback: munged, slurmctld and slurmd, all files in one folder.

    python tests/bench/slurm_cluster.py start FOLDER    prints the SLURM_CONF to export
    python tests/bench/slurm_cluster.py stop FOLDER
    python tests/bench/slurm_cluster.py check           says what is missing

Needs root and the Debian packages slurm-wlm and munge. There is no accounting database, so ``sacct`` fails,
as on many small clusters. Partition ``urgent`` pre-empts the jobs of ``debug``, which are then requeued.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,defer_batch
ReturnToService=2
KillWait=2
MinJobAge=60
Prolog={folder}/prolog
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=60 State=UP PriorityTier=9
"""


def missing() -> str:
    """What this machine lacks to run a cluster; empty if it lacks nothing."""
    if os.geteuid() != 0:
        return "a Slurm cluster for the tests is started as root"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"install slurm-wlm and munge; not found: {', '.join(lacking)}" if lacking else ""


class Cluster:
    """The cluster of one folder.

    Args:
        folder: where configuration, state, logs and process ids go; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"

    def start(self, cpus: int = 4) -> None:
        """Start the three daemons and wait until the node takes jobs."""
        for name in ("", "state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(64))
        (self.folder / "munge.key").chmod(0o400)
        prolog = self.folder / "prolog"
        prolog.write_text(f"#!/bin/sh\ntest ! -e {self.folder}/prolog-fails\n")
        prolog.chmod(0o755)
        host = socket.gethostname().partition(".")[0]
        ports = {"ctld_port": free_port(), "slurmd_port": free_port()}
        self.conf.write_text(CONF.format(host=host, folder=self.folder, cpus=cpus, **ports))
        os.environ["SLURM_CONF"] = str(self.conf)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munge.seed"}
        said = [f"--{option}={self.folder / name}" for option, name in files.items()]
        subprocess.run(["munged", "--force", *said], check=True, capture_output=True)
        subprocess.run(["slurmctld", "-f", str(self.conf)], check=True)
        subprocess.run(["slurmd", "-f", str(self.conf)], check=True)
        self.wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), "the node is not idle")

    def stop(self) -> None:
        """Cancel every job and end the daemons."""
        os.environ["SLURM_CONF"] = str(self.conf)
        self.ask("scancel", "--user=root")
        self.wait(lambda: not self.ask("squeue", "-h"), "jobs are left")
        for name in ("slurmctld", "slurmd", "munged"):
            self.kill(name)

    def kill(self, name: str) -> None:
        """End one daemon and wait until it is gone."""
        path = self.folder / f"{name}.pid"
        if path.exists() and (pid := int(path.read_text() or 0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.wait(lambda: not _is_at_work(pid), f"{name} does not end")
            path.unlink(missing_ok=True)

    def ask(self, *words: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(words, capture_output=True, text=True)
        return done.stdout + done.stderr

    def wait(self, condition, complaint: str, seconds: float = 30.0) -> None:
        """Wait for a condition."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{complaint} after {seconds} s; see {self.folder}"
            time.sleep(0.05)


def _is_at_work(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    verb, *folder = sys.argv[1:]
    if lacks := missing():
        sys.exit(lacks)
    if verb != "check":
        cluster = Cluster(Path(*folder).resolve())
        getattr(cluster, {"start": "start", "stop": "stop"}[verb])()
        print(f"export SLURM_CONF={cluster.conf}" if verb == "start" else "stopped")
