//! The broker's configuration files: what all test brokers share is in `kafka/*.properties` of this
//! package, what differs is added here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, random};

const SERVER: &str = include_str!("../../kafka/server.properties");
const BROKER_LOG: &str = include_str!("../../kafka/broker-log4j2.properties");
const TOOLS_LOG: &str = include_str!("../../kafka/tools-log4j2.properties");

pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("server.properties")
}

pub(super) fn data_dir(dir: &Path) -> PathBuf {
    dir.join("kafka-data")
}

/// Writes `server.properties`. Of two lines with one name Java takes the last, so `overrides` win.
pub(super) fn write(
    dir: &Path,
    port: u16,
    controller_port: u16,
    overrides: &[(String, String)],
) -> Result<(), Error> {
    let mut text = String::from(SERVER);
    let data = data_dir(dir).display().to_string();
    let own = [
        (
            "listeners",
            format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
        ),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller_port}")),
        ("log.dirs", data),
    ];
    for (name, value) in &own {
        text.push_str(&format!("{name}={value}\n"));
    }
    for (name, value) in overrides {
        text.push_str(&format!("{name}={value}\n"));
    }
    write_file(&file(dir), &text)
}

pub(super) fn write_log_configs(dir: &Path) -> Result<(), Error> {
    write_file(&dir.join("broker-log4j2.properties"), BROKER_LOG)?;
    write_file(&dir.join("tools-log4j2.properties"), TOOLS_LOG)
}

pub(super) fn broker_log_option(dir: &Path) -> String {
    log_option(&dir.join("broker-log4j2.properties"))
}

pub(super) fn tools_log_option(dir: &Path) -> String {
    log_option(&dir.join("tools-log4j2.properties"))
}

fn log_option(file: &Path) -> String {
    format!("-Dlog4j2.configurationFile={}", file.display())
}

/// A random cluster id: 16 bytes in base64, hence 22 characters of which the last holds two bits.
pub(super) fn cluster_id() -> Result<String, Error> {
    Ok(format!("{}A", random::text(21)?))
}

fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
}
