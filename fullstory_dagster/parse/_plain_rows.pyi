from collections.abc import Mapping

class Columns:
    """What a piece was read to, for whoever takes Arrow, once."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

class Reader:
    """Reads plain rows."""

    def __init__(
        self,
        *,
        columns: tuple[tuple[str, str, bool], ...],
        older_names: Mapping[str, str],
        identity: tuple[str, ...],
        selector: str,
        start: str,
        version: str,
    ) -> None:
        """Columns as name, type and whether a row without a value is none; the others are names of columns.

        Without columns of the identity there are no ids, which tells what they cost.
        """

    def read(self, rows: bytes, is_array: bool, /) -> Columns | None:
        """The columns, CustomVars and _event_id of rows on lines, or with commas between; None if one is not plain."""
