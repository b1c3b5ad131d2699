"""SQL written once for both databases.

Statements take `$1`, `$2`, … as parameters. Bulk statements take their rows as the first parameter, a JSON list of objects:
one parameter however many rows there are, which costs client and server less than a parameter for each value.
"""

from __future__ import annotations

import re

_POSTGRESQL = {
    # statement_timestamp() is stable within a statement, so that it can be compared through an index; clock_timestamp() is not.
    "now": "extract(epoch FROM statement_timestamp())::float8",
    "for_update": "FOR UPDATE",
    "for_update_of_blobs": "FOR UPDATE OF blobs",
    "skip_locked": "FOR UPDATE SKIP LOCKED",
    "json_list": "json_agg",
    "json_array": "json_build_array",
}
_SQLITE = {
    "now": "((julianday('now') - 2440587.5) * 86400.0)",
    # One process, one connection, one transaction at a time.
    "for_update": "",
    "for_update_of_blobs": "",
    "skip_locked": "",
    "json_list": "json_group_array",
    "json_array": "json_array",
}
_PARAMETER = re.compile(r"\$(\d+)")


class Statement:
    """One statement in both dialects.

    Marks in braces stand for what differs: `{now}` the database's clock in seconds since 1970, `{for_update…}` and
    `{skip_locked}` row locks, `{json_list}` and `{json_array}` functions, `{rows}` the rows of the first parameter under the
    name `r`, with the columns that `rows` declares. `{columns}` are rows of bytes, which do not go into JSON: PostgreSQL
    takes an array for each column of the types that `columns` declares, SQLite one row after the other.
    """

    __slots__ = ("postgresql", "sqlite")

    def __init__(self, template: str, *, rows: str = "", columns: str = "") -> None:
        types = list(filter(None, columns.split(", ")))
        arrays = ", ".join(f"${number}::{name}[]" for number, name in enumerate(types, 1))
        values = ", ".join(f"${number}" for number, _ in enumerate(types, 1))
        self.postgresql = template.format(
            rows=f"json_to_recordset($1::json) AS r({rows})", columns=f"SELECT * FROM unnest({arrays})", **_POSTGRESQL
        )
        sqlite = template.format(rows=_sqlite_rows(rows), columns=f"VALUES ({values})", **_SQLITE)
        self.sqlite = _PARAMETER.sub(r"?\1", sqlite)


def _sqlite_rows(columns: str) -> str:
    names = [column.split()[0] for column in columns.split(",") if column]
    fields = ", ".join(f"value->>'$.{name}' AS {name}" for name in names)
    return f"(SELECT {fields} FROM json_each($1)) AS r"
