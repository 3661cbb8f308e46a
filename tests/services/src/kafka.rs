//! A genuine Kafka broker: one KRaft node, run from its Maven artifacts.
//!
//! One node and no replication: what a broker promises across nodes is not tested here.

mod config;
mod jars;
mod probe;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::server::Server;
use crate::{DetachedService, Error, Lifetime, ports, spawn, tools};

/// A broker starts in 2 seconds; this is for a machine that does much else.
const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const START_ATTEMPTS: usize = 5;

/// What may differ from broker to broker.
#[derive(Clone, Debug, Default)]
pub struct KafkaOptions {
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Properties of `server.properties` that replace or add to those of the tests' broker.
    pub properties: Vec<(String, String)>,
}

/// A running broker, or a killed or stopped one that can be started again.
///
/// Dropping it kills it and deletes its data, unless it is detached; its log stays.
#[derive(Debug)]
pub struct Kafka {
    dir: PathBuf,
    java: PathBuf,
    libs: PathBuf,
    bootstrap: String,
    port: u16,
    options: KafkaOptions,
    server: Server,
}

impl Kafka {
    /// Starts a broker with its data and logs in `dir`, which is created, and waits until it
    /// answers. The first start on a machine downloads the broker.
    ///
    /// # Errors
    ///
    /// When Java or Maven are missing, the broker cannot be downloaded, or does not start; with the
    /// end of its log.
    pub fn start(dir: &Path) -> Result<Self, Error> {
        Self::start_with(dir, KafkaOptions::default())
    }

    /// [`Kafka::start`] with options.
    ///
    /// # Errors
    ///
    /// Those of [`Kafka::start`].
    pub fn start_with(dir: &Path, options: KafkaOptions) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::io(format!("create {}", dir.display())))?;
        let java = tools::java()?;
        let libs = jars::ensure()?;
        config::write_log_configs(dir)?;
        let mut attempt = 1;
        loop {
            let [port, controller_port] = ports::free_ports()?;
            config::write(dir, port, controller_port, &options.properties)?;
            if attempt == 1 {
                format_storage(dir, &java, &libs)?;
            }
            let mut server = spawn_broker(dir, &java, &libs, options.lifetime)?;
            match wait_until_ready(&mut server, port) {
                Ok(()) => {
                    return Ok(Self {
                        dir: dir.to_owned(),
                        java,
                        libs,
                        bootstrap: format!("127.0.0.1:{port}"),
                        port,
                        options,
                        server,
                    });
                }
                // Somebody took a port between our look and the broker's bind.
                Err(_) if server.is_port_clash() && attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The broker's address, as `127.0.0.1:port`; it stays the same for the broker's life.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The broker's pid; after [`Kafka::kill`] or [`Kafka::stop`], the one it had.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.process().pid()
    }

    /// Kills the broker with SIGKILL and returns when it is gone.
    ///
    /// # Errors
    ///
    /// When the system refuses the signal.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.server.kill()
    }

    /// Stops the broker in order (SIGTERM), by force when it takes too long.
    ///
    /// # Errors
    ///
    /// When the system refuses a signal.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.server.stop(Signal::SIGTERM, STOP_PATIENCE)
    }

    /// Starts the broker again on its data and ports, stopping it first if it runs.
    ///
    /// # Errors
    ///
    /// When it does not start again; with the end of its log.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop()?;
        self.server = spawn_broker(&self.dir, &self.java, &self.libs, self.options.lifetime)?;
        wait_until_ready(&mut self.server, self.port)
    }

    /// Freezes the broker (SIGSTOP) and returns when it stands still: its sockets stay open and
    /// answer nothing.
    ///
    /// # Errors
    ///
    /// When the system refuses the signal.
    pub fn pause(&self) -> Result<(), Error> {
        self.server.process().freeze()
    }

    /// Lets a paused broker go on.
    ///
    /// # Errors
    ///
    /// When the system refuses the signal.
    pub fn resume(&self) -> Result<(), Error> {
        self.server.signal(Signal::SIGCONT)
    }

    /// Runs one of Kafka's own command-line tools, as an operator would, and returns its output.
    ///
    /// `main_class` is the class that Kafka's shell scripts name, such as
    /// `org.apache.kafka.tools.consumer.group.ConsumerGroupCommand` for `kafka-consumer-groups.sh`.
    /// `args` are all of the tool's, the broker's address included. Some tools report a failure in
    /// their output only, with a good exit status: look at the output.
    ///
    /// # Errors
    ///
    /// When the tool cannot be run or ends with a bad exit status; with what it printed.
    pub fn tool(&self, main_class: &str, args: &[&str]) -> Result<String, Error> {
        run_tool(&self.dir, &self.java, &self.libs, main_class, args)
    }

    /// What is needed to find and stop the broker without this handle.
    #[must_use]
    pub fn detached(&self) -> DetachedService {
        DetachedService {
            process: self.server.process(),
            address: self.bootstrap.clone(),
            dir: self.dir.clone(),
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.options.lifetime == Lifetime::WithParent {
            // Nobody will read the data, so an orderly stop would only take time.
            let _ = self.server.kill();
            let _ = fs::remove_dir_all(config::data_dir(&self.dir));
        }
    }
}

fn java_command(command: &mut Command, libs: &Path, options: &[&str], main_class: &str) {
    command.args(options).arg("-XX:+UseSerialGC");
    command.arg("-cp").arg(libs.join("*")).arg(main_class);
}

fn spawn_broker(dir: &Path, java: &Path, libs: &Path, lifetime: Lifetime) -> Result<Server, Error> {
    let log = dir.join("kafka.log");
    let mut command = spawn::command(java, lifetime, None);
    let log_option = format!("-Didem.log={}", log.display());
    let config_option = config::broker_log_option(dir);
    let options = ["-Xms128m", "-Xmx512m", &log_option, &config_option];
    java_command(&mut command, libs, &options, "kafka.Kafka");
    command.arg(config::file(dir));
    Server::spawn("kafka", command, &dir.join("kafka.out"), &[log])
}

fn wait_until_ready(server: &mut Server, port: u16) -> Result<(), Error> {
    let ready = server.wait_until_ready(START_DEADLINE, || probe::probe(port));
    if ready.is_err() {
        server.kill()?;
    }
    ready
}

fn format_storage(dir: &Path, java: &Path, libs: &Path) -> Result<(), Error> {
    let id = config::cluster_id()?;
    let file = config::file(dir).display().to_string();
    let args = ["format", "-t", &id, "-c", &file];
    run_tool(dir, java, libs, "kafka.tools.StorageTool", &args).map(|_output| ())
}

fn run_tool(
    dir: &Path,
    java: &Path,
    libs: &Path,
    main_class: &str,
    args: &[&str],
) -> Result<String, Error> {
    let mut command = Command::new(java);
    let config_option = config::tools_log_option(dir);
    // A tool runs for a second: little memory, and no time for the optimizing compiler.
    let options = ["-Xms16m", "-Xmx128m", "-XX:TieredStopAtLevel=1", &config_option];
    java_command(&mut command, libs, &options, main_class);
    let output = command
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(format!("run {main_class}")))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(printed.into_owned());
    }
    let problems = String::from_utf8_lossy(&output.stderr);
    let what = format!("{main_class} {} failed ({})", args.join(" "), output.status);
    Err(Error::new(what).with_details(&format!("{printed}{problems}")))
}
