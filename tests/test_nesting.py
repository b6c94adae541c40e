"""Texts that nest without end are refused by a limit of ours, the same under every Python."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from conftest import Command
from rd_import.nesting import DEEPEST, TooDeepError, read_json
from rd_import.outcome import Accepted, Observation, Unknown, judge
from rd_import.sandbox import Sandbox
from rig import TYPE, orders, save

TEXTS = st.text(alphabet='[]{}"\\,: a\u00e9', max_size=20)


def nested(inner: str, depth: int) -> str:
    """Put a JSON text that nests no deeper itself into lists and objects in turn."""
    for level in range(depth):
        inner = f"[{inner}]" if level % 2 else f'{{"{level}": {inner}, "b": []}}'
    return inner


@given(depth=st.integers(0, DEEPEST), text=TEXTS, name=TEXTS)
def test_what_nests_as_deep_as_allowed_is_read(depth: int, text: str, name: str) -> None:
    """Brackets and quotes within texts are none."""
    inner = json.dumps({name: text} if depth < DEEPEST else text, ensure_ascii=False)
    found = nested(inner, max(depth - 1, 0))
    assert read_json(found) == json.loads(found)
    assert read_json(found.encode("utf-16")) == json.loads(found)


@given(depth=st.integers(DEEPEST + 1, 3 * DEEPEST), text=TEXTS)
def test_what_nests_deeper_is_not(depth: int, text: str) -> None:
    with pytest.raises(TooDeepError):
        read_json(nested(json.dumps(text), depth))


@pytest.mark.parametrize("text", ["[" * 1_000_000, '{"a":' * 1_000_000, "[{" * 100 + "]]"])
def test_brackets_that_are_never_closed_are_not_followed_down(text: str) -> None:
    with pytest.raises(TooDeepError):
        read_json(text)


@pytest.mark.parametrize("text", ["[1", '{"a": [}', '"a', "]" * 10, ""])
def test_what_is_no_json_is_the_parser_s_to_refuse(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        read_json(text)


@pytest.mark.parametrize("depth", [DEEPEST, 100_000])
def test_an_answer_that_nests_too_deeply_proves_nothing(depth: int) -> None:
    """Between the limit and where Python itself would end, and far beyond."""
    good = '{"event_batch_uuid": "b", "events": [{"event_uuid": "u"}], "more": %s}'
    for deep, kind in ((DEEPEST - 1, Accepted), (depth, Unknown)):
        body = (good % ("[" * deep + "]" * deep)).encode()
        seen = Observation(200, {}, body, asked_bytes=100, failure="")
        assert isinstance(judge(seen, 1), kind)


@pytest.mark.parametrize("depth", [DEEPEST, 90_000])
def test_a_request_that_nests_too_deeply_is_refused_by_the_sandbox(
    depth: int, sandbox: Sandbox
) -> None:
    def post(deep: int) -> requests.Response:
        return requests.post(
            f"{sandbox.url}/platform/events/batch",
            data="[" + "[" * deep + "]" * deep + "]",
            headers={
                "Authorization": f"Bearer {sandbox.token}",
                "Content-Type": "application/json",
            },
            timeout=10,
        )

    refused = post(depth)
    assert refused.status_code == 400
    assert "nested more than 64 deep" in refused.text
    assert "nested" not in post(DEEPEST - 1).text


@pytest.mark.parametrize("depth", [DEEPEST, 100_000])
def test_a_line_that_nests_too_deeply_is_set_aside(
    tmp_path: Path, rd_import: Command, depth: int
) -> None:
    good: dict[str, Any] = orders(1)[0]
    deep = json.dumps(good)[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(good)}\n{deep}\n", "utf-8")
    done = rd_import("check", path, *TYPE, "--json")
    assert done.code == 3
    assert done.json["states"] == {"invalid": 1, "not_sent": 1}
    assert "nested more than 64 deep" in str(done.json["preview"]["problems"])


@pytest.mark.parametrize("depth", [DEEPEST + 1, 100_000])
def test_a_mapping_that_nests_too_deeply_is_refused(
    tmp_path: Path, rd_import: Command, depth: int
) -> None:
    path = save(tmp_path / "a.csv", orders(1))
    mapping = tmp_path / "m.toml"
    mapping.write_text("# [[\na = " + "[" * depth + "]" * depth, "utf-8")
    done = rd_import("check", path, *TYPE, "--map", mapping)
    assert done.code == 2
    assert "too deeply" in done.err


def test_brackets_in_texts_and_comments_of_a_mapping_are_none(
    tmp_path: Path, rd_import: Command
) -> None:
    path = save(tmp_path / "a.csv", orders(1, name="[" * 100))
    mapping = tmp_path / "m.toml"
    mapping.write_text(
        f"# {'[' * 100} ' \"\n[fields]\nname = {{ value = '{'[' * 100}' }}\n", "utf-8"
    )
    done = rd_import("check", path, *TYPE, "--map", mapping, "--json")
    assert done.code == 0, done
