"""What is known of a job before any work: its content, a result of just that content, and whether its files stand where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fp16fix.config.urls import url_of
from fp16fix.errors import Fp16fixError
from fp16fix.report.batch import Content, Product, Row
from fp16fix.report.document import adapter, portable
from fp16fix.zoo import storage
from fp16fix.zoo.cache import Cache
from fp16fix.zoo.content import content_of
from fp16fix.zoo.plan import Job, ledger_key


@dataclass(frozen=True, slots=True)
class Standing:
    """See the module."""

    job: Job
    content: Content | None = None
    """None where the model's weight files are not known, so nothing of it was ever kept, or something cannot be read."""
    row: Row | None = None
    """The result of this content, with paths as they were when it was kept."""
    in_place: bool = False
    """Its files are where they belong, as they were delivered."""
    kept: bool = False
    """The cache holds them whole."""
    changed: tuple[str, ...] = ()
    """What is not as in the last result that was delivered here: ``model``, ``samples``, ``config``, ``versions``."""
    peak_mib: float = 0.0
    """Memory that the last run took; 0 without one."""

    def why(self) -> str:
        """Why its result is not in place, in words."""
        if self.changed:
            return f"stale: {', '.join(self.changed)} changed"
        if self.row is None:
            return "missing: it was never repaired"
        return "missing: a file that was delivered is gone or changed" if not self.in_place else ""


def standing(job: Job, cache: Cache) -> Standing:
    """Look, and change nothing."""
    ledger = cache.noted("rows", ledger_key(job)) or {}
    peak = float(ledger.get("peak_mib", 0.0))
    try:
        content = content_from(job, cache)
    except Fp16fixError:  # whoever works on it says what is wrong
        return Standing(job, peak_mib=peak)
    last = Content(**ledger["content"]) if ledger.get("content") else None
    if content is None:
        return Standing(job, changed=("model",) if last is not None else (), peak_mib=peak)
    changed = content.differs(last) if last is not None else ()
    row = kept_row(cache.noted("results", content.key))
    if row is None:
        return Standing(job, content, changed=changed, peak_mib=peak)
    in_place = all(storage.digest(path) == each for path, each in expected(job, row, ledger if last == content else {}).items())
    kept = in_place or all(cache.holds(each.digest) for each in row.products.values())
    return Standing(job, content, row, in_place, kept, changed, peak)


def kept_row(noted: Mapping[str, Any] | None) -> Row | None:
    """The row of a note; None without one, or where another fp16fix of this version wrote other fields."""
    try:
        row: Row | None = None if noted is None else adapter(Row).validate_python(noted["row"])
    except ValueError:  # pydantic's ValidationError is one
        return None
    return row


def content_from(job: Job, cache: Cache) -> Content | None:
    """The content of a job; the model itself is not read, so the names of its weight files must be known from an earlier run."""
    assert job.entry.model is not None
    names = cache.noted("weights", storage.digest(job.entry.model))
    return content_of(job.entry, names["names"]) if names is not None else None


def targets(job: Job, row: Row) -> dict[str, Path]:
    """Where the files of a result belong for this job."""
    assert job.entry.output is not None
    return {kind: job.entry.output.parent / Path(each.path).name for kind, each in row.products.items()}


def expected(job: Job, row: Row, ledger: Mapping[str, Any]) -> dict[Path, str]:
    """Digests of the files where they belong: as they were delivered here, else as they were made."""
    files = ledger.get("files", {})
    return {path: files.get(url_of(path), {}).get("digest", row.products[kind].digest) for kind, path in targets(job, row).items()}


def restore(found: Standing, cache: Cache) -> Row:
    """Put the files of a kept result where they belong, and say so.

    Where that is another folder than it was, the outcome and its page say the new one.

    Raises:
        InputError: a file cannot be written.
    """
    assert found.row is not None
    row, places = found.row, targets(found.job, found.row)
    home, former = found.job.entry.output, Path(row.products["outcome"].path).parent
    assert home is not None
    for kind, path in sorted(places.items(), key=lambda pair: pair[0] == "outcome"):
        if storage.digest(path) != row.products[kind].digest:
            copy_of(cache, row.products[kind], path, url_of(former), url_of(home.parent))
    products = {kind: Product(url_of(path), storage.digest(path), storage.size(path)) for kind, path in places.items()}
    return replace(row, work="restored", products=products)


def copy_of(cache: Cache, product: Product, path: Path, former: str, folder: str) -> None:
    """One file of the cache at ``path``; one that speaks of folders says the new one."""
    held = storage.read(cache.object(product.digest)) or b""
    if former != folder and path.suffix in {".json", ".html"}:
        held = held.replace(f"{former}/".encode(), f"{folder}/".encode())
    storage.write(path, held)


def begin(job: Job, cache: Cache) -> None:
    """Note that a job is worked on: what stands at its paths from now on is ours, even if nobody lives to say so."""
    ledger = cache.noted("rows", ledger_key(job)) or {}
    cache.note("rows", ledger_key(job), {**ledger, "name": job.name, "in_flight": True})


def settle(job: Job, row: Row, cache: Cache) -> None:
    """Note what was delivered."""
    ledger: Mapping[str, Any] = cache.noted("rows", ledger_key(job)) or {}
    note = {**ledger, "name": job.name, "in_flight": False, "peak_mib": row.peak_mib or ledger.get("peak_mib", 0.0)}
    if row.judged and row.content is not None:
        files = {each.path: {"digest": each.digest, "bytes": each.bytes} for each in row.products.values()}
        note |= {"files": files, "content": asdict(row.content)}
    cache.note("rows", ledger_key(job), portable(note))
