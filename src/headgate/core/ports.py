"""What lower rooms give to higher ones, as protocols.

Only engine/gateway.py and server/app.py choose implementations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NotRequired, Protocol, TypedDict, Unpack

from headgate.core.fleet import About, Claim, Draw, Drawn, Member, Notice, Pulse, Seated, Seating
from headgate.core.principal import Principal
from headgate.core.records import (
    AttemptIntent,
    AttemptOutcome,
    AuditRecord,
    CallRow,
    FeedbackRecord,
    HomeRow,
    JournalEntry,
    KeyRecord,
    LearnedRow,
    Lease,
    MixRow,
    RequestRecord,
    TeamRecord,
    UsageRow,
)


class Ledger(Protocol):
    """Append-only truth about money. `intend` returns only once the intent survives a kill of the process."""

    def intend(self, intent: AttemptIntent) -> None:
        """Before the first byte goes upstream. Raises StorageUnavailable where it cannot be recorded."""
        ...

    def settle(self, outcome: AttemptOutcome) -> None:
        """Once per attempt; a second call for the same id changes nothing."""
        ...

    def record(self, record: RequestRecord) -> None:
        """One row per request, when it is over."""
        ...

    async def durable(self) -> None:
        """Returns when all that was recorded so far is as durable as `store.durability` promises."""
        ...


class Grant(Protocol):
    """An admitted request's hold on limits and budgets; its envelope's purse where a hard budget applies."""

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """`x-ratelimit-*` of the answer."""
        ...

    @property
    def is_purse(self) -> bool:
        """A hard budget applies: every attempt draws on what was reserved (`commit`, `spend`), or on more."""
        ...

    def commit(self, worst: int) -> None: ...
    def spend(self, worst: int, actual: int) -> None: ...

    def settle(self, *, cost: int, tokens: int, pending: bool = False) -> None:
        """Corrects the estimates by what was used (nano-US$, tokens) and frees the concurrency slot. Idempotent. `pending`:
        an attempt goes on without the request, or never said what it used; until it has said (`late`), the tokens are
        what was estimated, or what the others have used already where that is more."""
        ...

    def late(self, tokens: int) -> None:
        """What an attempt used that ended after its request was settled: in place of what was kept for it."""
        ...


class Governor(Protocol):
    """Keys, limits, budgets. In memory on the hot path; the store is reached in the background."""

    open: bool
    """True while no virtual key exists: whatever key is sent is let in (loopback only)."""

    def authenticate(self, credentials: Sequence[str]) -> Principal:
        """All keys presented by one request (headers, query). Raises AuthenticationFailed."""
        ...

    async def admit(
        self,
        principal: Principal,
        *,
        model: str,
        door: str,
        tags: Sequence[str],
        input_tokens: int,
        output_tokens: int | None,
        worst_case: int | None,
        at: float,
    ) -> Grant:
        """Takes from limits and reserves `worst_case` (nano-US$) in all budgets that apply, all or nothing. `at`: when the
        request came, which decides the windows that it counts in. `output_tokens`: None where no model is asked, 0 where
        nobody knows. Returns without awaiting unless a budget lease has to
        be fetched. Raises PermissionDenied, RateLimited, BudgetExceeded, StorageUnavailable."""
        ...

    def output_cap(self, principal: Principal, tags: Sequence[str]) -> int | None:
        """Output tokens for a request that names no maximum, where a hard budget needs one to be true; else None."""
        ...

    def guards(self, model: str, deployment: str) -> bool:
        """Whether an attempt there has to `enter`: limits or budgets of the model or deployment itself."""
        ...

    async def enter(self, *, model: str, deployment: str, tokens: int, worst_case: int | None, at: float) -> Grant:
        """Before one attempt, whoever asks and whatever strategy leads there. Raises an unsent UpstreamFault
        (rate_limit, budget), so that the next target is tried; StorageUnavailable."""
        ...


class LeaseTerms(TypedDict):
    """What a holder asks of a lease, in nano-US$: `want` more of what `limit` leaves, for as long as `expires` says.

    `owed`: the part of `want` that the holder has spent already, beyond its lease. As far as that is booked, and so
    counted as spent, it is granted and held by nobody.

    `turn`: a number that the holder gives to this question, above all that it gave before, 0 for none. Whoever did not hear
    the answer asks again with the same one, before it asks anything else of this lease: what was granted then is granted
    once. So with `release`."""

    limit: int
    want: int
    holder: str
    expires: float
    turn: NotRequired[int]
    owed: NotRequired[int]


class Store(Protocol):
    """What a database must do (stores/sqlite, stores/postgres): off the hot path, always. All methods may raise
    StorageUnavailable; then nothing of the call has happened.

    A *scope* is what a budget or rollup is about: `all`, `key:ID`, `user:NAME`, `team:ID`, `model:NAME`, `tag:NAME`. An
    attempt counts in all its scopes. `since` is the first day of a window, `2026-11-01` (`` = for ever).

    A lease is named by (scope, since, holder): budgets of one scope whose windows begin on the same day share one, asked
    for with the smallest of their limits. What a settled attempt cost is taken off every lease of its holder on its
    scopes whose window began on or before its day of admission; what is left of a reservation is the holder's to give
    back (`release`) or to use again.
    """

    async def apply(self, entries: Sequence[JournalEntry], *, holder: str) -> None:
        """Books a batch in one transaction: rows, rollups per (scope, day of admission), and what settled attempts cost
        taken off `holder`'s leases. Idempotent by id: an entry seen before changes nothing."""
        ...

    async def sweep(self, now: float, *, holder: str | None, charge: bool) -> int:
        """Intents past `expires` (or, with a holder that has died, all of that holder's) become `unknown`, charged at
        their reservation or at nothing; an outcome that comes later corrects that. Leases past their `expires` count as
        spent until their holder asks again. Returns how many attempts."""
        ...

    async def lease(self, scope: str, since: str, **terms: Unpack[LeaseTerms]) -> Lease:
        """Atomically: spent + all leases + granted <= limit. Grants `want`, or what is left of it, and sets the lease's
        `expires` (`want=0` only renews)."""
        ...

    async def release(self, scope: str, since: str, *, holder: str, amount: int, turn: int = 0) -> None:
        """Gives back a part of a lease that was not used. `turn`: as of LeaseTerms."""
        ...

    async def end_holder(self, holder: str, *, charge: bool) -> int:
        """A process is gone: its leases end, returned, or (after a loss of the journal) charged as `unknown`. Returns
        nano-US$ that were charged."""
        ...

    async def keys(self) -> Sequence[KeyRecord]: ...
    async def put_key(self, *keys: KeyRecord, note: AuditRecord | None = None) -> None:
        """Makes or changes them, and writes the note of that down: all or nothing."""
        ...

    async def swap_key(self, old: KeyRecord, *keys: KeyRecord, note: AuditRecord | None = None) -> bool:
        """As `put_key`, where the store still has `old` as it is. False, and nothing has changed, where somebody has
        changed it since."""
        ...

    async def put_first_key(self, key: KeyRecord, *, note: AuditRecord | None = None) -> bool:
        """As `put_key`, but only where no key was ever made: of many processes that ask at once, one does it. Whether it
        was this one, by this call or an earlier one whose answer was lost: the store has the key as it is here."""
        ...

    async def teams(self) -> Sequence[TeamRecord]: ...
    async def put_team(self, team: TeamRecord, *, note: AuditRecord | None = None) -> None:
        """As `put_key`."""
        ...

    async def version(self) -> int:
        """Grows with every change of a key or team: replicas poll it."""
        ...

    async def audit(self, record: AuditRecord) -> None: ...
    async def audits(self, limit: int) -> Sequence[AuditRecord]: ...

    async def usage(
        self, *, since: float, until: float, by: Sequence[str], where: dict[str, str]
    ) -> Sequence[UsageRow]:
        """`by` and `where` name dimensions: day, key, user, team, model, provider, deployment, role, tag, error."""
        ...

    async def requests(
        self, *, limit: int, before: float | None = None, where: dict[str, str] | None = None
    ) -> Sequence[RequestRecord]:
        """The newest first. `where`: key, user, team, model, provider, door, requested, strategy, task, error, tag, id,
        status; `name` (asked for or served), `failed` (any value), `search` (a part of names, error or ids)."""
        ...

    async def request(self, trace: str, *, key_id: str | None) -> RequestRecord | None:
        """One of this key's own; any key's for an operator (None)."""
        ...

    async def attempts(self, trace: str) -> Sequence[tuple[AttemptIntent, AttemptOutcome | None]]: ...

    async def mix(self, *, since: float, until: float, by: Sequence[str], where: dict[str, str]) -> Sequence[MixRow]:
        """Requests that began in [since, until). `by` and `where` name dimensions: day, task, model, requested, strategy,
        key, team. What is not known is ``. Only rows that are kept."""
        ...

    async def calls(self, *, since: float, until: float, where: dict[str, str]) -> Sequence[CallRow]:
        """Attempts at answers (no judges, planners, ...) of the requests that `mix` sums, by (task, model). `where` as
        there; `model` is that of the attempt."""
        ...

    # -- learning
    async def put_feedback(self, record: FeedbackRecord, *, replace: bool = True) -> bool:
        """Replaces what was said of the same trace before; without `replace` it counts only where nothing was. Whether it
        counts."""
        ...

    async def feedback(self, *, limit: int, since: float = 0.0) -> Sequence[FeedbackRecord]:
        """The newest first."""
        ...

    async def learned(self, *, settled: bool = False) -> Sequence[LearnedRow]:
        """`settled`: once every `swap_learned` that has begun has ended, one whose commit was lost too."""
        ...

    async def swap_learned(self, row: LearnedRow, *, over: Sequence[str]) -> bool:
        """Puts `row` in the place of the rows of its entry that the holders `over` have, all or nothing. False, and nothing
        has changed, where one of them is not there any more: another process has taken it over."""
        ...

    # -- objects that providers keep
    async def put_homes(self, rows: Sequence[HomeRow]) -> None:
        """Replaces what was known of the same (key, object)."""
        ...

    async def homes(self, object_ids: Sequence[str], *, key_id: str | None) -> Sequence[HomeRow]:
        """Those of these objects that are the key's own; None: whose they are."""
        ...

    async def prune(self, before: float) -> int:
        """Drops rows of days before (rollups stay), and homes that had expired by then. Never blocks the writer for
        long. Returns days dropped."""
        ...

    async def aclose(self) -> None: ...


