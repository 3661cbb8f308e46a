//! Which group owns which scopes: decided here, recorded by the store.
//!
//! A scope is the memory of keys. If a second group used it, each would take the other's events for
//! duplicates; if a renamed group or handler began a new one, it would do everything again. Both
//! are refused until somebody says which it is.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::marker::MarkerMode;

/// The longest scope, in bytes.
pub const MAX_SCOPE_LEN: usize = 255;

/// The scopes of a group at start.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    /// The group.
    pub group: &'a str,
    /// Its scopes.
    pub scopes: &'a [(&'a str, MarkerMode)],
    /// Of those that are packed: how long they keep what is.
    pub windows: &'a [(&'a str, Duration)],
    /// Scopes that may be taken over from another group.
    pub adopt: &'a [String],
    /// Scopes of this group whose handler is gone for good.
    pub retire: &'a [String],
    /// The broadcast group that this group is an instance of; its name begins the group's.
    pub broadcast: Option<&'a str>,
}

/// A scope as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeRow {
    /// The scope.
    pub scope: String,
    /// The group it belongs to.
    pub group: String,
    /// How its markers are kept.
    pub mode: MarkerMode,
    /// How long ago the newest of its packed markers was written, if there are any: also of a scope that
    /// keeps rows by now. Asked for scopes of other groups alone.
    pub packed: Option<Duration>,
    /// The highest offset below which packed markers of it were forgotten though Kafka could still deliver
    /// their events, if that is so. Asked for scopes of other groups alone.
    pub early: Option<i64>,
    /// Whether it is retired, and what it has.
    pub retired: Option<Retired>,
}

/// What a retired scope has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// All that it had: one whose handler is registered again is as before.
    Kept,
    /// What it had packed is being forgotten, and not all of it is.
    Leaving,
    /// What it had packed is forgotten: one whose handler is registered again begins without it.
    Forgotten,
}

/// What a store writes for a registration.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ScopePlan {
    /// Scopes to record for the group.
    pub insert: Vec<(String, MarkerMode)>,
    /// Scopes to move to the group.
    pub adopt: Vec<String>,
    /// Scopes to record as retired.
    pub retire: Vec<String>,
    /// Scopes that keep their markers in another form from now on, with the time of that. What they
    /// have in the former form is consulted for as long as it can matter.
    pub switch: Vec<(String, MarkerMode)>,
}

