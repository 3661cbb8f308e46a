//! The statements of a schema, rendered once: sqlx keeps a prepared statement by its text.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::schema::Schema;
use crate::{check, claim, lanes, markers, migrate, scopes, seal, zombie};

macro_rules! statements {
    ($($name:ident: $template:expr,)*) => {
        pub(crate) struct Statements {
            $(pub(crate) $name: SqlStr,)*
        }

        impl Statements {
            pub(crate) fn new(schema: &Schema) -> Self {
                Self { $($name: render(schema, $template),)* }
            }
        }
    };
}

statements! {
    claim_lane: claim::LANE,
    claim_direct: claim::DIRECT,
    seal_lane: seal::LANE,
    seal_direct: seal::DIRECT,
    blockers: zombie::BLOCKERS,
    end_fenced: zombie::END_FENCED,
    lanes_of_topic: lanes::OF_TOPIC,
    lane_by_number: lanes::BY_NUMBER,
    open_lanes: lanes::OPEN,
    take_lane: lanes::TAKE,
    observe_lanes: lanes::OBSERVE,
    heartbeat: lanes::HEARTBEAT,
    reposition_lane: lanes::REPOSITION,
    forget_offset_marks: lanes::FORGET_OFFSET_MARKS,
    release_lane: lanes::RELEASE,
    lock_scopes: scopes::LOCK,
    recorded_scopes: scopes::RECORDED,
    insert_scopes: scopes::INSERT,
    adopt_scopes: scopes::ADOPT,
    retire_scopes: scopes::RETIRE,
    revive_scopes: scopes::REVIVE,
    marker: markers::FIND,
    has_ledger: migrate::HAS_LEDGER,
    applied: migrate::APPLIED,
    record_migration: migrate::RECORD,
    lock_migrations: migrate::LOCK,
    identity: check::IDENTITY,
    lacking_rights: check::LACKING_RIGHTS,
}

fn render(schema: &Schema, template: &str) -> SqlStr {
    // Safe: the templates are constants of this crate, and the schema's name was validated.
    AssertSqlSafe(Arc::<str>::from(schema.render(template))).into_sql_str()
}
