"""systemd as the agent uses it: the system's manager or a user's, through ``systemctl``."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from cortexd.deploy.host.protocol import HostError

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "NRestarts",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
    "UnitFileState",
    "InvocationID",
    "Job",
)
_QUERY_S = 30.0
_SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), r"\1 ***"),
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), r"\1:***@"),
    (
        re.compile(r"(?i)([\w-]*(?:password|passwd|secret|token|api[_-]?key)[\"']?\s*[=:]\s*)[\"']?[^\s\"',;]+"),
        r"\1***",
    ),
    (re.compile(r"\bsk-[\w-]{6,}"), "sk-***"),
)


class Manager:
    """One systemd. ``user``: that of the user who runs this, else the machine's."""

    def __init__(self, user: bool) -> None:
        self._flags = ["--user"] if user else []
        self._user = user
        self._environment = dict(os.environ)
        runtime = f"/run/user/{os.getuid()}"
        if user and not self._environment.get("XDG_RUNTIME_DIR") and Path(runtime).is_dir():
            self._environment["XDG_RUNTIME_DIR"] = runtime  # a login over ssh without PAM lacks it

    def check(self) -> None:
        """Raise HostError unless this manager runs."""
        done = self._systemctl(["show", "-P", "Version"], _QUERY_S)
        if done.returncode != 0:
            raise HostError(
                "the systemd manager of this user does not run; as root: `loginctl enable-linger USER`"
                if self._user
                else f"systemd does not run here: {_line(done.stderr)}"
            )

    def show(self, units: Iterable[str]) -> dict[str, dict[str, str]]:
        """Unit -> its properties; of one that is not there, ``LoadState`` is ``not-found``. Raises HostError."""
        names = list(units)
        if not names:
            return {}
        done = self._systemctl(["show", "-p", ",".join(PROPERTIES), "--", *names], _QUERY_S)
        if done.returncode != 0:
            raise HostError(f"systemctl show: {_line(done.stderr)}")
        blocks = [
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in done.stdout.strip().split("\n\n")
        ]
        return dict(zip(names, blocks, strict=True))

    def reload(self) -> None:
        """Read the unit files again. Raises HostError."""
        self._must(["daemon-reload"])

    def enable(self, units: Sequence[str]) -> None:
        """Make the links that their [Install] asks for, and no others. The manager sees them after ``reload``."""
        if units:
            self._must(["--no-reload", "-q", "reenable", "--", *units])

    def disable(self, units: Sequence[str]) -> None:
        """Remove their links."""
        if units:
            self._must(["--no-reload", "-q", "disable", "--", *units])

    def stop(self, units: Sequence[str], timeout_s: float) -> str | None:
        """Stop them and wait. What went wrong, in words."""
        return self._job("stop", units, timeout_s)

    def restart(self, units: Sequence[str], timeout_s: float) -> str | None:
        """Restart them, start those that do not run, all at once, and wait. What went wrong, in words."""
        # a unit that crashed too often is refused a start until this is forgotten
        if units:
            self._systemctl(["reset-failed", "--", *units], _QUERY_S)
        return self._job("restart", units, timeout_s)

    def start(self, units: Sequence[str], timeout_s: float) -> str | None:
        """Start them and wait. What went wrong, in words."""
        return self._job("start", units, timeout_s)

    def journal(self, unit: str, invocation: str, crashed: bool) -> list[str]:
        """The last lines that this start of it wrote, else the last about it; no secrets. Empty without a journal."""
        # what its own processes wrote says more than what systemd says about them
        kind = "_SYSTEMD_USER_UNIT" if self._user else "_SYSTEMD_UNIT"
        own = ["-n", "8", f"{kind}={unit}", f"_SYSTEMD_INVOCATION_ID={invocation}"]
        # between two crashes this start has said nothing yet: the one before has
        about = ["-n", "14" if crashed else "3", f"--user-unit={unit}" if self._user else f"--unit={unit}"]
        for which in (own, about):
            try:
                done = subprocess.run(
                    ["journalctl", *which, "-o", "cat", "--no-pager", "-q"],
                    capture_output=True,
                    timeout=_QUERY_S,
                    env=self._environment,
                )
            except (OSError, subprocess.TimeoutExpired):
                return []
            found = [redact(line) for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
            if found:
                return found
        return []

    def _job(self, verb: str, units: Sequence[str], timeout_s: float) -> str | None:
        if not units:
            return None
        try:
            done = self._systemctl([verb, "--", *units], max(timeout_s, 0.1))
        except subprocess.TimeoutExpired:
            return f"systemd is still at work after {timeout_s:.0f} s on: {verb} {' '.join(units)}"
        return None if done.returncode == 0 else f"{verb}: {_line(done.stderr)}"

    def _must(self, arguments: list[str]) -> None:
        done = self._systemctl(arguments, _QUERY_S)
        if done.returncode != 0:
            raise HostError(f"systemctl {' '.join(arguments)}: {_line(done.stderr)}")

    def _systemctl(self, arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["systemctl", *self._flags, "--no-pager", "--no-ask-password", *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise HostError("there is no systemctl on this host; use `--state-dir` and `cortexd up`") from None


def redact(text: str) -> str:
    """``text`` without what looks like a secret."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return redact(lines[0]) if lines else "no reason given"
