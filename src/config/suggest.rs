//! "Did you mean": the known word nearest to an unknown one.
//!
//! Used for keys, words and names of upstreams. Decides only what to propose; the operator decides what was meant.

/// The most words that a help line lists.
const LISTED: usize = 12;

/// A help line for `wrong`: the nearest of `known`, and what there is to choose from, introduced by `label`.
pub(crate) fn help<'a>(
    wrong: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    label: &str,
) -> Option<String> {
    let list = listing(known.clone())?;
    Some(match nearest(wrong, known) {
        Some(near) => format!("did you mean \"{near}\"? ({label}: {list})"),
        None => format!("{label}: {list}"),
    })
}

/// The first words, and how many more there are.
fn listing<'a>(known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let count = known.clone().count();
    if count == 0 {
        return None;
    }
    let mut list = known.take(LISTED).collect::<Vec<_>>().join(", ");
    if count > LISTED {
        list.push_str(&format!(", and {} more", count - LISTED));
    }
    Some(list)
}

/// The word of `known` that differs from `wrong` in the fewest places, if those are few enough to be a slip of the hand.
pub(crate) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: Vec<char> = wrong.to_lowercase().chars().take(65).collect();
    // Long texts are not slips, and comparing them costs time.
    if wrong.len() > 64 {
        return None;
    }
    let allowed = wrong.len().div_ceil(3).max(1);
    known
        .filter(|k| k.len().abs_diff(wrong.len()) <= allowed && k.len() <= 64)
        .map(|k| {
            (
                distance(&wrong, &k.to_lowercase().chars().collect::<Vec<_>>()),
                k,
            )
        })
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_are_found_and_other_words_are_not() {
        let known = ["hospital", "hospital-next", "tries", "wait"];
        for (wrong, expected) in [
            ("hopsital", Some("hospital")),
            ("hospital-nxt", Some("hospital-next")),
            ("TRIES", Some("tries")),
            ("try", None),
            ("wiat", Some("wait")),
            ("", None),
            ("unrelated", None),
        ] {
            assert_eq!(nearest(wrong, known.into_iter()), expected, "{wrong}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..20).map(|i| format!("upstream-{i}")).collect();
        let help = help("x", names.iter().map(String::as_str), "defined").unwrap();
        assert!(help.ends_with("upstream-11, and 8 more"), "{help}");
        assert_eq!(super::help("x", std::iter::empty(), "defined"), None);
    }
}
