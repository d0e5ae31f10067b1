"""Findings in the form that code hosts read."""

from __future__ import annotations

from compiler import codes
from compiler.diagnostics import Diagnostic, Span
from compiler.sarif import as_sarif

FOUND = [
    Diagnostic(
        codes.WRONG_VALUE, "error", "`x` is wrong", Span("a b/models.toml", 3, 2, 4), ("models", 0, "x"), "do y"
    ),
    Diagnostic(codes.NO_KEYS, "warning", "no keys", Span("$CORTEXD_GATEWAY__REQUIRE_AUTH", 1, 1, 5), ("gateway",)),
]


def test_a_finding_has_its_rule_its_place_and_its_hint() -> None:
    run = as_sarif(FOUND, "1.2.3")["runs"][0]
    variable, value = run["results"]

    assert value["message"]["text"] == "`x` is wrong (hint: do y)"
    assert (value["level"], variable["level"]) == ("error", "warning")
    assert run["tool"]["driver"]["rules"][value["ruleIndex"]]["id"] == value["ruleId"] == codes.WRONG_VALUE
    assert value["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20b/models.toml"},
        "region": {"startLine": 3, "startColumn": 2, "endColumn": 6},
    }
    assert value["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "models[0].x"


def test_a_variable_is_no_file() -> None:
    location = as_sarif(FOUND, "1.2.3")["runs"][0]["results"][0]["locations"][0]

    assert "physicalLocation" not in location
    assert location["logicalLocations"][-1]["name"] == "CORTEXD_GATEWAY__REQUIRE_AUTH"


def test_every_code_is_a_rule_that_says_where_it_is_explained() -> None:
    rules = as_sarif([], "1.2.3")["runs"][0]["tool"]["driver"]["rules"]

    assert [rule["id"] for rule in rules] == list(codes.CODES)
    assert all(f"diagnostics.md#{rule['id'].lower()}" in rule["help"]["text"] for rule in rules)


def test_nothing_found_is_an_empty_list_of_results() -> None:
    log = as_sarif([], "1.2.3")

    assert (log["version"], log["runs"][0]["results"]) == ("2.1.0", [])
