"""The made-up shop: Fern & Kiln sells pots, cups and plants at shop.example.com. Everything in it is invented."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import msgspec

SITE = "https://shop.example.com"


@dataclass(frozen=True)
class Product:
    """One thing on sale; prices in cents of a euro."""

    sku: str
    name: str
    category: str
    price_cents: int
    is_sold_out: bool

    @property
    def slug(self) -> str:
        """The last part of its URL."""
        return "".join(c if c.isascii() and c.isalnum() else "-" for c in self.name.lower()).replace("--", "-")

    @property
    def url(self) -> str:
        """Its page."""
        return f"{SITE}/products/{self.slug}"


def money(cents: int) -> msgspec.Raw:
    """An amount as a JSON number with two decimals, so that 49.90 is sent as ``49.90``."""
    return msgspec.Raw(f"{cents // 100}.{cents % 100:02d}".encode())


def event_variables(**values: object) -> dict[str, Any]:
    """Custom variables of an event; a nested property ``order.total_real`` is given as ``order__total_real``."""
    return {f"evt_{name.replace('__', '.')}": value for name, value in values.items()}


def price_tag(cents: int) -> str:
    """An amount as the pages show it."""
    return f"€{cents // 100}.{cents % 100:02d}"


CATEGORIES = ("mugs", "bowls", "vases", "planters", "plants", "tools", "sale")
"""Collections of the shop, most visited ones first but for the sale, which a banner leads to."""

CATEGORY_WEIGHTS = (0.22, 0.13, 0.12, 0.17, 0.12, 0.06, 0.18)

_SOLD_OUT = ("Night Heron Mug", "Moss Terrarium Kit")

PRODUCTS = tuple(
    Product(f"FK-{1000 + 7 * number}", name, category, price_cents, is_sold_out=name in _SOLD_OUT)
    for number, (name, category, price_cents) in enumerate(
        [
            ("Harbour Mug", "mugs", 2450),
            ("Tidepool Mug", "mugs", 2650),
            ("Café Cup, Set of 2", "mugs", 3890),
            ("Pebble Espresso Cup", "mugs", 1490),
            ("Speckled Latte Bowl", "mugs", 2990),
            ("Night Heron Mug", "mugs", 2790),
            ("Ramen Bowl Kaze", "bowls", 3490),
            ("Breakfast Bowl Moss", "bowls", 2690),
            ("Serving Bowl Dune", "bowls", 5490),
            ("Dip Dish Trio", "bowls", 2190),
            ("Salad Bowl Fjörd", "bowls", 6290),
            ("Bud Vase Alder", "vases", 1990),
            ("Bottle Vase Smoke", "vases", 4590),
            ("Moon Jar", "vases", 11900),
            ("Ripple Vase", "vases", 5290),
            ("Ikebana Dish", "vases", 4990),
            ("Planter Terra 14 cm", "planters", 2290),
            ("Planter Terra 22 cm", "planters", 3990),
            ("Hanging Planter Loop", "planters", 3450),
            ("Self-Watering Pot", "planters", 4490),
            ("Window Box Brick", "planters", 5750),
            ("Saucer Terra", "planters", 890),
            ("Fern Nephrolepis", "plants", 1890),
            ("Pilea in Terra Pot", "plants", 2750),
            ("String of Hearts", "plants", 2290),
            ("Bird of Paradise", "plants", 7490),
            ("Snake Plant", "plants", 2990),
            ("Moss Terrarium Kit", "plants", 4250),
            ("Loop Tool Set", "tools", 3290),
            ("Brass Mister", "tools", 2890),
            ("Potting Mat", "tools", 1790),
            ("Pruning Snips", "tools", 2590),
            ("Seconds: Harbour Mug", "sale", 1450),
            ("Seconds: Ripple Vase", "sale", 2990),
            ("Last Chance Planter 18 cm", "sale", 1990),
            ("Glaze Test Plates", "sale", 1290),
            ("Sample Box Spring", "sale", 1950),
        ]
    )
)

ARTICLES = (
    ("how-a-glaze-breaks", "How a glaze breaks"),
    ("repotting-without-tears", "Repotting without tears"),
    ("a-day-at-the-kiln", "A day at the kiln"),
    ("which-soil-for-which-fern", "Which soil for which fern"),
    ("wabi-and-a-chipped-cup", "Wabi 侘 and a chipped cup"),
)

SEARCHES: tuple[tuple[str, float], ...] = (
    ("mug", 14),
    ("planter", 11),
    ("vase", 9),
    ("blue mug", 6),
    ("gift", 6),
    ("fern", 5),
    ("moon jar", 4),
    ("self watering", 4),
    ("terra 22", 3),
    ("set of cups", 3),
    ("gift card", 3),
    ("übertopf", 2),
    ("tasse à café", 2),
    ("花瓶", 1),
    ("🌵 pot", 1.5),
    ("plantenbak groot", 1),
    ("dishwasher safe?", 2),
    ("mgu", 1),
    ("' OR 1=1 --", 0.25),
)
"""What people type into the search box, with weights."""

_SYNONYMS = {"cups": "cup", "blue": "harbour", "übertopf": "planter", "pot": "pot", "tasse": "mug", "terra": "terra"}


def products_in(category: str) -> list[Product]:
    """The products of one collection."""
    return [product for product in PRODUCTS if product.category == category]


def search(text: str) -> list[Product]:
    """What the shop finds: products whose name or collection holds one of the words."""
    words = [_SYNONYMS.get(word, word).rstrip("s") for word in text.lower().split() if len(word) > 2]
    return [p for p in PRODUCTS if any(word in p.name.lower() or word in p.category for word in words)]


def pick_product(rng: random.Random, products: list[Product]) -> Product:
    """One product of a list: the first ones are chosen more often."""
    return products[int(len(products) * rng.random() ** 1.6)]
