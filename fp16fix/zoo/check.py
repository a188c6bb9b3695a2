"""``batch --check``: is every result there, of just these inputs, and verified? Nothing is worked on, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp16fix.config import ZooConfig
from fp16fix.report.batch import Row
from fp16fix.zoo.cache import Cache
from fp16fix.zoo.lockfile import read_lock, refuse_changed, since
from fp16fix.zoo.plan import jobs_of, refuse_foreign
from fp16fix.zoo.run import Options, chosen, contents
from fp16fix.zoo.standing import Standing, standing


@dataclass(frozen=True, slots=True)
class Checked:
    """One model."""

    name: str
    good: bool
    why: str
    """``verified``, or what is wrong with it."""
    worse: tuple[str, ...] = ()
    """What is worse than in the locked run."""


def check(zoo: ZooConfig, options: Options) -> list[Checked]:
    """Look at every model.

    Raises:
        ConfigError, InputError: see ``run_zoo``.
    """
    zoo = zoo if options.jobs is None else zoo.model_copy(update={"jobs": options.jobs})
    cache, lock = Cache(zoo.cache), read_lock(zoo)
    standings = [standing(job, cache) for job in refuse_foreign(zoo, chosen(jobs_of(zoo), options.only), cache)]
    if options.locked:
        refuse_changed(lock, standings, contents(standings, lock))
    found = [checked(each, options.fail_on or zoo.fail_on) for each in standings]
    rows = {each.job.name: each.row for each in standings if each.row is not None and each.in_place}
    return [replace(each, worse=since(lock, named(rows[each.name], each.name)).worse if each.name in rows else ()) for each in found]


def named(row: Row, name: str) -> Row:
    """A result that another job of the same content made, under this one's name."""
    return replace(row, name=name)


def checked(found: Standing, fail_on: Sequence[str]) -> Checked:
    """What is wrong with one, if anything."""
    name, row = found.job.name, found.row
    if row is None or not found.in_place:
        return Checked(name, False, found.why())
    if not row.fails(fail_on):
        return Checked(name, True, row.status)
    return Checked(name, False, "; ".join([row.status, *row.causes]))
