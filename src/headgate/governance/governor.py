"""The governor of a plane with keys: what the store says of them, kept in memory, a poll behind at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date

from headgate.core.clock import SYSTEM, Clock
from headgate.core.errors import BudgetExceeded, HeadgateError, RateLimited, StorageUnavailable, fault
from headgate.core.ports import Grant, Store
from headgate.core.principal import LOCAL, Principal
from headgate.core.records import KeyRecord, LimitSpec, TeamRecord
from headgate.governance.admission import Pass, Profile, no_price, scopes_of
from headgate.governance.budgets import BudgetBook, Event, day_of
from headgate.governance.keys import KeyRing, no_team, state_of
from headgate.governance.limits import UNBOUNDED_OUTPUT, Limiter, take_all
from headgate.governance.open import FREE
from headgate.governance.rules import NO_LIMITS, Rules, defined_teams
from headgate.governance.shared import SharedLimits

POLL = 1.0
"""Seconds between looks at the store's version: a revoked key ends on every replica within two of them."""
DAY = 86_400
MOST_GUARDS = 1000
MOST_PROFILES = 50_000
DRAWS = 3
"""Times that a request asks the shared store for its limits before it is refused."""


class KeyedGovernor:
    """`local`: the plane is bound to loopback, where it is open as long as no key was ever made. `internal`: keys of our
    own (the console's playground), as secret -> principal. `holder` names this process among those that share budgets;
    `shared`: limits are the fleet's. Until keys have been loaded once (`refresh`), nobody is let in."""

    def __init__(
        self,
        store: Store,
        *,
        holder: str = "",
        rules: Rules | None = None,
        local: bool = True,
        internal: Mapping[str, Principal] | None = None,
        clock: Clock = SYSTEM,
        on_event: Event = lambda kind, facts: None,
        replicas: Callable[[], int] = lambda: 1,
        shared: SharedLimits | None = None,
    ) -> None:
        self._store = store
        self._shared = shared
        self._local = local
        self._internal = internal
        self._clock = clock
        self._on_event = on_event
        self._version: int | None = None
        self._looks = self._loaded = 0
        """How many looks at the store have begun, and the last of them that was loaded."""
        self._lost = False
        self._limiters: dict[str, Limiter] = {}
        self._profiles: dict[tuple[str, tuple[str, ...]], Profile] = {}
        self._guards: dict[tuple[str, str], Profile | None] = {}
        self._today: tuple[int, date] = (-1, date.min)
        self._stored_teams: Sequence[TeamRecord] = ()
        self._missed: frozenset[str] = frozenset()
        self._damaged: frozenset[str] = frozenset()
        self.book = BudgetBook(store, holder, clock, on_event, replicas=replicas)
        self.open = False
        self.ring = KeyRing(internal=internal)
        self.configure(rules or Rules())

    # -- keys --------------------------------------------------------------------------------------------------------
    def authenticate(self, credentials: Sequence[str]) -> Principal:
        if self.open:
            return LOCAL
        if self._version is None:
            raise StorageUnavailable("keys have not been loaded yet", retry_after=POLL)
        found = self.ring.find(credentials, self._clock.time())
        return found if isinstance(found, Principal) else found.principal

    def configure(self, rules: Rules) -> None:
        """Other rules from now on (a reload): what is taken and spent stays so."""
        self.rules = rules
        self._bounds_models = any(spec.hard for specs in rules.model_budgets.values() for spec in specs)
        self.book.on_store_loss = rules.on_store_loss
        if self._shared is not None:
            self._shared.on_store_loss = rules.limits_on_store_loss
        self._load(self.ring.keys.values(), self._stored_teams)

    async def refresh(self) -> bool:
        """Loads keys and teams where they have changed; says whether they had. Raises StorageUnavailable."""
        self._looks = look = self._looks + 1
        version = await self._store.version()
        if version == self._version:
            return False
        keys, teams = await self._store.keys(), await self._store.teams()
        if look < self._loaded:  # one that began later has ended before: this one may not know what that one was for
            return False
        before = self._version
        self._version = version  # read before the keys: a change in between is seen at the next look
        try:
            self._load(keys, teams)
        except BaseException:
            self._version = before  # the next look tries again, and does not call it well
            raise
        self._loaded = look
        return True

    def know(self, internal: Mapping[str, Principal]) -> None:
        """Keys of our own from now on."""
        self._internal = internal
        self._load(self.ring.keys.values(), self._stored_teams)

    def _load(self, keys: Iterable[KeyRecord], stored: Sequence[TeamRecord]) -> None:
        self._stored_teams = stored
        self.ring = KeyRing(keys, defined_teams(stored, self.rules).values(), internal=self._internal)
        self.open = self._local and self._version is not None and not self.ring.keys
        self._profiles.clear()
        self._guards.clear()
        self._tell_damaged()
        self._miss_teams()

    def _tell_damaged(self) -> None:
        """Tells of keys whose rows are damaged, once each until they are mended or revoked."""
        now = self._clock.time()
        damaged = {id: key.name for id, key in self.ring.keys.items() if state_of(key, now) == "damaged"}
        for id in sorted(damaged.keys() - self._damaged):
            because = (
                "its row in the store is damaged: whoever uses it is refused, until it is restored; or make another"
            )
            self._on_event("key_damaged", {"key": id, "name": damaged[id], "because": because})
        self._damaged = frozenset(damaged)

    def _miss_teams(self) -> None:
        """Tells of teams that keys in use name and that are defined nowhere, once each until they are."""
        now = self._clock.time()
        missing = Counter(
            key.team
            for key in self.ring.keys.values()
            if key.team is not None and state_of(key, now, self.ring.teams) == "team_missing"
        )
        for team in sorted(missing.keys() - self._missed):
            because = "keys in use name this team, and it is not defined: they are refused"
            self._on_event("team_missing", {"team": team, "keys": missing[team], "because": because})
        self._missed = frozenset(missing)

    async def watch(self) -> None:
        """Runs for ever: new keys, slices of budgets. Without the store, what was known at the last look goes on."""
        while True:
            await self._clock.sleep(POLL)
            try:
                await self.refresh()
                await self.book.tend()
            except Exception as error:  # noqa: BLE001 - whatever one look finds: revocations hang on the next ones
                if not self._lost:
                    self._lost = True
                    told = error.detail or error.message if isinstance(error, HeadgateError) else repr(error)
                    self._on_event("store_lost", {"detail": told})
            else:
                if self._lost:
                    self._lost = False
                    self._on_event("store_back", {})

    async def aclose(self) -> None:
        """Gives back what was leased and not used: the ledger has booked everything before. Raises StorageUnavailable."""
        await self.book.close()

    # -- admission ---------------------------------------------------------------------------------------------------
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
        profile = self._profile(principal, tags)
        if profile.is_free:
            return FREE
        tokens = 0 if output_tokens is None else input_tokens + (output_tokens or UNBOUNDED_OUTPUT)
        return await self._take(profile, tokens, worst_case, at)

    def output_cap(self, principal: Principal, tags: Sequence[str]) -> int | None:
        if self._bounds_models or self._profile(principal, tags).is_hard:
            return self.rules.max_tokens
        return None

    def guards(self, model: str, deployment: str) -> bool:
        return self._guard(model, deployment) is not None

    async def enter(self, *, model: str, deployment: str, tokens: int, worst_case: int | None, at: float) -> Grant:
        profile = self._guard(model, deployment)
        if profile is None:
            return FREE
        try:
            return await self._take(profile, tokens, worst_case, at)
        except RateLimited as error:
            raise fault("rate_limit", error.message, retry_after=error.retry_after, sent=False) from error
        except BudgetExceeded as error:
            raise fault("budget", error.message, should_retry=False, sent=False) from error

    async def _take(self, profile: Profile, tokens: int, worst_case: int | None, at: float) -> Pass:
        limiters = profile.limiters
        if limiters:
            if self._shared is not None:
                await self._drawn(self._shared, limiters, tokens)
            take_all(limiters, tokens, self._clock.monotonic())
        if not profile.budgets:
            return Pass(self.book, self._clock, limiters, tokens)
        number = int(at // DAY)
        if number != self._today[0]:
            self._today = (number, day_of(at))
        windows = profile.windows(self.book, number, self._today[1])
        if profile.told:
            self.book.touch(profile.told)
        worst = worst_case or 0
        try:
            if windows and worst_case is None:
                raise no_price()
            if windows and not self.book.take(windows, worst):
                await self.book.reserve(windows, worst)
        except BaseException:
            for limiter in limiters:
                limiter.undo(tokens, self._clock.monotonic())
            raise
        return Pass(self.book, self._clock, limiters, tokens, windows, worst)

    @staticmethod
    async def _drawn(shared: SharedLimits, limiters: Sequence[Limiter], tokens: int) -> None:
        """Waits only where a slice is used up. Others may take what was drawn for us meanwhile: then once more."""
        for _ in range(DRAWS):
            if not shared.is_short(limiters, tokens):
                return
            await shared.ready(limiters, tokens)

    # -- profiles ------------------------------------------------------------------------------------------------------
    def _profile(self, principal: Principal, tags: Sequence[str]) -> Profile:
        rules = self.rules
        tagged = tuple(sorted({tag for tag in tags if tag in rules.tag_budgets})) if rules.tag_budgets else ()
        profile = self._profiles.get((principal.key_id, tagged))
        if profile is None:
            key = self.ring.lines.get(principal.key_id)
            team = self.ring.teams.get(principal.team) if principal.team is not None else None
            if team is None and principal.team is not None:
                raise no_team(principal.team)  # it went after the key was looked at
            limits, budgets = scopes_of(principal, key, team, rules)
            budgets += [(f"tag:{tag}", spec) for tag in tagged for spec in rules.tag_budgets[tag]]
            if len(self._profiles) >= MOST_PROFILES:
                self._profiles.clear()  # which tags come together is the clients' to choose
            profile = self._profiles[principal.key_id, tagged] = Profile(self._limiters_of(limits), tuple(budgets))
        return profile

    def _guard(self, model: str, deployment: str) -> Profile | None:
        """What applies to a model and one of its deployments, whoever asks."""
        rules = self.rules
        if not (rules.model_limits or rules.model_budgets or rules.deployment_limits):
            return None
        known = (model, deployment)
        if known not in self._guards:
            if len(self._guards) > MOST_GUARDS:
                self._guards.clear()  # direct names are the clients' to choose: never an unbounded memory
            limits = [
                (f"model:{model}", rules.model_limits.get(model, NO_LIMITS)),
                (f"deployment:{deployment}", rules.deployment_limits.get(deployment, NO_LIMITS)),
            ]
            budgets = [(f"model:{model}", spec) for spec in rules.model_budgets.get(model, ())]
            profile = Profile(self._limiters_of([pair for pair in limits if pair[1] != NO_LIMITS]), tuple(budgets))
            self._guards[known] = None if profile.is_free else profile
        return self._guards[known]

    def _limiters_of(self, limits: Iterable[tuple[str, LimitSpec]]) -> tuple[Limiter, ...]:
        """Limiters live as long as the process, so that a reload forgives nothing."""
        out: list[Limiter] = []
        for scope, spec in limits:
            limiter = self._limiters.get(scope)
            if limiter is None:
                limiter = Limiter(scope, spec) if self._shared is None else self._shared.limiter(scope, spec)
                self._limiters[scope] = limiter
            limiter.change(spec)
            out.append(limiter)
        return tuple(out)
