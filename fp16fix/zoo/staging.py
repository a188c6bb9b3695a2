"""Files from elsewhere → a scratch folder of this machine, within a size limit, and products back to where they belong."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from fp16fix.config import Entry
from fp16fix.config.urls import is_url, url_of
from fp16fix.errors import InputError
from fp16fix.report.batch import Product
from fp16fix.zoo import storage
from fp16fix.zoo.content import weights_of

MIB = 1 << 20
WAIT_S = 0.5
"""How often room is looked for."""
MARK = "fp16fix-scratch-"
"""How folders begin that are made here; one whose lock nobody holds is of a run that was killed, and is taken away."""


@dataclass(frozen=True, slots=True)
class Stage:
    """An entry whose files are all on this machine."""

    entry: Entry
    places: dict[str, str] = field(default_factory=dict)
    """Folders of this machine → what stands for them in what is told."""
    back: Path | None = None
    """Where products go; None where they are there already."""

    def delivered(self, products: Mapping[str, Product]) -> dict[str, Product]:
        """Take products where they belong, the outcome, which speaks of the others, last; their paths as they are there."""
        if self.back is None:
            return dict(products)
        told = {}
        for kind, each in sorted(products.items(), key=lambda pair: pair[0] == "outcome"):
            there = self.back / Path(each.path).name
            storage.send(Path(each.path), there)
            told[kind] = replace(each, path=url_of(there))
        return told


@contextmanager
def staged(entry: Entry, name: str, scratch: Path | None, limit_mib: int | None) -> Iterator[Stage]:
    """The entry with everything on this machine, as long as the block lasts.

    Raises:
        InputError: a file is not there, or all of them never fit within the limit.
    """
    assert entry.model is not None
    assert entry.output is not None
    elsewhere = [path for path in (entry.model, entry.output, Path(entry.inputs or "")) if is_url(path)]
    if not elsewhere:
        yield Stage(entry)
        return
    sources = sources_of(entry)
    wanted = sum(storage.size(path) for path in sources)
    folder = scratch or Path(tempfile.gettempdir())
    with room(folder, wanted, limit_mib, name) as home:
        changes: dict[str, object] = {}
        places: dict[str, str] = {}
        if is_url(entry.model):
            changes["model"] = home / "model" / entry.model.name
            places[f"{home / 'model'}/"] = f"{url_of(entry.model.parent)}/"
            fetch_model(entry.model, home / "model", wanted, limit_mib)
        if entry.inputs is not None and is_url(entry.inputs):
            source = Path(entry.inputs)
            files = storage.files_in(source)
            for each in files:
                storage.fetch(each, home / "samples" / each.name)
            changes["inputs"] = str(home / "samples" / source.name if files == (source,) else home / "samples")
            places[str(home / "samples")] = url_of(source.parent if files == (source,) else source)
        back = None
        if is_url(entry.output):
            changes["output"] = home / "products" / entry.output.name
            places[f"{home / 'products'}/"] = f"{url_of(entry.output.parent)}/"
            back = entry.output.parent
        yield Stage(entry.model_copy(update=changes), places, back)


def sources_of(entry: Entry) -> tuple[Path, ...]:
    """What is to be brought, as far as it is known before the model is read."""
    assert entry.model is not None
    samples = storage.files_in(Path(entry.inputs)) if entry.inputs is not None and is_url(entry.inputs) else ()
    return (*([entry.model] if is_url(entry.model) else []), *samples)


def fetch_model(model: Path, home: Path, wanted: int, limit_mib: int | None) -> None:
    """The model, and the weights that it says lie beside it, which are only known then.

    Raises:
        InputError: with them it does not fit.
    """
    local = home / model.name
    storage.fetch(model, local)
    weights = [name for name in weights_of(local) if storage.is_file(model.parent / name)]
    refuse_too_much(wanted + sum(storage.size(model.parent / name) for name in weights), limit_mib, url_of(model))
    for name in weights:
        storage.fetch(model.parent / name, home / name)


def refuse_too_much(wanted: int, limit_mib: int | None, where: str) -> None:
    """Bytes that never fit. Raises InputError."""
    if limit_mib is not None and wanted > limit_mib * MIB:
        said = f"its files take {wanted / MIB:.1f} MiB, and scratch.limit_mib allows {limit_mib}"
        raise InputError(said, where=where, hint="allow more, or give the model from a folder of this machine")


@contextmanager
def room(folder: Path, wanted: int, limit_mib: int | None, name: str) -> Iterator[Path]:
    """A folder of its own in ``folder``, once what lies there in such folders leaves room for ``wanted`` bytes more.

    What is wanted is claimed at once, by a file of that size which takes no space, so that two who look at the same time do not both find
    room; it goes when the files have come. Several processes of one machine share the limit.
    """
    refuse_too_much(wanted, limit_mib, name)
    limit = None if limit_mib is None else limit_mib * MIB
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            with FileLock(folder / f"{MARK}lock"):
                sweep(folder)
                if limit is None or held(folder) + wanted <= limit:
                    home = Path(tempfile.mkdtemp(prefix=MARK, dir=folder))
                    lock = FileLock(home / "lock")
                    stack.enter_context(lock)
                    with (home / "claim").open("wb") as claim:
                        os.truncate(claim.fileno(), wanted)
                    break
            time.sleep(WAIT_S)
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        yield home


def held(folder: Path) -> int:
    """Bytes in the folders of all who work here: what they claimed, or what came where that is more."""
    total = 0
    for home in folder.glob(f"{MARK}*/"):
        files = [each for each in home.rglob("*") if each.is_file()]
        claims = sum(each.stat().st_size for each in files if each.name == "claim")
        total += max(claims, sum(each.stat().st_size for each in files if each.name != "claim"))
    return total


def sweep(folder: Path) -> None:
    """Take away what killed runs left: folders whose lock can be had."""
    for home in folder.glob(f"{MARK}*/"):
        try:
            with FileLock(home / "lock", timeout=0):
                pass
        except (Timeout, OSError):
            continue
        shutil.rmtree(home, ignore_errors=True)
