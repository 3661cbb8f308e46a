//! Payloads of Avro that were made to hurt, or that something broke: none of them ends the process, and
//! none takes more memory than its own bytes are a reason for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::types::Value;

use super::avro_reader::{MOST_EMPTY, Obstacle};
use super::{Encoded, Schema, Schemas, decode_avro};
use crate::event::Event;
use crate::random::Random;

/// Counts what each thread of the tests has of memory.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    /// What the thread took and did not give back, and the most that this was.
    static USED: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

impl Counting {
    fn used(layout: Layout, sign: isize) {
        // A thread that ends has no counter any more.
        let _ = USED.try_with(|used| {
            let (now, most) = used.get();
            let now = now + sign * isize::try_from(layout.size()).unwrap_or(isize::MAX);
            used.set((now, most.max(now)));
        });
    }
}

#[expect(unsafe_code, reason = "an allocator is; it leaves all of the work to the system's")]
// SAFETY: each call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::used(layout, 1);
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::used(layout, 1);
        // SAFETY: as for this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::used(layout, -1);
        // SAFETY: as for this function.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What a task makes, and the most memory that it had at once.
fn with_memory<T>(task: impl FnOnce() -> T) -> (T, usize) {
    let before = USED.with(|used| {
        let (now, _) = used.get();
        used.set((now, now));
        now
    });
    let made = task();
    let (_, most) = USED.get();
    (made, usize::try_from(most - before).unwrap())
}

/// The most memory that a payload can be a reason for: its values of at least a byte, those of none, and
/// what serde and the names of a schema need.
fn bound(payload: &[u8]) -> usize {
    64 * 1024 + 1024 * payload.len()
}

fn schema(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap()
}

/// Reads a payload, all the way to a type, in no more memory than it may have.
#[track_caller]
fn read(schema: &Schema, payload: &[u8]) -> Result<Value, Obstacle> {
    let (read, memory) = with_memory(|| schema.read(payload));
    assert!(memory <= bound(payload), "{memory} for {payload:?}");
    read
}

/// A number as Avro writes it.
fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

const COUNTS: [i64; 9] =
    [1, 100_000, 64 << 20, (64 << 20) + 1, 1 << 31, 1 << 40, i64::MAX, i64::MIN, -(64 << 20)];

