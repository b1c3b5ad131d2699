"""Transactions as they are read: the row, its lease and its blobs in one statement."""

from __future__ import annotations

from koukan.storage.statement import Statement

_LOAD = """
    SELECT t.id, t.rest_id, t.envelope, t.spec, t.retry, t.notification, t.destination, t.attempts, t.responses,
        t.final_reason, t.version, {{now}} - t.created AS age, q.session_id, q.attempt, q.held, q.tries, s.uri,
        (SELECT {{json_list}}({{json_array}}(f.name, b.id, b.size, b.length))
         FROM blob_refs f JOIN blobs b ON b.id = f.blob_id WHERE f.tx_id = t.id) AS blobs
    FROM transactions t LEFT JOIN queue q ON q.tx_id = t.id
        LEFT JOIN sessions s ON s.id = q.session_id AND s.live
    WHERE {where}
"""

LOAD_BY_REST_ID = Statement(_LOAD.format(where="t.rest_id = $1"))
LOAD_BY_NUMBER = Statement(_LOAD.format(where="t.id IN (SELECT id FROM {rows})"), rows="id bigint")
