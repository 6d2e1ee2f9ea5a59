//! What the author of an unknown key most likely meant.

use super::fields::quoted;

/// Keys longer than this are compared by their start: none that we know is longer.
const COMPARED_CHARS_MAX: usize = 32;

/// The message for a key that is not among those known.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let shown = quoted(key);
    if key == "<<" {
        return format!("unknown key {shown}: YAML merge keys are not supported");
    }
    match nearest(key, known) {
        Some(nearest) => format!("unknown key {shown}: did you mean `{nearest}`?"),
        None => format!("unknown key {shown}; known here: {}", known.join(", ")),
    }
}

/// The known key that differs only in case or separators, or else by few letters.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = plain(key);
    known
        .iter()
        .map(|candidate| (distance(&plain, &self::plain(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(4).min(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn plain(key: &str) -> Vec<char> {
    key.chars()
        .filter(|letter| !matches!(letter, '_' | '-' | ' '))
        .take(COMPARED_CHARS_MAX)
        .flat_map(char::to_lowercase)
        .collect()
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_other_spellings() {
        let known = [
            "name",
            "componentId",
            "credentials_id",
            "nodeSettings",
            "id",
            "on",
        ];
        for (key, expected) in [
            ("nmae", Some("name")),
            ("component_id", Some("componentId")),
            ("component", Some("componentId")),
            ("credentialsId", Some("credentials_id")),
            ("nodesettings", Some("nodeSettings")),
            ("ID", Some("id")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(key, &known), expected, "{key}");
        }
    }
}
