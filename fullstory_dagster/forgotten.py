"""Who was erased, as keyed hashes, and the rule by which a row is theirs.

Names of a person are their app key, their IndvId and their e-mail; a device (UserId) is known as theirs once a row of
it carried one of them. Theirs is every row that carries a name, and every other row of such a device, before they
identified themselves too, unless that row is identified as somebody else by another app key.

The salt stands beside the hashes: they keep names out of sight, and whoever has the list can still try a guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Literal, NamedTuple

Kind = Literal["email", "app_key", "indv_id"]
Name = Literal["email", "app_key", "indv_id", "device"]
Learnt = set[tuple[str, Name, str]]
"""Id of the entry, kind of name and its hash."""

FOR_EVER = datetime.max.replace(tzinfo=timezone.utc)
"""Every event is before it."""

_CACHED = 200_000


CARRIER_COLUMNS = ("UserId", "IndvId", "UserAppKey", "UserEmail")
"""The columns that say whose a row is, in the order of :class:`Carrier`."""


class Carrier(NamedTuple):
    """What a row says of whose it is; None or "" where it says nothing."""

    user_id: int | None = None
    indv_id: int | None = None
    app_key: str | None = None
    email: str | None = None


@dataclass(frozen=True)
class Given:
    """What somebody typed to say who is meant."""

    kind: Kind
    typed: str

    @property
    def value(self) -> str:
        """As it is compared."""
        return normalized(self.kind, self.typed)

    def hashed(self, privacy_hash_key: str) -> frozenset[str]:
        """What may stand for it where FULLSTORY_HASH_COLUMNS names its column; nothing without a key."""
        if not privacy_hash_key or self.kind == "indv_id":
            return frozenset()
        return frozenset(privacy_hash(privacy_hash_key, text) for text in (self.typed, self.value))


@dataclass(frozen=True)
class Names:
    """What a person is known by, as it stands in rows.

    Attributes:
        given: what was asked for.
        app_keys: of rows that carry what was given.
        indv_ids: of the same rows.
        emails: of the same rows, as they are spelt.
        devices: UserIds of all rows that carry any of these.
    """

    given: Given
    app_keys: frozenset[str] = frozenset()
    indv_ids: frozenset[int] = frozenset()
    emails: frozenset[str] = frozenset()
    devices: frozenset[int] = frozenset()

    @property
    def is_nobody(self) -> bool:
        """Whether no row carries what was given."""
        return not self.devices and not self.app_keys and not self.indv_ids and not self.emails


class NameCollector:
    """Collects the names of a person from what rows carry: look at all rows again until ``is_settled``."""

    def __init__(self, given: Given, privacy_hash_key: str = "") -> None:
        self.given = given
        self.is_settled = True
        self._value = given.value
        self._hashed = given.hashed(privacy_hash_key)
        self._app_keys: set[str] = set()
        self._indv_ids: set[int] = set()
        self._emails: set[str] = set()
        self._normalized_emails: set[str] = set()
        self._devices: set[int] = set()

    def begin(self) -> None:
        """All rows are looked at once more; it was the last time unless a name turns up that was not known before."""
        self.is_settled = True

    def look_at(self, carrier: Carrier) -> bool:
        """Take the names of a row that carries what was given, and the device of one that carries any name.

        Returns:
            bool: whether the row is the person's, as far as that is known by now.
        """
        if self._is_given(carrier):
            self._take(carrier)
        elif not self._carries_name(carrier):
            return carrier.user_id in self._devices and not carrier.app_key
        if carrier.user_id is not None:
            self._devices.add(carrier.user_id)
        return True

    def names(self) -> Names:
        """What was collected so far."""
        found = (frozenset(self._app_keys), frozenset(self._indv_ids), frozenset(self._emails))
        return Names(self.given, *found, frozenset(self._devices))

    def _is_given(self, carrier: Carrier) -> bool:
        if self.given.kind == "indv_id":
            return str(carrier.indv_id) == self._value
        said = carrier.email if self.given.kind == "email" else carrier.app_key
        return bool(said) and (normalized(self.given.kind, said or "") == self._value or said in self._hashed)

    def _take(self, carrier: Carrier) -> None:
        n_before = len(self._app_keys) + len(self._indv_ids) + len(self._emails)
        if carrier.app_key:
            self._app_keys.add(carrier.app_key)
        if carrier.indv_id:
            self._indv_ids.add(carrier.indv_id)
        if carrier.email:
            self._emails.add(carrier.email)
            self._normalized_emails.add(normalized("email", carrier.email))
        if len(self._app_keys) + len(self._indv_ids) + len(self._emails) > n_before:
            self.is_settled = False  # rows that were looked at before may carry it

    def _carries_name(self, carrier: Carrier) -> bool:
        if carrier.app_key in self._app_keys or carrier.indv_id in self._indv_ids:
            return True
        # An e-mail may be shared: beside another app key it is somebody else's.
        email = "" if carrier.app_key else carrier.email
        return bool(email) and normalized("email", email or "") in self._normalized_emails


@dataclass(frozen=True)
class Erasure:
    """One person on the list. Every name is a keyed hash.

    Attributes:
        id: of the receipt.
        kind: by what the person was named.
        given: what was given.
        at: when, aware UTC; events from then on are kept unless ``always``.
        always: events from then on are left out as well.
        is_finished: whether everything was erased.
        app_keys, indv_ids, emails, devices: as in :class:`Names`.
    """

    id: str
    kind: Kind
    given: str
    at: datetime
    always: bool = False
    is_finished: bool = False
    app_keys: frozenset[str] = frozenset()
    indv_ids: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()

    @property
    def until(self) -> datetime:
        """Before this, events of the person are erased."""
        return FOR_EVER if self.always else self.at


@dataclass(frozen=True)
class Forgotten:
    """The list.

    Attributes:
        salt: hex; "" while nobody was ever erased.
        revision: counts changes.
        erasures: oldest first.
    """

    salt: str = ""
    revision: int = 0
    erasures: tuple[Erasure, ...] = ()

    @property
    def until(self) -> datetime | None:
        """No event from here on is anybody's who was erased; None if nobody was."""
        return max((erasure.until for erasure in self.erasures), default=None)

    def of(self, given: Given) -> Erasure | None:
        """The entry of who is meant."""
        hashed = self.hash(given.kind, given.value) if self.salt else ""
        return next((e for e in self.erasures if e.kind == given.kind and e.given == hashed), None)

    def hash(self, name: Name, value: str) -> str:
        """The keyed hash of a name."""
        return hmac.digest(bytes.fromhex(self.salt), f"{name}:{value}".encode(errors="surrogatepass"), "sha256").hex()

    def with_person(self, names: Names, at: datetime, *, always: bool, privacy_hash_key: str = "") -> Forgotten:
        """The list with a person on it; one who is there already gets the new names and the new date."""
        listed = self if self.salt else replace(self, salt=secrets.token_hex(32))
        before = listed.of(names.given)

        def hashes(name: Name, values: Iterable[str | int]) -> frozenset[str]:
            texts = {str(value) for value in values} | ({names.given.typed} if names.given.kind == name else set())
            spelt = {normalized(name, text) for text in texts}
            if privacy_hash_key and name in ("email", "app_key"):
                spelt |= {privacy_hash(privacy_hash_key, text) for text in texts | spelt}
            return frozenset(listed.hash(name, text) for text in spelt)

        entry = Erasure(
            # An erasure that was cut short goes on under its own name.
            id=before.id if before and not before.is_finished else secrets.token_hex(4),
            kind=names.given.kind,
            given=listed.hash(names.given.kind, names.given.value),
            at=at,
            always=always or (before is not None and before.always),
            app_keys=hashes("app_key", names.app_keys) | (before.app_keys if before else set()),
            indv_ids=hashes("indv_id", names.indv_ids) | (before.indv_ids if before else set()),
            emails=hashes("email", names.emails) | (before.emails if before else set()),
            devices=hashes("device", names.devices) | (before.devices if before else set()),
        )
        others = tuple(erasure for erasure in listed.erasures if erasure is not before)
        return replace(listed, revision=self.revision + 1, erasures=(*others, entry))

    def with_learnt(self, learnt: Learnt) -> Forgotten:
        """The list with names and devices that rows showed to be somebody's."""

        def more(erasure: Erasure, name: Name) -> set[str]:
            return {hashed for entry_id, learnt_name, hashed in learnt if (entry_id, learnt_name) == (erasure.id, name)}

        erasures = tuple(
            replace(
                erasure,
                app_keys=erasure.app_keys | more(erasure, "app_key"),
                indv_ids=erasure.indv_ids | more(erasure, "indv_id"),
                emails=erasure.emails | more(erasure, "email"),
                devices=erasure.devices | more(erasure, "device"),
            )
            for erasure in self.erasures
        )
        return self if erasures == self.erasures else replace(self, revision=self.revision + 1, erasures=erasures)

    def with_finished(self, erasure_id: str) -> Forgotten:
        """The list with one erasure done."""
        erasures = tuple(replace(e, is_finished=e.is_finished or e.id == erasure_id) for e in self.erasures)
        return replace(self, revision=self.revision + 1, erasures=erasures)


