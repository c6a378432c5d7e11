"""The products of Binance, and in what they differ."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Product:
    """One product: spot, or futures with a listing of their own."""

    rest_root: str
    """What the paths of its requests begin with."""
    is_futures: bool = False
    """Whether its messages, limits and steps are those of the futures."""
    is_routed: bool = False
    """Whether its streams are on two paths, each silent about what is on the other."""

    @property
    def depth_path(self) -> str:
        """The path of a request for a book."""
        return f"{self.rest_root}/depth"


PRODUCTS = {
    "spot": Product("/api/v3"),
    "usdm": Product("/fapi/v1", is_futures=True, is_routed=True),
    "coinm": Product("/dapi/v1", is_futures=True),
}
