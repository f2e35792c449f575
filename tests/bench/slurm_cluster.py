"""A real Slurm cluster of one node on loopback: munged, slurmctld and slurmd, all files in one folder.

    python tests/bench/slurm_cluster.py start FOLDER [--accounting]    prints the SLURM_CONF to export
    python tests/bench/slurm_cluster.py stop FOLDER
    python tests/bench/slurm_cluster.py check                          says what is missing

Needs root and the Debian packages slurm-wlm and munge. Without ``--accounting`` there is no accounting
database, so ``sacct`` fails, as on many small clusters; with it slurmdbd and a MariaDB of its own are started
too (packages slurmdbd and mariadb-server). Partition ``urgent`` pre-empts the jobs of ``debug``, which are
then put back into the queue.
"""

import argparse
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
from _slurm_conf import CONF, DATABASE_CONF, NO_ACCOUNTING, WITH_ACCOUNTING

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "setpriv")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacct")
DAEMONS = ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "munged")  # in the order of their end
START_SECONDS = 60.0


class CannotStart(Exception):
    """A daemon does not run on this machine; says which, and its last words."""


def missing(*, accounting: bool = False) -> str:
    """What this machine lacks to run a cluster; empty if it lacks nothing."""
    if os.geteuid() != 0:
        return "a Slurm cluster for the tests is started as root"
    for wanted, packages in (
        (PROGRAMS, "slurm-wlm and munge"),
        (ACCOUNTING, "slurmdbd and mariadb-server"),
    ):
        lacking = [name for name in wanted if shutil.which(name) is None]
        if lacking and (accounting or wanted is PROGRAMS):
            return f"install {packages}; not found: {', '.join(lacking)}"
    return ""


