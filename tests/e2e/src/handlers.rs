//! The handlers under test. Each writes an invoice without any constraint that would hide a second
//! one.

use idem::{Context, State, idempotent};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

/// The event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// What makes two deliveries the same order.
    pub event_id: String,
    /// The order's number.
    pub order_id: i64,
    /// What it costs.
    pub cents: i64,
    /// What its handler does besides.
    #[serde(default)]
    pub act: Act,
}

/// What a handler does besides writing its invoice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Nothing.
    #[default]
    Plain,
    /// Waits, after writing, until the test opens the gate.
    Gate,
    /// Fails until the test mends it.
    Fail,
    /// Panics at the first attempt.
    PanicOnce,
    /// Ends the transaction.
    Commit,
    /// Undoes the transaction.
    Rollback,
    /// Hides an error of the database.
    Swallow,
}

/// The number of the advisory lock that is the test's gate.
#[derive(Debug, Clone, Copy)]
pub struct Gate(
    /// The lock's number.
    pub i64,
);

/// Bills an order; the key is in the event.
///
/// # Errors
/// When the database fails, or the event says so.
#[idempotent(key = "event_id", store = "postgres", topic = "orders")]
pub async fn bill(
    order: Order,
    cx: &Context,
    gate: State<Gate>,
    tx: &mut PgConnection,
) -> Result<(), idem::BoxError> {
    work("bill", order, cx, *gate, tx).await
}

/// Bills an order; the key is its place in Kafka.
///
/// # Errors
/// As [`bill()`].
#[idempotent(key = offset, store = "postgres", topic = "orders")]
pub async fn bill_by_offset(
    order: Order,
    cx: &Context,
    gate: State<Gate>,
    tx: &mut PgConnection,
) -> Result<(), idem::BoxError> {
    work("bill_by_offset", order, cx, *gate, tx).await
}

/// Bills an order; the key is in a header.
///
/// # Errors
/// As [`bill()`].
#[idempotent(key = header("idempotency-key"), store = "postgres", topic = "orders")]
pub async fn bill_by_header(
    order: Order,
    cx: &Context,
    gate: State<Gate>,
    tx: &mut PgConnection,
) -> Result<(), idem::BoxError> {
    work("bill_by_header", order, cx, *gate, tx).await
}

async fn work(
    scope: &str,
    order: Order,
    cx: &Context,
    gate: Gate,
    tx: &mut PgConnection,
) -> Result<(), idem::BoxError> {
    sqlx::query("insert into invoices (scope, event_id, order_id, cents) values ($1, $2, $3, $4)")
        .bind(scope)
        .bind(&order.event_id)
        .bind(order.order_id)
        .bind(order.cents)
        .execute(&mut *tx)
        .await?;
    match order.act {
        Act::Plain => {}
        Act::Gate => {
            sqlx::query("select pg_advisory_xact_lock_shared($1)")
                .bind(gate.0)
                .execute(&mut *tx)
                .await?;
        }
        Act::Fail => {
            let mended: bool =
                sqlx::query_scalar("select exists (select from mended where event_id = $1)")
                    .bind(&order.event_id)
                    .fetch_one(&mut *tx)
                    .await?;
            if !mended {
                return Err("not mended yet".into());
            }
        }
        Act::PanicOnce => assert!(cx.attempt() > 1, "the first attempt panics"),
        Act::Commit => {
            sqlx::query("commit").execute(&mut *tx).await?;
        }
        Act::Rollback => {
            sqlx::query("rollback").execute(&mut *tx).await?;
        }
        Act::Swallow => {
            let _ = sqlx::query("select 1 / 0").execute(&mut *tx).await;
        }
    }
    Ok(())
}
