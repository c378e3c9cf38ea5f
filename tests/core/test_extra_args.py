"""extraArgs: what passes, what is refused and why, and that nothing slips through between the two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.reasons import Reason
from datacube_flows.core.extra_args import VERBS, arguments_for, check_extra_args, flag_values
from datacube_flows.core.flags import CACHE_ROOT, Effect, Flag, Verb
from datacube_flows.core.kinds import KINDS, kind_named
from datacube_flows.errors import TransferError

pytestmark = pytest.mark.t0

CACHE = "/tmp/cache/hf"
ALL_FLAGS = [(verb, flag) for verb in VERBS.values() for flag in dict.fromkeys(verb.allowed.values())]
ALL_DENIED = sorted({spelling for verb in VERBS.values() for spelling in verb.denied})
KIND_NAMES = [kind.name for kind in KINDS]


def verbs_of(kind_name: str) -> list[Verb]:
    kind = kind_named(kind_name)
    return [VERBS[f"{kind.tool} {verb}"] for verb in kind.verbs]


def written(flag: Flag) -> list[str]:
    if flag.value is None or flag.attached:
        return [flag.name]
    return [flag.name, flag.value.example]


def messages(kind_name: str, args: list[str]) -> list[str]:
    return [f"{p.index}: {p.message} ({p.remedy})" for p in check_extra_args(kind_named(kind_name), args)]


@pytest.mark.parametrize(("verb", "flag"), ALL_FLAGS, ids=lambda x: x.name)
def test_flag_is_consistent(verb: Verb, flag: Flag) -> None:
    assert flag.name.startswith("--")
    assert not set(flag.names) & set(verb.denied)
    assert flag.value is None or flag.value.accepts(flag.value.example)
    assert bool(flag.note) == (flag.effect is Effect.DROP)
    assert bool(flag.env) == (flag.effect is Effect.ENV)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda v: v.name)
def test_denied_flag_says_why(verb: Verb) -> None:
    assert all(len(why) > 10 for why in (*verb.denied.values(), *verb.families.values()))


def test_verbs_are_those_of_the_kinds() -> None:
    assert {f"{k.tool} {v}" for k in KINDS for v in k.verbs} == set(VERBS)


@pytest.mark.parametrize("kind_name", KIND_NAMES)
def test_every_allowed_flag_passes_when_given_its_example(kind_name: str) -> None:
    for verb in verbs_of(kind_name):
        for flag in verb.allowed.values():
            assert messages(kind_name, written(flag)) == []


@pytest.mark.parametrize(
    ("kind_name", "args"),
    [
        ("huggingface-download", ["--cache-dir", CACHE]),
        ("huggingface-download", [f"--cache-dir={CACHE}", "--resume-download"]),
        ("huggingface-download", ["--local-dir-use-symlinks", "False", "--max-workers", "16"]),
        ("huggingface-download", ["--include", "*.json", "--include", "*.txt", "--exclude", "-odd*"]),
        ("huggingface-upload", ["--commit-description", "--verbose words"]),
        ("git-download", ["--depth", "1", "--single-branch"]),
        ("git-download", ["--depth=1", "-j4", "--filter=blob:none", "--shallow-since=2 weeks ago"]),
        ("git-download", ["-j", "8", "--no-tags", "--deepen", "3", "--quiet"]),
        ("git-upload", ["--porcelain", "--atomic", "--no-thin", "--follow-tags", "-o", "ci.skip"]),
        ("git-upload", ["-oci.skip"]),
        ("s3-download", ["--transfers", "16", "--checkers=32", "--bwlimit", "08:00,512k 12:00,10M"]),
        ("s3-download", ["--filter", "- *.bak", "--max-age", "24h", "--checksum=false", "-c", "--no-traverse"]),
        ("s3-upload", ["--s3-storage-class", "STANDARD_IA", "--s3-acl=bucket-owner-full-control"]),
        ("s3-upload", ["--s3-chunk-size", "64Mi", "--s3-upload-cutoff=0", "--tpslimit", "2.5"]),
        ("s3-upload", ["--s3-sse-kms-key-id", "arn:aws:kms:eu-west-1:1:key/ab-c", "--max-size", "off"]),
    ],
)
def test_argument_is_allowed(kind_name: str, args: list[str]) -> None:
    assert messages(kind_name, args) == []


@pytest.mark.parametrize(
    ("kind_name", "args", "words"),
    [
        ("git-download", ["--upload-pack=x"], "names a program to run"),
        ("git-download", ["--upload-pa", "x"], "not in the list of allowed arguments for `git clone` or `git fetch`"),
        ("git-download", ["--dept", "1"], "not in the list"),
        ("git-download", ["--DEPTH", "1"], "not in the list"),
        ("git-download", ["--depth"], "needs a value"),
        ("git-download", ["--depth", "--single-branch"], "a whole number"),
        ("git-download", ["--depth", "0"], "a whole number"),
        ("git-download", ["--depth="], "a whole number"),
        ("git-download", ["--depth", "1_0"], "a whole number"),
        ("git-download", ["--depth", "\u0661"], "a whole number"),
        ("git-download", ["-j=4"], "a whole number from 1 to 64"),
        ("git-download", ["-vq"], "-v takes no value"),
        ("git-download", ["-v4q"], "-v takes no value"),
        ("git-download", ["--progress=yes"], "--progress takes no value"),
        ("git-download", ["--filter=sparse:oid=main:x"], "`blob:none`"),
        ("git-download", ["--recurse-submodules=a"], "untrusted"),
        ("git-download", ["-c", "core.sshCommand=x"], "settings can name programs"),
        ("git-download", ["-ccore.sshCommand=x"], "settings can name programs"),
        ("git-download", ["-o", "upstream"], "always called `origin`"),
        ("git-download", ["-n"], "a repository with a working tree"),
        ("git-download", ["-b", "main"], "option `ref`"),
        ("git-download", ["https://example.com/x.git"], "is not a flag"),
        ("git-download", ["--"], "is not a flag"),
        ("git-download", ["-"], "is not a flag"),
        ("git-download", [""], "is empty"),
        ("git-download", ["--shallow-exclude", "-x"], "letters, digits"),
        ("git-download", ["--depth\n"], "control character"),
        ("git-upload", ["--force"], "nothing is overwritten by force"),
        ("git-upload", ["--receive-pack", "x"], "names a program"),
        ("git-upload", ["--depth", "1"], "not in the list of allowed arguments for `git push`"),
        ("git-upload", ["HEAD:refs/heads/x"], "is not a flag"),
        ("huggingface-download", ["--token", "x"], "option `token`"),
        ("huggingface-download", ["--local-dir=/etc"], "sink.pvc.subPath"),
        ("huggingface-download", ["--cache-dir", "/etc"], "a folder below /tmp"),
        ("huggingface-download", ["--cache-dir", f"{CACHE_ROOT}/../etc"], "a folder below /tmp"),
        ("huggingface-download", ["--cache-dir", CACHE_ROOT], "a folder below /tmp"),
        ("huggingface-download", ["--cache-dir", "tmp/x"], "a folder below /tmp"),
        ("huggingface-download", ["--include", "*.json", "*.txt"], "repeat the flag for each value"),
        ("huggingface-download", ["--max-workers", "10000"], "from 1 to 64"),
        ("huggingface-upload", ["--every", "5"], "never ends"),
        ("huggingface-upload", ["--delete=*"], "deletes nothing"),
        ("s3-download", ["--transfers", "10000"], "from 1 to 128"),
        ("s3-download", ["--rc"], "starts a server"),
        ("s3-download", ["--rc-addr=:80"], "starts a server"),
        ("s3-download", ["--metadata-mapper", "x"], "names a program"),
        ("s3-download", ["--name-transform", "command=x"], "names a program"),
        ("s3-download", ["--s3-env-auth"], "service account"),
        ("s3-download", ["--azureblob-account", "x"], "another store"),
        ("s3-download", ["--http-proxy", "x"], "executor.env"),
        ("s3-download", ["-L"], "lead out of the volume"),
        ("s3-download", ["-vv"], "reads the tool's log"),
        ("s3-download", ["--checksum=maybe"], "one of true, false"),
        ("s3-download", ["--checksum", "false"], "'false' is not a flag"),
        ("s3-download", ["--s3_endpoint", "x"], "not in the list"),
        ("s3-download", ["--buffer-size", "8KB"], "a size such as"),
        ("s3-download", ["--buffer-size", "1G"], "at most 256M"),
        ("s3-download", ["--contimeout", "10"], "a duration such as"),
        ("s3-upload", ["--include", "{{workflow.name}}"], "a template"),
        ("s3-upload", ["--include", "$(S3_SECRET_ACCESS_KEY)"], "would put a value into the tool's argv"),
    ],
)
def test_argument_is_refused_with_the_reason(kind_name: str, args: list[str], words: str) -> None:
    found = messages(kind_name, args)
    assert len(found) == 1
    assert words in found[0]


def test_every_problem_is_found_with_its_index() -> None:
    args = ["--depth", "1", "-u", "x", "--foo", "--jobs", "99", "more", "--config=a.b=c", "$(A)"]
    found = check_extra_args(kind_named("git-download"), args)
    assert [p.index for p in found] == [2, 4, 5, 7, 8, 9]


def test_unknown_argument_is_answered_with_the_allowed_ones() -> None:
    (problem,) = check_extra_args(kind_named("git-download"), ["--foo"])
    assert "--depth" in problem.remedy
    assert "--single-branch" in problem.remedy


def test_refused_value_is_not_repeated_in_the_message() -> None:
    (problem,) = check_extra_args(kind_named("git-download"), ["--depth", "hunter2"])
    assert "hunter2" not in problem.message + problem.remedy


@pytest.mark.parametrize(("verb", "flag"), ALL_FLAGS, ids=lambda x: x.name)
def test_allowed_flag_reaches_its_tool_as_its_effect_says(verb: Verb, flag: Flag) -> None:
    given_ = arguments_for(verb.name, written(flag))
    assert (len(given_.argv), len(given_.env), len(given_.notices)) == {
        Effect.PASS: (1, 0, 0),
        Effect.ENV: (0, 1, 0),
        Effect.DROP: (0, 0, 1),
    }[flag.effect]


def test_hf_download_gets_the_cache_folder_as_a_variable_and_old_flags_not_at_all() -> None:
    args = [
        "--cache-dir",
        CACHE,
        "--resume-download",
        "--local-dir-use-symlinks",
        "False",
        "--repo-type=dataset",
    ]
    found = arguments_for("hf download", args)
    assert found.argv == ("--repo-type=dataset",)
    assert found.env == {"HF_HUB_CACHE": CACHE}
    assert [n.split()[1] for n in found.notices] == ["--resume-download", "--local-dir-use-symlinks"]


def test_git_fetch_leaves_out_what_only_clone_knows_with_a_notice() -> None:
    args = ["--depth", "1", "--single-branch", "--filter", "blob:none", "-j4"]
    fetched, cloned = arguments_for("git fetch", args), arguments_for("git clone", args)
    assert fetched.argv == ("--depth=1", "--jobs=4")
    assert fetched.notices == (
        "extraArgs: --single-branch is not an argument of `git fetch` and was left out",
        "extraArgs: --filter was left out: the repository keeps the filter that it was cloned with",
    )
    assert cloned.argv == ("--depth=1", "--single-branch", "--filter=blob:none", "--jobs=4")
    assert cloned.notices == ()


def test_rclone_sync_leaves_out_what_only_copy_knows() -> None:
    assert arguments_for("rclone sync", ["--no-traverse", "-c"]).argv == ("--checksum",)


def test_value_that_looks_like_a_flag_is_glued_to_its_flag() -> None:
    assert arguments_for("hf download", ["--include", "--token"]).argv == ("--include=--token",)


def test_arguments_for_raises_when_an_argument_is_refused() -> None:
    with pytest.raises(TransferError, match="upload-pack is refused") as caught:
        arguments_for("git clone", ["--upload-pack", "x"])
    assert caught.value.reason is Reason.INVALID_SPEC


def test_flag_values_returns_every_value_in_every_spelling() -> None:
    args = ["--type", "dataset", "--include", "a", "--include=b", "--repo-type=space"]
    assert flag_values("hf download", args, "--include") == ("a", "b")
    assert flag_values("hf download", args, "--repo-type") == ("dataset", "space")
    assert flag_values("hf download", args, "--revision") == ()


@pytest.mark.parametrize("kind_name", KIND_NAMES)
def test_no_abbreviation_and_no_other_case_of_a_flag_is_allowed(kind_name: str) -> None:
    verbs = verbs_of(kind_name)
    known = {s for v in verbs for s in v.allowed}
    for spelling in {s for v in verbs for s in (*v.allowed, *v.denied) if s.startswith("--")}:
        variants = {spelling[:i] for i in range(3, len(spelling))} | {spelling.upper(), spelling.replace("-", "_")}
        for variant in variants - known:
            assert messages(kind_name, [variant, "1"]) != [], variant
            assert messages(kind_name, [f"{variant}=1"]) != [], variant


def items() -> st.SearchStrategy[list[str]]:
    spellings = sorted({s for v in VERBS.values() for s in (*v.allowed, *v.denied)})
    values = st.sampled_from(
        sorted({f.value.example for _, f in ALL_FLAGS if f.value} | {"-", "--", "--token", "-u", "x"})
    )
    spelling = st.sampled_from(spellings)
    odd = st.builds(
        lambda s, i, t: s[:i] + t + s[i:], spelling, st.integers(0, 12), st.sampled_from(["", "-", "=", "A", " "])
    )
    glued = st.builds("{}={}".format, spelling, values) | st.builds("{}{}".format, spelling, values)
    return st.lists(spelling | values | odd | glued | st.text(max_size=6), max_size=6)


@given(kind_name=st.sampled_from(KIND_NAMES), args=items())
def test_only_listed_flags_and_accepted_values_reach_a_tool(kind_name: str, args: list[str]) -> None:
    if messages(kind_name, args):
        with pytest.raises(TransferError):
            arguments_for(verbs_of(kind_name)[0].name, args)
        return
    for verb in verbs_of(kind_name):
        for item in arguments_for(verb.name, args).argv:
            assert_is_listed(verb, item)


def assert_is_listed(verb: Verb, item: str) -> None:
    name, equals, value = item.partition("=")
    flag = verb.allowed[name]
    assert flag.name == name
    assert flag.effect is Effect.PASS
    assert verb.refusal(name) == "" or name not in verb.denied
    if flag.value is None:
        assert not equals
    else:
        assert (flag.attached and not equals) or flag.value.accepts(value)


@given(kind_name=st.sampled_from(KIND_NAMES), args=items(), denied=st.sampled_from(ALL_DENIED), at=st.integers(0, 6))
def test_a_denied_flag_is_refused_wherever_it_stands(kind_name: str, args: list[str], denied: str, at: int) -> None:
    verbs = verbs_of(kind_name)
    if messages(kind_name, args) or not any(denied in v.denied for v in verbs):
        return
    at = min(at, len(args))
    mixed = [*args[:at], denied, *args[at:]]
    if messages(kind_name, mixed):
        return
    for verb in verbs:  # it passed, so it was read as the value of the flag before it, and is glued to that
        assert not any(item == denied or item.startswith(f"{denied}=") for item in arguments_for(verb.name, mixed).argv)
