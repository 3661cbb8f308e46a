use serde_json::{Map, Value, json};

use super::*;
use crate::key::tests::with_seeds;
use crate::random::Random;

fn event(payload: impl Into<bytes::Bytes>) -> Event {
    Event::new("t".into(), 0, 0, payload)
}

fn hash(payload: &str) -> Key {
    Key::content(&event(payload.to_owned()), Content::ALL).unwrap()
}

fn refused(payload: &str) -> String {
    let error = Key::content(&event(payload.to_owned()), Content::ALL).unwrap_err();
    assert!(!error.is_missing(), "{error}");
    error.to_string()
}

#[test]
fn the_form_is_the_documented_one() {
    let payload = r#"{"b":"\u0041", "a":[150,-0.0,-0.1,null,true]}"#;
    // The documented form, through sha256sum.
    let expected = "6caeb4e03dee203724030f384c52c341cf43549101ee4aa10a3ad518c27ee2b1";
    assert_eq!(hash(payload).as_str(), format!("sha256:{expected}"));
    let expected = "0f348d3e4884b76a0de28d8ba66bfdb89ec42e2254a813a792a11a90b3268e6f";
    assert_eq!(Key::payload(&event("abc")).unwrap().as_str(), format!("sha256:{expected}"));
}

#[test]
fn the_same_content_is_one_key() {
    for same in [
        &["1", "1.0", "1e0", "10e-1", "0.1E+1", " 1 "] as &[_],
        &["0", "-0", "0.0", "-0e5", "0e-9"],
        &["123456789012345678901234567890", "12345678901234567890123456789e1"],
        &["1e400", "10e399"],
        &[r#""A\u00e9\ud83e\udd80\/""#, r#""A\u00E9🦀/""#, r#""\u0041é🦀/""#],
        &[r#"{"a":1,"b":2}"#, "{ \"b\" :2,\n\t\"\\u0061\":1 }"],
    ] {
        for other in same {
            assert_eq!(hash(other), hash(same[0]), "{other}");
        }
    }
}

#[test]
fn another_content_is_another_key() {
    let all = [
        "1",
        "-1",
        "2",
        "10",
        "0",
        "0.1",
        r#""1""#,
        "true",
        "false",
        "null",
        "[]",
        "{}",
        r#""""#,
        "[1]",
        "[1,1]",
        "[[1],1]",
        "[1,[1]]",
        "9007199254740993",
        "9007199254740992",
        "18446744073709551616",
        "18446744073709551617",
        "1e400",
        "1e401",
        r#"{"a":null}"#,
        r#"{"a":1}"#,
        r#"{"a":1,"b":1}"#,
        r#"{"a":{"b":1}}"#,
        r#"["a","b"]"#,
        r#"["ab"]"#,
        r#"["b","a"]"#,
        r#""é""#,
        r#""e\u0301""#,
        r#""A""#,
        r#""a""#,
    ];
    for (index, one) in all.iter().enumerate() {
        for other in &all[index + 1..] {
            assert_ne!(hash(one), hash(other), "{one} {other}");
        }
    }
}

#[test]
fn what_has_no_single_content_is_refused_without_being_quoted() {
    assert!(refused(r#"{"a":1,"\u0061":2}"#).contains("twice"));
    assert!(refused(r#""\ud800""#).contains("surrogate"));
    assert!(refused(r#""\udc00\ud800""#).contains("surrogate"));
    assert!(refused(r#""\ud800\u0041""#).contains("surrogate"));
    assert!(refused("1e1234567890123456").contains("exponent"));
    assert!(refused(&"[".repeat(200)).contains("deeper"));
    for payload in [
        "",
        " ",
        "hunter2",
        "01",
        "1.",
        ".1",
        "+1",
        "1e",
        "--1",
        "tru",
        "nulls",
        "[1,]",
        "[,]",
        "[1 2]",
        "{a:1}",
        r#"{"a"}"#,
        r#"{"a":1,}"#,
        "'a'",
        "\"a\nb\"",
        r#""\x""#,
        r#""\u12"#,
        r#""\u+123""#,
        "1 2",
        "[1",
        "\"a",
        "\\é",
        "NaN",
        "\u{feff}1",
    ] {
        assert!(refused(payload).contains("not JSON"), "{payload}");
        assert!(serde_json::from_str::<Value>(payload).is_err(), "{payload}");
    }
    let error = Key::content(&event(vec![0x22, 0xff, 0x22]), Content::ALL).unwrap_err();
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn a_tombstone_has_no_content() {
    let mut event = event("");
    event.payload = None;
    assert!(Key::content(&event, Content::ALL).unwrap_err().is_missing());
    assert!(Key::payload(&event).unwrap_err().is_missing());
}

#[test]
fn chosen_fields_count_and_no_others() {
    let some = |payload: &str| {
        const SOME: Content = Content::only(&["order.id", "a"]);
        Key::content(&event(payload.to_owned()), SOME)
    };
    let key = |payload: &str| some(payload).unwrap();
    let first = key(r#"{"a":1,"order":{"id":7,"at":1},"sent":1}"#);
    assert_eq!(key(r#"{"order":{"at":2,"id":7},"a":1.0}"#), first);
    assert_ne!(key(r#"{"order":{"id":8},"a":1}"#), first);
    assert_ne!(key(r#"{"order":{"id":null},"a":1}"#), key(r#"{"order":{"id":0},"a":1}"#));
    const TURNED: Content = Content::only(&["a", "order.id"]);
    let payload = r#"{"order":{"id":7},"a":1}"#;
    assert_eq!(Key::content(&event(payload), TURNED).unwrap(), first);
    // One of them is not there: a misspelt name must not make all events one that are the same else.
    for payload in [
        r#"{"a":1}"#,
        r#"{"order":{"id":7}}"#,
        r#"{"order":{},"a":1}"#,
        r#"{"order":[{"id":7}],"a":1}"#,
        r#"{"b":1}"#,
        "[]",
        "1",
        "{}",
    ] {
        let error = some(payload).unwrap_err();
        assert!(error.is_missing(), "{payload}");
        let text = error.to_string();
        assert!(text.contains("`order.id`") || text.contains("`a`"), "{text}");
    }
}

#[test]
fn fields_that_may_be_absent_are_told_apart_from_those_that_are_null() {
    const SOME: Content = Content::only(&["a"]).optional(&["order.id", "b"]);
    let some = |payload: &str| Key::content(&event(payload.to_owned()), SOME);
    let key = |payload: &str| some(payload).unwrap();
    let all = [
        r#"{"a":1}"#,
        r#"{"a":1,"b":null}"#,
        r#"{"a":1,"b":2}"#,
        r#"{"a":1,"order":{"id":2}}"#,
        r#"{"a":1,"order":{"id":null}}"#,
        r#"{"a":1,"order":{"id":2},"b":2}"#,
    ];
    for (index, one) in all.iter().enumerate() {
        for other in &all[index + 1..] {
            assert_ne!(key(one), key(other), "{one} {other}");
        }
    }
    assert_eq!(key(r#"{"c":1,"a":1,"order":{}}"#), key(all[0]));
    assert!(some(r#"{"b":1,"order":{"id":2}}"#).unwrap_err().is_missing());
    // Which of them may be absent is of no consequence where all are there.
    const WITHOUT: Content = Content::only(&["b", "a", "order.id"]);
    assert_eq!(Key::content(&event(all[5]), WITHOUT).unwrap(), key(all[5]));
    const NONE: Content = Content::only(&[]).optional(&["a"]);
    assert!(Key::content(&event(r#"{"b":1}"#), NONE).unwrap_err().is_missing());
    assert!(Key::content(&event(r#"{"a":1}"#), NONE).is_ok());
    let except = Content::except(&["b"]).optional(&["a"]);
    assert_eq!(Key::content(&event(r#"{"c":1,"b":2}"#), except).unwrap(), hash(r#"{"c":1}"#));
}

#[test]
fn the_form_of_chosen_fields_is_the_documented_one() {
    let payload = r#"{"order":{"id":7},"a":[true],"c":1}"#;
    const SOME: Content = Content::only(&["order.id", "a"]).optional(&["b"]);
    let form = SOME.form(payload.as_bytes()).unwrap();
    let expected = b"idem content json 1\0(1:a[t]1:b-8:order.id#7e0;)";
    assert_eq!(form, expected, "{}", String::from_utf8_lossy(&form));
}

#[test]
fn all_but_some_fields_count() {
    const EXCEPT: Content = Content::except(&["sent_at", "meta.trace"]);
    let some = |payload: &str| Key::content(&event(payload.to_owned()), EXCEPT);
    let key = |payload: &str| some(payload).unwrap();
    let first = key(r#"{"a":1,"meta":{"x":1}}"#);
    assert_eq!(key(r#"{"sent_at":5,"a":1,"meta":{"trace":"t","x":1}}"#), first);
    assert_ne!(key(r#"{"a":2,"meta":{"x":1}}"#), first);
    assert_ne!(key(r#"{"a":1,"meta":{"x":1},"trace":1}"#), first);
    assert_eq!(first, hash(r#"{"a":1,"meta":{"x":1}}"#));
    assert!(some(r#"{"sent_at":5}"#).unwrap_err().is_missing());
    assert_eq!(key("[1]"), hash("[1]"));
}

fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => json!(random.pick(&[-2_i64, -1, 0, 1, 10, 150, i64::MAX, i64::MIN])),
        1 => json!(random.pick(&[0.5, -0.25, 1e-7, 3e20, 123.456])),
        2 => json!(random.pick(&["", "a", "\"", "\\", "é", "\n", "🦀", "1", "null"])),
        3 => random.pick(&[Some(true), Some(false), None]).map_or(Value::Null, Value::Bool),
        4 => (0..random.below(4)).map(|_| value(random, depth - 1)).collect(),
        _ => Value::Object(object(random, depth - 1)),
    }
}

fn object(random: &mut Random, depth: usize) -> Map<String, Value> {
    let name = |random: &mut Random| random.pick(&["a", "b", "aa", "é", "\"", "\u{1}"]).to_owned();
    (0..random.below(5)).map(|_| (name(random), value(random, depth))).collect()
}

/// Writes the value in some other way than last time.
fn spell(value: &Value, random: &mut Random) -> String {
    let space = |random: &mut Random| random.pick(&["", "", " ", "\n\t", "\r "]);
    let text = match value {
        Value::Number(number) => {
            let plain = number.to_string();
            match (plain.contains(['.', 'e']), random.below(3)) {
                (false, 0) => format!("{plain}.00"),
                (false, 1) => format!("{plain}.0E-0"),
                (true, 0) => format!("{plain}{}", if plain.contains('e') { "" } else { "0e+00" }),
                _ => plain,
            }
        }
        Value::String(text) => {
            let mut spelt = String::from("\"");
            let mut units = [0; 2];
            for letter in text.chars() {
                if random.below(2) == 0 || letter.is_control() || matches!(letter, '"' | '\\') {
                    for unit in letter.encode_utf16(&mut units) {
                        spelt.push_str(&format!("\\u{unit:04x}"));
                    }
                } else {
                    spelt.push(letter);
                }
            }
            spelt + "\""
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| spell(item, random)).collect();
            format!("[{}{}]", items.join(","), space(random))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            for index in (1..fields.len()).rev() {
                fields.swap(index, random.below(index + 1));
            }
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(name, value)| {
                    let name = spell(&Value::String(name.clone()), random);
                    format!("{}{name}{}:{}", space(random), space(random), spell(value, random))
                })
                .collect();
            format!("{{{}{}}}", fields.join(","), space(random))
        }
        other => other.to_string(),
    };
    format!("{}{text}{}", space(random), space(random))
}

#[test]
fn a_content_spelt_in_another_way_is_the_same_and_another_content_is_another() {
    with_seeds(|mut random| {
        let mut before: Vec<(Value, Key)> = Vec::new();
        for _ in 0..60 {
            let value = value(&mut random, 3);
            let key = hash(&value.to_string());
            for _ in 0..3 {
                let spelt = spell(&value, &mut random);
                assert_eq!(hash(&spelt), key, "{value} and {spelt}");
            }
            for (other, its) in &before {
                assert_eq!(value == *other, key == *its, "{value} and {other}");
            }
            before.push((value, key));
        }
    });
}
