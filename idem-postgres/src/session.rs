//! What is set in a session, and what in a transaction.
//!
//! Not here: the connections (see `pool`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use idem_runtime::IsolationLevel;
use idem_runtime::store::{Terms, Writer};
use sqlx::postgres::PgConnectOptions;

/// How much longer than a statement may run idem waits for the server's answer.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait for a table as a whole.
const TABLE_WAIT: Duration = Duration::from_secs(3);

/// A time limit that the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    Lock,
    Statement,
    IdleInTransaction,
}

impl Limit {
    const ALL: [Self; 3] = [Self::Lock, Self::Statement, Self::IdleInTransaction];

    fn setting(self) -> &'static str {
        match self {
            Self::Lock => "lock_timeout",
            Self::Statement => "statement_timeout",
            Self::IdleInTransaction => "idle_in_transaction_session_timeout",
        }
    }

    fn default(self) -> Duration {
        Duration::from_secs(match self {
            Self::Lock => 5,
            Self::Statement => 60,
            Self::IdleInTransaction => 10,
        })
    }
}

/// Session settings beside the limits: a client that vanished is noticed within half a minute, and
/// nothing is written outside of idem's transactions.
const SESSION: [(&str, &str); 5] = [
    ("default_transaction_read_only", "on"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

/// How long a statement may run, unless a transaction's terms say less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatementLimit {
    /// Set by the store; zero: for ever.
    Own(Duration),
    /// Set by the user in the options of the connection.
    Users,
}

/// A serializable transaction that reads a table from one end to the other is in conflict with
/// whoever writes to it, and a small table is read so rather than by its index: lanes that have
/// nothing in common would fail because of each other most of the time. Hence this, which the
/// server's manual advises. It is for handlers' statements too.
const BY_INDEX: &str = "; set local random_page_cost = 0.1";

/// Whether a transaction with these terms is serializable. What only a later release of the
/// contract knows is not less.
pub(crate) fn is_serializable(terms: &Terms) -> bool {
    !matches!(terms.isolation, IsolationLevel::ReadCommitted | IsolationLevel::RepeatableRead)
}

/// How sessions and transactions begin.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) options: PgConnectOptions,
    /// Whether sessions are shared by a pooler, so that nothing can be set in one.
    pub(crate) pooler: bool,
    /// `set local` statements for what a session could not be given.
    local: String,
    statement_limit: StatementLimit,
    /// How long to wait for an answer of the server.
    pub(crate) answer_within: Option<Duration>,
    /// How long to wait for a table as a whole, so that a transaction that waits behind that, and then
    /// for as long again, is within its own limit.
    pub(crate) table_wait: Duration,
}

