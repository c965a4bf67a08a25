"""A visit in the shop's mobile app: screens in place of URLs, and what only phones do."""

from __future__ import annotations

from typing import Any

from fullstory_dagster.simulator.traffic.devices import APP_PACKAGE
from fullstory_dagster.simulator.traffic.seeded import pick
from fullstory_dagster.simulator.traffic.session import SessionRecorder
from fullstory_dagster.simulator.traffic.shop import (
    PRODUCTS,
    SEARCHES,
    SITE,
    Product,
    event_variables,
    money,
    pick_product,
    search,
)

_CLUSTER_ID = 700
"""Screens have clusters as pages do; the number is ours."""


def live_app_visit(session: SessionRecorder) -> None:
    """Make the whole visit."""
    _AppVisit(session).live()


class _AppVisit:
    """One session in the app. That a screen has no PageUrl is a guess; each launch is one page instance."""

    def __init__(self, session: SessionRecorder) -> None:
        self.session = session
        self.rng = session.rng
        self.basket_cents = 0
        self.n_items = 0

    def live(self) -> None:
        self.session.open_page(self._screen("Home"), None)
        self.session.emit("navigate", EventSubType="navigate")
        if self.session.visit.person.is_identified:
            self.session.emit("uservar")
        self.session.think(3)
        self._see("Today's kiln", "HomeFeed")
        for _ in range(1 + int(self.rng.expovariate(0.25))):
            pick(self.rng, ((self._browse, 60.0), (self._search, 22.0), (self._put_away, 12.0), (self._orders, 6.0)))()
            if self.rng.random() < 0.03:
                self.session.emit("low_memory")
                if self.rng.random() < 0.3:
                    self._crash()
                    return
        if self.basket_cents and self.rng.random() < 0.6:
            self._order()
        self.session.think(4)
        self.session.emit("backgrounded")

    def _screen(self, name: str, **variables: Any) -> dict[str, Any]:
        return {
            "PageName": name,
            "AppViewName": f"{name.replace(' ', '')}Screen",
            "PageClusterId": _CLUSTER_ID,
            **variables,
        }

    def _show(self, name: str, **variables: Any) -> None:
        self.session.move_to(self._screen(name, **variables))
        self.session.emit("navigate", EventSubType="navigate")
        self.session.think(1.2, 0.4)

    def _tap(self, text: str, view: str, **modifiers: Any) -> None:
        self.session.emit("click", EventTargetText=text, EventTargetSelector=f"Window RootView {view}", **modifiers)
        self.session.wait(self.rng.uniform(40, 160))

    def _see(self, text: str, view: str) -> None:
        visible = int(2200 * self.rng.lognormvariate(0, 0.6))
        self.session.emit(
            "seen",
            EventSubType="visible",
            EventTargetText=text,
            EventTargetSelector=f"Window RootView {view}",
            EventDuration=visible + self.rng.randrange(900),
            EventSecondaryDuration=visible,
        )
        self.session.wait(visible * 0.6)

    def _request(self, method: str, path: str, status: int) -> None:
        self.session.emit("request", ReqUrl=f"{SITE}/api/app{path}", ReqMethod=method, ReqStatus=status)

    def _custom(self, name: str, **variables: Any) -> None:
        """The app reports something it knows."""
        self.session.emit("custom", EventCustomName=name, **event_variables(**variables))

    def _type(self, text: str, view: str) -> None:
        self._tap("", view)
        self.session.emit("keyboard_open")
        self.session.think(4, 0.5)
        self.session.emit("change", EventTargetText=text, EventTargetSelector=f"Window RootView {view}")
        self.session.emit("keyboard_close")
        self.session.wait(self.rng.uniform(150, 400))

    def _browse(self) -> None:
        self._product(pick_product(self.rng, list(PRODUCTS)))

    def _product(self, product: Product) -> None:
        self._tap(product.name, "ProductCard")
        self._show("Product", page_product_id_str=product.sku)
        self._request("GET", f"/products/{product.sku}", 200 if self.rng.random() < 0.98 else 504)
        self._custom(
            "Product Viewed",
            product_id_str=product.sku,
            displayName_str=product.name,
            price_real=money(product.price_cents),
            in_stock_bool=not product.is_sold_out,
        )
        self._see(product.name, "ProductHeader")
        if self.rng.random() < 0.35:
            kind = "pinch_scale_in" if self.rng.random() < 0.75 else "pinch_scale_out"
            self.session.emit("pinch_gesture", EventSubType=kind, EventTargetSelector="Window RootView ProductImage")
            self.session.think(2)
        self.session.think(5)
        if self.rng.random() < 0.14 and not product.is_sold_out:
            self.basket_cents += product.price_cents
            self.n_items += 1
            self._tap("Add to cart", "AddToCartButton")
            self._request("POST", "/cart/lines", 201)
            self._custom(
                "Product Added",
                product__sku_str=product.sku,
                product__price_real=money(product.price_cents),
                quantity_int=1,
            )

    def _search(self) -> None:
        text = pick(self.rng, SEARCHES)
        self._tap("Search", "TabBar")
        self._show("Search")
        self._type(text, "SearchField")
        found = search(text)
        self._custom("Search", query_str=text, results_int=len(found))
        if found and self.rng.random() < 0.6:
            self._product(pick_product(self.rng, found))

    def _orders(self) -> None:
        self._tap("Profile", "TabBar")
        self._show("Orders")
        self._request("GET", "/orders", 200)
        self.session.think(6)
        if self.rng.random() < 0.2:
            self._tap("Track parcel", "OrderRow", EventModDead=1)

    def _put_away(self) -> None:
        self.session.emit("backgrounded")
        self.session.think(70, 1.0)

    def _crash(self) -> None:
        self.session.log(errors=1)
        self.session.emit(
            "exception",
            EventSubType="uncaught",
            EventTargetText="java.lang.OutOfMemoryError: Failed to allocate a 16588812 byte allocation",
            EventMobileSourceFile=f"{APP_PACKAGE}/gallery/ImageCache.kt",
        )
        self.session.emit("crashed")

    def _order(self) -> None:
        self._tap("Cart", "TabBar")
        self._show("Cart")
        self.session.think(4)
        self._custom(
            "Checkout Started",
            cart__total_real=money(self.basket_cents),
            cart__items_int=self.n_items,
            order_id_str="",
        )
        if self.rng.random() < 0.3:
            return
        self._tap("Continue", "CheckoutButton")
        self._custom("Checkout Step Completed", step_int=1, step_name_str="shipping")
        self.session.think(5)
        if self.rng.random() < 0.2:
            return
        self._tap("Pay with wallet", "PayButton")
        self._request("POST", "/orders", 201)
        self._show("Confirmation")
        order_id = f"FK-{self.rng.randrange(100_000, 999_999)}"
        self._custom(
            "Order Completed",
            order__order_id_str=order_id,
            order__total_real=money(self.basket_cents),
            order__items_int=self.n_items,
            order_id_str=order_id,
        )
        self._see(f"Thank you! {order_id}", "ConfirmationHeader")
