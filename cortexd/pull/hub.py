"""The Hugging Face hub, or what HF_ENDPOINT names. The only user of huggingface_hub in the control plane."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cortexd.artifacts.download import Remote, TransferError, read_small
from cortexd.artifacts.store import MANIFEST, StoreError, parse_manifest
from cortexd.pull.pull import PullError

T = TypeVar("T")

# What an exporter reads of a checkpoint; other formats of the same weights are left where they are.
_CHECKPOINT = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "1_Pooling/*"]


@dataclass(frozen=True, slots=True)
class Found:
    """A repository at a commit. ``remote`` is the folder of its files."""

    repository: str
    commit: str
    files: frozenset[str]
    remote: Remote


def look_up(repository: str, revision: str) -> Found:
    """What a revision is now. Raises PullError."""
    from huggingface_hub import HfApi, constants, get_token

    info = _asked(f"{repository}@{revision}", lambda: HfApi().model_info(repository, revision=revision))
    if not info.sha:
        raise PullError(f"the hub names no commit for {repository}@{revision}")
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    files = frozenset(sibling.rfilename for sibling in info.siblings or ())
    return Found(repository, info.sha, files, Remote(f"{constants.ENDPOINT}/{repository}/resolve/{info.sha}", headers))


def is_artifact(found: Found, stopped: threading.Event) -> bool:
    """Whether the repository holds an artifact, and no checkpoint that would have to be exported. Raises PullError."""
    if MANIFEST not in found.files:
        return False
    try:
        parse_manifest(read_small(found.remote, MANIFEST, stopped))
    except TransferError as e:
        raise PullError(str(e)) from e
    except StoreError as e:
        if "config.json" in found.files:
            return False
        raise PullError(f"{found.repository}: {e}") from e
    return True


def checkpoint(found: Found) -> Path:
    """Its files, in the hub's own cache. Raises PullError."""
    from huggingface_hub import snapshot_download

    if "config.json" not in found.files:
        raise PullError(f"{found.repository} holds neither an artifact (manifest.json) nor a checkpoint (config.json)")
    if not any(name.endswith(".safetensors") for name in found.files):
        raise PullError(f"{found.repository} has no safetensors; name the repository that its weights were made from")
    return Path(
        _asked(
            found.repository,
            lambda: snapshot_download(found.repository, revision=found.commit, allow_patterns=_CHECKPOINT),
        )
    )


def _asked(what: str, question: Callable[[], T]) -> T:
    """The hub's answer; what it refuses, or why it does not answer, in a sentence."""
    import requests
    from huggingface_hub import errors

    try:
        return question()
    except errors.GatedRepoError:
        raise PullError(f"{what} is gated: accept its terms on the hub, and put a token into HF_TOKEN") from None
    except errors.RevisionNotFoundError:
        raise PullError(f"{what}: the repository has no such revision") from None
    except errors.RepositoryNotFoundError:
        raise PullError(f"{what}: no such repository, or a private one (then put a token into HF_TOKEN)") from None
    except errors.HFValidationError as e:
        raise PullError(f"{what}: {str(e).splitlines()[0]}") from None
    except errors.OfflineModeIsEnabled:
        raise PullError(f"{what}: HF_HUB_OFFLINE is set") from None
    except errors.LocalEntryNotFoundError:
        raise PullError(f"{what}: the hub does not answer") from None
    except errors.HfHubHTTPError as e:
        status = e.response.status_code if e.response is not None else "?"
        raise PullError(f"{what}: the hub answered with status {status}") from None
    except requests.RequestException as e:
        raise PullError(f"{what}: the hub does not answer: {type(e).__name__}") from None