@dataclass
class Matcher:
    """Tells whose rows are erased, and learns on the way: names from rows that carry what was given, devices from all.

    Attributes:
        forgotten: the list.
        privacy_hash_key: key of the hashes that stand in some columns, "" without.
        learnt: what turned out to be somebody's and is not on the list yet.
        others: ids of events that happened on such a device and are somebody else's, as their raw rows tell.
        rejects: hashes of raw rows that could not become events and were of one who was erased.
    """

    forgotten: Forgotten
    privacy_hash_key: str = ""
    learnt: Learnt = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    rejects: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._entries: dict[tuple[str, str], Erasure] = {}
        self._given: dict[tuple[str, str], Erasure] = {}
        self._cache: dict[Carrier, datetime | None] = {}
        # Of several entries for one name the one that reaches furthest comes last, and stays.
        for erasure in sorted(self.forgotten.erasures, key=lambda erasure: erasure.until):
            names = {
                "app_key": erasure.app_keys,
                "indv_id": erasure.indv_ids,
                "email": erasure.emails,
                "device": erasure.devices,
            }
            self._given[erasure.kind, erasure.given] = erasure
            for name, hashes in names.items():
                self._entries.update(((name, hashed), erasure) for hashed in hashes)

    def until(self, carrier: Carrier) -> datetime | None:
        """Before when the rows that carry this are erased; None if they are nobody's who was."""
        try:
            return self._cache[carrier]
        except KeyError:
            pass
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        found = self._cache[carrier] = self._until(carrier)
        return found

    def is_others(self, carrier: Carrier) -> bool:
        """Whether this is somebody else on a device of one who was erased."""
        if not carrier.app_key or carrier.user_id is None or self.until(carrier):
            return False
        return self._entry("device", str(carrier.user_id)) is not None

    def until_named(self, name: Name, value: str) -> datetime | None:
        """The same for one name on its own."""
        entry = self._entry(name, value)
        return entry.until if entry else None

    def is_theirs(self, carrier: Carrier, at: datetime) -> bool:
        """Whether a row that carries this, of this time (aware UTC), is erased."""
        until = self.until(carrier)
        return until is not None and at < until

    def _until(self, carrier: Carrier) -> datetime | None:
        names: dict[Name, str] = {}
        if carrier.app_key:
            names["app_key"] = carrier.app_key
        if carrier.indv_id:
            names["indv_id"] = str(carrier.indv_id)
        if carrier.email:
            names["email"] = carrier.email
        given = [entry for name, value in names.items() if (entry := self._among(self._given, name, value))]
        for entry in given:
            for name, value in names.items():
                self._learn(entry, name, value)
        found = [entry for name in names if name != "email" and (entry := self._entry(name, names[name]))]
        # Identified as somebody else: what is shared, a device or an e-mail, does not make them the same person.
        if not carrier.app_key or self._entry("app_key", carrier.app_key):
            shared: dict[Name, str] = {"device": str(carrier.user_id)} if carrier.user_id is not None else {}
            shared |= {"email": carrier.email} if carrier.email else {}
            found += [entry for name, value in shared.items() if (entry := self._entry(name, value))]
        found += given
        if found and carrier.user_id is not None:
            self._learn(found[0], "device", str(carrier.user_id))
        return max((entry.until for entry in found), default=None)

    def _learn(self, entry: Erasure, name: Name, value: str) -> None:
        hashed = self.forgotten.hash(name, normalized(name, value))
        if self._entry(name, value) is None:
            self._entries[name, hashed] = entry
            self.learnt.add((entry.id, name, hashed))
            # Rows that were looked at before may be theirs as well.
            self._cache.clear()

    def _entry(self, name: Name, value: str) -> Erasure | None:
        return self._among(self._entries, name, value)

    def _among(self, entries: dict[tuple[str, str], Erasure], name: Name, value: str) -> Erasure | None:
        found = (entries.get((name, hashed)) for hashed in self._hashes(name, value))
        return max(filter(None, found), key=lambda erasure: erasure.until, default=None)

    def _hashes(self, name: Name, value: str) -> list[str]:
        texts = [normalized(name, value)]
        if self.privacy_hash_key and name in ("email", "app_key"):
            texts.append(privacy_hash(self.privacy_hash_key, value))
        return [self.forgotten.hash(name, text) for text in texts]


def normalized(name: Name, value: str) -> str:
    """A name as it is compared: e-mails whatever their case."""
    return value.strip().lower() if name == "email" else value


def privacy_hash(key: str, text: str) -> str:
    """What a text column holds while FULLSTORY_HASH_COLUMNS names it."""
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
