"""One request's hold on limits and budgets: taken all or nothing, given back whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from headgate.core.clock import Clock
from headgate.core.errors import BudgetExceeded
from headgate.core.principal import Principal
from headgate.core.records import BudgetSpec, KeyRecord, LimitSpec, TeamRecord
from headgate.governance.budgets import BudgetBook, Window, refusal
from headgate.governance.limits import Limiter, headers_of
from headgate.governance.rules import NO_LIMITS, Rules, laid_over

NO_HEADERS: Sequence[tuple[str, str]] = ()


class Pass:
    """Implements core.ports.Grant and, where hard budgets apply, core.envelope.Purse.

    Of the `reserved` money, `spent` is what ended attempts cost and `committed` what those under way can cost; until
    the request is over, what remains is held for its further attempts. `held` is what its windows have reserved."""

    __slots__ = (
        "_book",
        "_clock",
        "_limiters",
        "_tokens",
        "_used",
        "_windows",
        "committed",
        "held",
        "is_over",
        "reserved",
        "spent",
    )

    def __init__(
        self,
        book: BudgetBook,
        clock: Clock,
        limiters: Sequence[Limiter],
        tokens: int,
        windows: Sequence[Window] = (),
        reserved: int = 0,
    ) -> None:
        self._book = book
        self._clock = clock
        self._limiters = limiters
        self._tokens = tokens
        self._used = 0
        self._windows = windows
        self.reserved = self.held = reserved
        self.committed = 0
        self.spent = 0
        self.is_over = False

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        return headers_of(self._limiters, self._clock.monotonic()) if self._limiters else NO_HEADERS

    @property
    def is_purse(self) -> bool:
        """Every attempt has to be covered: some hard budget applies."""
        return bool(self._windows)

    def commit(self, worst: int) -> None:
        """Before an attempt: its worst case, out of what the request has reserved, or reserved now. Raises
        BudgetExceeded; then nothing has changed."""
        more = self.spent + self.committed + worst - self.reserved
        if more > 0:
            if not self._book.take(self._windows, more):
                raise refusal(min(self._windows, key=lambda window: window.left), more)
            self.reserved += more
            self.held += more
        self.committed += worst

    def spend(self, worst: int, actual: int) -> None:
        """After an attempt, once; also when the request itself is over already."""
        self.committed -= worst
        self.spent += actual
        self._hold(self.committed if self.is_over else max(self.reserved - self.spent, self.committed), actual)

    def settle(self, *, cost: int, tokens: int, pending: bool = False) -> None:
        """The request is over. What attempts under way can still cost stays reserved until they have said."""
        if self.is_over:
            return
        self.is_over = True
        for limiter in self._limiters:
            limiter.leave()
        self._used = tokens
        if not pending or tokens > self._tokens:
            self.late(0)
        if self._windows:
            late = max(cost - self.spent, 0) if not self.committed else 0
            self.spent += late
            self._hold(self.committed, late)

    def late(self, tokens: int) -> None:
        now = self._clock.monotonic() if self._limiters else 0.0
        for limiter in self._limiters:
            limiter.correct(self._tokens, self._used + tokens, now)
        self._tokens = self._used = 0

    def _hold(self, held: int, settled: int) -> None:
        self._book.move(self._windows, reserved=held - self.held, settled=settled)
        self.held = held


class Profile:
    """What applies to one key (or one model): found once, used by all its requests. `told` are the windows of budgets
    that only tell."""

    __slots__ = ("_day", "_generation", "_hard", "budgets", "is_free", "is_hard", "limiters", "told")

    def __init__(self, limiters: tuple[Limiter, ...], budgets: tuple[tuple[str, BudgetSpec], ...]) -> None:
        self.limiters = limiters
        self.budgets = budgets
        self.is_free = not limiters and not budgets
        self.is_hard = any(spec.hard for _, spec in budgets)
        self.told: tuple[Window, ...] = ()
        self._day = -1
        self._generation = -1
        self._hard: tuple[Window, ...] = ()

    def windows(self, book: BudgetBook, number: int, day: date) -> tuple[Window, ...]:
        """The windows of `day` (the `number`th since 1970) that money is reserved in."""
        if number != self._day or book.generation != self._generation:
            found = book.windows_of(self.budgets, day)
            self._hard = tuple(window for window in found if window.limit is not None)
            self.told = tuple(window for window in found if window.soft is not None)
            self._day, self._generation = number, book.generation
        return self._hard


def scopes_of(
    principal: Principal, key: KeyRecord | None, team: TeamRecord | None, rules: Rules
) -> tuple[list[tuple[str, LimitSpec]], list[tuple[str, BudgetSpec]]]:
    """(limits, budgets) by scope of whatever this key asks for; models' and tags' come with the request."""
    limits = [("all", rules.all_limits)]
    budgets = [("all", spec) for spec in rules.all_budgets]
    if key is not None:
        own = key.budgets or rules.key_budgets
        limits.append((f"key:{principal.key_id}", laid_over(key.limits, rules.key_limits)))
        budgets += [(f"key:{principal.key_id}", spec) for spec in own]
    if principal.user is not None:
        budgets += [(f"user:{principal.user}", spec) for spec in rules.users(principal.user)]
    if team is not None:
        limits.append((f"team:{team.id}", team.limits))
        budgets += [(f"team:{team.id}", spec) for spec in team.budgets]
    return [(scope, spec) for scope, spec in limits if spec != NO_LIMITS], budgets


def no_price() -> BudgetExceeded:
    return BudgetExceeded(
        "A hard budget applies and nobody knows what this request may cost at most: give every model that it may reach "
        "a price (or set budgets.unknown_price_usd_per_mtok), and an agent a budget with max_cost.",
        code="price_unknown",
    )
