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
    /// Whose it is: its message key, in place of its own id.
    #[serde(default)]
    pub customer: Option<String>,
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
    /// Fails for good.
    Refuse,
    /// Fails at the first attempt.
    FailOnce,
    /// Kills the process.
    Abort,
    /// Does not come to an end.
    Hang,
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
    sqlx::query(
        "insert into invoices (scope, event_id, order_id, cents, customer)
         values ($1, $2, $3, $4, $5)",
    )
    .bind(scope)
    .bind(&order.event_id)
    .bind(order.order_id)
    .bind(order.cents)
    .bind(&order.customer)
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
            if !is_mended(&order, tx).await? {
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
        Act::Refuse => {
            if !is_mended(&order, tx).await? {
                return Err(idem::permanent(format!("order {} is refused", order.order_id)).into());
            }
        }
        Act::FailOnce if cx.attempt() == 1 => return Err("the first attempt fails".into()),
        Act::FailOnce => {}
        Act::Abort => std::process::abort(),
        Act::Hang => std::future::pending().await,
    }
    Ok(())
}

async fn is_mended(order: &Order, tx: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from mended where event_id = $1)")
        .bind(&order.event_id)
        .fetch_one(tx)
        .await
}

/// Bills all orders of a batch with one statement.
///
/// # Errors
/// As [`bill()`].
#[idempotent(key = "event_id", store = "postgres", topic = "orders")]
pub async fn bill_many(
    orders: Vec<Order>,
    contexts: &[Context],
    tx: &mut PgConnection,
) -> Result<(), idem::BoxError> {
    let ids: Vec<&str> = orders.iter().map(|it| it.event_id.as_str()).collect();
    let numbers: Vec<i64> = orders.iter().map(|it| it.order_id).collect();
    let cents: Vec<i64> = orders.iter().map(|it| it.cents).collect();
    sqlx::query(
        "insert into invoices (scope, event_id, order_id, cents)
         select 'bill_many', * from unnest($1::text[], $2::bigint[], $3::bigint[])",
    )
    .bind(ids)
    .bind(numbers)
    .bind(cents)
    .execute(&mut *tx)
    .await?;
    for (order, cx) in orders.iter().zip(contexts) {
        match order.act {
            Act::Refuse => return Err(idem::permanent("an order is refused").into()),
            Act::FailOnce if cx.attempt() == 1 => return Err("a first attempt fails".into()),
            Act::Abort => std::process::abort(),
            _ => {}
        }
    }
    Ok(())
}
