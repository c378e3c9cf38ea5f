"""Text in Argo's objects: no `{{` is left for it, and the kubelet gives the attempt the bytes that were written."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datacube_flows.core.expansion import escape, expand
from datacube_flows.engines.argo_text import BRACE, check_no_braces, protect_container, protect_value
from datacube_flows.errors import InvalidDataCube

pytestmark = pytest.mark.t0

PIECES = st.sampled_from(["{", "{{", "}}", "$", "$$", "$(", "$(A)", "$({{", "(", ")", "A", "\n", "é", "=1+1"])
TEXT = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20)
NAMES = st.sampled_from(["A", "B", "AB", "S3_URI"])


@given(value=TEXT, env=st.dictionaries(NAMES, TEXT))
@example(value="{{workflow.name}}", env={})
@example(value="$({{x}})", env={})
@example(value="$({{$(A)}})", env={"A": "a"})
@example(value="$({{", env={})
@example(value="{{$(A)}} ${{b}} $${{c}} {{{d}}} {{{{", env={"A": "a"})
def test_protected_value_has_no_braces_and_expands_to_the_same_bytes(value: str, env: dict[str, str]) -> None:
    written = protect_value(value)
    assert "{{" not in written
    assert expand(written, env | {BRACE: "{"}) == expand(value, env)


@given(argument=TEXT, env=st.dictionaries(NAMES, TEXT))
def test_protected_argument_has_no_braces_and_expands_to_what_was_meant(argument: str, env: dict[str, str]) -> None:
    container = protect_container({"args": [escape(argument)], "env": []})
    assert "{{" not in container["args"][0]
    assert expand(container["args"][0], env | {BRACE: "{"}) == argument


def test_value_without_braces_is_left_as_it_is() -> None:
    assert protect_value("https://$(TOKEN)@host/$$(x) $(") == "https://$(TOKEN)@host/$$(x) $("


def test_brace_is_defined_before_all_that_use_it() -> None:
    references = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    container = protect_container({"args": [], "env": [references, {"name": "MESSAGE", "value": "{{x}}"}]})
    assert container["env"] == [
        {"name": BRACE, "value": "{"},
        references,
        {"name": "MESSAGE", "value": "{$(DATACUBE_LB)x}}"},
    ]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"nodeSelector": {"a": "{{x}}"}}, "pod.nodeSelector.a"),
        ({"nodeSelector": {"{{": ""}}, "pod.nodeSelector.{{"),
        ({"tolerations": [{"key": "a"}, {"key": "{{"}]}, "pod.tolerations[1].key"),
    ],
)
def test_braces_where_nothing_expands_are_refused_with_their_place(value: object, path: str) -> None:
    with pytest.raises(InvalidDataCube) as caught:
        check_no_braces(value, "pod")
    assert [v.path for v in caught.value.violations] == [path]
