"""The lists of allowed arguments against the real tools: what they print is classified, what we pass they know."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datacube_flows.core.extra_args import VERBS, arguments_for, check_extra_args
from datacube_flows.core.flags import Effect, Verb
from datacube_flows.core.kinds import kind_named

pytestmark = pytest.mark.t1

BIN = Path(sys.executable).parent
HELP = {
    "git clone": (["git", "clone", "--help-all"], ["git", "clone", "-h"]),
    "git fetch": (["git", "fetch", "--help-all"], ["git", "fetch", "-h"]),
    "git push": (["git", "push", "--help-all"], ["git", "push", "-h"]),
    "hf download": ([str(BIN / "hf"), "download", "--help"],),
    "hf upload": ([str(BIN / "hf"), "upload", "--help"],),
    "rclone copy": ([str(BIN / "rclone"), "help", "flags"], [str(BIN / "rclone"), "copy", "--help"]),
    "rclone sync": ([str(BIN / "rclone"), "help", "flags"], [str(BIN / "rclone"), "sync", "--help"]),
}
OF_RCLONE_HELP = {"--group", "--name"}  # flags of `rclone help flags` itself
EXPECTED_AT_LEAST = {"git": 15, "hf": 12, "rclone": 900}
PROGRAM = {"git": ["git"], "hf": [str(BIN / "hf")], "rclone": [str(BIN / "rclone")]}


def run(argv: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "COLUMNS": "200", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


def printed_flags(text: str) -> set[str]:
    """Every spelling in the first column of a help text."""
    columns = (re.split(r"\s{2,}", line.strip())[0] for line in text.splitlines() if re.match(r"\s+-", line))
    return {s.replace("[no-]", "") for c in columns for s in re.findall(r"(?:^|, | / )(--?[A-Za-z0-9\[][^\s,=<(]*)", c)}


def test_printed_flags_are_read_in_every_tools_style() -> None:
    text = (
        "    -j, --[no-]jobs <n>  x\n  --a, --b [c|d]\n  --x / --no-x   y\n  -F, --format string   z\n    --f[=<x>]\n"
    )
    assert printed_flags(text.replace("--f[", "--f [")) == {
        "-j", "--jobs", "--a", "--b", "--x", "--no-x", "-F", "--format", "--f",
    }  # fmt: skip


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda v: v.name)
def test_every_flag_that_the_tool_prints_is_classified(verb: Verb, tmp_path: Path) -> None:
    run(["git", "init", "--quiet"], tmp_path)
    text = "".join((r := run(argv, tmp_path)).stdout + r.stderr for argv in HELP[verb.name])
    found = {spelling.split("[")[0] for spelling in printed_flags(text)} - OF_RCLONE_HELP
    assert len(found) >= EXPECTED_AT_LEAST[verb.name.split()[0]]
    assert {s for s in found if s not in verb.allowed and not verb.refusal(s)} == set()


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda v: v.name)
def test_every_flag_that_is_passed_on_is_known_to_the_tool(verb: Verb, tmp_path: Path) -> None:
    run(["git", "init", "--quiet"], tmp_path)
    flags = [f for f in dict.fromkeys(verb.allowed.values()) if f.effect is Effect.PASS]
    args = [f.name if f.value is None else f"{f.name}={f.value.example}" for f in flags]
    argv = [*PROGRAM[verb.name.split()[0]], verb.name.split()[1], *arguments_for(verb.name, args).argv]
    assert complaint(run([*argv, "-h"], tmp_path)) == ""
    assert complaint(run([*argv, "--no-such-flag", "-h"], tmp_path)) != ""


def complaint(finished: subprocess.CompletedProcess[str]) -> str:
    found = re.search(
        r"^error: .*|^Error: .*|No such option.*|Invalid value.*", finished.stdout + finished.stderr, re.M
    )
    return found[0] if found else ""


EXECUTING = [
    ("git-download", "--upload-pack"),
    ("git-download", "-u"),
    ("git-download", "--config"),
    ("git-download", "-c"),
    ("git-download", "--template"),
    ("git-upload", "--receive-pack"),
    ("git-upload", "--exec"),
    ("s3-download", "--metadata-mapper"),
    ("s3-download", "--password-command"),
    ("s3-download", "--name-transform"),
    ("s3-upload", "--metadata-mapper"),
    ("s3-upload", "--password-command"),
    ("s3-upload", "--name-transform"),
]


@pytest.mark.parametrize(("kind_name", "flag"), EXECUTING)
def test_executing_flag_is_refused_in_every_spelling(kind_name: str, flag: str, tmp_path: Path) -> None:
    script = make_canary(tmp_path)
    prefixes = [flag[:i] for i in range(4, len(flag))] if flag.startswith("--") else []
    for name in (flag, *prefixes):
        for spelling in (
            [f"{name}={script}"],
            [name, str(script)],
            [f"{name}{script}"],
            ["--progress", name, str(script)],
        ):
            assert check_extra_args(kind_named(kind_name), spelling), spelling


@pytest.mark.parametrize("spelling", ["--upload-pack={}", "--upload-pa={}", "-u{}"])
def test_git_clone_would_have_run_the_program(spelling: str, tmp_path: Path) -> None:
    """The reason for the list: without it these spellings execute; the first two also show that git abbreviates."""
    script = make_canary(tmp_path)
    run(["git", "init", "--quiet", "--bare", "source"], tmp_path)
    run(["git", "clone", spelling.format(script), f"file://{tmp_path}/source", "out"], tmp_path)
    assert (tmp_path / "ran").exists()


def test_rclone_would_have_run_the_program(tmp_path: Path) -> None:
    script = make_canary(tmp_path)
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "file").write_text("x")
    run([*PROGRAM["rclone"], "copy", "from", "to", "-M", f"--metadata-mapper={script}"], tmp_path)
    assert (tmp_path / "ran").exists()


def make_canary(folder: Path) -> Path:
    script = folder / "canary"
    script.write_text(f"#!/bin/sh\ntouch {folder}/ran\nexit 1\n")
    script.chmod(0o700)
    return script


def test_git_fetch_takes_the_greatest_depth_in_place_of_unshallow(tmp_path: Path) -> None:
    """Why `--unshallow` is refused with this remedy: a second run of the same document must not fail."""
    for argv in (
        ["git", "init", "--quiet", "source"],
        ["git", "-C", "source", "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--allow-empty", "-mx"],
        ["git", "clone", "--quiet", f"file://{tmp_path}/source", "clone"],
        ["git", "-C", "clone", "fetch", "--depth=2147483647"],
    ):
        assert run(argv, tmp_path).returncode == 0
    assert run(["git", "-C", "clone", "fetch", "--unshallow"], tmp_path).returncode != 0
