"""The statements of Postgres: as much in one go as one round trip can carry, with `$n` for each parameter."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Any, Final

from agentrt.run.response import RunStatus
from agentrt.storage._postgres_news import CHANNEL
from agentrt.storage._sql import ENDED, RUN_COLUMNS, Sql, Tables
from agentrt.storage.base import RunChange

# when the statement began: the same wherever it says so, which lets an index be used
_NOW: Final = "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint"


class PostgresTables(Tables):
    """Tables in `schema`, else where the user's `search_path` says."""

    def __init__(self, table: str, schema: str | None) -> None:
        self.schema = schema
        self._schema = f'"{schema}".' if schema else ""
        super().__init__(table, now=_NOW)
        self.all_tables = [*self.tables, f"{table}_meta"]
        self.find_schema = "SELECT 1 FROM pg_namespace WHERE nspname = $1"
        self.create_schema = f'CREATE SCHEMA "{schema}"'
        self.find_tables = (
            "SELECT format('%I.%I', nspname, relname) FROM pg_class "
            "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE relname = ANY($1::text[]) "
            "AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(pg_class.oid) ELSE nspname = $2 END"
        )

    def _named(self, statement: str) -> str:
        number = itertools.count(1)
        qualified = re.sub(r"(?<!INDEX )\{t\}", self._schema + "{t}", statement)
        return re.sub(r"\?", lambda _: f"${next(number)}", super()._named(qualified))


