//! A consumer in a process of its own, to be killed, frozen and started again by a test.

use idem_e2e_tests::Settings;

#[tokio::main]
async fn main() -> Result<(), idem::BoxError> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let counts = Settings::from_env()?.build().await?.run().await?;
    tracing::info!(?counts, "left");
    Ok(())
}
