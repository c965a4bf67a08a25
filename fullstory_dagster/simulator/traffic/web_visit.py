"""A visit to the shop in a browser: where somebody lands, what they look at, and when they have had enough."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote_plus

from fullstory_dagster.simulator.traffic.calendar import DAY_MS, is_newsletter_time, is_sale_page_heavy
from fullstory_dagster.simulator.traffic.checkout import Basket, check_out, visit_cart
from fullstory_dagster.simulator.traffic.people import Visit
from fullstory_dagster.simulator.traffic.seeded import pick
from fullstory_dagster.simulator.traffic.session import SessionRecorder
from fullstory_dagster.simulator.traffic.shop import (
    ARTICLES,
    CATEGORIES,
    CATEGORY_WEIGHTS,
    PRODUCTS,
    SEARCHES,
    SITE,
    Product,
    money,
    pick_product,
    price_tag,
    products_in,
    search,
)
from fullstory_dagster.simulator.traffic.web_page import (
    ACCOUNT,
    ARTICLE,
    COLLECTION,
    HELP,
    HOME,
    LOGIN,
    PRODUCT,
    SALE,
    SEARCH,
    WebPage,
)

Intent = Literal["glance", "browse", "buy", "account", "read"]

_NAV = "html body header nav ul li a"
_HEAVY_SALE_WEIGHT = 2.7
"""How much longer the sale page takes to load while it carries the campaign film."""

_REFERRERS: tuple[tuple[tuple[str, str], float], ...] = (
    (("", ""), 34),
    (("https://search.example.net/", ""), 33),
    (("https://social.example.org/", "utm_source=social&utm_medium=post"), 13),
    (("https://mail.example.net/", "utm_source=newsletter&utm_medium=email&utm_campaign=kiln-news"), 9),
    (("https://blog.example.org/cosy-kitchens", ""), 6),
)

_REFINEMENTS = (
    ("Price, low to high", "sort=price"),
    ("New", "sort=new"),
    ("In stock", "stock=1"),
    ("Load more", "page=2"),
)


def _intent(rng: random.Random, visit: Visit) -> Intent:
    if visit.device.kind == "robot":
        return "glance"
    if visit.is_late:
        return "buy"
    # Those whom the newsletter brings come to buy what it shows.
    eagerness = 2.0 if is_newsletter_time(visit.start_ms) else 1.0
    if visit.person.is_identified:
        buy = 26.0 * eagerness
        return pick(rng, (("glance", 18.0), ("browse", 40.0), ("buy", buy), ("account", 12.0), ("read", 4.0)))
    # Phones are for looking, desks are for buying.
    buy = (14.0 if visit.device.kind == "mobile" else 21.0) * eagerness
    return pick(rng, (("glance", 34.0), ("browse", 40.0), ("buy", buy), ("read", 9.0)))


class WebVisit:
    """One session in a browser; each method is a page or a stretch of the way."""

    def __init__(self, session: SessionRecorder) -> None:
        self.session = session
        self.rng = session.rng
        self.intent = _intent(session.rng, session.visit)
        referrer, self._campaign = pick(self.rng, _REFERRERS)
        self.page = WebPage(session, referrer)
        self.basket = Basket()

    def live(self) -> None:
        """Make the whole visit."""
        if self.session.visit.is_late:
            self._stay_up()
        elif self.intent == "account":
            self._account()
        elif self.intent == "read":
            self._article()
        else:
            self._land()
            n_steps = {"glance": 0, "browse": 1.8 + self.rng.expovariate(0.31), "buy": 2.5 + self.rng.expovariate(0.26)}
            self._wander(int(n_steps[self.intent]))
        if self.basket.lines and not self.session.is_tired:
            self._buy()
        self.page.leave(20 if self.page.chance(0.2) else 4)

    def _land(self) -> None:
        if self.session.visit.device.kind == "robot":
            self._product(self.rng.choice(PRODUCTS))
            return
        first = pick(
            self.rng, ((self._home, 38.0), (self._collection, 26.0), (self._any_product, 28.0), (self._article, 8.0))
        )
        first()
        if self.intent == "glance" and self.page.chance(0.35):
            self.page.click("Menu", "html body header button.menu")

    def _wander(self, n_steps: int) -> None:
        steps: list[tuple[Callable[[], None], float]] = [
            (self._collection, 30.0),
            (self._any_product, 36.0),
            (self._search, 13.0),
            (self._home, 6.0),
            (self._article, 3.0),
            (self._help, 3.0),
        ]
        for _ in range(n_steps):
            if self.session.is_tired:
                return
            pick(self.rng, steps)()
            if self.page.chance(0.05):
                # A tab left open while the kettle boils.
                self.session.think(240, 0.7)

    def _stay_up(self) -> None:
        """Browse into the next day, UTC."""
        midnight_ms = self.session.visit.start_ms // DAY_MS * DAY_MS + DAY_MS
        while self.session.now_ms < midnight_ms:
            self._wander(1)
        self._wander(3)

    def _path(self, path: str) -> str:
        campaign, self._campaign = self._campaign, ""
        return f"{path}{'&' if '?' in path else '?'}{campaign}" if campaign else path

    @property
    def _is_under_way(self) -> bool:
        """Whether there is a page to click on."""
        return self.session.now_ms > self.session.visit.start_ms

    def _home(self) -> None:
        if self._is_under_way:
            self.page.click("Fern & Kiln", "html body header a.logo")
        self.page.load(self._path("/"), HOME)
        self.page.see("Spring firing: 14 new glazes", "html body main.home section.hero h1")
        self.session.think(3)
        if self.page.chance(0.4):
            self.page.see("Bestsellers", "html body main.home section.bestsellers")
        if self.page.chance(0.15):
            self.page.click("Next", "html body main.home section.carousel button.next")
            self.session.think(2)
        if self.page.chance(0.04):
            self._subscribe()

    def _subscribe(self) -> None:
        form = "html body footer form.newsletter"
        self.page.fill("E-mail", f"{form} input#newsletter-email", f"garden.{self.rng.randrange(1000)}@example.org")
        if self.page.chance(0.3):
            self.session.emit("abandon", EventTargetSelector=form)
            return
        self.page.click("Subscribe", f"{form} button")
        self.page.request("POST", "/api/newsletter", 201)
        self.page.custom("Newsletter Signed Up", source_str="footer", consent_bool=True)

    def _collection(self) -> None:
        category = self.rng.choices(CATEGORIES, CATEGORY_WEIGHTS)[0]
        if self._is_under_way:
            self.page.click(category.capitalize(), _NAV)
        is_sale = category == "sale"
        template = SALE if is_sale else COLLECTION
        is_heavy = is_sale and is_sale_page_heavy(self.session.now_ms)
        path = f"/collections/{category}"
        self.page.load(
            self._path(path), template, weight=_HEAVY_SALE_WEIGHT if is_heavy else 1.0, page_category_str=category
        )
        if is_heavy and self.page.chance(0.25):
            # Too slow for some: they are gone before they saw anything.
            return
        if is_heavy and self.page.chance(0.1):
            self.page.rage("Load more", "html body main.collection button.load-more", EventModDead=1)
        products = products_in(category)
        for product in products[: self.rng.choice((1, 1, 2, 2, 3))]:
            self.page.see(
                f"{product.name} {price_tag(product.price_cents)}", "html body main.collection ul.grid li.card"
            )
        for _ in range(self.rng.choice((0, 0, 0, 1, 1, 2))):
            # Sorting and filtering change the URL and load no page.
            label, query = self.rng.choice(_REFINEMENTS)
            self.session.think(3.5)
            self.page.click(label, "html body main.collection aside.filters label")
            self.page.request("GET", f"/api/collection/{category}?{query}", 200)
            self.page.move(f"{path}?{query}", template, page_category_str=category)
        self.session.think(5)
        if self.page.chance(0.62):
            product = pick_product(self.rng, products)
            self.page.click(product.name, "html body main.collection ul.grid li.card a.name")
            self._product(product)

    def _any_product(self) -> None:
        others = [product for product in self.rng.sample(PRODUCTS, k=8) if product.url != self.session.url]
        product = pick_product(self.rng, others)
        if self._is_under_way:
            self.page.click(product.name, "html body main section.you-may-like ul li a.name")
        self._product(product)

    def _product(self, product: Product) -> None:
        page = self.page
        path = self._path(product.url.removeprefix(SITE))
        page.load(path, PRODUCT, page_product_id_str=product.sku, page_category_str=product.category)
        page.custom(
            "Product Viewed",
            product_id_str=product.sku,
            displayName_str=product.name,
            price_real=money(product.price_cents),
            in_stock_bool=not product.is_sold_out,
            tags_strs=[product.category, "stoneware" if product.category != "plants" else "live"],
        )
        if self.session.visit.device.kind == "robot":
            return
        page.see(product.name, "html body main.product div.title h1")
        self.session.think(5)
        self._look_closer(product)
        wish = {"glance": 0.0, "browse": 0.02, "read": 0.02, "account": 0.05, "buy": 0.32}[self.intent]
        if not page.chance(wish if len(self.basket.lines) < 3 else 0.08):
            return
        if product.is_sold_out:
            hit = page.rage if page.chance(0.3) else page.click
            hit("Sold out", "html body main.product div.buy-box button.sold-out", EventModDead=1)
            return
        self._add_to_basket(product)

    def _look_closer(self, product: Product) -> None:
        page, image = self.page, "html body main.product div.gallery img.zoomable"
        if page.chance(0.45):
            for _ in range(self.rng.choice((1, 1, 2, 3))):
                page.click("", "html body main.product div.gallery button.thumbnail")
                self.session.think(1.6)
        if self.session.visit.device.has_old_safari and page.chance(0.5):
            page.click("", image, EventModError=3)
            page.exception("TypeError: null is not an object (evaluating 'zoom.offsetTop')")
            if page.chance(0.35):
                page.rage("", image, EventModError=3)
        elif page.chance(0.045):
            # A heading in the colour of links that is none.
            page.click("Size guide", "html body main.product div.details h3.size-guide", EventModDead=1)
        if page.chance(0.3):
            page.see("Customer reviews", "html body main.product section.reviews h2")
            self.session.think(7)
        if page.chance(0.05):
            page.mark("highlight", product.name, "html body main.product div.title h1")
            if page.chance(0.6):
                page.mark("copy", product.name, "html body main.product div.title h1")

    def _add_to_basket(self, product: Product) -> None:
        quantity = self.rng.choice((1, 1, 1, 1, 2, 2, 4))
        self.basket.lines.append((product, quantity))
        self.page.click("Add to cart", "html body main.product div.buy-box button#add-to-cart.btn.btn-primary")
        self.session.wait(self.rng.uniform(150, 700))
        self.page.request("POST", "/api/cart/lines", 201)
        self.page.custom(
            "Product Added",
            product__sku_str=product.sku,
            product__price_real=money(product.price_cents),
            quantity_int=quantity,
            cart__total_real=money(self.basket.total_cents),
            cart__items_int=self.basket.n_items,
        )
        self.session.think(3)

    def _search(self) -> None:
        text = pick(self.rng, SEARCHES)
        selector = "html body header form.search input[type=search]"
        if not self._is_under_way:
            self._home()
        self.page.fill("Search", selector, text)
        found = search(text)
        self.page.load(f"/search?q={quote_plus(text)}", SEARCH, page_results_int=len(found))
        self.page.custom("Search", query_str=text, results_int=len(found), filters__in_stock_bool=False)
        self.session.think(4)
        if not found:
            if self.page.chance(0.3):
                self.page.click("No results", "html body main.search p.empty", EventModDead=1)
            self.session.think(3)
            return
        if self.page.chance(0.25):
            self.page.click("In stock", "html body main.search aside.filters label")
            self.page.move(f"/search?q={quote_plus(text)}&stock=1", SEARCH, page_results_int=len(found))
        if self.page.chance(0.6):
            product = pick_product(self.rng, found)
            self.page.click(product.name, "html body main.search ul.grid li.card a.name")
            self._product(product)

    def _article(self) -> None:
        if self._is_under_way:
            self.page.click("Journal", _NAV)
        slug, title = self.rng.choice(ARTICLES)
        self.page.load(self._path(f"/journal/{slug}"), ARTICLE, page_article_str=slug)
        for heading in (title, "What you need", "Next time")[: self.rng.choice((1, 2, 2, 3))]:
            self.page.see(heading, "html body main.journal article h2")
            self.session.think(22, 0.8)
        if self.page.chance(0.12):
            self.page.mark("highlight", "a pot that breathes", "html body main.journal article p")

    def _help(self) -> None:
        if self._is_under_way:
            self.page.click("Help", "html body footer nav a")
        self.page.load("/help/returns", HELP, page_topic_str="returns")
        self.session.think(14)
        if self.page.chance(0.3):
            form = "html body main.help form#contact"
            self.page.fill("Your question", f"{form} textarea#question", "Kommt das auch in Grün? 🌱", 18)
            if self.page.chance(0.55):
                self.session.emit("abandon", EventTargetSelector=form)
            else:
                self.page.click("Send", f"{form} button")
                self.page.request("POST", "/api/contact", 201 if self.page.chance(0.9) else 500)

    def _account(self) -> None:
        page, person = self.page, self.session.visit.person
        page.load("/login", LOGIN)
        form = "html body main.login form"
        page.fill("E-mail", f"{form} input#email", person.identity.get("UserEmail", "guest@example.com"), 4)
        page.fill("Password", f"{form} input#password", "••••••••", 4)
        if page.chance(0.18):
            page.click("Log in", f"{form} button.btn-primary", EventModError=2)
            page.request("POST", "/api/session", 401)
            page.console_error("POST /api/session failed: 401")
            page.fill("Password", f"{form} input#password", "•••••••••", 5)
        page.click("Log in", f"{form} button.btn-primary")
        page.request("POST", "/api/session", 200)
        # The account area is one single-page application.
        page.load("/account", ACCOUNT, page_section_str="overview")
        page.click("Orders", "html body main.account nav a")
        page.move("/account/orders", ACCOUNT, page_section_str="orders")
        self.session.think(6)
        if page.chance(0.5):
            is_dead = {"EventModDead": 1} if page.chance(0.3) else {}
            page.click("Track parcel", "html body main.account ul.orders li a.track", **is_dead)
            self.session.think(5)
        if page.chance(0.35):
            page.click("Addresses", "html body main.account nav a")
            page.move("/account/addresses", ACCOUNT, page_section_str="addresses")
            page.click("Update address", "html body main.account section.addresses button.edit")
            page.fill("Street address", "html body main.account form.address input#street", "Farnkrautweg 5", 6)
            page.click("Save changes", "html body main.account form.address button.btn-primary")
            page.request("PUT", "/api/account/addresses/1", 200)
        if page.chance(0.4):
            self._wander(2)

    def _buy(self) -> None:
        if not self.page.chance(0.82):
            return
        self.page.click("Cart", "html body header a.cart")
        if visit_cart(self.page, self.basket) and check_out(self.page, self.basket) and self.page.chance(0.3):
            self._home()
