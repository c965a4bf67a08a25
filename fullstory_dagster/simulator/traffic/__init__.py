"""Made-up traffic of a small shop site: believable, and the same for the same seed and date."""

from fullstory_dagster.simulator.traffic.source import ShopTraffic

__all__ = ["ShopTraffic"]
