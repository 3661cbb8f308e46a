//! The end of a server's log, for error messages.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::Error;

const LINES: usize = 30;
const BYTES: u64 = 64 * 1024;

/// The log files of a server, and how long they were when it was started: what is before that
/// belongs to an earlier life and would mislead.
#[derive(Debug)]
pub(crate) struct Logs {
    files: Vec<(PathBuf, u64)>,
}

impl Logs {
    /// Remembers where these files end now; they need not exist.
    pub(crate) fn from_now_on(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self { files: files.into_iter().map(|path| (path.clone(), length(&path))).collect() }
    }

    /// The last lines that were written since, each file under a heading; unreadable files are left
    /// out, because a failure to read a log must not hide the failure it is about.
    pub(crate) fn tail(&self) -> String {
        let mut text = String::new();
        for (path, from) in &self.files {
            let Ok(content) = read_from(path, *from) else {
                continue;
            };
            let lines: Vec<&str> = content.lines().collect();
            if !lines.is_empty() {
                let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
                text.push_str(&format!("--- end of {}:\n{last}\n", path.display()));
            }
        }
        text
    }
}

fn read_from(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(BYTES))))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Standard output and error of a server, both appended to `path`.
pub(crate) fn outputs(path: &Path) -> Result<(Stdio, Stdio), Error> {
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|file| Ok((file.try_clone()?, file)));
    let (out, err) = opened.map_err(Error::io(format!("open the log {}", path.display())))?;
    Ok((out.into(), err.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    #[test]
    fn the_tail_holds_only_what_was_written_in_this_life() {
        let scratch = Scratch::new("logs").unwrap();
        let path = scratch.path().join("server.log");
        fs::write(&path, "an old error\n").unwrap();
        let logs = Logs::from_now_on([path.clone(), scratch.path().join("missing.log")]);
        assert_eq!(logs.tail(), "");
        fs::write(&path, "an old error\na new error\n").unwrap();
        assert_eq!(logs.tail(), format!("--- end of {}:\na new error\n", path.display()));
    }
}
