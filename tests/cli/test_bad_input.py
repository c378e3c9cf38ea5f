"""Bad input gets a clear error that says what to do, and nothing is lost: one row a clause, through the command."""

from __future__ import annotations

import copy
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.gitrepository import Access
from tests.servers.stage import BUCKET
from tests.support import mounted, seal, tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Command

pytestmark = pytest.mark.t1

CLAIM = "datacube-pvc"
INVALID, PERMANENT, NOT_STARTED = 3, 4, 6
Spec = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One way to get it wrong.

    Attributes:
        example: the document that is bent.
        bend: what is changed in its spec.
        words: what the error must say.
    """

    name: str
    example: str
    bend: Callable[[Spec], object]
    words: tuple[str, ...]
    code: int = INVALID


def option(end: str, name: str, **values: Any) -> Callable[[Spec], None]:
    """Sets an option of one end, or adds it."""

    def bend(spec: Spec) -> None:
        options = spec[end]["options"]
        options[:] = [o for o in options if o["name"] != name] + [{"name": name, **values}]

    return bend


def without(end: str, name: str) -> Callable[[Spec], None]:
    """Takes an option away."""

    def bend(spec: Spec) -> None:
        spec[end]["options"] = [o for o in spec[end]["options"] if o["name"] != name]

    return bend


def executor(**values: Any) -> Callable[[Spec], None]:
    """Sets fields of the executor."""
    return lambda spec: spec.setdefault("executor", {}).update(values)


def sub_path(end: str, value: str) -> Callable[[Spec], None]:
    """Sets `subPath`."""
    return lambda spec: spec[end]["pvc"].update(subPath=value)


REFERENCE = {"valueFrom": {"secretKeyRef": {"name": "s3-config", "key": "endpoint"}}}
RULES = [
    Row("an unknown option lists the known", "git-download", option("source", "branch", value="x"),
        ("no option 'branch'", "url, token, ref")),
    Row("a required option is missing", "git-download", without("source", "url"), ("option 'url' is missing",)),
    Row("files by reference", "huggingface-download", option("source", "files", **REFERENCE), ("files", "value")),
    Row("s3-uri by reference", "s3-download", option("source", "s3-uri", **REFERENCE), ("s3-uri", "value")),
    Row("an env that is an option's name", "git-download", executor(env=[{"name": "TOKEN", "value": "x"}]),
        ("'TOKEN' is the name of an option",)),
    Row("an env that is an option's raw name", "git-download", executor(env=[{"name": "token", "value": "x"}]),
        ("'token' is the name of an option",)),
    Row("both ends a PVC", "git-download", lambda s: s.update(source={"type": "pvc", "pvc": {"name": "x"}}),
        ("pvc", "exactly one")),
    Row("neither end a PVC", "git-download", lambda s: s.update(sink=copy.deepcopy(s["source"])),
        ("pvc", "exactly one")),
    Row("sync on an upload", "s3-upload", executor(options={"sync": True}), ("sync", "s3 download")),
    Row("sync on a git download", "git-download", executor(options={"sync": True}), ("sync", "s3 download")),
    Row("an absolute subPath", "git-download", sub_path("sink", "/etc"), ("subPath begins with '/'",)),
    Row("a subPath with ..", "git-download", sub_path("sink", "a/../../b"), ("subPath", "'..'")),
    Row("a subPath with {{", "git-download", sub_path("sink", "a{{b}}"), ("subPath", "{{")),
    Row("a url with a leading -", "git-download", option("source", "url", value="-uhttps://x/y"), ("begins with '-'",)),
    Row("a ref with a leading -", "git-download", option("source", "ref", value="--orphan"), ("begins with '-'",)),
    Row("a repo with a leading -", "huggingface-download", option("source", "repo", value="-a/b"),
        ("begins with '-'",)),
    Row("a file with a leading -", "huggingface-download", option("source", "files", value="a,-b"),
        ("begins with '-'",)),
    Row("a uri with a leading -", "s3-download", option("source", "s3-uri", value="-s3://b"), ("begins with '-'",)),
    Row("the wrong scheme", "git-download", option("source", "url", value="ext::sh -c true"), ("does not begin with https://",)),
    Row("a file url", "git-download", option("source", "url", value="file:///etc"), ("does not begin with https://",)),
    Row("ssh", "git-download", option("source", "url", value="git@github.com:user/repo.git"), ("ssh", "https")),
    Row("an uri that is not S3's", "s3-download", option("source", "s3-uri", value="gs://b/x"), ("s3://",)),
    Row("a forbidden argument of git", "git-download", executor(options={"extraArgs": ["--upload-pack=x"]}),
        ("--upload-pack", "program to run")),
    Row("a forbidden argument of rclone", "s3-download", executor(options={"extraArgs": ["--config", "x"]}),
        ("--config",)),
    Row("a forbidden argument of hf", "huggingface-download", executor(options={"extraArgs": ["--token", "x"]}),
        ("--token",)),
    Row("an unknown argument", "git-download", executor(options={"extraArgs": ["--wat"]}), ("--wat", "allowed")),
    Row("a forbidden environment", "git-download", executor(env=[{"name": "LD_PRELOAD", "value": "x"}]),
        ("LD_PRELOAD",)),
    Row("an environment that runs a program", "s3-download",
        executor(env=[{"name": "RCLONE_PASSWORD_COMMAND", "value": "x"}]), ("RCLONE_PASSWORD_COMMAND",)),
]  # fmt: skip


@pytest.mark.parametrize("row", RULES, ids=lambda row: row.name.replace(" ", "-"))
def test_document_that_breaks_a_rule_is_refused_before_anything_starts(row: Row, command: Command) -> None:
    document = command.example(row.example)
    row.bend(document["spec"])
    said = command("run", document)
    assert said.code == row.code, said.stderr
    assert all(word in said.stderr for word in row.words), said.stderr
    assert not (command.volumes / CLAIM).exists()


def test_all_broken_rules_are_told_at_once(command: Command) -> None:
    document = command.example("git-download")
    for bend in (option("source", "branch", value="x"), sub_path("sink", "/etc"), executor(options={"sync": True})):
        bend(document["spec"])
    said = command("validate", document)
    assert said.code == INVALID
    assert "3 rules broken" in said.stderr


KEY_REFERENCE = {"valueFrom": {"secretKeyRef": {"name": "github-token", "key": "absent"}}}
FAILURES = [
    Row("a missing key of a Secret", "git-download", option("source", "token", **KEY_REFERENCE),
        ("WaitingForSecret", "'github-token'", "'absent'"), NOT_STARTED),
    Row("a missing claim without template", "git-download", lambda s: s["sink"]["pvc"].pop("template"),
        ("WaitingForVolume", CLAIM, "template"), NOT_STARTED),
    Row("a missing claim on upload", "s3-upload", lambda _s: None, ("WaitingForVolume", CLAIM), NOT_STARTED),
    Row("wrong credentials of git", "git-download", option("source", "token", value="wrong-token"),
        ("AccessDenied", "token"), PERMANENT),
    Row("wrong credentials of the hub", "huggingface-download", option("source", "token", value="hf_wrong-token"),
        ("AccessDenied", "token"), PERMANENT),
    Row("wrong credentials of S3", "s3-download", option("source", "s3-secret-access-key", value="wrong-secret"),
        ("AccessDenied", "s3-secret-access-key"), PERMANENT),
    Row("a missing repository of the hub", "huggingface-download", option("source", "repo", value="user/absent"),
        ("NotFound", "user/absent"), PERMANENT),
    Row("a missing ref", "git-download", option("source", "ref", value="absent"), ("RefNotFound", "absent"), PERMANENT),
    Row("a missing file", "huggingface-download", option("source", "files", value="README.md,absent.bin"),
        ("NotFound", "absent.bin"), PERMANENT),
    Row("a missing bucket", "s3-download", option("source", "s3-uri", value="s3://absent-bucket/x"),
        ("NotFound", "absent-bucket"), PERMANENT),
    Row("a missing prefix", "s3-download", option("source", "s3-uri", value=f"s3://{BUCKET}/absent"),
        ("absent",), PERMANENT),
    Row("an empty source with sync", "s3-sync", option("source", "s3-uri", value=f"s3://{BUCKET}/absent/"),
        ("absent",), PERMANENT),
]  # fmt: skip


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.name.replace(" ", "-"))
def test_run_that_cannot_work_says_why_and_what_to_do(row: Row, command: Command) -> None:
    document = command.example(row.example)
    row.bend(document["spec"])
    said = command("run", document)
    assert said.code == row.code, said.stderr
    assert all(word in said.stderr for word in row.words), said.stderr
    assert tree(command.volumes, without=(".datacube-locks",)) == {}


def test_missing_secret_names_it(command: Command) -> None:
    said = command("run", command.example("git-download"), secrets=False)
    assert said.code == NOT_STARTED
    assert said.status["phase"] == "Pending"
    assert "Secret 'github-token'" in said.condition("Initialized")["message"]


def test_missing_repository_of_git_names_it(command: Command) -> None:
    document = command.example("git-download")
    url = command.stage.git.url.replace("://", "://$(TOKEN)@") + "/user/absent.git"
    option("source", "url", value=url)(document["spec"])
    said = command("run", document)
    assert said.code == PERMANENT
    assert "NotFound" in said.stderr
    assert "user/absent" in said.stderr


def test_sync_from_an_empty_source_deletes_nothing(command: Command) -> None:
    command("run", command.example("s3-download"))
    before = tree(command.volumes / CLAIM)
    document = command.example("s3-sync")
    option("source", "s3-uri", value=f"s3://{BUCKET}/absent/")(document["spec"])
    assert command("run", document).code == PERMANENT
    assert tree(command.volumes / CLAIM) == before


def test_sync_with_too_many_deletes_deletes_nothing(command: Command) -> None:
    folder = command.volumes / CLAIM / "dev/s3"
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"mine-{number}").write_text("x")
    document = command.example("s3-sync")
    document["spec"]["executor"]["options"]["maxDelete"] = 4
    said = command("run", document)
    assert said.code == PERMANENT
    assert "TooManyDeletes" in said.stderr
    assert len(tree(folder)) == 5


UPLOADS = ["huggingface-upload", "s3-upload"]


@pytest.mark.parametrize("example", UPLOADS)
def test_missing_source_path_is_an_error_on_upload(example: str, command: Command) -> None:
    (command.volumes / CLAIM).mkdir()
    said = command("run", command.example(example))
    assert said.code == PERMANENT
    assert "NotFound" in said.stderr
    assert "dev/hf/whisper-large-v3" in said.stderr
    assert not (command.volumes / CLAIM / "dev").exists()


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.invalid", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Repository:
    """A way in which a repository on the volume cannot be pushed."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]