class PostgresSql(PostgresTables, Sql):
    """The shared statements, and those that only Postgres has."""

    def __init__(self, table: str, schema: str | None) -> None:
        super().__init__(table, schema)
        self._commits: dict[str, str] = {}
        named = self._named
        self.keep_run = named("SELECT run_id FROM {t}_runs WHERE run_id = $1")
        # all of it at once, for a session whose state stays as it is; returns the run's number, the state, the history
        self.begin = named(
            f"WITH entered AS ({self.enter_session} RETURNING run_count * $4 AS number, state), "
            "run AS (INSERT INTO {t}_runs (run_id, session_id, number, status, user_id, agent_id, parent_run_id, "
            "last_seq, created_at, updated_at, input, messages, base_state, owner, epoch, lease_until) "
            "SELECT $7::text, $1, number, $8::text, $2, $3, $9::text, $10::bigint, $5, $6, $11::text, $12::text, "
            "state, $13::text, 1, {now} + $14::bigint FROM entered) "
            f"SELECT number, state, {_history('$1', '$15::bigint')} FROM entered"
        )
        # the same, of a run that was begun: by this owner at this time, and not gone on with
        self.begun = named(
            f"SELECT number, base_state, {_history('run.session_id', '$4::bigint', 'AND number < run.number')} "
            "FROM {t}_runs AS run WHERE run_id = $1 AND owner = $2 AND created_at = $3 AND epoch = 1"
        )
        self.enter = f"{self.enter_session} RETURNING run_count, state, txid_current()"
        # the run, and the session's state if it has changed; returns who drives the session, if asked, and the history
        self.open_run = named(
            "WITH run AS (INSERT INTO {t}_runs (run_id, session_id, number, status, user_id, agent_id, parent_run_id, "
            "last_seq, created_at, updated_at, input, messages, base_state, owner, epoch, lease_until) "
            f"VALUES ({', '.join(f'${n}' for n in range(1, 15))}, 1, {{now}} + $15)), "
            "session AS (UPDATE {t} SET state = $13 WHERE session_id = $2 AND $16::boolean) "
            "SELECT CASE WHEN $17::boolean THEN (SELECT run_id FROM {t}_runs WHERE status = 'RUNNING' "
            "AND session_id = $2 AND lease_until > {now} LIMIT 1) END, " + _history("$2", "$18")
        )
        self.read_history = named(f"SELECT {_history('$1', '$2', 'AND number < $3')}")
        self.lock_state = named("SELECT state, txid_current() FROM {t} WHERE session_id = $1 FOR UPDATE")
        self.lock_run = named("SELECT txid_current() FROM {t}_runs WHERE run_id = $1 FOR UPDATE")
        steps = ", ".join(
            f"ARRAY(SELECT {name} FROM {{t}}_steps WHERE run_id = $1 ORDER BY number)"
            for name in ("number", "kind", "data")
        )
        self.read_whole_run = named(
            f"SELECT {steps}, {RUN_COLUMNS}, input, response, messages, base_state FROM {{t}}_runs WHERE run_id = $1"
        )
        # has the run these events, or else these steps? For a commit that may have been done already
        self.is_stored = named(
            "SELECT CASE WHEN cardinality($3::bigint[]) > 0 THEN (SELECT count(*) FROM {t}_events WHERE run_id = $1 "
            "AND created_at = $2 AND (seq, data) IN (SELECT * FROM unnest($3, $4::text[]))) = cardinality($3) "
            "ELSE (SELECT count(*) FROM {t}_steps WHERE run_id = $1 "
            "AND (number, data) IN (SELECT * FROM unnest($5::bigint[], $6::text[]))) = cardinality($5) END"
        )
        # a run whose row somebody is writing is left out: it is being driven, or about to be renewed again
        self.renew_all = named(
            "WITH held AS (SELECT * FROM unnest($1::text[], $2::bigint[]) AS held (run_id, epoch)), "
            "free AS (SELECT run_id FROM {t}_runs AS run JOIN held USING (run_id, epoch) WHERE status = 'RUNNING' "
            "FOR UPDATE OF run SKIP LOCKED), "
            "renewed AS (UPDATE {t}_runs SET lease_until = {now} + $3 WHERE run_id IN (SELECT run_id FROM free)) "
            "SELECT held.run_id, run.epoch IS DISTINCT FROM held.epoch, "
            "CASE WHEN run.epoch = held.epoch AND run.status = 'RUNNING' THEN run.cancel_request END "
            "FROM held LEFT JOIN {t}_runs AS run USING (run_id) "
            "WHERE run.epoch IS DISTINCT FROM held.epoch OR run.status = 'RUNNING' AND run.cancel_request IS NOT NULL"
        )
        # the row of what is stored already is locked, too, so that nobody deletes it before its use is there
        self.keep_media = named(
            "WITH session AS (SELECT session_id FROM {t} WHERE session_id = $1 FOR KEY SHARE), "
            "given AS (SELECT * FROM unnest($2::text[], $3::bytea[]) AS given (hash, data)), "
            "kept AS (INSERT INTO {t}_media AS media (hash, data) SELECT hash, data FROM given, session ORDER BY hash "
            "ON CONFLICT (hash) DO UPDATE SET hash = media.hash) "
            "INSERT INTO {t}_media_uses (session_id, hash) SELECT session_id, hash FROM given, session "
            "ON CONFLICT (session_id, hash) DO NOTHING"
        )
        self.find_media = named("SELECT hash FROM {t}_media_uses WHERE session_id = $1 AND hash = ANY($2::text[])")
        self.read_all_media = named("SELECT hash, data FROM {t}_media WHERE hash = ANY($1::text[])")
        self.forget_media = named("DELETE FROM {t}_media_uses WHERE session_id = $1 RETURNING hash")
        self.lock_media = named("SELECT 1 FROM {t}_media WHERE hash = ANY($1::text[]) ORDER BY hash FOR UPDATE")
        self.delete_media = named(
            "DELETE FROM {t}_media WHERE hash = ANY($1::text[]) "
            "AND NOT EXISTS (SELECT 1 FROM {t}_media_uses AS used WHERE used.hash = {t}_media.hash)"
        )
        self.delete_runs = named("DELETE FROM {t}_runs WHERE session_id = $1 RETURNING run_id")
        gone = "DELETE FROM {t}_%s WHERE run_id = ANY($2)"
        self.delete_hanging = named(
            f"WITH steps AS ({gone % 'steps'}), events AS ({gone % 'events'}), deltas AS ({gone % 'deltas'}) "
            "DELETE FROM {t} WHERE session_id = $1"
        )
        # returns how many facts and deltas it has deleted, and of how many runs
        self.tidy = (
            f"WITH {self.tidying('$1', '$2', '$3')} SELECT (SELECT count(*) FROM old_events) + "
            "(SELECT count(*) FROM old_deltas), (SELECT count(*) FROM tidied)"
        )

    def tidying(self, deltas_age: str, events_age: str, limit: str) -> str:
        """What deletes deltas and facts that are so old, of up to `limit` runs each, within a statement."""
        old = f"SELECT run_id FROM {{t}}_runs WHERE %sended_at <= {{now}} - %s::bigint LIMIT {limit} "
        old += "FOR UPDATE SKIP LOCKED"
        any_of = "run_id IN (SELECT run_id FROM quiet UNION SELECT run_id FROM old)"
        return self._named(
            f"quiet AS ({old % ('has_deltas = 1 AND ', deltas_age)}), old AS ({old % ('', events_age)}), "
            "old_events AS (DELETE FROM {t}_events WHERE run_id IN (SELECT run_id FROM old) RETURNING 1), "
            f"old_deltas AS (DELETE FROM {{t}}_deltas WHERE {any_of} RETURNING 1), "
            "tidied AS (UPDATE {t}_runs SET has_deltas = NULL, ended_at = CASE WHEN run_id IN (SELECT run_id FROM old) "
            f"THEN NULL ELSE ended_at END WHERE {any_of} RETURNING 1)"
        )

    def news_key(self, run_id: str) -> str:
        """What a notice says of a run: short, as a notice has little room."""
        place = f"{self._schema}{self.table}/{run_id}".encode("utf-8", "replace")
        return hashlib.blake2b(place, digest_size=12).hexdigest()

    def commit(
        self,
        change: RunChange,
        columns: dict[str, Any],
        rows: CommitRows,
        state: str | None,
        *,
        base: str | None = None,
        tidying: str | None = None,
    ) -> tuple[str, list[Any]]:
        """The statement for a change and its values: it returns one row, or none where the run is not to be changed.

        `columns` is what it writes into the run's row; `state` the session's new state, None when that stays as it is;
        `base` the stored one without which nothing is done. `tidying` is done along with it.
        """
        if columns and rows.seqs:
            columns = {**columns, "last_seq": rows.seqs[-1]}
        values: list[Any] = [*columns.values(), change.run_id]

        def put(value: Any) -> str:
            values.append(value)
            return f"${len(values)}"

        ends = change.status in (RunStatus.COMPLETED, RunStatus.CANCELLED)
        own = self.update_run(columns, change.status) if columns else self.keep_run
        run = [f"{own} AND session_id = {put(change.session_id)}"]
        if change.epoch is not None:
            run.append(f"epoch = {put(change.epoch)}")
        if change.expect is not None:
            run.append(f"status = {put(change.expect.value)}")
        if ends and rows.numbers:  # they would not stay, but are not to be there already
            taken = f"number = ANY({put(rows.numbers)}::bigint[])"
            run.append(f"NOT EXISTS (SELECT 1 FROM {{t}}_steps WHERE run_id = ${len(columns) + 1} AND {taken})")
        parts = [tidying] if tidying is not None else []
        if base is not None:  # the session is locked before the run
            parts.append(
                f"session_before AS (SELECT 1 FROM {{t}} WHERE session_id = {put(change.session_id)} "
                f"AND COALESCE(state, '{{}}') = {put(base)} FOR UPDATE)"
            )
            run.append("EXISTS (SELECT 1 FROM session_before)")
        parts.append(f"run AS ({' AND '.join(run)} {'RETURNING run_id' if columns else 'FOR NO KEY UPDATE'})")
        if state is not None:
            parts.append(
                f"session AS (UPDATE {{t}} SET state = {put(state)}, updated_at = {put(rows.now)} "
                f"WHERE session_id = {put(change.session_id)} AND EXISTS (SELECT 1 FROM run))"
            )
        if ends:
            parts.append("gone AS (DELETE FROM {t}_steps WHERE run_id IN (SELECT run_id FROM run) AND number > 0)")
        elif rows.numbers:
            new = f"unnest({put(rows.numbers)}::bigint[], {put(rows.kinds)}::text[], {put(rows.datas)}::text[])"
            parts.append(
                "steps AS (INSERT INTO {t}_steps (run_id, number, kind, data) "
                f"SELECT run.run_id, new.* FROM run, {new} AS new)"
            )
        if rows.seqs:
            new = f"unnest({put(rows.seqs)}::bigint[], {put(rows.facts)}::text[])"
            parts.append(
                "events AS (INSERT INTO {t}_events (run_id, created_at, seq, data) "
                f"SELECT run.run_id, {put(rows.now)}::bigint, new.* FROM run, {new} AS new)"
            )
        if rows.deltas:
            new = ", ".join(f"{put(list(column))}::{kind}[]" for column, kind in zip(rows.deltas, _DELTA, strict=True))
            parts.append(
                "deltas AS (INSERT INTO {t}_deltas (run_id, seq, place, data) SELECT run.run_id, new.* FROM run, "
                f"unnest({new}) AS new ON CONFLICT (run_id, seq, place) DO UPDATE SET data = excluded.data)"
            )
        told = f"pg_notify('{CHANNEL}', {put(self.news_key(change.run_id))})" if rows.seqs or rows.deltas else "1"
        text = f"WITH {', '.join(parts)} SELECT {told}, txid_current() FROM run"
        if text not in self._commits:
            self._commits[text] = self._named(text)
        return self._commits[text], values


_DELTA: Final = ("bigint", "bigint", "text")


class CommitRows:
    """What a commit adds, column by column."""

    def __init__(
        self,
        now: int,
        steps: Sequence[tuple[int, str, str]],
        events: Sequence[tuple[int, str]],
        deltas: Sequence[tuple[int, int, str]],
    ) -> None:
        self.now = now
        self.numbers = [number for number, _, _ in steps]
        self.kinds = [kind for _, kind, _ in steps]
        self.datas = [data for _, _, data in steps]
        self.seqs = [seq for seq, _ in events]
        self.facts = [data for _, data in events]
        # of several at one place the last one counts; one statement must not write a row twice
        last = {(seq, place): (seq, place, data) for seq, place, data in deltas}
        self.deltas = list(zip(*last.values(), strict=True))


def _history(session_id: str, limit: str, bound: str = "") -> str:
    """An array of the messages of ended runs, oldest first."""
    return (
        "ARRAY(SELECT messages FROM (SELECT number, messages FROM {t}_runs "
        f"WHERE session_id = {session_id} AND number > 0 {bound} AND status IN ({ENDED}) "
        f"ORDER BY number DESC LIMIT {limit}) "
        "AS ended ORDER BY number)"
    )
