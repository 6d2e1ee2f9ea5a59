//! Every stable error code in the sources has a page in docs/errors/ and a line in its index, and
//! the other way round: a page without a code in the sources is one that nobody can meet.

use std::collections::BTreeSet;
use std::path::Path;

use tidemill_tests::workspace::root;

/// `TM` and four digits.
const CODE_LENGTH: usize = 6;

/// The codes that stand in a text as whole words.
fn codes(text: &str) -> BTreeSet<String> {
    text.match_indices("TM")
        .filter_map(|(at, _)| {
            let code = text.get(at..at + CODE_LENGTH)?;
            let rest = &text[at + CODE_LENGTH..];
            let whole = !text[..at].ends_with(char::is_alphanumeric)
                && !rest.starts_with(char::is_alphanumeric);
            let digits = code[2..].bytes().all(|byte| byte.is_ascii_digit());
            (whole && digits).then(|| code.to_owned())
        })
        .collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text file can be read")
}

fn codes_in_sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("a folder entry can be read").path();
        if path.is_dir() {
            codes_in_sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.extend(codes(&read(&path)));
        }
    }
}

fn pages() -> BTreeSet<String> {
    std::fs::read_dir(root().join("docs/errors"))
        .expect("docs/errors can be listed")
        .filter_map(|entry| {
            let name = entry.expect("a folder entry can be read").file_name();
            let name = name.to_string_lossy().into_owned();
            name.strip_suffix(".md")
                .filter(|name| *name != "README")
                .map(str::to_owned)
        })
        .collect()
}

#[test]
fn codes_are_whole_words() {
    let found = codes("\"TM0001\" TM00020 ATM0003 TM000x `TM0004`, TM");
    assert_eq!(found, ["TM0001", "TM0004"].map(str::to_owned).into());
}

#[test]
fn every_code_has_its_page() {
    let mut sources = BTreeSet::new();
    codes_in_sources(&root().join("crates"), &mut sources);
    let pages = pages();
    let without_page: Vec<_> = sources.difference(&pages).collect();
    let without_code: Vec<_> = pages.difference(&sources).collect();
    assert!(
        without_page.is_empty(),
        "codes without a page in docs/errors: {without_page:?}"
    );
    assert!(
        without_code.is_empty(),
        "pages without a code in the sources: {without_code:?}"
    );
}

#[test]
fn the_index_lists_every_page() {
    let pages = pages();
    let listed = codes(&read(&root().join("docs/errors/README.md")));
    assert_eq!(
        pages, listed,
        "docs/errors/README.md lists exactly the pages"
    );
    for code in pages {
        let page = read(&root().join(format!("docs/errors/{code}.md")));
        assert!(
            page.starts_with(&format!("# {code}: ")),
            "{code}.md begins with its code"
        );
    }
}
