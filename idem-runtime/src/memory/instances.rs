//! Instances of groups that read everything in each instance.

use std::time::SystemTime;

use super::data::InstanceRow;
use super::state::State;
use crate::error::Result;
use crate::store::Instance;

impl State {
    /// One try at keeping an instance; `None` when it has to wait.
    pub(super) fn keep_instance(&mut self, instance: &Instance<'_>) -> Option<Result<Vec<String>>> {
        if !self.data.can_be_instance(instance.group, instance.broadcast) {
            return Some(Err(instance.is_another()));
        }
        let now = SystemTime::now();
        let silent: Vec<String> = match instance.forget_after {
            None => Vec::new(),
            Some(after) => {
                let of = |row: &InstanceRow| row.broadcast == instance.broadcast;
                let is_silent = |row: &InstanceRow| {
                    now.duration_since(row.seen_at).is_ok_and(|silence| silence > after)
                };
                let instances = self.data.instances.iter();
                let others = instances.filter(|(group, _)| **group != *instance.group);
                others
                    .filter(|(_, row)| of(row) && is_silent(row))
                    .map(|(group, _)| group.clone())
                    .collect()
            }
        };
        let lanes =
            self.data.lanes.values().filter(|it| silent.iter().any(|s| **s == *it.row.id.group));
        let lanes: Vec<_> = lanes.map(|lane| lane.row.id.clone()).collect();
        let numbers = lanes.iter().filter_map(|id| self.data.lane(id)).map(|lane| lane.row.number);
        if numbers.into_iter().any(|number| self.is_locked(number)) {
            return None;
        }
        self.version += 1;
        let row = InstanceRow { broadcast: instance.broadcast.to_owned(), seen_at: now };
        self.data.instances.insert(instance.group.to_owned(), row);
        for lane in &lanes {
            self.data.drop_lane(lane);
        }
        self.data.forget_groups(&silent);
        Some(Ok(silent))
    }
}