class Cluster:
    """The cluster of one folder.

    Args:
        folder: where configuration, state, logs and process ids go; made if it is missing.
        accounting: whether ``sacct`` answers.
        tied: whether the daemons end with the process that started them, however it ends.
    """

    def __init__(self, folder: Path, *, accounting: bool = False, tied: bool = True) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.accounting, self.tied = accounting, tied
        self._ports = {
            name: free_port() for name in ("slurmctld", "slurmd", "slurmdbd", "mariadbd")
        }

    def __str__(self) -> str:
        return f"Slurm with{'' if self.accounting else 'out'} accounting"

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs.

        Raises:
            CannotStart: one of them ends or is not ready in time; the others have been ended.
        """
        for name in ("", "state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        _private(self.folder / "munge.key", secrets.token_bytes(64))
        prolog = self.folder / "prolog"
        prolog.write_text(f"#!/bin/sh\ntest ! -e {self.folder}/prolog-fails\n")
        prolog.chmod(0o755)
        self.configure()
        try:
            self._start_all()
        except BaseException:
            self._end_all()
            raise

    def configure(self, forget: int = 60) -> None:
        """Write ``slurm.conf``; a running cluster reads it again by ``scontrol reconfigure``.

        Args:
            forget: seconds until squeue does not show an ended job any more.
        """
        host = socket.gethostname().partition(".")[0]
        filled = {"host": host, "folder": self.folder, "forget": forget, **self._ports}
        accounting = WITH_ACCOUNTING if self.accounting else NO_ACCOUNTING
        self.conf.write_text(CONF.format(accounting=accounting.format(**filled), **filled))
        os.environ["SLURM_CONF"] = str(self.conf)

    def _start_all(self) -> None:
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        places = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        self.spawn("munged", "--foreground", "--force", *places)
        self._ready("munged", lambda: (self.folder / "munge.socket").exists())
        if self.accounting:
            self._start_accounting()
        self.spawn("slurmctld")
        self.spawn("slurmd")
        self._ready("slurmctld", lambda: "UP" in self.ask("scontrol", "ping"))
        self._ready("slurmd", lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"))

    def _start_accounting(self) -> None:
        password, data = secrets.token_hex(16), self.folder / "mariadb"
        database = DATABASE_CONF.format(folder=self.folder, password=password, **self._ports)
        _private(self.folder / "slurmdbd.conf", database.encode())
        user = f"CREATE USER slurm@127.0.0.1 IDENTIFIED BY '{password}';"
        _private(
            self.folder / "user.sql", f"{user}\nGRANT ALL ON *.* TO slurm@127.0.0.1;\n".encode()
        )
        common = ["--no-defaults", f"--datadir={data}", "--user=root"]
        common += ["--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0"]
        maker = "mariadb-install-db"
        with self._words(maker).open("w") as said:
            words = [maker, *common, "--skip-test-db", "--skip-name-resolve"]
            made = subprocess.run(words, stdout=said, stderr=said)
        if made.returncode:
            raise CannotStart(f"{maker}: {_last(self._words(maker))}")
        socket_file, port = self.folder / "mariadb.socket", self._ports["mariadbd"]
        net = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={socket_file}"]
        files = [f"--init-file={self.folder}/user.sql", f"--pid-file={self.folder}/mariadbd.pid"]
        self.spawn("mariadbd", *common, *net, *files)
        self._ready("mariadbd", lambda: _listens(port))
        self.spawn("slurmdbd")
        self._ready("slurmdbd", lambda: _listens(self._ports["slurmdbd"]))

    def spawn(self, name: str, *words: str) -> None:
        """Start a daemon; ``slurm...`` need no words."""
        if not words:
            words = ("-D",) if name == "slurmdbd" else ("-D", "-f", str(self.conf))
        tie = ["setpriv", "--pdeathsig", "KILL"] if self.tied else []
        with self._words(name).open("w") as said:
            process = subprocess.Popen(
                [*tie, name, *words],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip
        self._own(name).write_text(str(process.pid))

    def _words(self, name: str) -> Path:
        return self.folder / f"{name}.said"

    def _own(self, name: str) -> Path:
        return self.folder / f"{name}.own-pid"

    def _ready(self, name: str, condition) -> None:
        end = time.monotonic() + START_SECONDS
        while not condition():
            ended = not _is_at_work(int(self._own(name).read_text()))
            if ended or time.monotonic() > end:
                how = "ended at once" if ended else f"is not ready after {START_SECONDS:.0f} s"
                raise CannotStart(f"{name} {how}: {_last(self._words(name))}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Cancel every job and end the daemons."""
        os.environ["SLURM_CONF"] = str(self.conf)
        try:
            self.clear()
        finally:
            self._end_all()

    def clear(self) -> None:
        """Cancel every job."""
        self.ask("scancel", "--user=root")
        self.wait(lambda: not self.ask("squeue", "-h"), "jobs are left")

    def _end_all(self) -> None:
        for name in DAEMONS:
            self.kill(name)

    def kill(self, name: str, how: int = signal.SIGKILL) -> None:
        """End one daemon and wait until it is gone; by SIGTERM it saves its state first."""
        path = self._own(name)
        if path.exists():
            pid = int(path.read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            self.wait(lambda: not _is_at_work(pid), f"{name} does not end")
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            path.unlink()

    def pid(self, name: str) -> int:
        """The process of a daemon."""
        return int(self._own(name).read_text())

    def ask(self, *words: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        return done.stdout + done.stderr

    def wait(self, condition, complaint: str, seconds: float = 60.0) -> None:
        """Wait for a condition."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{complaint} after {seconds} s; see {self.folder}"
            time.sleep(0.05)


def _private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(content)


def _last(words: Path) -> str:
    lines = words.read_text(errors="replace").split("\n")
    return " / ".join(filter(None, map(str.strip, lines[-4:])))[-400:] or "it said nothing"


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def _is_at_work(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main() -> None:
    """Start or stop a cluster for work by hand, or say what one needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("start", "stop", "check"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--accounting", action="store_true")
    options = parser.parse_args()
    if lacks := missing(accounting=options.accounting):
        sys.exit(lacks)
    if options.verb == "check":
        return
    cluster = Cluster(options.folder.resolve(), accounting=options.accounting, tied=False)
    if options.verb == "stop":
        return cluster.stop()
    try:
        cluster.start()
    except CannotStart as fault:
        sys.exit(str(fault))
    print(f"export SLURM_CONF={cluster.conf}")


if __name__ == "__main__":
    main()
