"""Cart and checkout on the web: the funnel, its drop-off, and Thursday's broken button.

Shipping, payment and confirmation are one single-page application: three URLs in one page instance.
"""

from __future__ import annotations

from datetime import datetime, timezone

from fullstory_dagster.simulator.traffic.calendar import is_order_button_broken
from fullstory_dagster.simulator.traffic.seeded import pick
from fullstory_dagster.simulator.traffic.shop import SITE, Product, money
from fullstory_dagster.simulator.traffic.web_page import CART, CHECKOUT, WebPage

_CHECKOUT_SCRIPT = f"{SITE}/assets/checkout.9f2c.js"
_BROKEN = "TypeError: Cannot read properties of undefined (reading 'taxLines')"
_FORM = "html body main.checkout form#shipping"
_PLACE_ORDER = "html body main.checkout form#payment button#place-order.btn.btn-primary"

_STREETS = (
    "Töpferstraße 12",
    "Rue des Fougères 4 bis",
    "Kleiweg 88",
    "14 Kiln Lane",
    "Mossgade 3, 2. tv",
    "Ogrodowa 7/9",
)
_CITIES = ("Musterstadt", "Fougeraie", "Kleidorp", "Fernsbury", "Bregneby", "Paprotno")


class Basket:
    """What somebody means to buy."""

    def __init__(self) -> None:
        self.lines: list[tuple[Product, int]] = []
        self.discount_pct = 0

    @property
    def n_items(self) -> int:
        """Pieces in the cart."""
        return sum(quantity for _, quantity in self.lines)

    @property
    def total_cents(self) -> int:
        """What the goods cost, discount taken off."""
        full = sum(product.price_cents * quantity for product, quantity in self.lines)
        return full - full * self.discount_pct // 100

    @property
    def skus(self) -> list[str]:
        """Article numbers."""
        return [product.sku for product, _ in self.lines]


def visit_cart(page: WebPage, basket: Basket) -> bool:
    """Look at the cart, change it, perhaps try a coupon. Returns whether the visitor goes on to the checkout."""
    page.load("/cart", CART, page_cart_items_int=basket.n_items)
    for product, _ in basket.lines[:2]:
        page.see(product.name, "html body main.cart ul.lines li.line")
    page.session.think(5)
    if page.chance(0.2):
        product, quantity = basket.lines[-1]
        basket.lines[-1] = (product, quantity + 1)
        page.fill("Quantity", "html body main.cart ul.lines li.line input.quantity", str(quantity + 1), 1.2)
        page.request("PATCH", f"/api/cart/lines/{product.sku}", 200)
    elif page.chance(0.12) and len(basket.lines) > 1:
        product, _ = basket.lines.pop()
        page.click("Remove", "html body main.cart ul.lines li.line button.remove")
        page.request("DELETE", f"/api/cart/lines/{product.sku}", 204)
        page.custom("Product Removed", product__sku_str=product.sku, cart__total_real=money(basket.total_cents))
    if page.chance(0.18):
        _try_coupon(page, basket)
    page.session.think(4)
    if not page.chance(0.68):
        return False
    page.click("Checkout", "html body main.cart a#checkout.btn.btn-primary")
    return True


def _try_coupon(page: WebPage, basket: Basket) -> None:
    selector = "html body main.cart form.coupon input#coupon"
    code = pick(page.rng, (("SPRING10", 6.0), ("FREUNDE5", 2.0), ("kiln-10", 2.0)))
    if page.chance(0.55):
        page.click("Coupon code", selector)
        page.mark("paste", code, selector)
        page.session.emit("change", EventTargetText=code, EventTargetSelector=selector)
    else:
        page.fill("Coupon code", selector, code)
    page.click("Apply", "html body main.cart form.coupon button")
    if code == "kiln-10":
        page.request("POST", "/api/cart/coupons", 422)
        if page.chance(0.4):
            page.rage("Apply", "html body main.cart form.coupon button")
        return
    basket.discount_pct = 10 if code == "SPRING10" else 5
    page.request("POST", "/api/cart/coupons", 200)
    page.custom("Coupon Applied", coupon_str=code, discount_pct_int=basket.discount_pct)
    # The site sends one variable with a type that its name denies; what FullStory calls the mistake is a guess.
    page.session.emit(
        "custom_error",
        EventCustomName="Coupon Applied",
        EventVarErrorKind="TYPE_MISMATCH",
        EventVarFields="discount_label_int",
    )


def check_out(page: WebPage, basket: Basket) -> bool:
    """Go through the checkout as far as patience lasts. Returns whether an order was placed."""
    page.load("/checkout/shipping", CHECKOUT, page_checkout_step_str="shipping", page_cart_items_int=basket.n_items)
    page.custom(
        "Checkout Started",
        cart__total_real=money(basket.total_cents),
        cart__items_int=basket.n_items,
        cart__skus_strs=basket.skus,
        order_id_str="",
    )
    if not _ship(page):
        return False
    page.move("/checkout/payment", CHECKOUT, page_checkout_step_str="payment", page_cart_items_int=basket.n_items)
    if not _pay(page, basket):
        return False
    _confirm(page, basket)
    return True


