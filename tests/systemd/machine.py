"""A small machine for tests: a real systemd as PID 1 in namespaces of its own, over an overlay of this one's files.

    with Machine("box", install(folder)) as box:     # up in about a second
        box.write("/etc/systemd/system/x.service", "…")
        box.run(["systemctl", "start", "x"])

Everything inside ends with the one process that was started, also when the test process is killed; what was written is
in memory and gone. cortexd and neuron of this checkout are in ``/opt/cortexd/bin`` there. ``/root`` and ``/home`` are
empty. Wants root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "/opt/cortexd"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SOURCES = ("cortexd", "neuron", "compiler", "templates", "migrations", "fleet.toml.example", "models.toml.example")


def why_not() -> str | None:
    """Why no machine can be had here, None if it can."""
    if os.geteuid() != 0:
        return "a real systemd is tested as root only"
    for program in ("unshare", "nsenter", "setpriv", "/lib/systemd/systemd"):
        if shutil.which(program) is None:
            return f"a real systemd needs {program}"
    tried = subprocess.run(
        ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "true"],
        capture_output=True,
        text=True,
    )
    return None if tried.returncode == 0 else f"namespaces are not permitted here: {tried.stderr.strip()}"


def install(folder: Path) -> Path:
    """Put this checkout's cortexd below ``folder``/opt/cortexd as an installation would; ``folder`` again.

    The interpreter and its packages are not copied: each machine sees them through read-only mounts.
    """
    prefix = folder / PREFIX.lstrip("/")
    for name in _SOURCES:
        source, target = ROOT / name, prefix / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.onnx.tmp"))
        else:
            shutil.copy(source, target)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-s", str(folder), str(prefix / "src")], check=True)
    own = Path(sys.base_prefix)
    python = f"{own}/bin" if own == Path("/usr") else f"{PREFIX}/python/bin"
    library = "" if own == Path("/usr") else f"export LD_LIBRARY_PATH={PREFIX}/python/lib\n"
    (prefix / "bin").mkdir()
    for name, what in (("python", ""), ("cortexd", "-m cortexd"), ("neuron", "-m neuron")):
        program = prefix / "bin" / name
        program.write_text(
            f"#!/bin/sh\n{library}export PYTHONPATH={PREFIX}/src:{PREFIX}/site\nexport PYTHONDONTWRITEBYTECODE=1\n"
            f'exec {python}/python3.{sys.version_info.minor} -P {what} "$@"\n'
        )
        program.chmod(0o755)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.parent == prefix / "bin" else 0o644)
    return folder


def _mounts() -> list[str]:
    pairs = [sysconfig.get_paths()["purelib"], f"{PREFIX}/site"]
    if Path(sys.base_prefix) != Path("/usr"):
        pairs += [sys.base_prefix, f"{PREFIX}/python"]
    return pairs


class Machine:
    """One machine; a context manager. ``tree`` is what ``install`` made. ``pid``: its PID 1, as seen from here."""

    def __init__(self, name: str, tree: Path) -> None:
        self.name = name
        self.pid = 0
        self._base = Path(tempfile.mkdtemp(prefix=f"cortexd-{name}-"))
        self._log = self._base.with_suffix(".log")
        boot = ["/bin/sh", str(Path(__file__).with_name("boot.sh")), str(self._base), str(tree), name, *_mounts()]
        namespaces = ["--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--propagation", "private"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child", *namespaces, *boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Machine:
        try:
            self.wait_running()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_running(self, timeout: float = 60) -> None:
        """Wait until systemd has started everything. Raises RuntimeError with what it said."""
        end = time.monotonic() + timeout
        state = "not started"
        while time.monotonic() < end and self._process.poll() is None:
            self.pid = self.pid or _child(self._process.pid)
            if self.pid and Path(f"/proc/{self.pid}/root/run/systemd/private").exists():
                state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
                if state in ("running", "degraded"):  # a service of the base image may not start in here
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} is {state}: {self._log.read_text(errors='replace')[-2000:]}")

    def command(self, arguments: Sequence[str], user: str | None = None) -> list[str]:
        """The command line that runs ``arguments`` in there."""
        home = "/root" if user is None else f"/home/{user}"
        change = [] if user is None else ["runuser", "-u", user, "--"]
        environment = ["env", "-i", f"PATH={_PATH}", f"HOME={home}", "LANG=C.UTF-8"]
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "-r", f"-w/proc/{self.pid}/root"]
        return [*enter, *change, *environment, *arguments]

    def run(
        self,
        arguments: Sequence[str],
        *,
        check: bool = True,
        user: str | None = None,
        input: str | None = None,
        timeout: float = 90,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in there. With ``check`` a failure is an AssertionError that shows what it said."""
        done = subprocess.run(
            self.command(arguments, user), input=input, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {list(arguments)} gave {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def python(self, code: str, *arguments: str, timeout: float = 90) -> str:
        """What a Python program prints in there; cortexd can be imported."""
        return self.run([f"{PREFIX}/bin/python", "-c", code, *arguments], timeout=timeout).stdout

    def path(self, path: str) -> Path:
        """Where this process finds a file of the machine."""
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file of root's; its folders are made."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        target.chmod(mode)

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.path(path).read_text()

    def show(self, unit: str, prop: str) -> str:
        """A property of a unit."""
        return self.run(["systemctl", "show", "-P", prop, unit]).stdout.strip()

    def journal(self, unit: str) -> str:
        """What a unit wrote."""
        return self.run(["journalctl", "-u", unit, "-o", "cat", "--no-pager"]).stdout

    def stop(self) -> None:
        """End it: its PID 1, and with it everything inside. Again is nothing."""
        if self._process.returncode is not None and not self._base.exists():
            return
        if self.pid and self._process.poll() is None:
            # not the one that we started: this one is reaped by it, so that nothing is left when that has ended
            os.kill(self.pid, signal.SIGKILL)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        else:
            self._process.kill()
        self._process.wait()
        self._log.unlink(missing_ok=True)
        # the mounts went with the namespace; the folder is empty here
        self._base.rmdir()


def _child(pid: int) -> int:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            return int(stat.parent.name)
    return 0
