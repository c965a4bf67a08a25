"""The one list of FullStory's event fields, and of the columns this project adds.

Source: segment export reference and data export reference (field tables), hauser's schema; read 2026-11. The
descriptions are our own. Everything that needs columns (parser, warehouse, Dagster's column schema, docs, the dbt
source) is made from here; a key that is not listed goes to ``CustomVars``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

FieldType = Literal["int64", "float64", "string", "timestamp", "json"]

DUCKDB_TYPES: dict[FieldType, str] = {
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "json": "JSON",
}


@dataclass(frozen=True)
class Field:
    """One column.

    Attributes:
        name: FullStory's own spelling.
        type: value type; timestamps are UTC without zone.
        group: what the field speaks of.
        description: one line, with the unit.
        is_personal: may tell who somebody is or what they typed; never shown in previews.
        is_required: a row whose value cannot be read is rejected.
    """

    name: str
    type: FieldType
    group: str
    description: str
    is_personal: bool = False
    is_required: bool = False

    @property
    def duckdb_type(self) -> str:
        """Column type in the warehouse."""
        return DUCKDB_TYPES[self.type]


FIELDS: tuple[Field, ...] = (
    Field("IndvId", "int64", "identity", "The person: shared by every UserId with the same UserAppKey."),
    Field("UserId", "int64", "identity", "The device cookie; a new one after cookies are cleared.", is_required=True),
    Field("SessionId", "int64", "identity", "The session; unique only together with UserId.", is_required=True),
    Field("PageId", "int64", "identity", "The page instance; unique only within its session."),
    Field("UserCreated", "timestamp", "identity", "When the device cookie was first seen."),
    Field("UserAppKey", "string", "identity", "Your own id of the person, from the identify call.", is_personal=True),
    Field("UserDisplayName", "string", "identity", "Name of the person, from the identify call.", is_personal=True),
    Field("UserEmail", "string", "identity", "E-mail of the person, from the identify call.", is_personal=True),
    Field("SessionStart", "timestamp", "identity", "When the session began."),
    Field("EventStart", "timestamp", "event", "When the event happened, to the millisecond.", is_required=True),
    Field("EventType", "string", "event", "Kind of event, e.g. click; new kinds appear over time.", is_required=True),
    Field("EventSubType", "string", "event", "Refines some kinds, e.g. navigate: reload."),
    Field("EventCustomName", "string", "event", "Name of a custom event."),
    Field(
        "EventTargetText",
        "string",
        "event",
        "Text of the element, the new text of a change, or a console line; may be cut short.",
        is_personal=True,
    ),
    Field("EventTargetSelector", "string", "event", "CSS selector of the element, from html downwards."),
    Field("EventDuration", "int64", "event", "How long a seen element was rendered, ms."),
    Field("EventSecondaryDuration", "int64", "event", "How long a seen element was visible, ms."),
    Field("EventPageOffset", "int64", "event", "Time since the page loaded, ms."),
    Field("EventSessionOffset", "int64", "event", "Time since the session began, ms."),
    Field("EventModFrustrated", "int64", "event", "Running count within a burst of rage clicks; 0 is none."),
    Field("EventModDead", "int64", "event", "1 when a click had no effect."),
    Field("EventModError", "int64", "event", "What a click led to: 1 error, 2 console error, 3 uncaught exception."),
    Field("EventModSuspicious", "int64", "event", "1 possible SQL injection, 2 possible script injection."),
    Field("EventCumulativeLayoutShift", "float64", "event", "Layout shift score of the page, no unit."),
    Field("EventFirstInputDelay", "int64", "event", "Delay of the first input, ms."),
    Field("EventVarErrorKind", "string", "event", "What was wrong with a variable, for kinds that end in _error."),
    Field("EventVarFields", "string", "event", "Which variables were wrong, for kinds that end in _error."),
    Field("EventWebSourceFileUrl", "string", "event", "Script behind an exception."),
    Field("EventMobileSourceFile", "string", "event", "Android source file behind an exception."),
    Field("PageName", "string", "page", "Name given to the page by the site's own code."),
    Field("PageStart", "timestamp", "page", "When the page instance began."),
    Field("PageDuration", "int64", "page", "Whole time on the page instance, ms; the same on each of its events."),
    Field(
        "PageActiveDuration", "int64", "page", "Active time on the page instance, ms; the same on each of its events."
    ),
    Field("PageUrl", "string", "page", "Full URL at the event.", is_personal=True),
    Field("PageRefererUrl", "string", "page", "URL the visitor came from; may be empty.", is_personal=True),
    Field("PageIp", "string", "page", "IP address of the session; may be empty.", is_personal=True),
    Field("PageLatLong", "string", "page", "Latitude and longitude as 'lat,long', to the city."),
    Field("PageUserAgent", "string", "page", "User agent of the browser."),
    Field("PageBrowser", "string", "page", "Browser, e.g. Chrome, Safari, Mobile App."),
    Field("PageBrowserVersion", "string", "page", "Version of the browser."),
    Field("PageDevice", "string", "page", "Desktop, Mobile, Tablet, Robot, Unknown."),
    Field("PagePlatform", "string", "page", "Web, Native Mobile."),
    Field("PageOperatingSystem", "string", "page", "Operating system, e.g. Windows, iOS."),
    Field("PageScreenWidth", "int64", "page", "Width of the screen, px."),
    Field("PageScreenHeight", "int64", "page", "Height of the screen, px."),
    Field("PageViewportWidth", "int64", "page", "Width of the viewport, px."),
    Field("PageViewportHeight", "int64", "page", "Height of the viewport, px."),
    Field("PageNumEvents", "int64", "page", "Events of the page instance, in all."),
    Field("PageNumDerivedEvents", "int64", "page", "Derived events of the page instance, in all."),
    Field("PageNumInfos", "int64", "page", "console.log and console.info calls on the page so far."),
    Field("PageNumWarnings", "int64", "page", "console.warn calls on the page so far."),
    Field("PageNumErrors", "int64", "page", "console.error calls and script errors on the page so far."),
    Field("PageClusterId", "int64", "page", "FullStory's own group of similar pages."),
    Field("PageMaxScrollDepthPercent", "int64", "page", "How far down the page was scrolled, %; only on navigate."),
    Field("LoadDomContentTime", "int64", "load", "Until DOMContentLoaded, ms; only on load."),
    Field("LoadEventTime", "int64", "load", "Until the load event, ms; only on load."),
    Field("LoadFirstPaintTime", "int64", "load", "First Contentful Paint, ms; only on load."),
    Field("LoadLargestPaintTime", "int64", "load", "Largest Contentful Paint, ms; only on load."),
    Field("ReqUrl", "string", "request", "URL of a request the page made.", is_personal=True),
    Field("ReqMethod", "string", "request", "HTTP method of the request."),
    Field("ReqStatus", "int64", "request", "HTTP status of the request."),
    Field("AppName", "string", "mobile", "Name of the app."),
    Field("AppPackageName", "string", "mobile", "Package or bundle name of the app."),
    Field("AppDeviceModel", "string", "mobile", "Device model."),
    Field("AppDeviceVendor", "string", "mobile", "Device maker."),
    Field("AppVersion", "string", "mobile", "Version of the app."),
    Field("AppOsVersion", "string", "mobile", "Version of the mobile operating system."),
    Field("AppViewName", "string", "mobile", "Screen of the app."),
)

CUSTOM_VARS = Field(
    "CustomVars",
    "json",
    "custom",
    "Every key without a column, name and value as sent: custom variables, new fields, values that do not fit theirs.",
    is_personal=True,
)

SYSTEM_COLUMNS: tuple[Field, ...] = (
    Field("_event_id", "string", "system", "Identity of the event, 32 hex digits; the same in every export of it."),
    Field("_window_start", "timestamp", "system", "Start of the bundle window the event belongs to."),
    Field("_window_end", "timestamp", "system", "End of the bundle window, excluded."),
    Field("_export_id", "string", "system", "FullStory's id of the export or bundle the row came in."),
    Field("_loaded_at", "timestamp", "system", "When the row was committed to the warehouse."),
    Field("_load_id", "int64", "system", "The line of _loads that brought the row."),
)

EVENT_COLUMNS: tuple[Field, ...] = (*FIELDS, CUSTOM_VARS, *SYSTEM_COLUMNS)
"""All columns of the events table, in order."""

FIELD_LIST_ID = hashlib.sha256(repr([(field.name, field.type) for field in FIELDS]).encode()).hexdigest()[:12]
"""Another one for every other list of fields: says by which list a row was parsed."""

LEGACY_NAMES: dict[str, str] = {
    "EventTargetSelectorTok": "EventTargetSelector",
    "PageAgent": "PageUserAgent",
}
"""Older spelling → column. A row that has both keeps the modern value; the other goes to CustomVars."""

FIELDS_BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}

CUSTOM_VARIABLE_KINDS = ("user_*", "evt_*", "page_*")
"""What the segment export takes in place of the names of custom variables."""