class Answers(Protocol):
    """Answers kept under names, so that a request sent twice is run once (stores/memory for one process, stores/valkey for
    a fleet). Names say whose they are. All methods may raise StorageUnavailable."""

    async def claim(self, name: str, *, print: str, holder: str, seconds: float) -> Claim:
        """Atomically: the first one gets it, for `seconds`. `print`: what the name is used for."""
        ...

    async def renew(self, names: Iterable[str], *, holder: str, seconds: float) -> None:
        """What is still running goes on for `seconds`."""
        ...

    async def keep(self, name: str, *, holder: str, kept: bytes, seconds: float) -> None:
        """It is done: whoever claims the name within `seconds` is given `kept`. Nothing where the claim was lost."""
        ...

    async def drop(self, name: str, *, holder: str) -> None:
        """Nothing came of it: the name is free again."""
        ...

    async def aclose(self) -> None: ...


class Shared(Answers, Protocol):
    """State that the replicas of a fleet have in common (stores/valkey): drawn in slices, never asked by an ordinary
    request. All methods may raise StorageUnavailable."""

    async def draw(self, draw: Draw) -> Drawn:
        """Limits per minute by GCRA, atomically and by the store's own clock."""
        ...

    async def seat(self, seating: Seating, *, holder: str) -> Seated:
        """Over all holders never more than the limit is granted; nothing for a while by a store that was emptied."""
        ...

    async def members(self) -> Sequence[Member]:
        """Who lives, by name, and what each says of itself."""
        ...

    async def beat(self, holder: str, news: Mapping[str, Notice], about: About | None = None) -> Pulse:
        """Says that this replica lives and what it has learned, and hears of the others. Writes, so that a store which only
        reads is found out."""
        ...

    async def leave(self, holder: str) -> None:
        """This replica ends."""
        ...
