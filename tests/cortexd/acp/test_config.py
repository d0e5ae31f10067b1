"""``acp.toml``: what it says, and where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortexd.acp.config import LOCAL_GATEWAY, ConfigError, load_config, parse_config
from cortexd.acp.upstream import api_key

ONE = '[[endpoints]]\nname = "a"\nbase_url = "https://host.example"\n'


def test_an_endpoint_needs_a_name_and_an_address_and_the_rest_has_defaults() -> None:
    config = parse_config(ONE, "f")

    assert config.default_endpoint == "a" and config.max_rounds == 25
    assert (config.endpoints[0].base_url, config.endpoints[0].wire_api) == ("https://host.example/v1", "openai-chat")


def test_an_address_with_a_path_is_left_as_it_is() -> None:
    text = ONE.replace("host.example", "host.example/api/openai/")

    assert parse_config(text, "f").endpoints[0].base_url == "https://host.example/api/openai"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x = [", "f:1"),
        ("", "f:1: endpoints: at least one"),
        (ONE + ONE, "f:5: name: two endpoints"),
        ('default_endpoint = "b"\n' + ONE, "f:1: default_endpoint: 'b' is no endpoint"),
        (ONE + 'wire_api = "x"\n', "f:4: wire_api: 'x' is none of"),
        (ONE + 'api_key = "sk-secret"\n', "f:4: api_key: keys do not belong"),
        (ONE + "max_tokens = 0\n", "f:4: max_tokens: must be a number above 0"),
        (ONE + "context_window = true\n", "f:4: context_window: must be"),
        (ONE + '[[endpoints]]\nname = "b"\n', "f:4: base_url: endpoint 'b' needs"),
        (ONE.replace("https://", "https://u:p@"), "f:3: base_url: must not hold a user"),
        (ONE + "speed = 1\n", "f:4: speed: is not known"),
        ('plan_dir = "../x"\n' + ONE, "f:1: plan_dir: "),
    ],
)
def test_a_mistake_names_its_file_and_line_and_never_a_key(text: str, place: str) -> None:
    with pytest.raises(ConfigError) as e:
        parse_config(text, "f")

    assert str(e.value).startswith(place) and "sk-secret" not in str(e.value)


def test_without_a_file_the_gateway_of_this_machine_is_asked(tmp_path: Path) -> None:
    assert load_config({"XDG_CONFIG_HOME": str(tmp_path)}).endpoints[0].base_url == LOCAL_GATEWAY


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config({"CORTEXD_ACP_CONFIG": str(tmp_path / "acp.toml")})


def test_a_key_comes_from_its_variable_or_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k1\n")
    from_file = parse_config(ONE + f'api_key_file = "{tmp_path / "key"}"\n', "f").endpoints[0]
    from_variable = parse_config(ONE + 'api_key_env = "K"\n', "f").endpoints[0]

    assert (api_key(from_file, {}), api_key(from_variable, {"K": "k2"})) == ("k1", "k2")
    with pytest.raises(ConfigError, match="the variable K is not set"):
        api_key(from_variable, {})
