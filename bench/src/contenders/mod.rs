//! The contenders: what is written by hand, idem, and the limits. Each works a task until the gauge
//! says that all events are handled. `catalog` has the list.

pub(crate) mod bare;
pub(crate) mod bare_idem;
pub(crate) mod by_idem;
pub(crate) mod check_do_mark;
pub(crate) mod hand_batch;
pub(crate) mod reader;
pub(crate) mod tx_per_event;

use std::future::Future;

use idem::BoxError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::task::JoinSet;

use crate::gauge::Gauge;
use crate::task::Task;

pub(crate) type Result<T, E = BoxError> = std::result::Result<T, E>;

/// How a contender connects: unqualified names are the effects.
pub(crate) fn database(task: &Task) -> Result<PgConnectOptions> {
    let options: PgConnectOptions = task.database_url.parse()?;
    Ok(options.options([("search_path", &task.schema)]).disable_statement_logging())
}

async fn connect(task: &Task) -> Result<PgConnection> {
    Ok(PgConnection::connect_with(&database(task)?).await?)
}

/// Runs tasks until all events are handled, or one of them fails.
async fn until_finished<F>(gauge: &Gauge, tasks: impl IntoIterator<Item = F>) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running: JoinSet<Result<()>> = tasks.into_iter().collect();
    loop {
        tokio::select! {
            () = gauge.finished() => return Ok(()),
            ended = running.join_next() => match ended {
                Some(ended) => ended??,
                None if gauge.is_done() => return Ok(()),
                // The gauge looks every other millisecond.
                None => gauge.finished().await,
            },
        }
    }
}
