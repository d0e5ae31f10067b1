"""What ``up`` reads and checks before it starts anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cortexd.settings import SettingsError
from cortexd.supervisor import LockedError, UpError, exclusive
from cortexd.supervisor.child import restart_delay_s
from cortexd.supervisor.plan import read_plan
from cortexd.supervisor.ports import check_ports
from cortexd.supervisor.ready import ready_text


def applied(folder: Path, *, gateway: int = 31313, metrics: int = 31314, neuron: str = "127.0.0.1:13131") -> Path:
    etc = folder / "etc"
    (etc / "neurons").mkdir(parents=True, exist_ok=True)
    (etc / "control.toml").write_text(
        f'[gateway]\nlisten = "0.0.0.0:{gateway}"\nmetrics_listen = "127.0.0.1:{metrics}"\n'
    )
    (etc / "neurons" / "local.toml").write_text(
        f'name = "local"\nlisten = "{neuron}"\n[[models]]\nid = "embed"\ntask = "embed"\n'
        '[[models]]\nid = "it\'s"\ntask = "chat"\n'
    )
    return folder


def test_the_plan_has_every_process_and_address(tmp_path: Path) -> None:
    plan = read_plan(applied(tmp_path))

    assert [program.name for program in plan.programs] == ["neuron local", "controller", "gateway"]
    assert [address.port for address in plan.addresses] == [31313, 31314, 13131]
    assert plan.chat_model == "it's"


def test_the_ready_line_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    text = ready_text(read_plan(applied(tmp_path)))

    command = text.split("\n\n")[1].strip().replace("curl", "printf '%s\\n'", 1)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert '{"model": "it\'s", "stream": true' in done.stdout
    assert "http://127.0.0.1:31313/v1/chat/completions" in done.stdout


def test_nothing_applied_is_said_with_the_command_that_helps(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cortexd apply"):
        read_plan(tmp_path)


def test_a_wrong_address_names_file_and_setting(tmp_path: Path) -> None:
    with pytest.raises(UpError, match=r"local\.toml: 'nonsense' is not HOST:PORT \(endpoint of \[\[neurons\]\] local"):
        read_plan(applied(tmp_path, neuron="nonsense"))


def test_a_port_in_use_is_named_with_the_setting_that_moves_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(
            UpError, match=rf"port {port} on 0\.0\.0\.0 is in use; change \[gateway\] listen in fleet\.toml"
        ):
            check_ports(read_plan(applied(tmp_path, gateway=port)).addresses[:1])


def test_one_port_given_twice_is_named_with_both_settings(tmp_path: Path) -> None:
    addresses = read_plan(applied(tmp_path, metrics=13131)).addresses

    with pytest.raises(UpError, match=r"port 13131 is given twice: \[gateway\] metrics_listen .*, and endpoint of"):
        check_ports(addresses[1:])


def test_a_second_up_on_the_same_state_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cortexd.supervisor import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "up.lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"

    with pytest.raises(LockedError, match=f"process {holder.pid}"), exclusive(tmp_path / "up.lock", "cortexd up"):
        pass

    holder.kill()
    holder.communicate()
    with exclusive(tmp_path / "up.lock", "cortexd up"):
        pass


def test_the_restart_delay_doubles_and_ends_at_ten_seconds() -> None:
    assert [restart_delay_s(n) for n in (1, 2, 3, 99)] == [0.5, 1, 2, 10]
