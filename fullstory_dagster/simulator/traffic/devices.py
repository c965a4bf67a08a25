"""Browsers, apps, screens and places that made-up people come with."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

from fullstory_dagster.simulator.traffic.seeded import id_for, pick, rng_for

DeviceKind = Literal["desktop", "mobile", "tablet", "app", "robot"]

APP_NAME = "Fern & Kiln"
APP_PACKAGE = "com.example.fernkiln"


@dataclass(frozen=True)
class Place:
    """A city, with whole hours from UTC to its clock in winter."""

    name: str
    lat_long: str
    utc_offset_h: int
    language: str


PLACES: tuple[tuple[Place, float], ...] = (
    (Place("Berlin", "52.5200,13.4050", 1, "de"), 13),
    (Place("Hamburg", "53.5511,9.9937", 1, "de"), 9),
    (Place("München", "48.1371,11.5754", 1, "de"), 7),
    (Place("Leipzig", "51.3397,12.3731", 1, "de"), 4),
    (Place("Amsterdam", "52.3676,4.9041", 1, "nl"), 8),
    (Place("Utrecht", "52.0907,5.1214", 1, "nl"), 4),
    (Place("Paris", "48.8566,2.3522", 1, "fr"), 7),
    (Place("Lyon", "45.7640,4.8357", 1, "fr"), 3),
    (Place("London", "51.5074,-0.1278", 0, "en"), 9),
    (Place("Edinburgh", "55.9533,-3.1883", 0, "en"), 3),
    (Place("Wien", "48.2082,16.3738", 1, "de"), 4),
    (Place("København", "55.6761,12.5683", 1, "da"), 4),
    (Place("Kraków", "50.0647,19.9450", 1, "pl"), 3),
    (Place("Lisboa", "38.7223,-9.1393", 0, "pt"), 2),
    (Place("Istanbul", "41.0082,28.9784", 3, "tr"), 2),
    (Place("New York", "40.7128,-74.0060", -5, "en"), 6),
    (Place("Chicago", "41.8781,-87.6298", -6, "en"), 3),
    (Place("Portland", "45.5152,-122.6784", -8, "en"), 3),
    (Place("京都", "35.0116,135.7681", 9, "ja"), 1.5),
    (Place("Melbourne", "-37.8136,144.9631", 10, "en"), 1.5),
)

_CHROMIUM = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/"
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) "
_MACOS = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) "
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) "
_IPAD = "Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) "


@dataclass(frozen=True)
class _Browser:
    """A browser on a system; the versions newest first, the user agent with the version left open."""

    name: str
    versions: tuple[str, ...]
    system: str
    agent: str


_CHROME = ("131.0.0", "130.0.0")
_EDGE = ("131.0.2903", "130.0.2849")
_FIREFOX = ("133.0", "132.0", "128.0")
_SAFARI = ("18.1", "17.6", "16.6")

_BROWSERS: dict[str, tuple[tuple[_Browser, float], ...]] = {
    "desktop": (
        (_Browser("Chrome", _CHROME, "Windows", _WINDOWS + _CHROMIUM + "{}.0 Safari/537.36"), 38),
        (_Browser("Microsoft Edge", _EDGE, "Windows", _WINDOWS + _CHROMIUM + "131.0.0.0 Safari/537.36 Edg/{}.0"), 12),
        (_Browser("Firefox", _FIREFOX, "Windows", _WINDOWS + "Gecko/20100101 Firefox/{}"), 8),
        (_Browser("Safari", _SAFARI, "OS X", _MACOS + _WEBKIT + "{} Safari/605.1.15"), 20),
        (_Browser("Chrome", _CHROME, "OS X", _MACOS + _CHROMIUM + "{}.0 Safari/537.36"), 14),
        (_Browser("Firefox", _FIREFOX, "Linux", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/{}"), 4),
        (
            _Browser("Chrome", _CHROME, "Chrome OS", f"Mozilla/5.0 (X11; CrOS x86_64) {_CHROMIUM}{{}}.0 Safari/537.36"),
            3,
        ),
    ),
    "mobile": (
        (_Browser("Safari", _SAFARI, "iOS", _IPHONE + _WEBKIT + "{} Mobile/15E148 Safari/604.1"), 52),
        (_Browser("Chrome", _CHROME, "Android", f"Mozilla/5.0 (Linux; Android 10; K) {_CHROMIUM}{{}}.0 Mobile"), 42),
        (_Browser("Firefox", _FIREFOX, "Android", "Mozilla/5.0 (Android 14; Mobile) Gecko/133.0 Firefox/{}"), 4),
    ),
    "tablet": (
        (_Browser("Safari", _SAFARI, "iOS", _IPAD + _WEBKIT + "{} Mobile/15E148 Safari/604.1"), 8),
        (_Browser("Chrome", _CHROME, "Android", f"Mozilla/5.0 (Linux; Android 13; SM-X200) {_CHROMIUM}{{}}.0"), 3),
    ),
    "robot": (
        (
            _Browser("Robot", ("2.1",), "Robot", "Mozilla/5.0 (compatible; ExampleBot/{})"),
            1,
        ),
    ),
}

# Width and height in pixels by kind of device, phones by their system.
_SCREENS: dict[str, tuple[tuple[tuple[int, int], float], ...]] = {
    "desktop": (
        ((1920, 1080), 36), ((1536, 864), 16), ((2560, 1440), 14), ((1440, 900), 12), ((1366, 768), 10),
        ((3440, 1440), 3),
    ),
    "iOS": (((390, 844), 32), ((393, 852), 24), ((430, 932), 16), ((375, 667), 8)),
    "Android": (((412, 915), 26), ((360, 800), 24), ((393, 873), 14)),
    "tablet": (((820, 1180), 5), ((768, 1024), 4), ((1280, 800), 2)),
    "robot": (((1280, 1024), 1),),
}  # fmt: skip

_PHONES: tuple[tuple[tuple[str, str, str, str, tuple[int, int]], float], ...] = (
    (("Apple", "iPhone15,2", "iOS", "17.6.1", (393, 852)), 26),
    (("Apple", "iPhone14,5", "iOS", "18.1", (390, 844)), 22),
    (("samsung", "SM-S911B", "Android", "14", (360, 780)), 18),
    (("Google", "Pixel 8", "Android", "15", (412, 915)), 14),
    (("Xiaomi", "2201117TG", "Android", "13", (393, 873)), 8),
)
_APP_VERSIONS: tuple[tuple[str, float], ...] = (("4.12.0", 60), ("4.11.3", 28), ("4.9.1", 12))

_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")
"""The three ranges that are set aside for documentation (RFC 5737)."""


@dataclass(frozen=True)
class Device:
    """A browser or an app on one machine: what FullStory gives a UserId.

    Attributes:
        slowness: factor on load times; 1 is a good desktop.
        fields: event fields that are the same in every event from here.
    """

    user_id: int
    kind: DeviceKind
    created_ms: int
    slowness: float
    fields: dict[str, Any]

    @property
    def has_old_safari(self) -> bool:
        """The image gallery does not work there."""
        return self.fields.get("PageBrowser") == "Safari" and self.fields["PageBrowserVersion"].startswith("16")

    @classmethod
    def made_for(cls, name: tuple[object, ...], kind: DeviceKind, created_ms: int, place: Place) -> Device:
        """The device of that name; the same name gives the same device."""
        rng = rng_for(*name, "device")
        fields = _app_fields(rng) if kind == "app" else _browser_fields(rng, kind)
        # Some accounts drop addresses; here one device in ten has an empty one.
        fields["PageIp"] = f"{rng.choice(_NETWORKS)}.{rng.randint(1, 254)}" if rng.random() > 0.1 else ""
        fields["PageLatLong"] = place.lat_long
        slowness = {"desktop": 1.0, "tablet": 1.4, "mobile": 1.7, "app": 1.3, "robot": 0.7}[kind]
        return cls(id_for(*name, "user"), kind, created_ms, slowness * rng.lognormvariate(0, 0.28), fields)


def _browser_fields(rng: random.Random, kind: DeviceKind) -> dict[str, Any]:
    browser = pick(rng, _BROWSERS[kind])
    version = browser.versions[min(int(rng.expovariate(1.5)), len(browser.versions) - 1)]
    width, height = pick(rng, _SCREENS[browser.system if kind == "mobile" else kind])
    is_desktop = kind == "desktop"
    return {
        "PageUserAgent": browser.agent.format(version),
        "PageBrowser": browser.name,
        "PageBrowserVersion": version,
        "PageDevice": kind.capitalize(),
        "PagePlatform": "Web",
        "PageOperatingSystem": browser.system,
        "PageScreenWidth": width,
        "PageScreenHeight": height,
        # People rarely give a browser their whole desk; a phone's browser takes its bars off the height.
        "PageViewportWidth": width - rng.choice((0, 0, 0, 15, 240, 480)) if is_desktop else width,
        "PageViewportHeight": height - rng.choice((95, 121, 139, 203))
        if is_desktop
        else height - rng.choice((114, 180)),
    }


def _app_fields(rng: random.Random) -> dict[str, Any]:
    vendor, model, system, version, (width, height) = pick(rng, _PHONES)
    app_version = pick(rng, _APP_VERSIONS)
    return {
        "PageUserAgent": f"{APP_PACKAGE}/{app_version} ({model}; {system} {version})",
        "PageBrowser": "Mobile App",
        "PageBrowserVersion": app_version,
        "PageDevice": "Mobile",
        "PagePlatform": "Native Mobile",
        "PageOperatingSystem": system,
        "PageScreenWidth": width,
        "PageScreenHeight": height,
        "PageViewportWidth": width,
        "PageViewportHeight": height,
        "AppName": APP_NAME,
        "AppPackageName": APP_PACKAGE,
        "AppDeviceModel": model,
        "AppDeviceVendor": vendor,
        "AppVersion": app_version,
        "AppOsVersion": version,
    }
