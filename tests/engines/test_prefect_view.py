"""What people see of a run in Prefect: enough to know it by, and no part of an address that may hold a credential."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.plan import Policy, TransferPlan, make_plan
from datacube_flows.core.rules import validate
from datacube_flows.engines.prefect_view import (
    artifact_key,
    attempt_words,
    attempts_table,
    progress_text,
    result_rows,
    run_parameters,
    run_tags,
    run_title,
    store_page,
    without_credentials,
)
from tests.canary import CANARY, has_canary
from tests.support import ROOT

pytestmark = pytest.mark.t0


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / f"examples/{name}.yaml").read_text())
    document["metadata"]["namespace"] = "team"
    return document


def plan_of(document: dict[str, Any]) -> TransferPlan:
    return make_plan(validate(document))


def with_option(document: dict[str, Any], end: str, name: str, value: str) -> dict[str, Any]:
    """The document with one option of an end changed, or added."""
    options = document["spec"][end]["options"]
    options[:] = [o for o in options if o["name"] != name] + [{"name": name, "value": value}]
    return document


def attempt(phase: PodPhase, **more: Any) -> AttemptSeen:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return AttemptSeen(2, "run-2", phase, "Completed", started=at, finished=at, **more)


@pytest.mark.parametrize(
    ("name", "source", "sink"),
    [
        ("git-download", "https://github.com/user/repo.git", "pvc:datacube-pvc/dev/git"),
        ("git-upload", "pvc:datacube-pvc/dev/git", "https://github.com/user/repo.git"),
        ("huggingface-download", "hf:openai/whisper-large-v3", "pvc:datacube-pvc/dev/hf/whisper-large-v3"),
        ("huggingface-upload", "pvc:datacube-pvc/dev/hf/whisper-large-v3", "hf:user/repo"),
        ("s3-download", "s3://bucket/path/subpath", "pvc:datacube-pvc/dev/s3"),
        ("s3-upload", "pvc:datacube-pvc/dev/hf/whisper-large-v3", "s3://bucket/models/whisper-large-v3"),
    ],
)
def test_run_is_named_tagged_and_told_by_its_two_ends(name: str, source: str, sink: str) -> None:
    plan = plan_of(example(name))
    store, _, direction = name.partition("-")
    assert run_title(plan) == f"team/{plan.name}"
    assert run_tags(plan) == ["datacube", f"store:{store}", f"direction:{direction}", "namespace:team"]
    shown = run_parameters(plan)
    assert (shown["source"], shown["sink"]) == (source, sink)
    assert shown["attempts"] == plan.retries + 1


@pytest.mark.parametrize(
    "address",
    [
        f"https://{CANARY}@github.com/user/repo.git",
        f"https://user:{CANARY}@github.com/user/repo.git",
        f"https://user:a@{CANARY}@github.com/user/repo.git",
        f"https://github.com/user/repo.git?token={CANARY}",
        f"https://github.com/user/repo.git#{CANARY}",
        f"https://$(TOKEN):{CANARY}@github.com/user/repo.git",
    ],
)
def test_address_is_shown_without_what_may_be_a_credential(address: str) -> None:
    assert without_credentials(address) == "https://github.com/user/repo.git"


def test_address_that_is_none_is_not_shown() -> None:
    assert without_credentials(f"https://[{CANARY}/x") == ""


def test_literal_credentials_of_a_document_are_nowhere() -> None:
    document = with_option(example("s3-download"), "source", "s3-secret-access-key", f"{CANARY}-key")
    document["spec"].setdefault("executor", {})["env"] = [{"name": "URL", "value": f"https://{CANARY}.test/"}]
    plan = plan_of(document)
    shown = [run_parameters(plan), run_tags(plan), run_title(plan), store_page(plan)]
    assert not has_canary(json.dumps(shown))


def test_place_that_a_secret_names_is_not_shown() -> None:
    document = example("git-download")
    reference = {"name": "url", "valueFrom": {"secretKeyRef": {"name": "git", "key": "url"}}}
    options = document["spec"]["source"]["options"]
    options[:] = [reference if option["name"] == "url" else option for option in options]
    plan = plan_of(document)
    assert (run_parameters(plan)["source"], store_page(plan)) == ("git", "")


def test_page_of_a_store_is_one_that_a_browser_opens() -> None:
    model = example("huggingface-download")
    assert store_page(plan_of(example("git-download"))) == "https://github.com/user/repo.git"
    assert store_page(plan_of(example("s3-download"))) == ""
    assert store_page(plan_of(model)) == "https://huggingface.co/openai/whisper-large-v3"
    assert store_page(plan_of(model), "abc") == "https://huggingface.co/openai/whisper-large-v3/tree/abc"
    data = with_option(example("huggingface-download"), "source", "repo-type", "dataset")
    assert store_page(plan_of(data)) == "https://huggingface.co/datasets/openai/whisper-large-v3"


@pytest.mark.parametrize(
    ("endpoint", "page"),
    [
        ("https://hub.example.test/", "https://hub.example.test/openai/whisper-large-v3"),
        (f"https://{CANARY}@hub.example.test", "https://hub.example.test/openai/whisper-large-v3"),
        ("http://hub.example.test", ""),
    ],
)
def test_page_is_that_of_the_hub_which_the_document_names(endpoint: str, page: str) -> None:
    document = example("huggingface-download")
    document["spec"]["executor"] = {"env": [{"name": "HF_ENDPOINT", "value": endpoint}]}
    assert store_page(make_plan_of_any_scheme(document)) == page


def make_plan_of_any_scheme(document: dict[str, Any]) -> TransferPlan:

    policy = Policy(allowed_schemes=("https", "http"))
    return make_plan(validate(document, allowed_schemes=policy.allowed_schemes), policy)


def test_key_of_an_artifact_is_one_that_prefect_takes() -> None:
    document = example("s3-download")
    document["metadata"]["name"] = "a.b-c"
    assert artifact_key(plan_of(document), "result") == "team-a-b-c-result"


def test_attempt_is_told_with_its_reason_and_what_it_moved() -> None:
    report = TransferReport(Reason.TRANSFER_COMPLETE, files=3, bytes=12, skipped=1, verified="checksum", path="a/b")
    done = attempt(PodPhase.SUCCEEDED, exit_code=0, report=report)
    lost = attempt(PodPhase.FAILED, reason=Reason.EVICTED, message="the node needed room")
    moved = "3 files, 12 bytes moved, 1 skipped, verified by checksum"
    assert attempt_words(done) == ("TransferComplete", moved)
    assert attempt_words(lost) == ("Evicted", "the node needed room")
    rows = attempts_table([lost, done])
    assert [(row["attempt"], row["outcome"], row["exit code"]) for row in rows] == [
        (2, "Evicted", ""),
        (2, "TransferComplete", 0),
    ]
    assert rows[0]["started"] == "2026-01-02T03:04:05+00:00"
    assert {row["what"]: row["value"] for row in result_rows(report)} == {
        "path": "a/b",
        "files": 3,
        "bytes": 12,
        "skipped": 1,
        "verified by": "checksum",
    }


def test_dry_run_is_told_by_what_it_would_do() -> None:
    report = TransferReport(Reason.TRANSFER_COMPLETE, plan=ChangePlan(add=1, update=2, delete=3, bytes=4))
    _, text = attempt_words(attempt(PodPhase.SUCCEEDED, report=report))
    assert text == "1 to add, 2 to update, 3 to delete; nothing was moved"


def test_progress_is_one_line_of_what_is_known() -> None:
    counters = {"bytesDone": 1, "bytesTotal": 10, "filesDone": 2, "filesTotal": 3, "bytesPerSecond": 4}
    assert progress_text(counters) == "1 of 10 bytes, 2 of 3 files, 4 bytes/s"
    assert progress_text({}) == ""