impl Registration<'_> {
    /// Compares the registration with what is recorded: the rows of its scopes (whoever owns them)
    /// and all rows of its group that are not retired; and the broadcast group that its group is
    /// recorded as an instance of.
    ///
    /// # Errors
    /// [`ErrorKind::Scope`] when a scope is another group's, or has packed markers in another group's
    /// lanes; when it was retired and what it had packed is being forgotten; when it changed its mode from
    /// or to `offset`, or seems renamed; or when the group's name is one that Kafka takes for another
    /// group's.
    pub fn review(
        &self,
        recorded: &[ScopeRow],
        instance_of: Option<&str>,
    ) -> Result<ScopePlan, Error> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Scope, message));
        if let Some(message) = self.name_of_another(recorded, instance_of) {
            return refuse(message);
        }
        let mut plan = ScopePlan::default();
        for &(scope, mode) in self.scopes {
            let Some(row) = recorded.iter().find(|row| row.scope == scope) else {
                plan.insert.push((scope.to_owned(), mode));
                continue;
            };
            if row.retired == Some(Retired::Leaving) {
                return refuse(format!(
                    "scope `{scope}` was retired, and what it had packed is being deleted now: start \
                     again when that is done, and the handler begins as a new one; or give it a new \
                     scope"
                ));
            }
            if row.mode != mode && [row.mode, mode].contains(&MarkerMode::Offset) {
                return refuse(format!(
                    "scope `{scope}` keeps its markers as `{}` in the database, the handler now \
                     asks for `{}`: put the key back, or give the handler a new scope and `start`",
                    row.mode.as_str(),
                    mode.as_str()
                ));
            }
            if row.mode != mode {
                plan.switch.push((scope.to_owned(), mode));
            }
            if row.group != self.group {
                if let MarkerMode::Offset | MarkerMode::Packed = row.mode {
                    let how = match row.mode {
                        MarkerMode::Offset => "is kept by offset",
                        _ => "is packed",
                    };
                    return refuse(format!(
                        "scope `{scope}` belongs to group `{}` and {how}, in that group's lanes: \
                         group `{}` cannot take it over without doing everything again. Name the \
                         group as before, or give the handler a new scope and say where it starts \
                         with `.start(..)`",
                        row.group, self.group
                    ));
                }
                if !self.adopt.iter().any(|it| it == scope) {
                    return refuse(format!(
                        "scope `{scope}` belongs to group `{}`, but group `{}` brings it: name the \
                         group as before, or, when the group was renamed and its old consumers are \
                         gone, call `.adopt_scope(\"{scope}\")` on the builder; a second handler \
                         that works independently needs a `scope = \"..\"` of its own",
                        row.group, self.group
                    ));
                }
                if let Some(ago) = row.packed {
                    return refuse(format!(
                        "scope `{scope}` kept its markers packed in group `{}`, whose lanes still have \
                         some (the newest was written {ago:.0?} ago): group `{}` would not find them, \
                         and would do what they are of again. Let group `{}` go on, with a handler \
                         that keeps rows (`markers = \"rows\"`), until it has forgotten them: a \
                         `window` of the handler after the newest, and when Kafka does not deliver \
                         their events any more. Or name the group as before, or give the handler a new \
                         scope and say where it starts with `.start(..)`",
                        row.group, self.group, row.group
                    ));
                }
                if let Some(floor) = row.early {
                    return refuse(format!(
                        "scope `{scope}` kept its markers packed in group `{}`, and forgot some that \
                         Kafka may still deliver (`.stale(..)`): only its lanes know below which offset \
                         that is (up to {floor}), and group `{}` would do those events again. Go on with \
                         group `{}` until Kafka has none of them any more, delete its rows of the table \
                         `windows` then, and start this again; or give the handler a new scope and say \
                         where it starts with `.start(..)`",
                        row.group, self.group, row.group
                    ));
                }
                plan.adopt.push(scope.to_owned());
            }
        }
        let orphans = || {
            recorded.iter().filter(|row| {
                row.group == self.group && !self.scopes.iter().any(|(scope, _)| *scope == row.scope)
            })
        };
        plan.retire.extend(
            orphans().map(|row| row.scope.clone()).filter(|scope| self.retire.contains(scope)),
        );
        let gone: Vec<_> = orphans()
            .filter(|row| !plan.retire.contains(&row.scope))
            .map(|row| format!("`{}`", row.scope))
            .collect();
        if let (Some((new, _)), false) = (plan.insert.first(), gone.is_empty()) {
            return refuse(format!(
                "group `{}` no longer has a handler for scope {}, and scope `{new}` is new: was a \
                 handler renamed? If so, keep its memory with `scope = \"..\"` in the attribute; if \
                 it is gone for good, call `.retire_scope(\"..\")` on the builder",
                self.group,
                gone.join(", ")
            ));
        }
        if !gone.is_empty() {
            tracing::warn!(
                group = self.group,
                scopes = gone.join(", "),
                "this instance has no handler for scopes that the group has: while it holds a \
                 partition, their events pass. In a rolling deployment stop the old instances \
                 soon; call `.retire_scope(\"..\")` for a handler that is gone for good"
            );
        }
        self.say(&plan, recorded);
        Ok(plan)
    }

    /// Says what is recorded now and was not before, and is of weight to who operates it.
    fn say(&self, plan: &ScopePlan, recorded: &[ScopeRow]) {
        let anew = recorded.iter().filter(|row| row.retired == Some(Retired::Forgotten));
        for row in anew.filter(|row| self.scopes.iter().any(|(scope, _)| *scope == row.scope)) {
            tracing::warn!(
                group = self.group,
                scope = row.scope,
                "the scope was retired, and what it had packed is deleted: it begins as a new one, and \
                 an event of before that is delivered again is processed again"
            );
        }
        for (scope, mode) in &plan.switch {
            let from = recorded.iter().find(|row| row.scope == *scope).map(|row| row.mode);
            let both = match mode {
                MarkerMode::Packed => {
                    "each new key is also looked for in the rows for twice the handler's window, and \
                     after that if its event is delivered again"
                }
                _ => "each new key is also looked for in what is packed, until that has aged out",
            };
            tracing::info!(
                group = self.group,
                scope,
                from = from.map(MarkerMode::as_str),
                to = mode.as_str(),
                "the scope keeps its markers in another form from now on: {both}"
            );
        }
    }

    /// What is wrong with the name of an instance's group, which is put together from two.
    fn name_of_another(&self, recorded: &[ScopeRow], instance_of: Option<&str>) -> Option<String> {
        let broadcast = self.broadcast?;
        let instance = |of: &str| self.group.get(of.len() + 1..).unwrap_or_default();
        let other = match instance_of {
            Some(other) if other == broadcast => return None,
            Some(other) => format!("the instance `{}` of the group `{other}`", instance(other)),
            None => {
                let row = recorded
                    .iter()
                    .find(|row| row.group == self.group && !self.retire.contains(&row.scope))?;
                format!("a group that is no instance (of scope `{}`)", row.scope)
            }
        };
        Some(format!(
            "the instance `{}` of the group `{broadcast}` is `{}` for Kafka, and so is {other}: they \
             would share its events. Give one of them another name",
            instance(broadcast),
            self.group
        ))
    }
}

