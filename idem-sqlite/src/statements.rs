//! The statements of a prefix, rendered once: sqlx keeps a prepared statement by its text.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::prefix::Prefix;
use crate::{check, claim, lanes, markers, migrate, scopes, seal};

/// The time, in the unit of the tables.
macro_rules! now {
    () => {
        "cast(round(unixepoch('subsec') * 1000) as integer)"
    };
}
pub(crate) use now;

macro_rules! statements {
    ($($name:ident: $template:expr,)*) => {
        pub(crate) struct Statements {
            $(pub(crate) $name: SqlStr,)*
        }

        impl Statements {
            pub(crate) fn new(prefix: &Prefix) -> Self {
                Self { $($name: render(prefix, $template),)* }
            }
        }
    };
}

statements! {
    token_is: claim::TOKEN_IS,
    insert_markers: claim::INSERT,
    seal_lane: seal::LANE,
    mark_offsets: seal::MARK_OFFSETS,
    lanes_of_topic: lanes::OF_TOPIC,
    lane_by_number: lanes::BY_NUMBER,
    open_lanes: lanes::OPEN,
    take_lane: lanes::TAKE,
    observe_lanes: lanes::OBSERVE,
    heartbeat: lanes::HEARTBEAT,
    reposition_lane: lanes::REPOSITION,
    forget_offset_marks: lanes::FORGET_OFFSET_MARKS,
    forget_slices: lanes::FORGET_SLICES,
    release_lane: lanes::RELEASE,
    recorded_scopes: scopes::RECORDED,
    insert_scopes: scopes::INSERT,
    adopt_scopes: scopes::ADOPT,
    retire_scopes: scopes::RETIRE,
    revive_scopes: scopes::REVIVE,
    marker: markers::FIND,
    has_ledger: migrate::HAS_LEDGER,
    applied: migrate::APPLIED,
    record_migration: migrate::RECORD,
    identity: check::IDENTITY,
}

fn render(prefix: &Prefix, template: &str) -> SqlStr {
    // Safe: the templates are constants of this crate, and the prefix was validated.
    AssertSqlSafe(Arc::<str>::from(prefix.render(template))).into_sql_str()
}
