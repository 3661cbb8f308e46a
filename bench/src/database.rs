//! The database: an empty schema for each run, and what is in it in the end.

use std::collections::HashMap;

use idem::BoxError;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use crate::catalog::Kind;
use crate::contenders::by_idem;
use crate::task::{Extent, Task};
use crate::usage;

type Result<T> = std::result::Result<T, BoxError>;

/// The database, seen from outside of all contenders.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) url: String,
    pool: PgPool,
}

impl Database {
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.disable_statement_logging();
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await?;
        Ok(Self { url: url.to_owned(), pool })
    }

    /// Makes the tables that contenders use, with so many markers of other events in them.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn prepare(&self, task: &Task, kind: Kind, markers: u64) -> Result<()> {
        let schema = &task.schema;
        self.run(format!(
            "create schema {schema};
             create table {schema}.invoices (
                 order_id bigint not null, event_id uuid not null, cents bigint not null);
             create table {schema}.processed_events (
                 event_id uuid primary key, processed_at timestamptz not null default now())"
        ))
        .await?;
        let store = by_idem::store(task).await?;
        store.migrate().await?;
        store.close().await;
        // So that nobody pays for what was written before. Not behind the markers: the first change of
        // a page after a checkpoint writes all of it to the log, and a run is so short that every
        // event would meet a page of its own; between the checkpoints of a day few do.
        self.run("checkpoint".to_owned()).await?;
        if markers > 0 {
            self.fill(task, kind, markers).await?;
        }
        Ok(())
    }

    /// Markers as they are after a long time: keys without any order, pages of the index as full as
    /// random inserts leave them, and vacuumed.
    async fn fill(&self, task: &Task, kind: Kind, markers: u64) -> Result<()> {
        let (table, columns, row) = if kind == Kind::Idem {
            let (schema, scope) = (task.idem_schema(), by_idem::SCOPE);
            let marker_id = format!("{schema}.marker_id('{scope}', id::text)");
            let row = format!("{marker_id} as id, 1, 1, '{scope}', id::text");
            let columns = "marker_id, lane_id, source_offset, scope, event_key";
            (format!("{schema}.markers"), columns, row)
        } else {
            (format!("{}.processed_events", task.schema), "event_id", "id".to_owned())
        };
        self.run(format!(
            "begin;
             set local work_mem = '512MB';
             alter index {table}_pkey set (fillfactor = 70);
             insert into {table} ({columns}) select {row}
             from (select gen_random_uuid() as id from generate_series(1, {markers})) as ids
             order by 1;
             commit"
        ))
        .await?;
        self.run(format!("vacuum (analyze) {table}")).await
    }

    /// Says that the log of every lane was made anew.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn begin_log(&self, task: &Task) -> Result<()> {
        self.run(format!("update {}.lanes set log = log + 1", task.idem_schema())).await
    }

    /// Adds rows of packed markers of the log before to the one lane there is: the first offset, how many
    /// digests, and these.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn add_packs(
        &self,
        task: &Task,
        scope: &str,
        rows: &[(i64, i64, Vec<u8>)],
    ) -> Result<()> {
        let schema = task.idem_schema();
        let sql = format!(
            "insert into {schema}.packs (lane_id, log, slices, slice, scope, partitions,
                                         first_offset, last_offset, digests, data)
             select lane_id, log - 1, 0, 0, $1, 1, it.first, it.first + it.digests - 1, it.digests,
                    it.data
             from {schema}.lanes
             cross join unnest($2::bigint[], $3::bigint[], $4::bytea[]) as it (first, digests, data)"
        );
        let first: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let digests: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let data: Vec<&[u8]> = rows.iter().map(|row| &*row.2).collect();
        let add = sqlx::query(AssertSqlSafe(sql)).bind(scope).bind(first).bind(digests).bind(data);
        add.execute(&self.pool).await?;
        Ok(())
    }

    /// Makes the table of packed markers as it is after some time.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn vacuum_packs(&self, task: &Task) -> Result<()> {
        self.run(format!("vacuum (analyze) {}.packs", task.idem_schema())).await
    }

    /// How large the tables of markers are, and how far the log of changes is.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn extent(&self, task: &Task) -> Result<Extent> {
        let (tables, wal) = sqlx::query_as(
            "select (select coalesce(sum(pg_total_relation_size(oid)), 0)
                     from pg_class
                     where relkind = 'r' and (relnamespace = $1::regnamespace
                           or relnamespace = $2::regnamespace and relname = 'processed_events')
                    )::bigint,
                    (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint",
        )
        .bind(task.idem_schema())
        .bind(&task.schema)
        .fetch_one(&self.pool)
        .await?;
        Ok(Extent { tables, wal })
    }

    /// How many effects there are, and for how many different events.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn effects(&self, schema: &str) -> Result<(u64, u64)> {
        let sql = format!("select count(*), count(distinct event_id) from {schema}.invoices");
        let (all, distinct): (i64, i64) =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&self.pool).await?;
        Ok((u64::try_from(all)?, u64::try_from(distinct)?))
    }

    /// When the first effect of each order was committed, in microseconds since 1970.
    ///
    /// # Errors
    /// When the database fails, or does not keep these times.
    pub(crate) async fn commit_times(&self, schema: &str) -> Result<HashMap<u64, i64>> {
        let sql = format!(
            "select order_id,
                    (extract(epoch from min(pg_xact_commit_timestamp(xmin))) * 1000000)::bigint
             from {schema}.invoices group by order_id"
        );
        let rows: Vec<(i64, i64)> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        rows.into_iter().map(|(order, at)| Ok((u64::try_from(order)?, at))).collect()
    }

    /// Whether commit times are kept.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn keeps_commit_times(&self) -> Result<bool> {
        Ok(self.show("track_commit_timestamp").await? == "on")
    }

    /// A setting of the server.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn show(&self, setting: &'static str) -> Result<String> {
        let value = sqlx::query_scalar("select current_setting($1)").bind(setting);
        Ok(value.fetch_one(&self.pool).await?)
    }

    /// The server's first process, if it runs on this machine: the parent of the one we talk to.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn postmaster(&self) -> Result<Option<i32>> {
        let backend: i32 =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&self.pool).await?;
        Ok(usage::parent_of(backend, "postgres"))
    }

    /// Deletes what [`prepare`](Self::prepare) made.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn clear(&self, task: &Task) -> Result<()> {
        let (ours, idems) = (&task.schema, task.idem_schema());
        self.run(format!("drop schema if exists {ours} cascade")).await?;
        self.run(format!("drop schema if exists {idems} cascade")).await
    }

    /// Runs statements that are made of this program's own words and numbers.
    async fn run(&self, sql: String) -> Result<()> {
        self.pool.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        Ok(())
    }
}
