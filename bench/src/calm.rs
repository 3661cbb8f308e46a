//! Waiting for a calm machine: builds of others come and go, and a number taken beside one is noise.

use std::thread;
use std::time::{Duration, Instant};

use crate::task::Company;
use crate::usage;

const WINDOW: Duration = Duration::from_millis(500);
/// The share of the machine that others may use.
const CALM: f64 = 0.05;

/// Waits until nobody else uses the machine for a moment, but not longer than `patience`.
pub(crate) async fn wait(company: &Company, patience: Duration) {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let Some(before) = usage::strangers(company) else { return };
        // The window itself: use of the CPU is measured over it.
        tokio::time::sleep(WINDOW).await;
        let Some(after) = usage::strangers(company) else { return };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let share = after.saturating_sub(before).as_secs_f64() / WINDOW.as_secs_f64();
        if share < CALM * cores as f64 {
            return;
        }
    }
}
