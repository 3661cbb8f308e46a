//! Handlers with something beside their markers: results, fingerprints, attempts that were begun.

use idem::{Begun, BoxError, Probed, State, idempotent};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::handlers::Order;

/// The answer to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What was paid.
    pub cents: i64,
    /// How many invoices there were then.
    pub number: i64,
}

/// Bills an order and answers with a receipt; another order under the same key is a dead letter.
///
/// # Errors
/// When the database fails.
#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    store_result,
    payload_check = "dead_letter"
)]
pub async fn bill_checked(order: Order, tx: &mut PgConnection) -> Result<Receipt, BoxError> {
    invoice("bill_checked", &order, tx).await?;
    let count = sqlx::query_scalar("select count(*) from invoices");
    Ok(Receipt { cents: order.cents, number: count.fetch_one(tx).await? })
}

/// A service outside of the transaction: it keeps what it was told at once.
#[derive(Debug, Clone)]
pub struct Payments(
    /// Connections of its own.
    pub PgPool,
);

impl Payments {
    async fn charge(&self, order: &Order) -> sqlx::Result<()> {
        let charge = sqlx::query("insert into charges (event_id) values ($1)");
        charge.bind(&order.event_id).execute(&self.0).await.map(drop)
    }

    /// Waits for charges that are still on their way.
    async fn has_charged(&self, order: &Order) -> sqlx::Result<bool> {
        let mut connection = self.0.acquire().await?;
        let mut tx = connection.begin().await?;
        sqlx::query("lock table charges in share row exclusive mode").execute(&mut *tx).await?;
        let known = sqlx::query_scalar("select exists (select from charges where event_id = $1)");
        known.bind(&order.event_id).fetch_one(&mut *tx).await
    }
}

async fn was_charged(order: &Order, begun: &Begun) -> Result<Probed, BoxError> {
    let payments = begun.state::<Payments>().ok_or("no payments")?;
    Ok(match payments.has_charged(order).await? {
        true => Probed::Done,
        false => Probed::NotDone,
    })
}

/// Charges an order outside of the transaction; a probe knows what has happened.
///
/// # Errors
/// When the service or the database fails.
#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    effects = external(probe = was_charged)
)]
pub async fn charge_probed(
    order: Order,
    payments: State<Payments>,
    tx: &mut PgConnection,
) -> Result<(), BoxError> {
    invoice("charge_probed", &order, tx).await?;
    Ok(payments.charge(&order).await?)
}

/// The same, never twice.
///
/// # Errors
/// As [`charge_probed()`].
#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    effects = external(unknown = "never")
)]
pub async fn charge_never_twice(
    order: Order,
    payments: State<Payments>,
    tx: &mut PgConnection,
) -> Result<(), BoxError> {
    invoice("charge_never_twice", &order, tx).await?;
    Ok(payments.charge(&order).await?)
}

async fn invoice(scope: &str, order: &Order, tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("insert into invoices (scope, event_id, order_id, cents) values ($1, $2, $3, $4)")
        .bind(scope)
        .bind(&order.event_id)
        .bind(order.order_id)
        .bind(order.cents)
        .execute(tx)
        .await
        .map(drop)
}
