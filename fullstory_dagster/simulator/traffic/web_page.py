"""What a browser does on any page: loading, vitals, clicks, forms, requests, and what goes wrong in passing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fullstory_dagster.simulator.traffic.calendar import release
from fullstory_dagster.simulator.traffic.session import SessionRecorder
from fullstory_dagster.simulator.traffic.shop import SITE, event_variables


@dataclass(frozen=True)
class Template:
    """A kind of page.

    Attributes:
        largest_paint_ms: typical Largest Contentful Paint on a good desktop.
        layout_shift: typical cumulative layout shift score.
        scroll_pct: how far down people typically get.
    """

    name: str
    cluster_id: int
    largest_paint_ms: int
    layout_shift: float
    scroll_pct: int


HOME = Template("Home", 601, 1350, 0.06, 45)
COLLECTION = Template("Collection", 602, 1250, 0.09, 65)
SALE = Template("Sale", 603, 1300, 0.11, 60)
PRODUCT = Template("Product", 604, 1500, 0.04, 55)
SEARCH = Template("Search results", 605, 1150, 0.03, 50)
CART = Template("Cart", 606, 900, 0.02, 70)
CHECKOUT = Template("Checkout", 607, 1600, 0.05, 85)
LOGIN = Template("Log in", 608, 800, 0.01, 80)
ACCOUNT = Template("Account", 609, 1100, 0.03, 60)
ARTICLE = Template("Journal", 610, 1000, 0.13, 62)
HELP = Template("Help", 611, 700, 0.01, 58)

_SCRIPT = f"{SITE}/assets/shop.4be1.js"
_BACKGROUND_ERRORS = (
    "ResizeObserver loop completed with undelivered notifications.",
    "Failed to load resource: net::ERR_BLOCKED_BY_CLIENT",
    "Uncaught (in promise) AbortError: The user aborted a request.",
)
_MOST_TEXT = 240


class WebPage:
    """A browser with one page open, driven by a person."""

    def __init__(self, session: SessionRecorder, landing_referrer: str) -> None:
        self.session = session
        self.rng = session.rng
        self._referrer = landing_referrer
        self._template = HOME
        self._had_input = False
        self._has_page = False

    @property
    def is_mobile(self) -> bool:
        """Whether fingers do the work."""
        return self.session.visit.device.kind in ("mobile", "tablet")

    def chance(self, probability: float) -> bool:
        """Whether something that likely happens now."""
        return self.rng.random() < probability

    # Getting somewhere

    def load(
        self, path: str, template: Template, *, weight: float = 1.0, subtype: str = "navigate", **variables: Any
    ) -> None:
        """Load a page: a new page instance with its navigate, its requests and its load event.

        Args:
            path: path and query.
            template: which kind of page it is.
            weight: factor on its load times.
            subtype: navigate, reload or back_forward.
            variables: ``page_*`` custom variables.
        """
        self._report_layout_shift()
        self.session.open_page(self._place(path, template, variables), self._referrer)
        is_first, self._has_page, self._had_input = not self._has_page, True, False
        self._template, self._referrer = template, SITE + path
        self._navigate(subtype)
        if self.session.visit.person.is_identified and (is_first or self.chance(0.25)):
            self.session.emit("uservar")
        self._finish_loading(template, weight)

    def _finish_loading(self, template: Template, weight: float) -> None:
        slowness = weight * self.session.visit.device.slowness * self.rng.lognormvariate(0, 0.3)
        paint = template.largest_paint_ms * slowness
        content, loaded = int(paint * self.rng.uniform(0.6, 0.8)), int(paint * self.rng.uniform(1.15, 1.5))
        self.session.wait(content)
        self.session.log(infos=self.rng.choice((0, 0, 1, 2)), warnings=self.rng.choice((0, 0, 0, 1)))
        if self.chance(0.55):
            status = 200 if self.chance(0.985) else self.rng.choice((429, 500, 503, 504))
            self.request("GET", f"/api/{template.name.lower().replace(' ', '-')}?v={self._release}", status)
        # Those who leave while a page still loads never see it loaded.
        if paint > 4000 and self.chance(0.12):
            self.session.wait((loaded - content) * 0.5)
            return
        self.session.wait(loaded - content)
        self.session.emit(
            "load",
            LoadDomContentTime=content,
            LoadEventTime=loaded,
            LoadFirstPaintTime=int(paint * self.rng.uniform(0.45, 0.62)),
            LoadLargestPaintTime=int(paint),
        )
        if paint > 3500 and not self.is_mobile and self.chance(0.3):
            self.session.think(1.0)
            self.session.emit("thrash", EventTargetSelector="html body")
        if self.chance(0.012):
            self.console_error(self.rng.choice(_BACKGROUND_ERRORS), times=self.rng.choice((1, 1, 1, 2)))

    def move(self, path: str, template: Template, **variables: Any) -> None:
        """Go somewhere within the page instance, without loading anything but data."""
        self.session.move_to(self._place(path, template, variables))
        self._referrer = SITE + path
        self._navigate("navigate")
        self.session.wait(self.rng.uniform(120, 600) * self.session.visit.device.slowness)

    def _navigate(self, subtype: str) -> None:
        depth = self._template.scroll_pct + self.rng.gauss(0, 22)
        self.session.emit("navigate", EventSubType=subtype, PageMaxScrollDepthPercent=int(min(max(depth, 5), 100)))

    def _place(self, path: str, template: Template, variables: dict[str, Any]) -> dict[str, Any]:
        return {
            "PageName": template.name,
            "PageUrl": SITE + path,
            "PageClusterId": template.cluster_id,
            "page_release_str": self._release,
            **variables,
        }

    @property
    def _release(self) -> str:
        return release(self.session.now_ms)

    def leave(self, idle_s: float = 4.0) -> None:
        """Close the tab after a last look."""
        self.session.think(idle_s, 0.9)
        self._report_layout_shift()

    def _report_layout_shift(self) -> None:
        if self._has_page and self.chance(0.6):
            shift = self._template.layout_shift * self.rng.lognormvariate(0, 0.7)
            self.session.emit("cumulative_layout_shift", EventCumulativeLayoutShift=round(shift, 4))

    # Doing something

    def click(self, text: str, selector: str, **modifiers: Any) -> None:
        """Click an element; modifiers are ``EventMod…`` fields."""
        if not self._had_input:
            self._had_input = True
            if self.chance(0.7):
                delay = int(9 * self.session.visit.device.slowness * self.rng.lognormvariate(0, 0.9)) + 1
                self.session.emit("first_input_delay", EventFirstInputDelay=delay)
        self.session.emit("click", EventTargetText=text, EventTargetSelector=selector, **modifiers)
        self.session.wait(self.rng.uniform(15, 90))

    def rage(self, text: str, selector: str, **modifiers: Any) -> None:
        """Click the same thing again and again in anger."""
        for count in range(1, self.rng.choice((3, 4, 4, 5, 6, 8)) + 1):
            self.click(text, selector, EventModFrustrated=count, **modifiers)
            self.session.wait(self.rng.uniform(110, 330))

    def see(self, text: str, selector: str) -> None:
        """A watched element comes into view for a while, while the reader goes on."""
        visible = int(1000 * 1.8 * self.rng.lognormvariate(0, 0.7))
        self.session.emit(
            "seen",
            EventSubType="visible" if self.chance(0.7) else "rendered",
            EventTargetText=text,
            EventTargetSelector=selector,
            EventDuration=visible + int(self.rng.expovariate(1 / 2500)),
            EventSecondaryDuration=visible,
        )
        self.session.wait(visible * self.rng.uniform(0.3, 1.0))

    def fill(self, label: str, selector: str, value: str, median_s: float = 3.0) -> None:
        """Click into a field and type; the change event carries the new text."""
        self.click(label, selector)
        self.session.think(median_s, 0.5)
        is_attack = "OR 1=1" in value
        self.session.emit(
            "change",
            EventTargetText=value[:_MOST_TEXT],
            EventTargetSelector=selector,
            **({"EventModSuspicious": 1} if is_attack else {}),
        )
        self.session.wait(self.rng.uniform(100, 500))

    def mark(self, kind: str, text: str, selector: str) -> None:
        """Copy, paste or highlight something."""
        self.session.emit(kind, EventTargetText=text[:_MOST_TEXT], EventTargetSelector=selector)
        self.session.think(0.8)

    # What the page does

    def request(self, method: str, path: str, status: int) -> None:
        """The page talks to its server."""
        self.session.emit("request", ReqUrl=SITE + path, ReqMethod=method, ReqStatus=status)

    def custom(self, name: str, **variables: Any) -> None:
        """The site reports something it knows."""
        self.session.emit("custom", EventCustomName=name, **event_variables(**variables))

    def console_error(self, text: str, times: int = 1) -> None:
        """A line of console.error; written twice at once, it makes two events that differ in nothing."""
        self.session.log(errors=times)
        for _ in range(times):
            self.session.emit("console_message", EventSubType="error", EventTargetText=text)

    def exception(self, text: str, script: str = _SCRIPT) -> None:
        """An error that nobody caught."""
        self.session.log(errors=1)
        self.session.emit("exception", EventSubType="uncaught", EventTargetText=text, EventWebSourceFileUrl=script)
