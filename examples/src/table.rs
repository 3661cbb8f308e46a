//! The table at the end of an example, and a line of progress while it works.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use idem::RunHandle;

/// Shows progress until so many events were delivered to handlers, or nothing moved for `patience`.
pub async fn progress(handle: &RunHandle, run: &str, delivered: u64, patience: Duration) -> bool {
    // A terminal gets a line that moves; a file or a pipe only the last one.
    let moves = std::io::stdout().is_terminal();
    let mut last = (0, Instant::now());
    loop {
        let counts = handle.counts();
        let ended = counts.delivered >= delivered || last.1.elapsed() > patience;
        if moves || ended {
            print!(
                "\r{run}: {} of {delivered} delivered, {} processed, {} duplicates ",
                counts.delivered, counts.processed, counts.duplicates
            );
            let _ = std::io::stdout().flush();
        }
        if counts.delivered >= delivered {
            println!();
            return true;
        }
        if counts.delivered > last.0 {
            last = (counts.delivered, Instant::now());
        } else if last.1.elapsed() > patience {
            println!();
            return false;
        }
        // How often the line of progress moves; nothing is decided by it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Prints the table and answers whether everything agrees.
pub fn print_table(runs: &[(&str, idem::Counts)], orders: i64, invoices: (i64, i64)) -> bool {
    println!();
    println!("{:<16} {:>10} {:>10} {:>10}", "run", "delivered", "processed", "duplicates");
    let mut processed = 0;
    for (name, counts) in runs {
        println!(
            "{name:<16} {:>10} {:>10} {:>10}",
            counts.delivered, counts.processed, counts.duplicates
        );
        processed += counts.processed;
    }
    let (rows, distinct) = invoices;
    println!();
    println!("orders produced          {orders:>8}");
    println!("invoices written         {rows:>8}");
    println!("invoices, each id once   {distinct:>8}");
    let agree = rows == orders && distinct == orders && i64::try_from(processed) == Ok(rows);
    let verdict = if agree { "yes: every order was billed exactly once" } else { "NO" };
    println!("do they agree?           {verdict}");
    agree
}
