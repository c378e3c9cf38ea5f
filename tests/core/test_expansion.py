"""`$(NAME)` as the kubelet reads it: against its own table of cases, and against a second implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.corev1 import EnvVar, EnvVarSource, KeySelector
from datacube_flows.api.reasons import Reason
from datacube_flows.core.expansion import escape, expand, order_env, reference_cycles, references, resolve_env
from datacube_flows.errors import WaitingError

pytestmark = pytest.mark.t0

KNOWN = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}

# From the kubelet's own test, expansion/expand_test.go.
KUBELET_CASES = [
    ("$(VAR_A)", "A"),
    ("___$(VAR_B)___", "___B___"),
    ("___$(VAR_C)", "___C"),
    ("$(VAR_A)-$(VAR_A)", "A-A"),
    ("$(VAR_A)-1", "A-1"),
    ("$(VAR_REF)", "$(VAR_A)"),
    ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
    ("foo$(VAR_EMPTY)bar", "foobar"),
    ("foo\\$(VAR_A)bar", "foo\\Abar"),
    ("foo$$(VAR_A)bar", "foo$(VAR_A)bar"),
    ("foo$$$$$$(VAR_A)", "foo$$$(VAR_A)"),
    ("foo$$$(VAR_A)", "foo$A"),
    ("$$$$$(VAR_A)", "$$A"),
    ("$VAR_A", "$VAR_A"),
    ("$(VAR_A", "$(VAR_A"),
    ("$$(VAR_A", "$(VAR_A"),
    ("$(VAR_A(", "$(VAR_A("),
    ("$()", "$()"),
    ("$(VAR_MISSING)", "$(VAR_MISSING)"),
    ("foo$(VAR_MISSING)bar", "foo$(VAR_MISSING)bar"),
    ("$(VAR_A)$", "A$"),
    ("$$", "$"),
    ("$", "$"),
    ("", ""),
    ("$?_boo_$(VAR_B)", "$?_boo_B"),
    ("$a$(VAR_A)", "$aA"),
    ("$)$(VAR_A)", "$)A"),
    ("\n$(VAR_A)\n", "\nA\n"),
    ("$\n(VAR_A)", "$\n(VAR_A)"),
    ("$($(VAR_A))", "$($(VAR_A))"),
]


@pytest.mark.parametrize(("value", "expected"), KUBELET_CASES)
def test_expand_gives_what_the_kubelet_gives(value: str, expected: str) -> None:
    assert expand(value, KNOWN) == expected


def oracle(text: str, env: dict[str, str]) -> str:
    """The kubelet's loop, written out: one character at a time."""
    result, cursor = "", 0
    while cursor < len(text):
        if text[cursor] != "$" or cursor + 1 == len(text):
            result += text[cursor]
            cursor += 1
        elif text[cursor + 1] == "$":
            result += "$"
            cursor += 2
        elif text[cursor + 1] == "(" and (end := text.find(")", cursor + 2)) >= 0:
            name = text[cursor + 2 : end]
            result += env.get(name, f"$({name})")
            cursor = end + 1
        else:
            result += text[cursor : cursor + 2]
            cursor += 2
    return result


TEXT = st.text(st.sampled_from("$()AB\n\\ é"), max_size=24) | st.text(max_size=12)
NAMES = st.sampled_from(["A", "B", "AB", "A B", "", "$", "$(A"])


@given(value=TEXT, env=st.dictionaries(NAMES, TEXT))
def test_expand_equals_a_second_implementation(value: str, env: dict[str, str]) -> None:
    assert expand(value, env) == oracle(value, env)


@given(text=TEXT, env=st.dictionaries(NAMES, TEXT))
def test_escaped_text_expands_back_to_itself(text: str, env: dict[str, str]) -> None:
    assert expand(escape(text), env) == text
    assert references(escape(text)) == ()


@given(value=TEXT)
def test_references_are_what_expansion_asks_for(value: str) -> None:
    class Asked(dict[str, str]):
        def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
            self[key] = ""
            return default

    asked = Asked()
    expand(value, asked)
    assert references(value) == tuple(asked)


def test_references_are_named_once_and_in_order() -> None:
    assert references("$(B)/$(A)/$(B)/$$(C)/$(D") == ("B", "A")


def entry(name: str, value: str = "") -> EnvVar:
    return EnvVar(name=name, value=value)


def names(entries: tuple[EnvVar, ...]) -> list[str]:
    return [e.name for e in entries]


def test_order_env_moves_a_definition_before_its_use() -> None:
    entries = [entry("URL", "https://$(TOKEN)@host"), entry("REF", "main"), entry("TOKEN", "x")]
    assert names(order_env(entries)) == ["TOKEN", "URL", "REF"]


def test_order_env_leaves_self_unknown_and_escaped_references_alone() -> None:
    entries = [entry("A", "$(A)$(NOWHERE)$$(B)"), entry("B")]
    assert order_env(entries) == tuple(entries)


