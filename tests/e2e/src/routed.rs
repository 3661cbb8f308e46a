//! Handlers that take some types of events, or topics by pattern. Each writes an invoice.

use idem::{EventTypes, idempotent};
use sqlx::PgConnection;

use crate::handlers::Order;

/// Bills what has to do with orders; what is placed fits both of its patterns.
///
/// # Errors
/// When the database fails.
#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    types = ["order.#", "*.placed.#"]
)]
pub async fn bill_orders(order: Order, tx: &mut PgConnection) -> sqlx::Result<()> {
    invoice("bill_orders", &order, tx).await
}

/// Bills what comes from the west.
///
/// # Errors
/// When the database fails.
#[idempotent(key = "event_id", store = "postgres", topic = "orders", types = "*.*.us-west")]
pub async fn bill_west(order: Order, tx: &mut PgConnection) -> sqlx::Result<()> {
    invoice("bill_west", &order, tx).await
}

/// What can become of an order.
#[derive(EventTypes)]
pub enum OrderEvent {
    /// It was placed.
    #[event_type("order.placed.us-west", "order.placed.eu")]
    Placed(Order),
    /// It was cancelled.
    #[event_type("order.cancelled.us-west")]
    Cancelled(Order),
}

/// Bills what was placed, and gives back what was cancelled.
///
/// # Errors
/// When the database fails.
#[idempotent(key = header("idempotency-key"), store = "postgres", topic = "orders", types = OrderEvent)]
pub async fn bill_enum(event: OrderEvent, tx: &mut PgConnection) -> sqlx::Result<()> {
    match event {
        OrderEvent::Placed(order) => invoice("bill_enum", &order, tx).await,
        OrderEvent::Cancelled(order) => {
            let cents = -order.cents;
            invoice("bill_enum", &Order { cents, ..order }, tx).await
        }
    }
}

/// Bills the orders of every region, each of which has a topic.
///
/// # Errors
/// When the database fails.
#[idempotent(key = "event_id", store = "postgres", topics = ["orders", regex("^orders\\.")])]
pub async fn bill_regions(order: Order, tx: &mut PgConnection) -> sqlx::Result<()> {
    invoice("bill_regions", &order, tx).await
}

async fn invoice(scope: &str, order: &Order, tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("insert into invoices (scope, event_id, order_id, cents) values ($1, $2, $3, $4)")
        .bind(scope)
        .bind(&order.event_id)
        .bind(order.order_id)
        .bind(order.cents)
        .execute(tx)
        .await?;
    Ok(())
}