def _ship(page: WebPage) -> bool:
    person, rng = page.session.visit.person, page.rng
    is_known = person.is_identified and page.chance(0.75)
    index = rng.randrange(len(_STREETS))
    fields = [
        ("E-mail", "email", person.identity.get("UserEmail", f"{rng.randrange(10_000)}@example.com")),
        ("Full name", "name", person.full_name),
        ("Street address", "street", _STREETS[index]),
        ("Postcode", "postcode", f"{rng.randrange(10_000, 99_999)}"),
        ("City", "city", _CITIES[index]),
        ("Phone (optional)", "phone", ""),
    ]
    if is_known:
        fields = [fields[2]] if page.chance(0.25) else []
    page.session.think(3)
    patience = 1.0 if page.chance(0.74) else rng.random()
    for number, (label, name, value) in enumerate(fields):
        if number >= patience * len(fields):
            return _give_up(page, _FORM)
        if name == "phone" and page.chance(0.6):
            continue
        page.fill(label, f"{_FORM} input#{name}", value, 4)
        if name == "postcode" and page.chance(0.12):
            page.request("POST", "/api/checkout/address", 422)
            page.console_error("Validation: postcode does not match country")
            page.fill(label, f"{_FORM} input#{name}", f"{rng.randrange(10_000, 99_999)}", 4)
    if patience < 1 and not fields:
        return _give_up(page, _FORM)
    method = pick(rng, (("Standard (3-5 days)", 70.0), ("Express", 20.0), ("Pick up", 10.0)))
    page.click(method, f"{_FORM} fieldset.methods label")
    page.session.think(2.5)
    page.click("Continue to payment", f"{_FORM} button.btn-primary")
    page.request("POST", "/api/checkout/shipping", 200)
    page.custom("Checkout Step Completed", step_int=1, step_name_str="shipping", shipping__method_str=method)
    return True


def _give_up(page: WebPage, form: str) -> bool:
    page.session.think(6)
    page.session.emit("abandon", EventTargetSelector=form)
    return False


def _pay(page: WebPage, basket: Basket) -> bool:
    form = "html body main.checkout form#payment"
    page.session.think(4)
    method = pick(page.rng, (("Card", 52.0), ("Wallet", 36.0), ("Invoice", 12.0)))
    page.click(method, f"{form} fieldset.methods label")
    if method == "Card":
        # What people type here is masked before it leaves the browser.
        page.fill("Card number", f"{form} input#card", "•••• •••• •••• ••••", 8)
        page.fill("Expiry", f"{form} input#expiry", "••/••", 3)
        page.fill("CVC", f"{form} input#cvc", "•••", 3)
    if page.chance(0.17):
        return _give_up(page, form)
    page.session.think(4)
    return _place_order(page, form)


def _place_order(page: WebPage, form: str) -> bool:
    if is_order_button_broken(page.session.now_ms):
        return _place_order_in_vain(page, form)
    for _ in range(3):
        if page.chance(0.025):
            page.click("Place order", _PLACE_ORDER, EventModError=2)
            page.request("POST", "/api/orders", 503)
            page.console_error("POST /api/orders failed: 503")
            page.session.think(5)
            continue
        page.click("Place order", _PLACE_ORDER)
        page.session.wait(page.rng.uniform(500, 1800))
        if not page.chance(0.06):
            page.request("POST", "/api/orders", 201)
            return True
        page.request("POST", "/api/orders", 402)
        page.session.think(4)
        if page.chance(0.35):
            return _give_up(page, form)
        page.fill("Card number", f"{form} input#card", "•••• •••• •••• ••••", 9)
    return _give_up(page, form)


def _place_order_in_vain(page: WebPage, form: str) -> bool:
    page.click("Place order", _PLACE_ORDER, EventModError=3)
    page.exception(_BROKEN, _CHECKOUT_SCRIPT)
    page.session.think(2.5)
    if page.chance(0.75):
        page.rage("Place order", _PLACE_ORDER, EventModError=3)
        page.exception(_BROKEN, _CHECKOUT_SCRIPT)
    if page.chance(0.35):
        page.session.think(4)
        page.load("/checkout/payment", CHECKOUT, subtype="reload", page_checkout_step_str="payment")
        page.session.think(4)
        page.click("Place order", _PLACE_ORDER, EventModError=3)
        page.exception(_BROKEN, _CHECKOUT_SCRIPT)
    if page.chance(0.5):
        page.mark("highlight", "Something went wrong", "html body main.checkout p.error")
    return _give_up(page, form)


def _confirm(page: WebPage, basket: Basket) -> None:
    order_id = f"FK-{page.rng.randrange(100_000, 999_999)}"
    page.move(f"/checkout/confirmation/{order_id}", CHECKOUT, page_checkout_step_str="confirmation")
    shipping_cents = 0 if basket.total_cents > 6000 else 490
    total_cents = basket.total_cents + shipping_cents
    page.custom(
        "Order Completed",
        order__order_id_str=order_id,
        order_id_str=order_id,
        order__total_real=money(total_cents),
        order__items_int=basket.n_items,
        order__skus_strs=basket.skus,
        order__prices_reals=[money(product.price_cents) for product, _ in basket.lines],
        order__placed_date=datetime.fromtimestamp(page.session.now_ms // 1000, timezone.utc).isoformat(),
        shipping_real=money(shipping_cents),
        tax_real=money(total_cents * 19 // 119),
        coupon_str={0: "", 5: "FREUNDE5", 10: "SPRING10"}[basket.discount_pct],
        is_gift_bool=page.chance(0.2),
        gift_note_str=page.rng.choice(("", None, "Für Oma 🌿", "Joyeux anniversaire ! 🎂")),
    )
    page.see(f"Thank you! Order {order_id}", "html body main.checkout section.confirmation h1")
    page.session.think(6)
    if page.chance(0.3):
        page.mark("copy", order_id, "html body main.checkout section.confirmation strong.order-id")
