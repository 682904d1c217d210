"""Virtual keys: made, shown once, found again by their hash alone."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from hashlib import sha256

import msgspec

from headgate.core.errors import AuthenticationFailed, PermissionDenied
from headgate.core.ids import new_id, new_secret
from headgate.core.principal import Principal
from headgate.core.records import KeyRecord, TeamRecord

PREFIX = "hg-"
LONGEST = 128
"""Characters of a credential that are looked at: whatever is sent, finding out that it is no key costs the same."""


class NewKey(msgspec.Struct, frozen=True):
    """`secret` is in the caller's hands from here on: it is kept nowhere."""

    record: KeyRecord
    secret: str


class Card(msgspec.Struct, frozen=True):
    """One key as requests need it, made when keys are loaded."""

    record: KeyRecord
    principal: Principal
    team: TeamRecord | None


def digest_of(secret: str) -> bytes:
    return sha256(secret[:LONGEST].encode("utf-8", "replace")).digest()


def digest_from(text: str) -> bytes | None:
    """What `KeyRecord.hash` says; None where that is no SHA-256 in hexadecimal: then no secret fits it."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return digest if len(digest) == sha256().digest_size else None


def make_key(record: KeyRecord) -> NewKey:
    """A new secret for what `record` says; its id, hash and hint are replaced."""
    secret = new_secret(PREFIX)
    made = msgspec.structs.replace(record, id=new_id("key"), hash=digest_of(secret).hex(), hint=secret[-4:])
    return NewKey(made, secret)


def rotate_key(old: KeyRecord, *, now: float, overlap: float) -> tuple[KeyRecord, NewKey]:
    """(the old key, which ends after `overlap` seconds; its successor). Both are one line: they share limits, budgets
    and traces, so that rotating is no way to spend twice."""
    line = old.line or old.id
    fresh = make_key(msgspec.structs.replace(old, created=now, revoked=None, ended=False, rotated_to=None, line=line))
    ends = now + overlap if old.revoked is None else min(old.revoked, now + overlap)
    ended = old.ended or ends <= now
    return msgspec.structs.replace(old, revoked=ends, ended=ended, rotated_to=fresh.record.id), fresh


def is_revoked(record: KeyRecord, now: float) -> bool:
    return record.ended or (record.revoked is not None and record.revoked <= now)


def state_of(record: KeyRecord, now: float, teams: Container[str] | None = None) -> str:
    """active | ending (rotated, in its overlap) | revoked | expired | damaged (refused: `digest_from`); and where `teams`
    are given, team_missing: refused, since it names none of them"""
    if is_revoked(record, now):
        return "revoked"
    if record.expires is not None and record.expires <= now:
        return "expired"
    if digest_from(record.hash) is None:
        return "damaged"
    if teams is not None and record.team is not None and record.team not in teams:
        return "team_missing"
    return "ending" if record.revoked is not None else "active"


class KeyRing:
    """All keys by hash, as of one version of the store. Never changed: a reload makes a new one. A damaged key is a key (a
    plane that has one is not open), and no request is let in by it."""

    def __init__(
        self,
        keys: Iterable[KeyRecord] = (),
        teams: Iterable[TeamRecord] = (),
        *,
        internal: Mapping[str, Principal] | None = None,
    ) -> None:
        self.teams: dict[str, TeamRecord] = {team.id: team for team in teams}
        self.keys: dict[str, KeyRecord] = {key.id: key for key in keys}
        self.lines: dict[str, KeyRecord] = {}
        """The newest key of each line: its limits and budgets are the line's."""
        self._cards: dict[bytes, Card] = {}
        for key in self.keys.values():
            team = self.teams.get(key.team) if key.team is not None else None
            digest = digest_from(key.hash)
            if digest is not None:
                self._cards[digest] = Card(key, principal_of(key, team), team)
            line = key.line or key.id
            if line not in self.lines or self.lines[line].created <= key.created:
                self.lines[line] = key
        self._internal = {digest_of(secret): principal for secret, principal in (internal or {}).items()}

    def find(self, credentials: Sequence[str], now: float) -> Card | Principal:
        """The one key behind all that a request presents, or one of our own. Raises AuthenticationFailed, and
        PermissionDenied where the key's team is defined nowhere any more: its limits, budgets and models are not known."""
        if not credentials:
            raise AuthenticationFailed("No key was sent. Send one as 'Authorization: Bearer KEY' or 'x-api-key: KEY'.")
        first = credentials[0]
        for other in credentials:
            if other != first:
                raise AuthenticationFailed("The request holds two different keys: send one.")
        digest = digest_of(first)
        card = self._cards.get(digest)
        if card is None:
            internal = self._internal.get(digest)
            if internal is None:
                raise AuthenticationFailed("Incorrect key provided.")
            return internal
        record = card.record
        if is_revoked(record, now):
            raise AuthenticationFailed("This key has been revoked.")
        if record.expires is not None and record.expires <= now:
            raise AuthenticationFailed("This key has expired.")
        if record.team is not None and card.team is None:
            raise no_team(record.team)
        return card


def no_team(id: str) -> PermissionDenied:
    return PermissionDenied(
        f"This key belongs to the team {id[:80]!r}, which is not defined, so that its limits and budgets cannot be kept. "
        "Whoever runs the gateway defines it again ('teams:' in the configuration file, or the console), or makes "
        "another key.",
        code="team_not_found",
    )


def principal_of(key: KeyRecord, team: TeamRecord | None) -> Principal:
    """`team`: the key's, where it has one."""
    return Principal(
        key_id=key.line or key.id,
        name=key.name,
        user=key.user,
        team=key.team,
        tags=key.tags,
        models=None if key.models is None else frozenset(key.models),
        team_models=None if team is None or team.models is None else frozenset(team.models),
        doors=None if key.doors is None else frozenset(key.doors),
        zone=key.zone,
        priority=key.priority,
    )