def test_order_env_keeps_every_entry_of_a_circle() -> None:
    assert sorted(names(order_env([entry("A", "$(B)"), entry("B", "$(A)"), entry("C", "$(A)")]))) == ["A", "B", "C"]


@st.composite
def acyclic(draw: st.DrawFn) -> list[EnvVar]:
    """Entries that refer only to names of lower number, in any order."""
    count = draw(st.integers(0, 8))
    made = []
    for number in range(count):
        needs = draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        made.append(
            entry(f"N{number}", "".join(f"$(N{n})-" for n in needs) + draw(st.sampled_from(["", "$$(N0)", "$(X)"])))
        )
    return draw(st.permutations(made))


@given(entries=acyclic())
def test_order_env_puts_every_reference_after_its_definition(entries: list[EnvVar]) -> None:
    ordered = order_env(entries)
    assert sorted(names(ordered)) == sorted(e.name for e in entries)
    place = {e.name: i for i, e in enumerate(ordered)}
    for e in ordered:
        assert all(place[n] < place[e.name] for n in references(e.value or "") if n in place)


@given(entries=acyclic())
def test_order_env_is_stable(entries: list[EnvVar]) -> None:
    ordered = order_env(entries)
    assert order_env(ordered) == ordered
    needed = {n for e in entries for n in references(e.value or "")}
    assert [e for e in ordered if e.name not in needed] == [e for e in entries if e.name not in needed]


@given(entries=acyclic())
def test_ordered_entries_resolve_completely(entries: list[EnvVar]) -> None:
    resolved = resolve_env(order_env(entries), nothing)
    assert all(f"$({e.name})" not in value.replace("$(N0)", "") for e in entries for value in resolved.values())


@given(entries=acyclic())
def test_acyclic_entries_have_no_circle(entries: list[EnvVar]) -> None:
    assert reference_cycles(entries) == ()


@given(entries=acyclic(), length=st.integers(2, 5))
def test_a_circle_among_others_is_found_whole(entries: list[EnvVar], length: int) -> None:
    circle = [entry(f"C{i}", f"$(C{(i + 1) % length})") for i in range(length)]
    found = reference_cycles([*entries, *circle])
    assert found == (tuple(f"C{i}" for i in range(length)),)


def test_reference_to_itself_is_no_circle() -> None:
    assert reference_cycles([entry("A", "$(A):x")]) == ()


def nothing(_source: str, _name: str, _key: str, _optional: bool) -> str | None:
    return None


def from_secret(name: str, key: str, *, optional: bool | None = None) -> EnvVar:
    return EnvVar(name=name, value_from=EnvVarSource(secret_key_ref=KeySelector(name="s", key=key, optional=optional)))


def from_config(name: str, key: str) -> EnvVar:
    return EnvVar(name=name, value_from=EnvVarSource(config_map_key_ref=KeySelector(name="c", key=key)))


def test_resolve_env_uses_earlier_names_only() -> None:
    found = resolve_env([entry("A", "$(B)"), entry("B", "b"), entry("C", "$(A)$(B)")], nothing)
    assert found == {"A": "$(B)", "B": "b", "C": "$(B)b"}


def test_resolve_env_lets_a_later_entry_win_and_see_the_earlier() -> None:
    assert resolve_env([entry("A", "1"), entry("A", "$(A)2")], nothing) == {"A": "12"}


def test_resolve_env_takes_values_from_elsewhere_as_they_are() -> None:
    asked = []

    def lookup(source: str, name: str, key: str, optional: bool) -> str | None:
        asked.append((source, name, key, optional))
        return "raw $(A) $$"

    found = resolve_env([entry("A", "a"), from_secret("S", "k"), from_config("C", "k"), entry("U", "$(S)")], lookup)
    assert found == {"A": "a", "S": "raw $(A) $$", "C": "raw $(A) $$", "U": "raw $(A) $$"}
    assert asked == [("secret", "s", "k", False), ("configmap", "c", "k", False)]


def test_resolve_env_leaves_an_optional_missing_variable_unset() -> None:
    found = resolve_env(
        [entry("S", "before"), from_secret("S", "k", optional=True), from_secret("T", "k", optional=True)], nothing
    )
    assert found == {"S": "before"}


@pytest.mark.parametrize(
    ("missing", "words"), [(from_secret("S", "k"), "Secret 's'"), (from_config("S", "k"), "ConfigMap 'c'")]
)
def test_resolve_env_waits_for_a_missing_key(missing: EnvVar, words: str) -> None:
    with pytest.raises(WaitingError, match="'k'") as caught:
        resolve_env([missing], nothing)
    assert words in str(caught.value)
    assert caught.value.reason is Reason.WAITING_FOR_SECRET


@pytest.mark.parametrize("value", ["", None])
def test_resolve_env_sets_an_entry_without_value_to_empty(value: str | None) -> None:
    assert resolve_env([EnvVar(name="A", value=value)], nothing) == {"A": ""}
