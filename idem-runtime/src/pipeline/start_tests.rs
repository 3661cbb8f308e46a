use uuid::Uuid;

use super::*;
use crate::lane::LogIdentity;
use crate::pipeline::source::Commit;

fn id() -> LaneId {
    LaneId { group: "g".into(), topic: "t".into(), partition: 0 }
}

fn row(offset: i64) -> LaneRow {
    LaneRow { revision: 3, ..LaneRow::new(id(), 1, Position::at(offset), log("A")) }
}

fn log(topic_id: &str) -> LogIdentity {
    LogIdentity { cluster_id: Some("C".into()), topic_id: Some(topic_id.into()) }
}

fn survey(commit: Option<(i64, &str)>) -> Survey {
    let commit = commit.map(|(offset, metadata)| Commit { offset, metadata: metadata.into() });
    Survey { partition: 0, commit, low: 0, high: 100, identity: log("A") }
}

fn ours() -> String {
    mark::write(Uuid::nil(), &["bill"])
}

fn decide(row: &LaneRow, survey: &Survey) -> Result<Decided, Error> {
    with_row(row, survey, &Policies::default())
}

fn open(survey: &Survey, start: Option<Start>, known: bool) -> Result<i64, Error> {
    let policies = Policies { start, ..Policies::default() };
    without_row(&id(), survey, &policies, &["bill"], known).map(|position| position.offset)
}

#[test]
fn a_row_decides_against_our_own_commit_and_none() {
    for commit in [None, Some((7, ours())), Some((70, ours()))] {
        let survey = survey(commit.as_ref().map(|(offset, mark)| (*offset, mark.as_str())));
        let decided = decide(&row(50), &survey).unwrap();
        assert_eq!((decided.position.offset, decided.moves, decided.mark), (50, None, false));
    }
}

#[test]
fn an_operators_rewind_is_followed_and_marked() {
    let decided = decide(&row(50), &survey(Some((7, "")))).unwrap();
    assert_eq!(decided.position.offset, 7);
    assert_eq!(decided.moves, Some(Moves::Rewind));
    assert!(decided.mark && decided.warning.is_some());
}

#[test]
fn an_operators_skip_is_not_followed_and_said_loudly() {
    let decided = decide(&row(50), &survey(Some((70, "")))).unwrap();
    assert_eq!((decided.position.offset, decided.moves), (50, None));
    assert!(decided.mark && decided.warning.unwrap().contains("nothing is skipped"));
}

#[test]
fn an_unmarked_commit_at_the_row_is_marked_so_that_it_is_not_a_rewind_later() {
    let decided = decide(&row(50), &survey(Some((50, "")))).unwrap();
    assert_eq!((decided.moves, decided.mark), (None, true));
}

#[test]
fn a_lane_opened_at_a_commit_follows_the_old_consumer_until_it_is_first_taken() {
    let opened = LaneRow { revision: 0, ..row(50) };
    let policies = Policies { start: Some(Start::Committed), ..Policies::default() };
    let decided = with_row(&opened, &survey(Some((80, ""))), &policies).unwrap();
    assert_eq!((decided.position.offset, decided.moves), (80, Some(Moves::Settle)));
    assert!(decided.mark);
    // Once taken, a higher offset by hand skips nothing.
    let decided = with_row(&row(50), &survey(Some((80, ""))), &policies).unwrap();
    assert_eq!(decided.position.offset, 50);
}

#[test]
fn a_recreated_topic_stops_even_when_it_has_grown_past_the_position() {
    let survey = Survey { identity: log("B"), ..survey(None) };
    let error = decide(&row(50), &survey).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Log);
    let policies = Policies { log_changed: LogChanged::Earliest, ..Policies::default() };
    let decided = with_row(&row(50), &survey, &policies).unwrap();
    assert_eq!((decided.position.offset, decided.moves), (0, Some(Moves::LogChanged)));
}

#[test]
fn a_gap_is_named() {
    let ahead = Survey { low: 60, ..survey(None) };
    assert!(decide(&row(50), &ahead).unwrap_err().to_string().contains("50 to 59"));
    let truncated = Survey { high: 40, ..survey(None) };
    assert!(decide(&row(50), &truncated).unwrap_err().to_string().contains("ends at 40"));
    assert!(decide(&row(100), &survey(None)).is_ok());
}

#[test]
fn an_id_that_the_broker_does_not_tell_is_not_compared() {
    let unknown = LaneRow { identity: LogIdentity::default(), ..row(50) };
    assert_eq!(decide(&unknown, &survey(None)).unwrap().moves, Some(Moves::Settle));
    let rewound = decide(&unknown, &survey(Some((7, "")))).unwrap();
    assert_eq!((rewound.position.offset, rewound.moves), (7, Some(Moves::Rewind)));
    // But a lane that knows its topic's id waits until the broker tells it.
    let silent = Survey { identity: LogIdentity::default(), ..survey(None) };
    assert!(decide(&row(50), &silent).unwrap_err().is_retryable());
}

#[test]
fn a_lost_database_refuses_or_follows_the_policy() {
    let survey = survey(Some((50, &ours())));
    for known in [true, false] {
        let error = open(&survey, Some(Start::Earliest), known).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseLost);
    }
    let policies =
        Policies { database_lost: DatabaseLost::StartAt(Start::Committed), ..Policies::default() };
    let position = without_row(&id(), &survey, &policies, &["bill"], true).unwrap();
    assert_eq!(position.offset, 50);
}

#[test]
fn a_foreign_commit_asks_for_an_explicit_start() {
    for metadata in ["", mark::write(Uuid::nil(), &["other"]).as_str()] {
        let survey = survey(Some((50, metadata)));
        assert_eq!(open(&survey, None, false).unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(open(&survey, Some(Start::Committed), false).unwrap(), 50);
        assert_eq!(open(&survey, Some(Start::Earliest), false).unwrap(), 0);
        assert_eq!(open(&survey, Some(Start::Latest), false).unwrap(), 100);
    }
}

#[test]
fn a_first_start_is_at_the_oldest_event_unless_said_otherwise() {
    assert_eq!(open(&survey(None), None, false).unwrap(), 0);
    assert_eq!(open(&survey(None), Some(Start::Latest), false).unwrap(), 100);
}

#[test]
fn a_partition_that_was_added_later_starts_at_its_beginning() {
    assert_eq!(open(&survey(None), Some(Start::Latest), true).unwrap(), 0);
}

#[test]
fn a_lane_that_was_just_opened_does_not_take_an_older_commit_for_a_rewind() {
    let opened = LaneRow { revision: 0, ..row(100) };
    let decided = decide(&opened, &survey(Some((50, "")))).unwrap();
    assert_eq!((decided.position.offset, decided.moves), (100, Some(Moves::Settle)));
    assert!(decided.mark);
}

#[test]
fn a_rewind_does_not_hide_that_the_log_lost_its_tail() {
    let truncated = Survey { high: 40, ..survey(Some((7, ""))) };
    assert!(decide(&row(50), &truncated).unwrap_err().to_string().contains("ends at 40"));
}

#[test]
fn an_id_that_neither_side_knows_changes_nothing() {
    let unknown = LaneRow { identity: LogIdentity::default(), ..row(50) };
    let untold = Survey { identity: LogIdentity::default(), ..survey(None) };
    assert_eq!(decide(&unknown, &untold).unwrap().moves, None);
}
