//! Whether an answer contains what it should.

/// Whether `text` contains one of `answers`, whatever the case of its letters.
pub fn says_any(text: &str, answers: &[String]) -> bool {
    let text = text.to_lowercase();
    answers
        .iter()
        .any(|answer| contains_whole(&text, &answer.to_lowercase()))
}

/// Whether `text` contains all of `facts`, letter by letter.
pub fn says_all(text: &str, facts: &[String]) -> bool {
    facts.iter().all(|fact| contains_whole(text, fact))
}

/// Whether `text` contains `wanted` as more than a part of a longer word or number.
fn contains_whole(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, _)| {
        let before = text[..at].chars().rev();
        let after = text[at + wanted.len()..].chars();
        !goes_on(wanted.chars().next(), before) && !goes_on(wanted.chars().last(), after)
    })
}

/// Whether the word or number that ends in `edge` goes on in the characters `beyond` it, the nearest first. A unit may follow
/// a number directly, as in "5km"; a point or a comma between digits is a part of their number.
fn goes_on(edge: Option<char>, mut beyond: impl Iterator<Item = char>) -> bool {
    let (Some(edge), Some(next)) = (edge, beyond.next()) else {
        return false;
    };
    if edge.is_alphabetic() {
        next.is_alphabetic()
    } else if edge.is_numeric() {
        next.is_numeric()
            || matches!(next, '.' | ',') && beyond.next().is_some_and(char::is_numeric)
    } else {
        false
    }
}