#[test]
fn a_block_of_a_few_bytes_makes_no_room_for_the_items_it_says_it_has() {
    for items in [r#""int""#, r#""string""#, r#"{"type": "array", "items": "long"}"#] {
        for kind in [r#""array", "items""#, r#""map", "values""#] {
            let schema = schema(&format!(r#"{{"type": {kind}: {items}}}"#));
            for count in COUNTS {
                // With the size of the block where the count is negative, and a wrong one.
                let size = if count < 0 { long(i64::MAX) } else { Vec::new() };
                let payload = [long(count), size].concat();
                assert_eq!(read(&schema, &payload), Err(Obstacle::Form), "{count}");
            }
        }
    }
}

#[test]
fn blocks_within_blocks_make_no_room_either() {
    let array = |of: String| format!(r#"{{"type": "array", "items": {of}}}"#);
    for depth in [2, 7, 40] {
        let schema = schema(&(0..depth).fold(r#""int""#.to_owned(), |of, _| array(of)));
        for count in COUNTS.into_iter().filter(|count| *count > 0) {
            assert_eq!(read(&schema, &long(count).repeat(depth)), Err(Obstacle::Form));
        }
    }
}

#[test]
fn a_length_of_more_than_is_there_makes_no_room() {
    let types = [
        r#""string""#,
        r#""bytes""#,
        r#"{"type": "string", "logicalType": "uuid"}"#,
        r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
        r#"{"type": "bytes", "logicalType": "big-decimal"}"#,
        r#"{"type": "fixed", "name": "F", "size": 1000000000}"#,
        r#"{"type": "map", "values": "null"}"#,
    ];
    for text in types {
        let schema = schema(text);
        for length in COUNTS {
            // Alone, as a key of the one entry of a map, and as the length within a length.
            for before in [vec![], long(1), long(12)] {
                let payload = [before, long(length), vec![0; 3]].concat();
                assert!(read(&schema, &payload).is_err(), "{text} {length}");
            }
        }
    }
}

#[test]
fn a_string_longer_than_apache_avro_would_read_is_read_when_it_is_there() {
    let text = "a".repeat((64 << 20) + 1);
    let payload = [&long(text.len().try_into().unwrap())[..], text.as_bytes()].concat();
    assert_eq!(schema(r#""string""#).read(&payload), Ok(Value::String(text)));
}

#[test]
fn values_of_no_bytes_are_bounded_however_they_are_made() {
    let record = |name: &str, fields: String| {
        format!(r#"{{"type": "record", "name": "{name}", "fields": [{fields}]}}"#)
    };
    let nothings = [
        r#""null""#.to_owned(),
        record("N", String::new()),
        record("N", r#"{"name": "n", "type": "null"}"#.to_owned()),
        r#"{"type": "fixed", "name": "F", "size": 0}"#.to_owned(),
    ];
    for nothing in nothings {
        let array = schema(&format!(r#"{{"type": "array", "items": {nothing}}}"#));
        for count in [(MOST_EMPTY + 100) as i64, 64 << 20, i64::MAX, i64::MIN] {
            let size = if count < 0 { long(0) } else { Vec::new() };
            let payload = [long(count), size, long(0)].concat();
            let (read, memory) = with_memory(|| array.read(&payload));
            assert_eq!(read, Err(Obstacle::Empty), "{nothing} {count}");
            assert!(memory < 512 * MOST_EMPTY, "{memory}");
        }
        // Nor in many blocks: all of the payload has one count.
        let block = long(60_000);
        assert_eq!(array.read(&block.repeat(1000)), Err(Obstacle::Empty));
        let payload = [long(MOST_EMPTY as i64), long(0)].concat();
        assert!(array.read(&payload).is_ok(), "{nothing}");
    }
    // Each of eight records has ten of the next, and the last one ten nulls.
    let of = |n: usize| match n {
        7 => r#""null""#.to_owned(),
        n => format!(r#""R{}""#, n + 1),
    };
    let fields = |n: usize| {
        let field = |name: usize| format!(r#"{{"name": "f{name}", "type": {}}}"#, of(n));
        (0..10).map(field).collect::<Vec<_>>().join(",")
    };
    let others: Vec<_> = (1..8).map(|n| record(&format!("R{n}"), fields(n))).collect();
    let many = Schema::parse(&record("R0", fields(0)), &others).unwrap();
    assert_eq!(many.read(&[]), Err(Obstacle::Empty));
}

#[test]
fn a_null_in_each_of_many_items_is_no_reason_to_refuse_them() {
    let array = schema(
        r#"{"type": "array", "items": {"type": "record", "name": "R", "fields": [
        {"name": "n", "type": "null"}, {"name": "i", "type": "int"}]}}"#,
    );
    let items = 3 * MOST_EMPTY;
    let payload = [long(items as i64), vec![2; items], long(0)].concat();
    let Ok(Value::Array(read)) = array.read(&payload) else { panic!("it is refused") };
    assert_eq!(read.len(), items);
}

#[test]
fn what_is_refused_says_why() {
    let known = Schemas::of(HashMap::from([(
        7,
        Ok(Arc::new(schema(r#"{"type": "array", "items": "null"}"#))),
    )]));
    let payload = [vec![0, 0, 0, 0, 7], long(i64::MAX)].concat();
    let event = Event::new("t".into(), 0, 0, payload);
    let error = decode_avro::<Vec<()>>(Encoded::new(&event, &known)).unwrap_err().to_string();
    assert!(error.contains("more than 65536 values that take no bytes"), "{error}");
}

const EVERYTHING: &str = r#"{"type": "record", "name": "All", "namespace": "a.b", "fields": [
    {"name": "a", "type": "boolean"}, {"name": "b", "type": "float"}, {"name": "c", "type": "double"},
    {"name": "d", "type": "string"}, {"name": "e", "type": "bytes"}, {"name": "f", "type": "int"},
    {"name": "g", "type": {"type": "enum", "name": "c.E", "symbols": ["X", "Y"]}},
    {"name": "h", "type": {"type": "fixed", "name": "F", "size": 3}},
    {"name": "i", "type": {"type": "fixed", "name": "None", "size": 0}},
    {"name": "j", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "k", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "l", "type": {"type": "int", "logicalType": "date"}},
    {"name": "m", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "n", "type": {"type": "bytes", "logicalType": "big-decimal"}},
    {"name": "o", "type":
        {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}},
    {"name": "p", "type": {"type": "map", "values": ["null", "F", "c.E", "double"]}},
    {"name": "q", "type": {"type": "array", "items": "null"}},
    {"name": "r", "type": {"type": "array", "items": {"type": "map", "values": "bytes"}}},
    {"name": "s", "type": ["null", "string", {"type": "array", "items": "All"}]}]}"#;

/// A value of `EVERYTHING` as Avro writes it.
fn everything(random: &mut Random, depth: usize) -> Vec<u8> {
    let text = |random: &mut Random| {
        let length = random.below(20);
        [long(length as i64), vec![b'x'; length]].concat()
    };
    let number = |random: &mut Random| long(random.pick(&COUNTS));
    let mut bytes = vec![u8::try_from(random.below(2)).unwrap()];
    bytes.extend(vec![u8::try_from(random.below(256)).unwrap(); 4 + 8]);
    bytes.extend(text(random));
    bytes.extend(text(random));
    bytes.extend(long(-5));
    bytes.extend(long(random.below(2) as i64));
    bytes.extend([1, 2, 3]);
    bytes.extend([&long(36)[..], b"12345678-9abc-def0-1234-56789abcdef0"].concat());
    bytes.extend(number(random));
    bytes.extend(long(20_000));
    bytes.extend([long(2), vec![1, 44]].concat());
    let big = [long(3), vec![1, 2, 3], number(random)].concat();
    bytes.extend([long(big.len() as i64), big].concat());
    bytes.extend([7; 12]);
    bytes.extend(
        [long(2), text(random), long(0), text(random), long(1), vec![4, 5, 6], long(0)].concat(),
    );
    bytes.extend([long(random.below(50) as i64 + 1), long(0)].concat());
    let map = [long(-1), long(4), text(random), text(random), long(0)].concat();
    bytes.extend([long(1), map, long(0)].concat());
    match (depth, random.below(3)) {
        (_, 0) => bytes.extend(long(0)),
        (0, _) | (_, 1) => bytes.extend([long(1), text(random)].concat()),
        _ => {
            let inner = everything(random, depth - 1);
            bytes.extend([long(2), long(1), inner, long(0)].concat());
        }
    }
    bytes
}

/// Breaks a payload in one place.
fn break_it(payload: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(payload.len() + 1);
    match random.below(5) {
        0 => payload.truncate(at),
        1 => drop(payload.splice(at..at, long(random.pick(&COUNTS)))),
        2 => drop(payload.splice(at.., long(random.pick(&COUNTS)))),
        3 => payload.insert(at, u8::try_from(random.below(256)).unwrap()),
        _ => {
            if let Some(byte) = payload.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

#[test]
fn any_payload_is_read_as_apache_avro_reads_it_or_refused() {
    let all = Arc::new(schema(EVERYTHING));
    let schemas = Schemas::of(HashMap::from([(7, Ok(Arc::clone(&all)))]));
    let mut random = Random(7);
    let (mut read_whole, mut refused) = (0, 0);
    for round in 0..6000 {
        let mut payload = match round % 3 {
            0 => (0..random.below(200)).map(|_| u8::try_from(random.below(256)).unwrap()).collect(),
            _ => everything(&mut random, 3),
        };
        for _ in 0..random.below(4) {
            break_it(&mut payload, &mut random);
        }
        let (value, memory) = with_memory(|| all.read(&payload));
        // Lists of nulls apart, which a number in the wrong place can ask for.
        assert!(memory <= bound(&payload) + 512 * MOST_EMPTY, "{memory} for {payload:?}");
        let Ok(value) = value else {
            refused += 1;
            continue;
        };
        read_whole += 1;
        // What was read is known to be harmless, so that apache-avro can have it.
        let known = apache_avro::from_avro_datum(&all.avro, &mut &payload[..], None).unwrap();
        // Not a number is not itself.
        assert!(value == known || format!("{value:?}").contains("NaN"), "{value:?} {known:?}");
        let event = Event::new("t".into(), 0, 0, [&[0, 0, 0, 0, 7], &payload[..]].concat());
        // As anything: whatever comes of it, it does not break.
        let _ = decode_avro::<Everything>(Encoded::new(&event, &schemas));
        let _ = decode_avro::<serde_json::Value>(Encoded::new(&event, &schemas));
    }
    assert!(read_whole > 500 && refused > 500, "{read_whole} {refused}");
}

/// A type that asks for what a `serde_json::Value` refuses.
#[derive(Debug, serde::Deserialize)]
#[expect(dead_code, reason = "only its shape matters")]
struct Everything {
    e: Vec<u8>,
    h: Vec<u8>,
    m: Vec<u8>,
    n: String,
    o: Vec<u8>,
    q: Vec<()>,
}