/// Checks a scope's name.
pub(crate) fn check_scope(scope: &str) -> Result<(), Error> {
    let wrong = if scope.is_empty() {
        "is empty"
    } else if scope.len() > MAX_SCOPE_LEN {
        "is longer than 255 bytes"
    } else if scope.contains(['\0', ',', ' ']) {
        "has a NUL, a comma or a space"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Config, format!("scope `{}` {wrong}", scope.replace('\0', "\\0"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logged::logged;

    fn row(scope: &str, group: &str) -> ScopeRow {
        let mode = MarkerMode::Rows;
        ScopeRow {
            scope: scope.into(),
            group: group.into(),
            mode,
            packed: None,
            early: None,
            retired: None,
        }
    }

    fn review(
        scopes: &[&str],
        adopt: &[&str],
        retire: &[&str],
        recorded: &[ScopeRow],
    ) -> Result<ScopePlan, Error> {
        let scopes: Vec<_> = scopes.iter().map(|scope| (*scope, MarkerMode::Rows)).collect();
        let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        Registration {
            group: "g",
            scopes: &scopes,
            windows: &[],
            adopt: &owned(adopt),
            retire: &owned(retire),
            broadcast: None,
        }
        .review(recorded, None)
    }

    #[test]
    fn a_first_start_records_everything() {
        let plan = review(&["a", "b"], &[], &[], &[]).unwrap();
        assert_eq!(plan.insert.len(), 2);
    }

    #[test]
    fn another_groups_scope_is_refused_until_it_is_adopted() {
        let recorded = [row("a", "old")];
        let error = review(&["a"], &[], &[], &recorded).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Scope);
        assert!(error.to_string().contains("adopt_scope(\"a\")"), "{error}");
        assert_eq!(review(&["a"], &["a"], &[], &recorded).unwrap().adopt, ["a"]);
    }

    #[test]
    fn a_scope_of_which_something_is_packed_cannot_move_to_another_group() {
        let packed = Some(Duration::from_secs(7200));
        let recorded = [ScopeRow { packed, ..row("a", "old") }];
        let error = review(&["a"], &["a"], &[], &recorded).unwrap_err().to_string();
        assert!(error.contains("`old`") && error.contains("7200s ago"), "{error}");
        // Of its own group it is nobody's business.
        let recorded = [ScopeRow { packed, ..row("a", "g") }];
        assert_eq!(review(&["a"], &[], &[], &recorded).unwrap(), ScopePlan::default());
    }

    #[test]
    fn an_instance_whose_name_is_another_groups_is_refused() {
        let review = |broadcast, recorded: &[ScopeRow], instance_of, retire: &[String]| {
            let scopes = [("bill@c", MarkerMode::Rows)];
            Registration {
                group: "a.b.c",
                scopes: &scopes,
                windows: &[],
                adopt: &[],
                retire,
                broadcast,
            }
            .review(recorded, instance_of)
            .map_err(|error| error.to_string())
        };
        let own = [row("bill@c", "a.b.c")];
        assert!(review(Some("a.b"), &own, Some("a.b"), &[]).is_ok());
        assert!(review(Some("a.b"), &[], None, &[]).is_ok());
        let error = review(Some("a.b"), &own, Some("a"), &[]).unwrap_err();
        assert!(error.contains("instance `c` of the group `a.b`"), "{error}");
        assert!(error.contains("instance `b.c` of the group `a`:"), "{error}");
        let error = review(Some("a.b"), &[row("bill", "a.b.c")], None, &[]).unwrap_err();
        assert!(error.contains("no instance (of scope `bill`)"), "{error}");
        let retired = ["bill".to_owned()];
        assert!(review(Some("a.b"), &[row("bill", "a.b.c")], None, &retired).is_ok());
        // One that is no instance any more keeps what it has.
        assert!(review(None, &own, Some("a.b"), &[]).is_ok());
    }

    #[test]
    fn a_scope_that_is_kept_by_offset_cannot_move_to_another_group() {
        let recorded = [ScopeRow { mode: MarkerMode::Offset, ..row("a", "old") }];
        let error = Registration {
            group: "g",
            scopes: &[("a", MarkerMode::Offset)],
            windows: &[],
            adopt: &["a".to_owned()],
            retire: &[],
            broadcast: None,
        }
        .review(&recorded, None)
        .unwrap_err();
        assert!(error.to_string().contains("doing everything again"), "{error}");
    }

    #[test]
    fn a_scope_that_vanished_beside_a_new_one_asks_whether_it_was_renamed() {
        let recorded = [row("a", "g")];
        let error = review(&["b"], &[], &[], &recorded).unwrap_err();
        assert!(error.to_string().contains("renamed"), "{error}");
        let plan = review(&["b"], &[], &["a"], &recorded).unwrap();
        assert_eq!((plan.retire, plan.insert.len()), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn an_instance_of_the_old_version_still_starts_in_a_rolling_deployment() {
        let recorded = [row("a", "g"), row("b", "g")];
        assert_eq!(review(&["a"], &[], &[], &recorded).unwrap(), ScopePlan::default());
    }

    #[test]
    fn a_changed_mode_is_refused() {
        let recorded = [ScopeRow { mode: MarkerMode::Offset, ..row("a", "g") }];
        assert!(review(&["a"], &[], &[], &recorded).unwrap_err().to_string().contains("`offset`"));
    }

    /// A registration of one scope in this mode, where this is recorded of it.
    fn review_one(mode: MarkerMode, recorded: ScopeRow) -> Result<ScopePlan, Error> {
        let (scopes, none) = ([("a", mode)], []);
        Registration {
            group: "g",
            scopes: &scopes,
            windows: &[],
            adopt: &none,
            retire: &none,
            broadcast: None,
        }
        .review(&[recorded], None)
    }

    #[test]
    fn a_scope_that_keeps_its_markers_in_another_form_is_named_once_in_the_log() {
        let (rows, packed) = (MarkerMode::Rows, MarkerMode::Packed);
        for (from, to, both) in [(rows, packed, "twice"), (packed, rows, "has aged out")] {
            let recorded = ScopeRow { mode: from, ..row("a", "g") };
            let lines = logged(|| {
                review_one(to, recorded).unwrap();
            });
            let [line] = &lines[..] else { panic!("{lines:?}") };
            let (from, to) = (from.as_str(), to.as_str());
            for part in ["INFO", r#"scope="a""#, both]
                .map(str::to_owned)
                .into_iter()
                .chain([format!(r#"from="{from}""#), format!(r#"to="{to}""#)])
            {
                assert!(line.contains(&part), "{line}");
            }
        }
        // Nor when something is refused, so that nothing is recorded.
        let recorded = ScopeRow { mode: MarkerMode::Packed, ..row("a", "old") };
        let lines = logged(|| assert!(review_one(MarkerMode::Rows, recorded).is_err()));
        assert!(lines.is_empty(), "{lines:?}");
        let lines = logged(|| assert!(review_one(MarkerMode::Rows, row("a", "g")).is_ok()));
        assert!(lines.is_empty(), "{lines:?}");
    }

    #[test]
    fn a_retired_scope_comes_back_as_it_was_or_as_a_new_one_and_not_in_between() {
        let retired = |what| ScopeRow { retired: Some(what), ..row("a", "g") };
        let lines = logged(|| {
            let plan = review_one(MarkerMode::Rows, retired(Retired::Kept)).unwrap();
            assert_eq!(plan, ScopePlan::default());
        });
        assert!(lines.is_empty(), "{lines:?}");
        let lines = logged(|| {
            review_one(MarkerMode::Rows, retired(Retired::Forgotten)).unwrap();
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.contains("WARN") && line.contains("processed again"), "{line}");
        let error = review_one(MarkerMode::Rows, retired(Retired::Leaving)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Scope);
        assert!(error.to_string().contains("being deleted"), "{error}");
    }

    #[test]
    fn a_scope_has_a_name_that_fits_a_commits_metadata() {
        assert!(check_scope("billing.bill").is_ok());
        for bad in ["", "a,b", "a b", "a\0"] {
            assert_eq!(check_scope(bad).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