COMMIT = ("commit", "--quiet", "--allow-empty", "-m", "x")
REPOSITORIES = [
    Repository("a detached HEAD", (("init",), COMMIT, ("checkout", "--detach")), ("detached",)),
    Repository("no commit", (("init",),), ("no commit",)),
    Repository("non-fast-forward", (("init",), COMMIT), ("NonFastForward",)),
    Repository("not a repository", (), ("not a",)),
]


@pytest.mark.parametrize("row", REPOSITORIES, ids=lambda row: row.name.replace(" ", "-"))
def test_repository_that_cannot_be_pushed_says_why(row: Repository, command: Command) -> None:
    served = command.stage.git.make_repository(f"push/{row.name.replace(' ', '-')}", {"a": "b"}, access=Access.PRIVATE)
    before = served.head("main")
    folder = command.volumes / CLAIM / "dev/git" / served.name.rpartition("/")[2]
    folder.mkdir(parents=True)
    for arguments in row.commands:
        git(folder, *arguments)
    document = command.example("git-upload")
    url = command.stage.git.url.replace("://", "://$(TOKEN)@") + f"/{served.name}.git"
    option("sink", "url", value=url)(document["spec"])
    said = command("run", document)
    assert said.code == PERMANENT, said.stderr
    assert all(word in said.stderr for word in row.words), said.stderr
    assert served.head("main") == before


@pytest.mark.parametrize("example", ["git-download", "huggingface-download", "s3-download"])
def test_full_disk_says_so_and_leaves_no_part(example: str, command: Command) -> None:
    with mounted(command.volumes / CLAIM, size="32k") as claim:
        said = command("run", command.example(example))
        assert said.code == PERMANENT, said.stderr
        assert "DiskFull" in said.stderr
        assert not list(claim.rglob(".datacube"))


@pytest.mark.parametrize("example", ["git-download", "huggingface-download", "s3-download"])
def test_path_that_cannot_be_written_says_so(example: str, command: Command) -> None:
    document = command.example(example)
    with mounted(command.volumes / CLAIM) as claim:
        (claim / document["spec"]["sink"]["pvc"]["subPath"]).mkdir(parents=True)
        seal(claim)
        said = command("run", document)
        assert said.code == PERMANENT, said.stderr
        assert "VolumeNotWritable" in said.stderr
