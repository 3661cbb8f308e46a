use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::event::Event;
use crate::random::Random;

/// Pieces in a row, most often few, and now and then more than a key has room for.
fn pieces<T: Clone>(random: &mut Random, pieces: &[T]) -> Vec<T> {
    let many = if random.below(20) == 0 { 400 } else { 5 };
    (0..random.below(many)).map(|_| random.pick(pieces)).collect()
}

/// Calls this with many different seeds, and says which one it failed with.
#[expect(clippy::print_stdout, reason = "shown when the test fails")]
pub(super) fn with_seeds(each: impl Fn(Random)) {
    let seeds = std::env::var("IDEM_SEEDS").map_or(20, |it| it.parse().unwrap());
    for seed in 0..seeds {
        println!("seed {seed}");
        each(Random(seed));
    }
}

#[test]
fn a_key_is_never_empty_and_has_no_nul() {
    for refused in ["", "a\0b", &"\0".repeat(300)] {
        assert!(Key::new(refused).is_err());
        assert!(Key::written(refused).is_err());
    }
    assert!(Key::new("").unwrap_err().is_missing());
    assert!(!Key::new("\0").unwrap_err().is_missing());
}

#[test]
fn a_long_text_is_hashed_as_others_would_hash_it() {
    assert_eq!(Key::new("x".repeat(255)).unwrap().as_str(), "x".repeat(255));
    // printf 'x%.0s' $(seq 256) | sha256sum
    let hash = "85e62acd750c4eb56b7b6a1d66dca5bfaac5f062608a1a893410d0288936c09a";
    assert_eq!(Key::new("x".repeat(256)).unwrap().as_str(), format!("sha256:{hash}"));
}

#[test]
fn nobody_can_write_the_key_of_another_event() {
    let long = Key::new("x".repeat(300)).unwrap();
    let forged = Key::new(long.as_str()).unwrap();
    assert_ne!(forged, long);
    assert_ne!(Key::new(forged.as_str()).unwrap(), forged);
    let almost = long.as_str().replace("sha256:", "sha256;");
    assert_eq!(Key::new(almost.as_str()).unwrap().as_str(), almost);
}

#[test]
fn a_key_that_was_made_stays_what_it_is() {
    for text in ["a".to_owned(), "x".repeat(300)] {
        let key = Key::new(text).unwrap();
        assert_eq!(Key::written(key.as_str()).unwrap(), key);
        assert_eq!(Key::of(&key).unwrap(), key);
        assert_eq!((&&key).into_key().unwrap(), key);
        assert_eq!(Key::of(&Ok::<_, KeyError>(Arc::new(key.clone()))).unwrap(), key);
    }
    assert!(Key::written("x".repeat(256)).is_err());
}

#[test]
fn different_texts_make_different_keys_of_at_most_255_bytes() {
    with_seeds(|mut random| {
        let mut texts = HashMap::new();
        let hash = Key::new("x".repeat(300)).unwrap();
        for _ in 0..400 {
            let text =
                pieces(&mut random, &["a", "0", "sha256:", "é", ":", hash.as_str()]).concat();
            let Ok(key) = Key::new(text.as_str()) else {
                assert!(text.is_empty());
                continue;
            };
            assert!(key.as_str().len() <= Key::MAX_LEN);
            if let Some(before) = texts.insert(key, text.clone()) {
                assert_eq!(before, text);
            }
        }
    });
}

#[test]
fn different_lists_make_different_keys() {
    with_seeds(|mut random| {
        let mut lists = HashMap::new();
        for _ in 0..400 {
            let list: Vec<String> = (0..=random.below(4))
                .map(|_| pieces(&mut random, &["a", "1", "2", ":", ",", "1:a", "é"]).concat() + "a")
                .collect();
            let parts: Vec<&dyn KeyPart> = list.iter().map(|part| part as &dyn KeyPart).collect();
            if let Some(before) = lists.insert(Key::composite(&parts).unwrap(), list.clone()) {
                assert_eq!(before, list);
            }
        }
    });
}

#[test]
fn different_message_keys_make_different_keys() {
    with_seeds(|mut random| {
        let mut keys = HashMap::new();
        for _ in 0..400 {
            let all: [&[u8]; 7] = [b"a", b"0x", b"61", b"0", &[0], &[0xff], &[0xc3, 0xa9]];
            let bytes = pieces(&mut random, &all).concat();
            let mut event = Event::new("t".into(), 0, 0, "");
            event.message_key = Some(bytes.clone().into());
            match Key::message_key(&event) {
                Ok(key) => {
                    if let Some(before) = keys.insert(key, bytes.clone()) {
                        assert_eq!(before, bytes);
                    }
                }
                Err(error) => assert!(bytes.is_empty() && error.is_missing()),
            }
        }
    });
}

