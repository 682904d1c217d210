"""Where keys and teams are made and changed: for the admin API, the console and the command line alike. Every change is
written down in the audit log; no secret ever is."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from headgate.config.governance import Periods, Rates
from headgate.config.values import duration
from headgate.core.clock import SYSTEM, Clock
from headgate.core.errors import Conflict, InvalidRequest, NotFound, StorageUnavailable, StorageUnsure
from headgate.core.ids import new_id
from headgate.core.money import dollars
from headgate.core.ports import Store
from headgate.core.principal import DOORS
from headgate.core.records import AuditRecord, BudgetSpec, KeyRecord, LimitSpec, TeamRecord
from headgate.governance.governor import KeyedGovernor
from headgate.governance.keys import NewKey, make_key, rotate_key, state_of
from headgate.governance.rules import Rules, budget_specs, defined_teams, limit_spec
from headgate.governance.spending import Spending

LONGEST_NAME = 120
TRIES = 5
OVERLAP = 3600.0
"""Seconds that a rotated key goes on where nobody says otherwise."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEAM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyInput(_Input):
    """What a key may be made of. `expires`: a duration from now (`30d`), or a date; None: never. `hash`: SHA-256 (hex) of a
    secret that its holder has already, from another gateway: then none is made; `hint` is what may be shown of it."""

    name: str
    user: str | None = None
    team: str | None = None
    tags: list[str] = []
    models: list[str] | None = None
    doors: list[str] | None = None
    zone: str | None = None
    priority: int = 0
    expires: str | None = None
    limits: Rates = Rates()
    budgets: Periods = Periods()
    hash: str | None = None
    hint: str | None = None


class TeamInput(_Input):
    id: str
    name: str | None = None
    models: list[str] | None = None
    limits: Rates = Rates()
    budgets: Periods = Periods()


