"""Made-up people: who they are, which devices they own, and who comes on which day.

A person belongs to the day of their first visit and has a number within it, so everybody can be made again from
``(seed, day, number)`` alone: nothing about a day depends on which days were made before.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from fullstory_dagster.simulator.traffic.calendar import DAY_MS, HOUR_MS, hour_weights, midnight_ms, n_visits
from fullstory_dagster.simulator.traffic.devices import PLACES, Device, DeviceKind, Place
from fullstory_dagster.simulator.traffic.seeded import id_for, pick, rng_for
from fullstory_dagster.simulator.traffic.shop import money

_NEW_SHARE = 0.56
_LOYAL_SHARE = 0.3
"""Of the people of a day, those who come back at all."""
_MEAN_ABSENCE_DAYS = 9
_LONGEST_ABSENCE_DAYS = 90
_TWICE_SHARE = 0.09
_LATE_MINUTES_BEFORE_MIDNIGHT = 14

_NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "de": (("Jörg", "Anneliese", "Sönke", "Käthe", "Wiebke"), ("Grünspan", "Töpfermann", "Weißdorn", "Lindquell")),
    "nl": (("Sjoerd", "Fenna", "Joëlle", "Ruben"), ("van der Kleipot", "Waterschoon", "Groenhof")),
    "fr": (("Éloïse", "Benoît", "Maëlle", "Gaël"), ("Lafougère", "d'Argile", "Pâquerelle")),
    "en": (("Imogen", "Rory", "Saoirse", "Desmond", "Priya"), ("O'Kilnery", "Fernsby-Hall", "Claybrook", "Mossgrove")),
    "da": (("Søren", "Åse", "Mads"), ("Krukkegård", "Bregnebæk")),
    "pl": (("Łucja", "Grażyna", "Wojciech"), ("Paprociński", "Żółtodzban")),
    "pt": (("João", "Conceição"), ("Barreiro da Fonte", "Samambaia")),
    "tr": (("Işıl", "Çağrı"), ("Çömlekoğlu", "Eğreltigil")),
    "ja": (("葉子", "陶太郎"), ("羊歯山", "窯本")),
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One made-up human being.

    Attributes:
        devices: each with its own UserId, in the order they were first used.
        identity: fields that an identify call adds to every event; empty for somebody who never gave a name.
        variables: ``user_*`` custom variables.
    """

    name: tuple[object, ...]
    place: Place
    devices: tuple[Device, ...]
    identity: dict[str, Any]
    variables: dict[str, Any]
    first_name: str
    full_name: str

    @property
    def is_identified(self) -> bool:
        """Whether the site knows who this is."""
        return bool(self.identity)

    def on(self, device: Device) -> dict[str, Any]:
        """Identity fields of an event on one of the devices; without a name, a device is all there is to a person."""
        if self.is_identified:
            return {"IndvId": id_for(*self.name, "individual"), **self.identity}
        # The web names nobodies after their cookie and leaves the rest empty; the app leaves it out.
        nobody = {"UserAppKey": "", "UserDisplayName": f"User {device.user_id % 100_000}", "UserEmail": ""}
        return {"IndvId": device.user_id, **({} if device.kind == "app" else nobody)}


@dataclass(frozen=True)
class Visit:
    """That somebody comes: one session to be.

    Attributes:
        start_ms: when the session begins, Unix milliseconds, UTC.
        is_first: the device has not been seen before.
        is_late: has to last over midnight UTC.
    """

    start_ms: int
    session_id: int
    person: Person
    device: Device
    is_first: bool
    is_late: bool


def _n_newcomers(seed: int, day: date, scale: float) -> int:
    return max(1, round(n_visits(seed, day, scale) * _NEW_SHARE))


def _moment_ms(name: tuple[object, ...], day: date, place: Place) -> int:
    """A moment of a UTC day at which somebody at that place may be shopping."""
    rng = rng_for(*name, "moment", day.isoformat())
    hour = pick(rng, tuple(enumerate(hour_weights(day, place.utc_offset_h))))
    return midnight_ms(day) + hour * HOUR_MS + rng.randrange(HOUR_MS)


