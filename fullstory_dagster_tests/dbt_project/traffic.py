"""Made-up traffic with whatever makes marts differ: sessions over midnight, gaps, empty texts, values that go."""

from __future__ import annotations

import json
import random
from datetime import timedelta

from .warehouse import Event, day, event

MINUTE = timedelta(minutes=1)


def traffic(seed: int = 7) -> list[Event]:
    """A few dozen sessions over four days, among them some over one midnight and one over two."""
    chance = random.Random(seed)
    events = []
    for number in range(40):
        user, session = chance.randrange(2**60), chance.randrange(2**60)
        start = day(1) + timedelta(minutes=chance.randrange(4 * 24 * 60 - 60))
        if number < 10:
            start = day(2 + number % 3) - 3 * MINUTE
        steps = chance.randrange(1, 12)
        gap = timedelta(hours=9) if number == 0 else MINUTE
        for step in range(steps):
            page = chance.choice([None, 1, 2])
            at = min(start + step * gap, day(5) - MINUTE)
            fields = {
                "PageId": page,
                "PageStart": None if page is None else start,
                "PageDuration": None if page is None else 1000 * (page + chance.randrange(5)),
                "PageActiveDuration": None if page is None else 400 * page,
                "PageUrl": "" if page is None else f"https://shop.example/{page}?s={chance.randrange(2)}#/x",
                "PageBrowser": chance.choice(["Chrome", "", None]),
                "UserAppKey": chance.choice(["", None, f"person {user}"]),
                "SessionStart": chance.choice([start, None]),
                "EventTargetText": chance.choice([None, "Pay now", "  Pay\n later "]),
                "EventModFrustrated": chance.choice([None, 0, 1, 2, 3]),
                "EventModDead": chance.choice([None, 0, 1]),
                "PageNumErrors": chance.choice([None, 0, step]),
                "PageDevice": chance.choice(["Desktop", "Mobile"]),
                "ReqStatus": chance.choice([200, 404]),
                "ReqUrl": f"https://api.example/orders/{step}",
                "EventCustomName": chance.choice(["Checkout Started", "Order Completed"]),
                "LoadLargestPaintTime": 1000 * step,
                "EventCumulativeLayoutShift": step / 40,
                "CustomVars": json.dumps(
                    {"evt_step_int": step, **({"user_plan_str": chance.choice("ab")} if step % 3 else {})}
                ),
                "EventTargetSelector": chance.choice(["main form#pay input#card", "main form#pay button", "div input"]),
            }
            kinds = ["click", "navigate", "load", "change", "request", "custom", "exception", "abandon"]
            kind = chance.choice([*kinds, "cumulative_layout_shift"])
            events.append(event(f"{number:02}-{step:02}", at, user=user, session=session, kind=kind, **fields))
    return events