class Desk:
    """`governor`: told of changes at once; other processes see them at their next look. All methods raise InvalidRequest,
    NotFound or StorageUnavailable. They may be called from any event loop."""

    def __init__(
        self,
        store: Store,
        *,
        rules: Callable[[], Rules] = Rules,
        governor: KeyedGovernor | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._store = store
        self._rules = rules
        self._governor = governor
        self._clock = clock
        self.spending = Spending(store, rules=rules, governor=governor, clock=clock)
        self.serving: asyncio.AbstractEventLoop | None = None
        """The loop that the governor lives in."""

    # -- keys ------------------------------------------------------------------------------------------------------------
    async def keys(self) -> list[dict[str, Any]]:
        now, teams = self._clock.time(), await self._teams()
        return [key_view(key, now, teams) for key in sorted(await self._store.keys(), key=lambda key: -key.created)]

    async def key(self, id: str) -> dict[str, Any]:
        return key_view(await self._found(id), self._clock.time(), await self._teams())

    async def create(self, given: Mapping[str, Any], actor: str) -> dict[str, Any]:
        """The key, and for this once its secret: where it was made here."""
        wanted = _read(KeyInput, given)
        now = self._clock.time()
        texts = (wanted.name, wanted.user, wanted.team, wanted.zone, wanted.hint)
        for text in (*texts, *wanted.tags, *(wanted.models or ())):
            _check_text(text)
        if not wanted.name.strip():
            raise InvalidRequest("a key needs a name", param="name")
        if wanted.team is not None and wanted.team not in await self._teams():
            raise InvalidRequest(f"there is no team {wanted.team!r}", param="team")
        for door in wanted.doors or ():
            if door not in DOORS:
                raise InvalidRequest(f"there is no door {door[:40]!r}: {', '.join(DOORS)}", param="doors")
        record = KeyRecord(
            id="",
            hash="",
            hint="",
            name=wanted.name.strip(),
            created=now,
            user=wanted.user or None,
            team=wanted.team or None,
            tags=tuple(dict.fromkeys(wanted.tags)),
            models=None if wanted.models is None else tuple(wanted.models),
            doors=None if wanted.doors is None else tuple(wanted.doors),
            zone=wanted.zone or None,
            priority=wanted.priority,
            expires=_expiry(wanted.expires, now),
            limits=limit_spec(wanted.limits),
            budgets=budget_specs(wanted.budgets),
        )
        if wanted.hash is not None:
            return await self._adopt(record, wanted.hash, wanted.hint or "", actor)
        made = make_key(record)
        with _telling_of(made.record):
            await self._store.put_key(made.record, note=self._record(actor, "key.create", made.record.id, record.name))
        return await self._shown(made)

    async def _adopt(self, record: KeyRecord, digest: str, hint: str, actor: str) -> dict[str, Any]:
        """A key whose secret we never see: whoever holds it goes on using it."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidRequest("a hash is the SHA-256 of a secret: 64 hexadecimal digits", param="hash")
        if any(key.hash == digest for key in await self._store.keys()):
            raise Conflict("there is a key with this hash already")
        key = msgspec.structs.replace(record, id=new_id("key"), hash=digest, hint=hint[:12] or "…")
        await self._store.put_key(key, note=self._record(actor, "key.adopt", key.id, key.name))
        await self._changed()
        return key_view(key, self._clock.time(), await self._teams())

    async def revoke(self, id: str, actor: str) -> dict[str, Any]:
        now = self._clock.time()
        for _ in range(TRIES):
            key = await self._found(id)
            if key.ended:
                break
            ended = msgspec.structs.replace(key, revoked=min(now, key.revoked or now), ended=True)
            if await self._store.swap_key(key, ended, note=self._record(actor, "key.revoke", id, key.name)):
                key = ended
                await self._changed()
                break
        else:
            raise _changing()
        return key_view(key, now, await self._teams())

    async def rotate(self, id: str, actor: str, *, overlap: str | float | None = None) -> dict[str, Any]:
        """The successor with its secret; the old key goes on for the overlap, unless it is revoked meanwhile."""
        old, now = await self._found(id), self._clock.time()
        state = state_of(old, now, await self._teams())
        if state == "team_missing":
            raise Conflict(f"the team {old.team!r} of this key is not defined: its successor would be refused as well")
        if state != "active":
            raise Conflict(f"this key is {state}: only an active one can be rotated")
        seconds = OVERLAP if overlap is None else _duration(overlap, "overlap")
        ended, fresh = rotate_key(old, now=now, overlap=seconds)
        note = self._record(actor, "key.rotate", fresh.record.id, f"{old.id}, which ends in {seconds:g} s")
        with _telling_of(fresh.record):
            if not await self._store.swap_key(old, fresh.record, ended, note=note):
                raise _changing()
        return await self._shown(fresh)

    async def _shown(self, new: NewKey) -> dict[str, Any]:
        """With the secret, for this once."""
        await self._changed()
        view = key_view(new.record, self._clock.time(), await self._teams())
        return {**view, "secret": new.secret}

    async def _found(self, id: str) -> KeyRecord:
        for key in await self._store.keys():
            if key.id == id:
                return key
        raise NotFound(f"there is no key {id[:60]!r}")

    # -- teams -----------------------------------------------------------------------------------------------------------
    async def teams(self) -> list[dict[str, Any]]:
        members: dict[str, int] = {}
        now = self._clock.time()
        for key in await self._store.keys():
            if key.team is not None and state_of(key, now) in ("active", "ending"):
                members[key.team] = members.get(key.team, 0) + 1
        return [
            team_view(team, keys=members.get(team.id, 0), from_file=team.id in self._rules().teams)
            for team in (await self._teams()).values()
        ]

    async def put_team(self, given: Mapping[str, Any], actor: str) -> dict[str, Any]:
        """Makes a team, or replaces what is said of it."""
        wanted = _read(TeamInput, given)
        if not _TEAM_ID.fullmatch(wanted.id):
            raise InvalidRequest("a team's id is letters, digits, dots, dashes: at most 64", param="id")
        if wanted.id in self._rules().teams:
            raise Conflict(f"the team {wanted.id!r} is defined in the configuration file: change it there")
        for text in (wanted.name, *(wanted.models or ())):
            _check_text(text)
        known = next((team for team in await self._store.teams() if team.id == wanted.id), None)
        team = TeamRecord(
            id=wanted.id,
            name=wanted.name or wanted.id,
            created=known.created if known is not None else self._clock.time(),
            models=None if wanted.models is None else tuple(wanted.models),
            limits=limit_spec(wanted.limits),
            budgets=budget_specs(wanted.budgets),
        )
        action = "team.create" if known is None else "team.change"
        await self._store.put_team(team, note=self._record(actor, action, team.id, team.name))
        await self._changed()
        return team_view(team, keys=0, from_file=False)

    async def _teams(self) -> dict[str, TeamRecord]:
        return defined_teams(await self._store.teams(), self._rules())

    # -- what all have in common -----------------------------------------------------------------------------------------
    async def audit(self, *, limit: int = 100) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(record) for record in await self._store.audits(max(1, min(limit, 1000)))]

    async def note(self, actor: str, action: str, target: str, detail: str) -> None:
        """Of what was changed elsewhere."""
        await self._store.audit(self._record(actor, action, target, detail))

    def _record(self, actor: str, action: str, target: str, detail: str) -> AuditRecord:
        return AuditRecord(at=self._clock.time(), actor=actor, action=action, target=target, detail=detail)

    async def _changed(self) -> None:
        """Our own governor need not wait for its next look; where it cannot look now, what was changed is changed."""
        if self._governor is None or self.serving is None:
            return
        with contextlib.suppress(StorageUnavailable):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._governor.refresh(), self.serving))


def _changing() -> Conflict:
    return Conflict("somebody else is changing this key just now: look at it again")


def _read(kind: type[Any], given: Mapping[str, Any]) -> Any:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"] if "[" not in str(step))
        what = re.sub(r"^Value error, ", "", first["msg"])
        raise InvalidRequest(f"{where[:80]}: {what[:200]}", param=where[:80] or None) from error


def _check_text(text: str | None) -> None:
    """Names are shown on terminals, in tables and in headers: what cannot be seen has no place in them."""
    if text is not None and (len(text) > LONGEST_NAME or _UNSEEN.search(text)):
        raise InvalidRequest(f"names are at most {LONGEST_NAME} visible characters", param="name")


def _duration(value: str | float, param: str) -> float:
    try:
        seconds = float(duration(value))
    except ValueError as error:
        raise InvalidRequest(f"{param}: {error}", param=param) from error
    if not 0 <= seconds <= 3650 * 86_400:
        raise InvalidRequest(f"{param} is out of bounds", param=param)
    return seconds


def _expiry(text: str | None, now: float) -> float | None:
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return now + _duration(text, "expires")
    at = (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    if at <= now:
        raise InvalidRequest("expires lies in the past", param="expires")
    return at


@contextlib.contextmanager
def _telling_of(key: KeyRecord) -> Iterator[None]:
    """Where nobody knows whether the key was made: how to find it. Nobody has its secret, so it is of no use."""
    try:
        yield
    except StorageUnsure as error:
        raise StorageUnsure(
            f"the store's answer was lost: the key {key.id!r} ({key.name!r}) may exist, and nobody has its secret. Once the"
            f" store answers, see `headgate keys list`; if it is there, `headgate keys revoke {key.id}`, then make another",
            detail=error.detail,
        ) from error


def key_view(key: KeyRecord, now: float, teams: Container[str]) -> dict[str, Any]:
    """A key as it may be shown: never its hash. `teams`: all that are defined."""
    return {
        "id": key.id,
        "name": key.name,
        "hint": f"hg-…{key.hint}" if key.hint.isalnum() else key.hint,
        "state": state_of(key, now, teams),
        "user": key.user,
        "team": key.team,
        "tags": list(key.tags),
        "models": None if key.models is None else list(key.models),
        "doors": None if key.doors is None else list(key.doors),
        "zone": key.zone,
        "priority": key.priority,
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "rotated_to": key.rotated_to,
        "line": key.line or key.id,
        "limits": limits_view(key.limits),
        "budgets": budgets_view(key.budgets),
    }


def team_view(team: TeamRecord, *, keys: int, from_file: bool) -> dict[str, Any]:
    return {
        "id": team.id,
        "name": team.name,
        "from_file": from_file,
        "keys": keys,
        "models": None if team.models is None else list(team.models),
        "limits": limits_view(team.limits),
        "budgets": budgets_view(team.budgets),
    }


def limits_view(limits: LimitSpec) -> dict[str, int]:
    return {name: value for name in limits.__struct_fields__ if (value := getattr(limits, name)) is not None}


def budgets_view(budgets: Iterable[BudgetSpec]) -> dict[str, dict[str, Any]]:
    return {spec.period: {"limit_usd": dollars(spec.limit), "hard": spec.hard} for spec in budgets}
