"""What an upload to a hub goes to: an existing branch, or a repository that it is allowed to create."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_library import errors, httpx2

if TYPE_CHECKING:
    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.hf_errors import Repository
    from datacube_flows.transfers.hf_library import HfApi

MAIN = "main"
_VISIBILITY = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Target:
    """The branch's commit, or "" for a repository that is yet to be created, `private` or not."""

    repository: Repository
    commit: str
    private: bool | None = None

    def create(self, api: HfApi) -> None:
        """Creates the repository where it is missing; an existing one is left as it is."""
        if self.commit:
            return
        api.create_repo(
            self.repository.id,
            repo_type=self.repository.type,
            private=self.private,
            exist_ok=True,
            space_sdk="gradio" if self.repository.type == "space" else None,
        )


def find_target(api: HfApi, attempt: Attempt, repository: Repository) -> Target:
    """Returns where the upload goes; nothing is created yet.

    Raises:
        TransferError: AccessDenied without a token, NotFound for a repository that is missing and must not be created,
            RefNotFound for a branch that does not exist.
    """
    if not repository.token:
        raise TransferError(
            Reason.ACCESS_DENIED, f"an upload to {repository} needs option token: a token that may write to it"
        )
    private = visibility(attempt.options.get("private", ""))
    try:
        info = api.repo_info(repository.id, revision=repository.revision, repo_type=repository.type)
    except errors.GatedRepoError:
        raise
    except errors.RepositoryNotFoundError as error:
        return _missing(repository, private, error)
    if private is not None and info.private is not None and info.private != private:
        now = "private" if info.private else "public"
        attempt.progress.notice(f"{repository} exists and is {now}: option private counts only when it is created")
    _check_branch(api, repository)
    return Target(repository, str(info.sha))


def visibility(option: str) -> bool | None:
    """Returns option `private`, None where it is absent.

    Raises:
        TransferError: InvalidSpec for another word than `true` and `false`.
    """
    if option and option.lower() not in _VISIBILITY:
        raise TransferError(Reason.INVALID_SPEC, f'option private is \'{option}\': use "true" or "false"')
    return _VISIBILITY.get(option.lower())


def _missing(repository: Repository, private: bool | None, error: errors.RepositoryNotFoundError) -> Target:
    if error.response.status_code == httpx2.codes.UNAUTHORIZED:
        raise error  # it is the token that is wrong
    if private is None:
        raise TransferError(
            Reason.NOT_FOUND,
            f"{repository} does not exist at {repository.endpoint}, or the token has no access to it: "
            'check option repo, or give option private ("true" or "false") to create it',
        ) from error
    if repository.revision != MAIN:
        raise TransferError(
            Reason.REF_NOT_FOUND, f"{repository} does not exist yet, so it has no branch '{repository.revision}'"
        ) from error
    return Target(repository, "", private)


def _check_branch(api: HfApi, repository: Repository) -> None:
    """A tag or a commit is a revision too, but nothing can be added to it."""
    if repository.revision == MAIN or repository.revision.startswith("refs/pr/"):
        return
    refs = api.list_repo_refs(repository.id, repo_type=repository.type)
    if repository.revision not in {branch.name for branch in refs.branches}:
        raise TransferError(
            Reason.REF_NOT_FOUND, f"'{repository.revision}' is no branch of {repository}: an upload needs a branch"
        )
