"""A base on the model hub: its cached folder, or a check, within seconds, that it is available.

A dead network shows in many ways (no route, no name server, a proxy that never answers), and not
all of them obey a client's own limit. So one question is asked in a thread, and waited for once.
"""

import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from envs.errors import UserError
from train.config.settings import ModelSettings
from train.models.weight_files import missing_weights

WAIT_S = 6.0  # leaves room for imports below the promised 15 s


def switch_telemetry_off(environ: MutableMapping[str, str]) -> None:
    """Switch the telemetry of libraries off, unless the user decided otherwise.

    To be called by entry points, before the libraries are imported: they read it once.
    """
    environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # of all Hugging Face libraries and TRL


def hub_source(repo: str, *, wait_s: float = WAIT_S) -> str:
    """Return the cached folder of a hub id if it is whole, else the id if it can be downloaded.

    Args:
        repo: Such as `Qwen/Qwen2.5-Coder-3B-Instruct`.
        wait_s: Most seconds to wait for the hub.

    Raises:
        UserError: It is neither cached nor available.
    """
    folder = cached_folder(repo)
    if folder is not None:
        return str(folder)
    failure = hub_failure(repo, wait_s=wait_s)
    if failure is None:
        return repo
    raise UserError(
        f"cannot get {repo} from the model hub",
        got=failure,
        remedy=(
            "check the name, the network, and for a gated model `hf auth login`; or download it "
            "elsewhere and set model.base to its folder (./FOLDER); or use model.base: qwen2.5-"
            "coder-0.5b after `tightrope model fetch qwen2.5-coder-0.5b`, which needs no hub"
        ),
    )


def cached_folder(repo: str) -> Path | None:
    """Return the hub cache's folder of `repo` if shape, tokenizer and all weights are there.

    Raises:
        UserError: The hub has no such names.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(repo, name) for name in ("config.json", "tokenizer.json")]
    except HFValidationError as error:
        remedy = f"write a folder with its beginning: ./{repo}"
        raise UserError("this names no model of the hub", got=repo, remedy=remedy) from error
    if not all(isinstance(path, str) for path in found):
        return None
    folder = Path(str(found[0])).parent
    return None if missing_weights(folder) else folder


def shape_folder(model: ModelSettings) -> Path | None:
    """Return the base's folder if it holds a model's config.json without its weights."""
    folder = Path(model.base).expanduser()
    has_shape = model.kind == "folder" and (folder / "config.json").is_file()
    return folder if has_shape and missing_weights(folder) else None


def licence_on_hub(repo: str, *, wait_s: float = WAIT_S) -> str | None:
    """Return the licence that the hub's card of `repo` names; None if the hub does not say it."""
    from huggingface_hub import HfApi

    answer = _ask(lambda: HfApi().model_info(repo, timeout=wait_s), wait_s=wait_s)
    return getattr(getattr(answer, "card_data", None), "license", None)


def save_card(folder: Path, text: str, **facts: Any) -> None:
    """Write a model card, README.md in `folder`, with `facts` in the names of `ModelCardData`."""
    from huggingface_hub import ModelCard, ModelCardData

    head = ModelCardData(**facts).to_yaml()
    ModelCard(f"---\n{head}\n---\n\n{text}").save(folder / "README.md")


def hub_failure(repo: str, *, wait_s: float = WAIT_S) -> str | None:
    """Ask for the head of one file; return what went wrong, None if it could be downloaded."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, "config.json")
    answer = _ask(lambda: get_hf_file_metadata(url, timeout=wait_s), wait_s=wait_s)
    if answer is None:
        return f"no answer in {wait_s:.0f} s"
    return type(answer).__name__ if isinstance(answer, Exception) else None


def _ask(question: Callable[[], object], *, wait_s: float) -> object:
    """Return the answer or the exception of `question`; None if it takes longer than `wait_s`."""
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(question())
        except Exception as error:  # whatever it is, the hub cannot be used now
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(wait_s)
    return answers[0] if answers else None