#[test]
fn a_message_key_is_readable_where_it_can_be() {
    let key = |bytes: &'static [u8]| {
        let mut event = Event::new("t".into(), 0, 0, "");
        event.message_key = Some(bytes.into());
        Key::message_key(&event).unwrap().to_string()
    };
    assert_eq!(key("customer-é".as_bytes()), "customer-é");
    assert_eq!(key(&[0, 0xff]), "0x00ff");
    assert_eq!(key(b"a\0"), "0x6100");
    assert_eq!(key(b"0x00ff"), "0x307830306666");
    let none = Event::new("t".into(), 0, 0, "");
    assert!(Key::message_key(&none).unwrap_err().is_missing());
}

#[test]
fn an_option_is_a_part_where_somebody_says_what_becomes_of_none() {
    let key = |part: Result<&dyn KeyPart, KeyError>| part?.to_key();
    assert_eq!(key(Maybe::of(&Some("a")).key_part()).unwrap().as_str(), "a");
    assert_eq!(key(Maybe::of(&7).key_part()).unwrap().as_str(), "7");
    assert!(key(Maybe::of(&None::<Uuid>).key_part()).unwrap_err().is_missing());
    let made: [Result<Option<u8>, KeyError>; 3] = [Ok(Some(1)), Ok(None), Err(KeyError::new("no"))];
    let [some, none, failed] = made.map(|made| key(Maybe::of(&made).key_part()));
    assert_eq!(some.unwrap().as_str(), "1");
    assert!(none.unwrap_err().is_missing() && !failed.unwrap_err().is_missing());
}

#[test]
fn each_kind_of_part_has_its_text() {
    let text = |part: &dyn KeyPart| {
        let mut text = String::new();
        part.write(&mut text).unwrap();
        text
    };
    assert_eq!(text(&-7_i64), "-7");
    assert_eq!(text(&String::from("a")), "a");
    assert_eq!(text(&Uuid::nil()), "00000000-0000-0000-0000-000000000000");
    assert_eq!(text(&[0xab_u8, 0x01]), "ab01");
    assert_eq!(text(&Arc::<str>::from("x")), "x");
}

#[test]
fn different_lists_of_parts_never_make_one_key() {
    let key = |parts: &[&str]| {
        let parts: Vec<&dyn KeyPart> = parts.iter().map(|part| part as &dyn KeyPart).collect();
        Key::composite(&parts).unwrap()
    };
    let lists: &[&[&str]] = &[
        &["a", "bc"],
        &["ab", "c"],
        &["abc"],
        &["a", "b", "c"],
        &["1:a", "bc"],
        &["a,2:bc"],
        &["a", "2:bc"],
    ];
    for (i, a) in lists.iter().enumerate() {
        for b in &lists[i + 1..] {
            assert_ne!(key(a), key(b));
        }
    }
    assert!(Key::composite(&[&"a", &""]).is_err());
}

#[test]
fn a_header_key_is_text_and_there() {
    let mut event = Event::new("t".into(), 0, 3, "");
    let missing = Key::header(&event, "id").unwrap_err();
    assert!(missing.is_missing() && missing.to_string().contains("`id`"), "{missing}");
    event.headers = [("id", Some(vec![0xff]))].into_iter().collect();
    let malformed = Key::header(&event, "id").unwrap_err();
    assert!(!malformed.is_missing() && malformed.to_string().contains("UTF-8"), "{malformed}");
    event.headers = [("id", Some(""))].into_iter().collect();
    assert!(Key::header(&event, "id").unwrap_err().is_missing());
    event.headers = [("id", Some("e1"))].into_iter().collect();
    assert_eq!(Key::header(&event, "id").unwrap().as_str(), "e1");
    assert_eq!(Key::offset(&event).unwrap().as_str(), "t/0/3");
}

#[test]
fn a_part_may_make_keys_while_it_is_written_and_may_fail() {
    struct Nested(u32);
    impl KeyPart for Nested {
        fn write(&self, text: &mut String) -> Result<(), KeyError> {
            match self.0 {
                0 => Err(KeyError::new("nothing")),
                n => {
                    text.push_str(Key::of(&(n * 10))?.as_str());
                    text.push('+');
                    n.write(text)
                }
            }
        }
    }
    assert_eq!(Key::of(&Nested(7)).unwrap().as_str(), "70+7");
    assert!(Key::of(&Nested(0)).is_err());
    assert_eq!(Key::of(&Nested(1)).unwrap().as_str(), "10+1");
    assert_eq!(Key::of(&"x".repeat(5_000)).unwrap().as_str().len(), 71);
    assert_eq!(Key::of(&2_u8).unwrap().as_str(), "2");
    let id = Uuid::from_u128(0xABCD);
    assert_eq!(Key::of(&id).unwrap().as_str(), id.to_string());
}
