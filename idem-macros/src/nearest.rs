//! "Did you mean": the known word nearest to an unknown one.

/// The known word that the unknown one was most likely meant to be.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|known| (distance(&word, known), *known))
        .filter(|(distance, known)| *distance <= allowed || is_abbreviation(&word, known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `pg` for `postgres`, `postgre` for `postgres`: the word's letters in their order, and its first.
fn is_abbreviation(word: &str, known: &str) -> bool {
    let mut letters = known.chars();
    word.len() > 1
        && word.chars().next() == known.chars().next()
        && word.chars().all(|letter| letters.any(|it| it == letter))
}

/// The number of letters to insert, delete, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let known = &["key", "store", "topic", "topics", "scope"];
        for (typed, meant) in [
            ("keys", "key"),
            ("kye", "key"),
            ("stroe", "store"),
            ("Topic", "topic"),
            ("topcis", "topics"),
            ("scop", "scope"),
        ] {
            assert_eq!(nearest(typed, known), Some(meant), "{typed}");
        }
        assert_eq!(nearest("retention", known), None);
    }

    #[test]
    fn common_short_names_of_databases_are_understood() {
        let known = &["postgres", "sqlite"];
        for typed in ["postgresql", "pg", "Postgres", "postgre"] {
            assert_eq!(nearest(typed, known), Some("postgres"), "{typed}");
        }
        assert_eq!(nearest("sqlite3", known), Some("sqlite"));
        assert_eq!(nearest("mongodb", known), None);
    }
}
