"""Every rule is broken by a row of the table, told at its place, and all at once."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml

from datacube_flows.api.parse import parse_datacube
from datacube_flows.core.kinds import KINDS
from datacube_flows.core.rule import Enforced
from datacube_flows.core.rules import RULES, check_rules, validate, warnings_of
from datacube_flows.errors import InvalidDataCube
from tests.canary import CANARY
from tests.core.rule_documents import GIT, PVC, SECRET, document, spec
from tests.core.rule_table import GOOD, ROWS, Row

pytestmark = pytest.mark.t0


def told(cube: Any, **allowed: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidDataCube) as caught:
        validate(cube, **allowed)
    return tuple(str(v) for v in caught.value.violations)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rule_is_told_with_path_and_remedy(row: Row) -> None:
    with pytest.raises(InvalidDataCube) as caught:
        validate(row.document)
    here = [str(v) for v in caught.value.violations if v.path == row.at]
    assert any(all(word in text for word in row.words) for text in here), [str(v) for v in caught.value.violations]


@pytest.mark.parametrize("name", GOOD)
def test_rules_accept_a_good_document(name: str) -> None:
    assert check_rules(parse_datacube(GOOD[name])) == ()


def test_table_has_a_row_for_every_rule() -> None:
    in_documents = {rule.id for rule in RULES if not rule.is_transition}
    assert {row.rule for row in ROWS} == in_documents


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_rule_of_the_crd_says_where_it_stands() -> None:
    for rule in RULES:
        is_in_crd = bool(rule.at and (rule.cel or rule.schema))
        assert is_in_crd == (rule.enforced is Enforced.CRD), rule.id


def test_rules_name_every_place_at_once_in_document_order() -> None:
    cube = document(
        "git-download",
        {"url": "file:///x", "ref": "-x", "branch": "y"},
        env={"TOKEN": "x", "LD_PRELOAD": "y"},
        manner={"sync": True, "extraArgs": ["$(X)", "--upload-pack=x"]},
        subPath="../x",
    )
    assert [text.split(": ")[0] for text in told(cube)] == [
        "spec.source.options[1].value",
        "spec.source.options[2].value",
        "spec.source.options[3].name",
        "spec.sink.pvc.subPath",
        "spec.executor.options.sync",
        "spec.executor.options.extraArgs[0]",
        "spec.executor.options.extraArgs[1]",
        "spec.executor.env[0].name",
        "spec.executor.env[1].name",
    ]


def test_rules_look_at_all_that_can_be_read_when_some_fields_cannot() -> None:
    cube = document("git-download", {"ref": {"value": 1}}, subPath="/x", env={"TOKEN": "x"}, manner={"sync": True})
    cube["spec"]["executor"]["options"]["backoffLimit"] = "2"
    cube["spec"]["sink"]["pvc"]["nmae"] = cube["spec"]["sink"]["pvc"].pop("name")
    texts = "\n".join(told(cube))
    for path in (
        "spec.source.options[2].value: expected a text",
        "spec.sink.pvc.name: missing",
        "spec.sink.pvc.nmae: unknown field (did you mean name?)",
        "spec.sink.pvc.subPath: subPath begins",
        "spec.executor.options.backoffLimit: expected a whole number",
        "spec.executor.options.sync: sync works only",
        "spec.executor.env[0].name: 'TOKEN'",
    ):
        assert path in texts
    assert len(told(cube)) == 7  # nothing is said twice: not that options[2] has no value


def test_rules_do_not_call_an_unreadable_option_missing() -> None:
    assert told(document("git-download", {"url": {"value": 1}})) == (
        "spec.source.options[1].value: expected a text, found a number (quote it: YAML reads an unquoted on, off, yes, "
        "no, true, false, number or date as something else)",
    )


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "x",
        {"spec": []},
        {"spec": {"source": [], "sink": 1, "executor": "x"}},
        {"spec": {"source": {"pvc": 1}}},
    ],
)
def test_rules_survive_any_document(broken: Any) -> None:
    assert told(broken if isinstance(broken, dict) else {"spec": broken})


def test_rules_do_not_guess_the_kind_when_a_type_is_unknown() -> None:
    cube = spec(GIT | {"type": "gti"}, PVC, executor={"options": {"sync": True}})
    assert told(cube) == (
        "spec.source.type: not a value that it can have (one of 'pvc', 'git', 'huggingface' or 's3')",
    )


def test_http_is_allowed_where_the_operator_says_so() -> None:
    cube = document("git-download", {"url": "http://$(TOKEN)@git.local/o/r.git"})
    assert "plain HTTP is not allowed" in told(cube)[0]
    assert validate(cube, allowed_schemes=("https", "http"))


def test_env_policy_of_the_operator_applies() -> None:
    cube = document("git-download", env={"MY_SETTING": "x"})
    assert validate(cube)
    assert "'MY_SETTING' may not be set" in told(cube, env_policy="allowlist")[0]


def test_literal_is_checked_only_as_far_as_it_is_known() -> None:
    for url in ("$(URL)", "$(SCHEME)://h/r", "https://$(HOST)/o/r"):
        assert validate(document("git-download", {"url": url}))
    assert "https://" in told(document("git-download", {"url": "git@$(HOST):o/r"}))[0]


def test_violations_quote_no_value_of_an_option() -> None:
    bad = f"-{CANARY}\n/../ "
    for kind in KINDS:
        for option in kind.options:
            cube = document(kind.name, {option.name: bad})
            try:
                validate(cube)
            except InvalidDataCube as error:
                found = str(error)
            else:
                found = ""
                assert option.prose
            assert CANARY not in found


def test_every_required_and_literal_option_has_its_rules() -> None:
    for kind in KINDS:
        for option in kind.options:
            if option.required:
                texts = told(document(kind.name, {option.name: None}))
                assert any(f"option '{option.name}' is missing" in text for text in texts)
            if option.literal:
                assert "cannot come from a Secret" in told(document(kind.name, {option.name: SECRET}))[0]


def test_seed_document_is_accepted_in_every_example(seed_examples: list[dict[str, Any]]) -> None:
    for cube in seed_examples:
        assert validate(cube)


_SEED_SPECS = """
- source: {type: git, options: [{name: url, value: https://github.com/owner/repo.git}]}
  sink: {type: pvc, pvc: {name: datacube-pvc}}
- source:
    type: git
    options:
    - {name: token, valueFrom: {secretKeyRef: {name: github-token, key: token}}}
    - {name: url, value: https://$(TOKEN)@github.com/user/repo.git}
    - {name: ref, value: main}
  sink:
    type: pvc
    pvc:
      template: {spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 100Gi}}}}
      name: datacube-pvc
      subPath: dev/git
  executor:
    options: {backoffLimit: 2, activeDeadlineSeconds: 3600}
    env: [{name: HTTPS_PROXY, value: "<host>:<port>"}]
- source:
    type: huggingface
    options:
    - {name: token, valueFrom: {secretKeyRef: {name: hf-token, key: token}}}
    - {name: repo, value: openai/whisper-large-v3}
    - {name: files, value: "README.md,tokenizer.json,tokenizer_config.json"}
  sink: {type: pvc, pvc: {name: datacube-pvc}}
  executor: {options: {extraArgs: [--cache-dir, /tmp/cache/hf]}}
- source: &s3
    type: s3
    options:
    - {name: s3-endpoint, valueFrom: {secretKeyRef: {name: s3-config, key: endpoint}}}
    - {name: s3-access-key-id, valueFrom: {secretKeyRef: {name: s3-config, key: accessKeyID}}}
    - {name: s3-secret-access-key, valueFrom: {secretKeyRef: {name: s3-config, key: secretAccessKey}}}
    - {name: s3-uri, value: s3://bucket/path/subpath}
  sink: {type: pvc, pvc: {name: datacube-pvc}}
  executor: {options: {sync: true}}
- source: {type: pvc, pvc: {name: datacube-pvc, subPath: dev/git/}}
  sink:
    type: git
    options:
    - {name: token, valueFrom: {secretKeyRef: {name: github-token, key: token}}}
    - {name: url, value: https://$(TOKEN)@github.com/user/repo.git}
- source: {type: pvc, pvc: {name: datacube-pvc, subPath: dev/hf/whisper-large-v3}}
  sink:
    type: huggingface
    options:
    - {name: token, valueFrom: {secretKeyRef: {name: hf-token, key: token}}}
    - {name: repo, value: user/repo}
    - {name: path-in-repo, value: pvc/demo}
    - {name: commit-message, value: Upload files from PVC}
- source: {type: pvc, pvc: {name: datacube-pvc}}
  sink: *s3
"""


@pytest.fixture
def seed_examples() -> list[dict[str, Any]]:
    """The examples of the user's own document, each fragment completed to a whole one."""
    specs = yaml.safe_load(_SEED_SPECS)
    upload = copy.deepcopy(specs[-1])
    upload["sink"]["options"].append({"name": "s3-no-check-bucket", "value": "true"})
    return [document("git-download") | {"spec": s} for s in (*specs, upload)]


@pytest.mark.parametrize(
    ("cube", "words"),
    [
        (document("git-download", {"token": f"x{CANARY}"}), "spec.source.options[0].value: 'token' is a secret"),
        (document("s3-download", {"s3-access-key-id": CANARY}), "'s3-access-key-id' is a secret in clear text"),
        (document("git-download", {"url": f"https://u:{CANARY}@h/r"}), "user name or password"),
        (document("s3-download", {"s3-endpoint": "http://h:9000"}), "unencrypted"),
        (document("s3-download", manner={"sync": True}), "deletes all else"),
        (document("s3-download", manner={"sync": True}, subPath="/"), "deletes all else"),
        (document("git-download", env={"on": "x"}), 'quotes around "on"'),
        (document("git-download", manner={"verify": "none"}), "not that they are right"),
        (spec(GIT, PVC, executor={"securityContext": {"runAsUser": 0}}), "as root"),
    ],
)
def test_warning_is_given(cube: Any, words: str) -> None:
    (warning,) = warnings_of(parse_datacube(cube))
    assert words in warning
    assert CANARY not in warning


def test_no_warning_is_given_for_good_documents() -> None:
    for name in ("git-download", "everything in executor", "huggingface-upload", "s3-upload"):
        assert warnings_of(parse_datacube(GOOD[name])) == ()


def test_messages_are_sentences_without_open_places() -> None:
    for row in ROWS:
        for text in told(row.document):
            assert not re.search(r"\{[a-z]+\}", text)
