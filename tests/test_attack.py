"""ATT&CK: tags become techniques, rules become a layer for the Navigator."""

from __future__ import annotations

from typing import Any

from threatlens.attack import navigator_layer, technique_of


def test_a_technique_is_scored_by_the_rules_that_look_for_it() -> None:
    layer = navigator_layer(
        [
            ("SSH guessing", ["attack.credential-access", "attack.t1110.001"], 3),
            ("Mail guessing", ["attack.t1110.001", "attack.t1110.001"], 0),
            ("Scan", ["attack.t1046", "attack.t9999", "cve.2021-1"], 0),
        ]
    )

    assert [(one["techniqueID"], one["score"]) for one in layer["techniques"]] == [("T1046", 1), ("T1110.001", 2)]
    assert layer["techniques"][1]["comment"] == "Mail guessing; SSH guessing (matched 3 times)"
    assert layer["gradient"]["maxValue"] == 2
    assert layer["versions"]["layer"] == "4.5"


def test_no_rules_are_an_empty_layer() -> None:
    assert navigator_layer([])["techniques"] == []


def test_the_page_gives_the_layer_of_the_rules_in_force(viewer_client: Any, services: Any) -> None:
    answer = viewer_client.get("/rules/coverage.json")

    assert answer.status_code == 200
    assert "threatlens-attack-layer.json" in answer.headers["Content-Disposition"]
    found = {one["techniqueID"] for one in answer.json["techniques"]}
    assert {"T1110.001", "T1190"} <= found
    assert all(technique_of("attack." + number.lower()) for number in found)
