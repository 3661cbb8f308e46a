//! Cases: a key is its bytes.

use super::Harness;
use super::support::*;
use crate::key::Key;
use crate::outcome::Outcome;
use crate::store::{Claimed, Store as _};

/// All of them in one claim are new; all of them once more, and one by one, are there.
async fn all_different<H: Harness>(harness: &H, texts: &[&str]) {
    let mut keys: Vec<_> = texts.iter().map(|text| key(text)).collect();
    keys.sort();
    let claims: Vec<_> = keys.iter().map(|key| plain(SCOPE, key)).collect();
    for new in [true, false] {
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        let claimed = harness.store().claim(&mut tx, &writer, &claims).await.unwrap();
        assert_eq!(claimed, Claimed::Keys(vec![new; keys.len()]));
        finish(harness, tx, &writer, 0).await;
    }
    for key in &keys {
        assert!(harness.store().marker(SCOPE, key).await.unwrap().is_some(), "{key:?}");
    }
}

pub async fn keys_that_look_alike_are_different<H: Harness>(harness: &H) {
    let texts = [
        "a",
        "A",
        "a ",
        " a",
        "a\t",
        "ä",
        "a\u{308}",
        "Ä",
        "ß",
        "ss",
        "1",
        "01",
        "1.0",
        "1e0",
        "ﬁ",
        "fi",
        "ı",
        "i",
        "İ",
        "\u{200b}a",
        "a\u{200b}",
        "true",
        "null",
        "NULL",
    ];
    all_different(harness, &texts).await;
}

pub async fn any_text_that_fits_is_a_key<H: Harness>(harness: &H) {
    let longest = "x".repeat(Key::MAX_LEN);
    let almost = "x".repeat(Key::MAX_LEN - 1) + "y";
    let wide = "\u{1f980}".repeat(Key::MAX_LEN / 4);
    let texts = [
        longest.as_str(),
        almost.as_str(),
        wide.as_str(),
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "%",
        "_",
        "{",
        "{a,b}",
        "(1,2)",
        "a,b",
        "$1",
        "?1",
        ":a",
        "; drop table markers --",
        "\u{1}",
        "\n",
        "\r\n",
        "\u{7f}",
        "\u{feff}",
        "\u{fffd}",
        "\u{10ffff}",
        "日本語",
        "x'00'",
    ];
    all_different(harness, &texts).await;
}

pub async fn scopes_that_look_alike_are_different<H: Harness>(harness: &H) {
    let longest = "s".repeat(crate::scope::MAX_SCOPE_LEN);
    for scope in ["bill", "Bill", "bill\t", "bïll", "'bill'", "bill::bill", &longest] {
        for new in [true, false] {
            let outcome = harness.store().mark_processed(scope, "e1", None).await.unwrap();
            assert_eq!(matches!(outcome, Outcome::Processed(())), new, "{scope}");
        }
    }
}