impl Sessions {
    pub(crate) fn new(
        options: PgConnectOptions,
        limits: BTreeMap<Limit, Duration>,
        pooler: bool,
    ) -> Self {
        let user = options.get_options().unwrap_or_default().to_owned();
        let wanted = |limit: Limit| match limits.get(&limit) {
            Some(value) => Some(*value),
            None if is_set(&user, limit.setting()) => None,
            None => Some(limit.default()),
        };
        let statement = limits.get(&Limit::Statement).copied();
        let statement = statement.unwrap_or_else(|| Limit::Statement.default());
        let answer_within = (!statement.is_zero() && wanted(Limit::Statement).is_some())
            .then(|| statement.saturating_add(GRACE));
        let statement_limit =
            wanted(Limit::Statement).map_or(StatementLimit::Users, StatementLimit::Own);
        let lock = wanted(Limit::Lock).filter(|limit| !limit.is_zero());
        let table_wait = lock.map_or(TABLE_WAIT, |limit| TABLE_WAIT.min(limit / 2));
        let limits: Vec<_> = Limit::ALL
            .into_iter()
            .filter_map(|limit| Some((limit.setting(), milliseconds(wanted(limit)?))))
            .collect();

        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("idem"),
        };
        if pooler {
            let mut local = String::new();
            for (setting, value) in limits {
                // Writing to a string does not fail.
                let _ = write!(local, "; set local {setting} = {value}");
            }
            let options = options.extra_float_digits(None);
            return Self { options, pooler, local, statement_limit, answer_within, table_wait };
        }
        let session = SESSION
            .into_iter()
            .filter(|(setting, _)| {
                *setting == "default_transaction_read_only" || !is_set(&user, setting)
            })
            .map(|(setting, value)| (setting, value.to_owned()));
        let options = options.options(session.chain(limits));
        Self { options, pooler, local: String::new(), statement_limit, answer_within, table_wait }
    }

    /// The statements that begin a transaction with effects. A lane's says which lane and token it
    /// works for, so that others can tell whose it is: at most 63 bytes.
    ///
    /// The default terms add nothing: the session has its own defaults then.
    pub(crate) fn begin_batch(&self, writer: &Writer<'_>, terms: &Terms) -> String {
        let isolation = match terms.isolation {
            IsolationLevel::ReadCommitted => "",
            IsolationLevel::RepeatableRead => "isolation level repeatable read ",
            _ => "isolation level serializable ",
        };
        let mut begin = format!("begin {isolation}read write{}", self.local);
        if is_serializable(terms) {
            begin.push_str(BY_INDEX);
        }
        if let Some(limit) = terms.statement_timeout {
            begin.push_str(&self.limit_statements(limit));
        }
        if terms.outside {
            begin.push_str("; set local idle_in_transaction_session_timeout = 0");
        }
        if let Writer::Lane(held) = writer {
            let name = lane_name(held.number, held.token);
            let _ = write!(begin, "; set local application_name = '{name}'");
        }
        begin
    }

    /// Makes the limit shorter, never longer.
    fn limit_statements(&self, limit: Duration) -> String {
        let value = milliseconds(limit.max(Duration::from_millis(1)));
        match self.statement_limit {
            StatementLimit::Own(own) if !own.is_zero() && own <= limit => String::new(),
            StatementLimit::Own(_) => format!("; set local statement_timeout = {value}"),
            // Shown with a unit, which an interval takes; 0 is for ever.
            StatementLimit::Users => format!(
                "; select set_config('statement_timeout', '{value}', true) \
                 from (select current_setting('statement_timeout')::interval) as users (value) \
                 where users.value = '0' or users.value > '{value} ms'"
            ),
        }
    }

    /// The statements that begin a transaction of idem's own, which reads in a later statement what
    /// it has waited for in an earlier one.
    pub(crate) fn begin_own(&self, read_write: bool) -> String {
        let access = if read_write { "read write" } else { "read only" };
        format!("begin isolation level read committed {access}{}", self.local)
    }

    /// `user@host:port/database`, for messages.
    pub(crate) fn target(&self) -> String {
        let options = &self.options;
        let user = options.get_username();
        let database = options.get_database().unwrap_or(user);
        let port = options.get_port();
        match options.get_socket() {
            Some(socket) => format!("{user}@{}:{port}/{database}", socket.display()),
            None => format!("{user}@{}:{port}/{database}", options.get_host()),
        }
    }
}

/// The `application_name` of a lane's transaction.
pub(crate) fn lane_name(number: i64, token: uuid::Uuid) -> String {
    format!("idem lane {number} {}", token.simple())
}

/// The lane and the token of a transaction with such a name.
pub(crate) fn parse_lane_name(name: &str) -> Option<(i64, uuid::Uuid)> {
    let (number, token) = name.strip_prefix("idem lane ")?.split_once(' ')?;
    Some((number.parse().ok()?, uuid::Uuid::try_parse(token).ok()?))
}

fn milliseconds(duration: Duration) -> String {
    // Less than one is not none; and the server's numbers end at 2^31.
    let milliseconds = duration.as_micros().div_ceil(1000).min(i32::MAX as u128);
    milliseconds.to_string()
}

/// Whether the `options` of a connection (`-c name=value`, `--name=value`) have this setting.
fn is_set(options: &str, setting: &str) -> bool {
    options.split_ascii_whitespace().any(|word| {
        let word = word.strip_prefix("-c").or_else(|| word.strip_prefix("--")).unwrap_or(word);
        let name = word.split('=').next().unwrap_or_default();
        name.replace('-', "_").eq_ignore_ascii_case(setting)
    })
}

#[cfg(test)]
mod tests {
    use idem_runtime::lane::{LaneId, LaneRow, LogIdentity, Position};
    use uuid::Uuid;

