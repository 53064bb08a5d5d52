//! Finds the word that was probably meant by one that is unknown. PURE.

/// More typing mistakes than this, and it is another word.
const MOST_MISTAKES: usize = 2;

/// The known word that is closest to this one, if any is close: a beginning of it, or with at
/// most two characters missing, surplus, changed or swapped. Case does not count.
pub(crate) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer ones cannot be close, and the work grows with their length.
    let word: Vec<char> = word.chars().take(32).flat_map(char::to_lowercase).collect();
    let ranked = known.into_iter().filter_map(|candidate| {
        let letters: Vec<char> = candidate.chars().collect();
        if word.len() > 1 && letters.starts_with(&word) {
            return Some((0, candidate));
        }
        // Of a short word little may be wrong, or every word is close to it.
        let most = MOST_MISTAKES.min(letters.len().saturating_sub(1) / 2);
        let mistakes = distance(&word, &letters);
        (mistakes <= most).then_some((mistakes, candidate))
    });
    let best = ranked.min_by_key(|(mistakes, _)| *mistakes);
    best.map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, removed, replaced, or swapped with their neighbour, to
/// make one text of the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut least = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            let is_swapped =
                row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other;
            if is_swapped {
                least = least.min(before[column - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "abd", 1),
            ("abc", "xabcx", 2),
            ("kitten", "sitting", 3),
        ] {
            let [one, other] = [from, to].map(|text| text.chars().collect::<Vec<char>>());
            assert_eq!(distance(&one, &other), expected, "{from} {to}");
            assert_eq!(distance(&other, &one), expected, "{to} {from}");
        }
    }

    #[test]
    fn what_was_meant() {
        let known = ["dev", "import", "diff", "help"];
        for (word, meant) in [
            ("dev", Some("dev")),
            ("DEV", Some("dev")),
            ("edv", Some("dev")),
            ("de", Some("dev")),
            ("d", None),
            ("abc", None),
            ("dif", Some("diff")),
            ("imprt", Some("import")),
            ("imported", Some("import")),
            ("importing", None),
            ("hepl", Some("help")),
            ("", None),
            (&"help".repeat(1000), None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
    }
}