@lru_cache(maxsize=4096)
def person(seed: int, day: date, number: int, is_loyal: bool) -> Person:
    """The person with that number among those who first came on that day."""
    name = (seed, "person", day.isoformat(), number)
    rng = rng_for(*name)
    place = pick(rng, PLACES)
    first_names, last_names = _NAMES[place.language]
    first_name, full_name = rng.choice(first_names), ""
    full_name = (
        f"{first_name} {rng.choice(last_names)}" if place.language != "ja" else rng.choice(last_names) + first_name
    )
    created_ms = _moment_ms(name, day, place)
    has_account = rng.random() < (0.5 if is_loyal else 0.1)
    kinds: list[DeviceKind] = ["robot"] if rng.random() < 0.012 and not is_loyal else []
    kinds = kinds or [pick(rng, (("mobile", 50.0), ("desktop", 43.0), ("tablet", 6.0), ("app", 3.0)))]
    if has_account and rng.random() < 0.55:
        kinds.append("desktop" if kinds[0] != "desktop" else "mobile")
    if has_account and rng.random() < 0.3:
        kinds.append("app")
    # The other devices turn up on the same day: nobody comes back before the next.
    last_ms = midnight_ms(day) + DAY_MS - 1
    devices = tuple(
        Device.made_for((*name, index), kind, min(created_ms + index * HOUR_MS, last_ms), place)
        for index, kind in enumerate(kinds)
    )
    if not has_account or kinds[0] == "robot":
        return Person(name, place, devices, {}, {}, first_name, full_name)
    identity = {
        "UserAppKey": f"cust-{id_for(*name, 'key'):016x}",
        "UserDisplayName": full_name,
        "UserEmail": _email(first_name, full_name, rng.randrange(10, 99), rng.random()),
    }
    n_orders = min(int(rng.expovariate(0.45)), 14)
    variables: dict[str, Any] = {
        "user_plan_str": "" if rng.random() < 0.1 else pick(rng, (("basic", 70.0), ("club", 24.0), ("club+", 6.0))),
        "user_orders_int": n_orders,
        "user_lifetime_value_real": money(n_orders * rng.randrange(1900, 6900)),
        "user_newsletter_bool": rng.random() < 0.4,
        "user_signed_up_date": (day - timedelta(days=rng.randrange(0, 700))).isoformat() + "T00:00:00Z",
        "user_interests_strs": sorted(
            rng.sample(("mugs", "planters", "ferns", "glazing", "seconds"), k=rng.randint(0, 3))
        ),
        "user_language_str": place.language,
    }
    if rng.random() < 0.3:
        variables["user_address.country_code_str"] = place.language.upper()
        variables["user_loyalty_points_int"] = 2**53 + 1 + rng.randrange(1000)
    return Person(name, place, devices, identity, variables, first_name, full_name)


def _email(first_name: str, full_name: str, number: int, luck: float) -> str:
    plain = unicodedata.normalize("NFKD", first_name.replace("ı", "i").replace("Ł", "L").replace("ø", "o"))
    local = "".join(c for c in plain.lower() if c.isascii() and c.isalpha()) or f"kunde{len(full_name)}"
    return f"{local}.{number}@{'example.com' if luck < 0.7 else 'example.org'}"


@lru_cache(maxsize=8)
def visits(seed: int, day: date, scale: float) -> tuple[Visit, ...]:
    """Every session that begins on a UTC day, by its beginning."""
    rng = rng_for(seed, "day", day.isoformat())
    n_new = _n_newcomers(seed, day, scale)
    planned: list[Visit] = []
    for number in range(n_new):
        newcomer = person(seed, day, number, number < n_new * _LOYAL_SHARE)
        planned.append(_visit(newcomer, newcomer.devices[0], newcomer.devices[0].created_ms, is_first=True))
    seen: set[tuple[object, ...]] = set()
    for index in range(n_visits(seed, day, scale) - n_new):
        absence = 1 + min(int(rng.expovariate(1 / _MEAN_ABSENCE_DAYS)), _LONGEST_ABSENCE_DAYS)
        first_day = day - timedelta(days=absence)
        n_loyal = max(1, int(_n_newcomers(seed, first_day, scale) * _LOYAL_SHARE))
        back = person(seed, first_day, int(n_loyal * rng.random() ** 1.5), True)
        if back.name in seen:
            continue
        seen.add(back.name)
        device = back.devices[min(int(rng.random() ** 1.4 * len(back.devices)), len(back.devices) - 1)]
        is_late = index == 0
        moment = _moment_ms(back.name, day, back.place)
        if is_late:
            moment = midnight_ms(day + timedelta(days=1)) - rng.randrange(
                60_000, _LATE_MINUTES_BEFORE_MIDNIGHT * 60_000
            )
        planned.append(_visit(back, device, moment, is_late=is_late))
        if rng.random() < _TWICE_SHARE and moment + 3 * HOUR_MS < midnight_ms(day + timedelta(days=1)):
            planned.append(_visit(back, back.devices[-1], moment + 2 * HOUR_MS + rng.randrange(HOUR_MS)))
    return tuple(sorted(planned, key=lambda visit: (visit.start_ms, visit.session_id)))


def _visit(who: Person, device: Device, start_ms: int, *, is_first: bool = False, is_late: bool = False) -> Visit:
    return Visit(start_ms, id_for(device.user_id, start_ms, "session"), who, device, is_first, is_late)