    use super::*;

    fn sessions(options: PgConnectOptions, pooler: bool) -> Sessions {
        Sessions::new(options, BTreeMap::new(), pooler)
    }

    #[test]
    fn what_the_user_set_stays_and_the_guard_stays_ours() {
        let user = [("lock_timeout", "7s"), ("default_transaction_read_only", "off")];
        let sessions = sessions(PgConnectOptions::new().options(user), false);
        let options = sessions.options.get_options().unwrap();
        assert_eq!(options.matches("lock_timeout").count(), 1, "{options}");
        assert!(options.contains("statement_timeout=60000"), "{options}");
        // The last one wins.
        assert!(options.rfind("read_only=on") > options.rfind("read_only=off"), "{options}");
    }

    #[test]
    fn what_is_given_to_the_builder_wins() {
        let options = PgConnectOptions::new().options([("lock_timeout", "7s")]);
        let limits = BTreeMap::from([(Limit::Lock, Duration::from_micros(1))]);
        let sessions = Sessions::new(options, limits, false);
        assert!(sessions.options.get_options().unwrap().ends_with(
            "lock_timeout=1 \
            -c statement_timeout=60000 -c idle_in_transaction_session_timeout=10000"
        ));
    }

    #[test]
    fn behind_a_pooler_nothing_is_set_in_the_session() {
        let sessions = sessions(PgConnectOptions::new(), true);
        assert_eq!(sessions.options.get_options(), None);
        let begin = sessions.begin_own(false);
        assert!(begin.starts_with("begin isolation level read committed read only"), "{begin}");
        assert!(begin.contains("set local lock_timeout = 5000"), "{begin}");
    }

    #[test]
    fn a_lanes_name_fits_and_comes_back() {
        let token = Uuid::new_v4();
        let name = lane_name(i64::MAX, token);
        assert!(name.len() <= 63);
        assert_eq!(parse_lane_name(&name), Some((i64::MAX, token)));
        assert_eq!(parse_lane_name("psql"), None);
        assert_eq!(parse_lane_name("idem lane x y"), None);

        let id = LaneId { group: "g".into(), topic: "t".into(), partition: 0 };
        let mut row = LaneRow::new(id, 3, Position::at(0), LogIdentity::default());
        row.token = token;
        let begin = sessions(PgConnectOptions::new(), false)
            .begin_batch(&Writer::Lane(&row.held()), &Terms::default());
        assert_eq!(
            begin,
            format!("begin read write; set local application_name = '{}'", lane_name(3, token))
        );
    }

    #[test]
    fn terms_come_after_the_stores_own_limits_and_only_shorten_them() {
        let writer = Writer::Direct { attempt: Uuid::nil() };
        let begin = |limit: Duration, pooler, user: &[(&str, &str)]| {
            let terms = Terms {
                isolation: IsolationLevel::Serializable,
                statement_timeout: Some(limit),
                ..Terms::default()
            };
            let options = PgConnectOptions::new().options(user.iter().copied());
            sessions(options, pooler).begin_batch(&writer, &terms)
        };
        const SECOND: Duration = Duration::from_secs(1);
        const PLAIN: &str =
            "begin isolation level serializable read write; set local random_page_cost = 0.1";
        assert_eq!(begin(SECOND * 60, false, &[]), PLAIN);
        let short = format!("{PLAIN}; set local statement_timeout = 1000");
        assert_eq!(begin(SECOND, false, &[]), short);
        assert_eq!(begin(Duration::ZERO, false, &[]), short.replace("1000", "1"));
        assert!(begin(SECOND, true, &[]).ends_with("; set local statement_timeout = 1000"));
        assert!(begin(SECOND, true, &[]).contains("; set local statement_timeout = 60000"));
        let users = begin(SECOND, false, &[("statement_timeout", "3s")]);
        assert!(users.ends_with("users.value > '1000 ms'"), "{users}");
    }

    #[test]
    fn a_target_names_no_password() {
        let options = PgConnectOptions::new_without_pgpass()
            .host("db")
            .port(5433)
            .username("app")
            .password("hunter2")
            .database("shop");
        assert_eq!(sessions(options, false).target(), "app@db:5433/shop");
    }
}
